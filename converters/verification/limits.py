"""What running a model takes in memory and in time, worked out from shapes before anything runs."""

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
"""Bytes that a model's values may take at a time, half of that without MANY_WEIGHTS; each byte of weights allows WEIGHT_FACTOR more."""
WEIGHT_FACTOR = 4
STEP_LIMIT = 40e9
"""Steps that one run of a model of few weights may take: a step is a multiply-add of a dense convolution, some forty to a nanosecond."""
STEPS_OF_WEIGHTS = 65_536
"""Steps that each byte of weights allows besides, in a model with MANY_WEIGHTS: it may look at every place of a large image."""
MANY_WEIGHTS = 1 << 20

Shapes = Mapping[str, Sequence[int]]


def check_limits(model: onnx_ir.Model, batches: Sequence[int] = (2, 1), shapes: Shapes | None = None) -> int:
    """The first of these batch sizes, for axes that are open, at which a run of the model stays within the limits.

    shapes: of the inputs, where they are known. Raises ConversionError where it doesn't at any: a small file can ask for any amount.
    """
    weights = weight_bytes(model)
    limit = (BASE_LIMIT if weights >= MANY_WEIGHTS else BASE_LIMIT // 2) + WEIGHT_FACTOR * weights
    advice = "give a smaller input, or leave --verify out"
    for batch in batches:
        opened = _sized(model, batch, shapes or {})
        needed, largest, value = _needed_bytes(opened)
        steps, slowest = _needed_steps(opened)
        if needed <= limit and steps <= _most_steps(weights):
            return batch
    if needed > limit:
        raise ConversionError(
            f"verifying would take {_size(needed)} for the values between the layers ({printable(value.name)} alone {_size(largest)}"
            f"{_from(value.producer())}), and {_size(limit)} are allowed for a model of this size",
            hint=advice,
        )
    raise ConversionError(
        f"verifying would take too long for a model of this size: {steps:,.0f} steps for one image, most of them in "
        f"{printable(slowest.op_type)}{_from(slowest)}",
        hint=advice,
    )


def is_quick(model: onnx_ir.Model, batch: int, most_bytes: int) -> bool:
    """Whether another run costs little beside starting: at most so many bytes, and a fifth of the steps of a model of few weights."""
    opened = _sized(model, batch, {})
    return _needed_bytes(opened)[0] <= most_bytes and _needed_steps(opened)[0] <= STEP_LIMIT / 5


def _scratch(node: onnx_ir.Node) -> int:
    """Bytes that a node takes besides its inputs and outputs: a body's own values, columns of a transposed convolution, padding."""
    found = sum(_bytes(value) for body in _bodies(node) for each in body for value in each.outputs)
    if node.op_type == "ConvTranspose" and node.inputs[0] is not None and node.inputs[1] is not None:
        filters = _elements(node.inputs[1]) // max(1, _axis(node.inputs[1], 0))
        found += 4 * filters * _elements(node.inputs[0]) // max(1, _axis(node.inputs[0], 0) * _axis(node.inputs[0], 1))
    if node.op_type == "LRN":
        channels = max(1, _axis(node.outputs[0], 1))
        found += 2 * _bytes(node.outputs[0]) * (channels + node.attributes.get_int("size", 1)) // channels
    return found


def has_many_weights(model: onnx_ir.Model) -> bool:
    """Whether a model is as large as those that are in use; what is smaller has to be quick."""
    return weight_bytes(model) >= MANY_WEIGHTS


def weight_bytes(model: onnx_ir.Model) -> int:
    """Bytes of the model's weights."""
    return sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)


def _most_steps(weights: int) -> float:
    return STEP_LIMIT + (STEPS_OF_WEIGHTS * weights if weights >= MANY_WEIGHTS else 0)


def needed_bytes(model: onnx_ir.Model, batch: int, shapes: Shapes) -> tuple[int, int, onnx_ir.Value]:
    """What all values take that are alive at one time, at most; what the largest takes; and that one.

    A value lives from the node that makes it to the last that reads it. A size that is known only when the model runs counts as 1.
    """
    return _needed_bytes(_sized(model, batch, shapes))


