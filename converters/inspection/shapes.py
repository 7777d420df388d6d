"""Shapes, parameters and FLOPs of the layers, from the graph that a file makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from converters.errors import ConversionError, Source
from converters.files import StrPath
from converters.formats import Format, load
from converters.graph.costs import LayerCost, costs
from converters.graph.functions import has_body
from converters.graph.outline import Dims, Row
from converters.graph.provenance import GIVEN, path_of, source_of
from converters.inspection.result import TensorInfo
from converters.options import LoadOptions
from converters.writers.source.writer import known_operators


@dataclass
class Shaped:
    """What the graph tells. layers: costs by what a node says of its source; values: shapes by name; outputs of each layer."""

    layers: dict[str, LayerCost]
    shapes: dict[str, list[Dims | None]]
    values: dict[str, Dims | None]
    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    tensors: dict[str, TensorInfo]
    problems: list[ConversionError] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def fill(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with what the graph knows of them; those of the graph itself where the file has none of its own."""
        blobs: dict[str, Dims | None] = {name: value.shape for name, value in self.inputs.items()}
        filled = []
        failed = {(problem.layer, problem.line) for problem in self.problems}
        lost: set[str] = set()  # what comes from layers that can't be converted: nothing is known of it
        for row in rows or self.rows:
            if lost.intersection(row.takes) or (row.name, row.line) in failed:
                lost.update(row.gives)
                filled.append(row)
                continue
            cost = self.layers.get(row.source)
            outputs = self.shapes.get(row.source) or [self.values.get(name, blobs.get(name)) for name in row.gives]
            if cost is None and not any(outputs):  # it computes nothing: what goes in comes out
                outputs = [blobs.get(name, self.values.get(name)) for name in row.takes[:1]]
            blobs.update(zip(row.gives, outputs, strict=False))
            row = replace(row, outputs=outputs or row.outputs)
            if cost is not None:
                row = replace(
                    row,
                    path=cost.name,
                    parameters=cost.parameters,
                    buffers=cost.buffers,
                    flops=cost.multiply_adds,
                    other=cost.other,
                )
            elif self.layers and not self.problems:  # it computes nothing
                row = replace(row, parameters=row.parameters or 0, buffers=row.buffers or 0, flops=0, other=0)
            filled.append(row)
        return filled


def work_out(row: Format, file: StrPath, options: LoadOptions) -> Shaped:
    """Makes the graph of one file and looks at it. Raises ConversionError where none can be made."""
    problems: list[ConversionError] = []
    try:
        model = load([file], replace(options, problems=problems), format=row)
    except ConversionError as problem:
        raise next(iter(problems), problem) from problem  # why nothing is left of the net
    if row.name == "onnx":
        problems += _without_source(model, file)
    given: Mapping[str, int] = model.meta.get(GIVEN, {})
    counted = costs(model)
    shapes: dict[str, list[Dims | None]] = {}
    values: dict[str, Dims | None] = {}
    for node in model.graph:
        if node.op_type != "Constant":
            found = [_dims(value, given) for value in node.outputs if value.uses() or value.is_graph_output()]
            source = source_of(node) or path_of(node) or str(node.outputs[0].name)
            shapes[source] = found
            values.update((str(value.name), _dims(value, given)) for value in node.outputs)
    made = [Row(cost.name, "+".join(dict.fromkeys(cost.operators)), source=cost.source or cost.name) for cost in counted.layers]
    tensors = {name: _info(value, {}) for name, value in model.graph.initializers.items()}
    return Shaped(
        {cost.source or cost.name: cost for cost in counted.layers},
        shapes,
        values,
        {str(value.name): _info(value, given) for value in model.graph.inputs},
        {str(value.name): _info(value, given) for value in model.graph.outputs},
        tensors,
        problems,
        made,
    )


def _without_source(model: ir.Model, file: StrPath) -> list[ConversionError]:
    """Operators that have no PyTorch source, one error for each kind."""
    import os

    known = known_operators()
    opset = int(model.graph.opset_imports.get("", 1))
    found: dict[str, ConversionError] = {}
    for node in model.graph:
        is_onnx = node.domain in ("", "ai.onnx")
        if (is_onnx and (node.op_type in known or has_body(node.op_type, opset))) or f"{node.domain}::{node.op_type}" in known:
            continue
        source = Source(os.fspath(file), "operator", node.name or str(node.outputs[0].name), node.op_type)
        found.setdefault(f"{node.domain}::{node.op_type}", source.error("no PyTorch source is registered for this operator"))
    return list(found.values())


def _info(value: ir.Value, given: Mapping[str, int]) -> TensorInfo:
    return TensorInfo(None if value.dtype is None else str(value.dtype.numpy()), _dims(value, given))


def _dims(value: ir.Value, given: Mapping[str, int]) -> Dims | None:
    if value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else given.get(str(d.value), d.value) for d in value.shape)
