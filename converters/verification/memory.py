"""How much memory a model's values take when it runs, worked out from shapes before anything does."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from converters.errors import ConversionError, printable
from converters.graph.provenance import source_of

if TYPE_CHECKING:
    import onnx_ir

BASE_LIMIT = 512 << 20
"""Bytes that the values of a model of no weights may take at a time; each byte of weights allows as many more as WEIGHT_FACTOR."""
WEIGHT_FACTOR = 4

Shapes = Mapping[str, Sequence[int]]


def check_memory(model: onnx_ir.Model, batches: Sequence[int] = (2, 1), shapes: Shapes | None = None) -> int:
    """The first of these batch sizes, for axes that are open, at which the model's values stay within the limit.

    shapes: of the inputs, where they are known. Raises ConversionError where they don't at any: a small file can ask for any amount.
    """
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    limit = BASE_LIMIT + WEIGHT_FACTOR * weights
    for batch in batches:
        needed, largest, value = needed_bytes(model, batch, shapes or {})
        if needed <= limit:
            return batch
    raise ConversionError(
        f"verifying would take {_size(needed)} for the values between the layers ({printable(value.name)} alone {_size(largest)}"
        f"{_from(value)}), and {_size(limit)} are allowed for a model of this size",
        hint="give a smaller input, or leave --verify out",
    )


def needed_bytes(model: onnx_ir.Model, batch: int, shapes: Shapes) -> tuple[int, int, onnx_ir.Value]:
    """What all values take that are alive at one time, at most; what the largest takes; and that one.

    A value lives from the node that makes it to the last that reads it. A size that is known only when the model runs counts as 1.
    """
    opened = _sized(model, batch, shapes)
    last = {id(value): node for node in opened.graph for value in node.inputs if value is not None}
    kept = {id(value) for value in opened.graph.outputs}
    alive = {id(value): _bytes(value) for value in opened.graph.inputs}
    largest = max(opened.graph.inputs, key=_bytes, default=None)
    peak = total = sum(alive.values())
    for node in opened.graph:
        made = {id(value): _bytes(value) for value in node.outputs if node.op_type != "Constant"}
        alive |= made
        total += sum(made.values())
        peak = max(peak, total)
        largest = max([value for value in (largest, *node.outputs) if value is not None], key=_bytes, default=largest)
        for key in {id(value) for value in node.inputs if value is not None} | made.keys():
            if key in alive and key not in kept and last.get(key, node) is node:
                total -= alive.pop(key)
    if largest is None:
        raise ConversionError("the model has no values")
    return peak, _bytes(largest), largest


def value_bytes(model: onnx_ir.Model, shapes: Shapes) -> dict[str, int]:
    """What each value takes, by name, for inputs of these shapes."""
    opened = _sized(model, 1, shapes)
    return {str(value.name): _bytes(value) for node in opened.graph for value in node.outputs}


def _sized(model: onnx_ir.Model, batch: int, shapes: Shapes) -> onnx_ir.Model:
    """A copy of the model with the sizes of all values, for inputs of these shapes; open axes are `batch`."""
    opened = model.clone()
    for value in opened.graph.inputs:
        open_axes = [batch if not isinstance(d, int) else d for d in value.shape or ()]
        _set_shape(value, shapes.get(str(value.name), open_axes))
    for node in opened.graph:
        _infer(node, batch, opened.graph.opset_imports.get("", 0))
    return opened


def _infer(node: onnx_ir.Node, batch: int, opset: int) -> None:
    """The shapes of a node's outputs, with those that were known before where inference finds less."""
    import onnx.checker
    import onnx.shape_inference

    from converters.graph.inference import infer

    before = [list(value.shape) if value.shape is not None else None for value in node.outputs]
    if not node.domain and not any(value.shape is None or value.dtype is None for value in node.inputs if value is not None):
        # where the inputs don't fit, the runtimes will say so; here, what was known before stands
        with contextlib.suppress(onnx.shape_inference.InferenceError, onnx.checker.ValidationError):
            infer(node, opset)
    for value, old in zip(node.outputs, before, strict=True):
        found = list(value.shape) if value.shape is not None else old
        if found is None:
            continue
        pairs = zip(found, old if old is not None and len(old) == len(found) else found, strict=True)
        _set_shape(value, [next((d for d in pair if isinstance(d, int)), 1 if pair[0] is None else batch) for pair in pairs])


def _set_shape(value: onnx_ir.Value, shape: Sequence[int]) -> None:
    import onnx_ir

    value.shape = onnx_ir.Shape(shape)


def _bytes(value: onnx_ir.Value) -> int:
    if value.shape is None or value.dtype is None:
        return 0
    return int(math.prod(int(d) for d in value.shape if isinstance(d, int)) * value.dtype.itemsize)


def _from(value: onnx_ir.Value) -> str:
    source = source_of(value.producer())
    return f", from {source}" if source else ""


def _size(number: int) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e8 else f"{number / 1e6:,.1f} MB"