def _needed_bytes(opened: onnx_ir.Model) -> tuple[int, int, onnx_ir.Value]:
    last = {id(value): node for node in opened.graph for value in node.inputs if value is not None}
    kept = {id(value) for value in opened.graph.outputs}
    alive = {id(value): _bytes(value) for value in opened.graph.inputs}
    largest = max(opened.graph.inputs, key=_bytes, default=None)
    peak = total = sum(alive.values())
    for node in opened.graph:
        made = {id(value): _bytes(value) for value in node.outputs if node.op_type != "Constant"}
        alive |= made
        total += sum(made.values())
        peak = max(peak, total + _scratch(node))
        largest = max([value for value in (largest, *node.outputs) if value is not None], key=_bytes, default=largest)
        for key in {id(value) for value in node.inputs if value is not None} | made.keys():
            if key in alive and key not in kept and last.get(key, node) is node:
                total -= alive.pop(key)
    if largest is None:
        raise ConversionError("the model has no values")
    return peak, _bytes(largest), largest


# Steps for one operation, where torch is slower than in a dense convolution of many channels: measured on one core.
_OF_AN_ELEMENT, _OF_AN_OPERATION, _OF_A_POOL, _OF_A_NODE = 100, 150, 75, 400_000
_OF_FEW_CHANNELS = ((2, 200), (32, 12))
"""Channels of a group below which a convolution is slow, and how much."""


def _needed_steps(opened: onnx_ir.Model) -> tuple[float, onnx_ir.Node]:
    """Steps that one run takes, and the node that takes the most. Loops of a stated length are counted, branches all."""
    import onnx_ir

    found = [(_steps(node), node) for node in opened.graph]
    slowest = max(found, key=lambda pair: pair[0], default=(0.0, onnx_ir.Node("", "Identity", [])))[1]
    return sum(steps for steps, _ in found), slowest


def _steps(node: onnx_ir.Node) -> float:
    from converters.graph.costs import operations

    inner = sum(_steps(each) for body in _bodies(node) for each in body)
    linear, other = operations(node) if not inner else (0, 0)
    elements = sum(_elements(value) for value in node.outputs)
    if node.op_type == "NonMaxSuppression":
        boxes, classes = _axis(node.inputs[0], 1), _axis(node.inputs[1], 1)
        other = boxes * boxes * classes // 16
    elif node.op_type in ("TopK", "Unique") or (other is None and linear is None):
        other = 32 * sum(_elements(value) for value in node.inputs)
    pools = node.op_type in ("MaxPool", "AveragePool", "LpPool")
    return (
        _OF_A_NODE
        + (linear or 0) * _slowness(node)
        + (other or 0) * (_OF_A_POOL if pools else _OF_AN_OPERATION)
        + elements * (_OF_AN_ELEMENT if node.op_type != "Constant" else 0)
        + inner * _times(node)
    )


def _slowness(node: onnx_ir.Node) -> int:
    if not node.op_type.startswith("Conv") or len(node.inputs) < 2:
        return 1
    channels = _axis(node.inputs[1], 1)
    return next((times for most, times in _OF_FEW_CHANNELS if channels < most), 1)


def _times(node: onnx_ir.Node) -> int:
    """How often a body runs: a Loop as often as it may, a Scan once for each step of the longest axis that it could go over."""
    if node.op_type == "Loop":
        limit = None if node.inputs[0] is None else node.inputs[0].const_value
        return max(1, int(limit.numpy().reshape(-1)[0])) if limit is not None and limit.size == 1 else 1
    if node.op_type == "Scan":
        first = len(node.inputs) - node.attributes.get_int("num_scan_inputs", 1)
        axes = list(node.attributes["scan_input_axes"].as_ints()) if "scan_input_axes" in node.attributes else []
        return max([_axis(value, axes[i] if i < len(axes) else 0) for i, value in enumerate(node.inputs[first:])], default=1)
    return 1


def _bodies(node: onnx_ir.Node) -> list[onnx_ir.Graph]:
    import onnx_ir

    found: list[onnx_ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == onnx_ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
    return found


def _axis(value: onnx_ir.Value | None, axis: int) -> int:
    shape = () if value is None or value.shape is None else tuple(value.shape)
    size = shape[axis] if -len(shape) <= axis < len(shape) else 1
    return size if isinstance(size, int) else 1


def _elements(value: onnx_ir.Value | None) -> int:
    shape = () if value is None or value.shape is None else tuple(value.shape)
    return math.prod(size for size in shape if isinstance(size, int))


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
    return 0 if value.shape is None or value.dtype is None else int(_elements(value) * value.dtype.itemsize)


def _from(node: onnx_ir.Node | None) -> str:
    source = source_of(node)
    return f", from {source}" if source else ""


def _size(number: int) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e8 else f"{number / 1e6:,.1f} MB"
