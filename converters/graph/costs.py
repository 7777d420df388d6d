"""What a net costs: parameters and multiply-adds of each layer of a graph, convolutions and linear layers apart from the rest.

A multiply-add counts once (other pages count it as two operations). Biases aren't counted beside the products, as published tables of
FLOPs don't. The rest: one operation for each element of an output; a batch norm is one multiply-add an element; pools and
reductions count what they look at, normalizations and softmax three an element; moving numbers about costs nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx
import onnx_ir as ir

from converters.errors import ConversionError, printable
from converters.graph.functions import rewrite
from converters.graph.provenance import is_buffer, path_of, source_of


@dataclass
class LayerCost:
    """One layer of the source, whatever operators it became.

    name: its module's path, else the value that it answers. source: where it stands in its file. operators: ONNX's, without constants.
    shape: of its last value, None for a dimension that is open. parameters: what is learnt; a tensor that layers share counts at the
    first. weights: those of them that convolutions and products of matrices take, biases too. buffers: numbers that aren't learnt
    (running means). multiply_adds: of convolutions and products of matrices; other: operations of the rest; both None where a shape,
    or how often a loop runs, isn't known.
    """

    name: str
    source: str
    operators: list[str] = field(default_factory=list)
    shape: list[int | None] | None = None
    parameters: int = 0
    weights: int = 0
    buffers: int = 0
    multiply_adds: int | None = 0
    other: int | None = 0


@dataclass
class Costs:
    """inputs: the shapes that were counted for. layers: in the order of the graph."""

    inputs: dict[str, list[int | None]]
    layers: list[LayerCost]

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def weights(self) -> int:
        """The parameters of all convolutions and linear layers."""
        return sum(layer.weights for layer in self.layers)

    @property
    def buffers(self) -> int:
        return sum(layer.buffers for layer in self.layers)

    @property
    def multiply_adds(self) -> int | None:
        """Of all convolutions and linear layers; None where one isn't known."""
        return _sum(layer.multiply_adds for layer in self.layers)

    @property
    def other(self) -> int | None:
        """Operations of all the rest; None where one isn't known."""
        return _sum(layer.other for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        totals = {name: getattr(self, name) for name in ("parameters", "weights", "buffers", "multiply_adds", "other")}
        return {"inputs": self.inputs, **totals, "layers": [asdict(layer) for layer in self.layers]}

    def __str__(self) -> str:
        """A table in Markdown, a row for each layer that costs something."""
        rows = [["layer", "operators", "output", "parameters", "multiply-adds", "other operations"]]
        for layer in self.layers:
            if layer.parameters or layer.buffers or layer.multiply_adds != 0 or layer.other != 0:
                shape = "?" if layer.shape is None else "x".join("?" if d is None else str(d) for d in layer.shape)
                operators = "+".join(dict.fromkeys(layer.operators))
                counts = [f"{layer.parameters:,}", _shown(layer.multiply_adds), _shown(layer.other)]
                rows.append([printable(layer.name), operators, shape, *counts])
        rows.append(["all", "", "", f"{self.parameters:,}", _shown(self.multiply_adds), _shown(self.other)])
        rows.insert(1, ["---"] * 3 + ["---:"] * 3)
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def costs(model: ir.Model, inputs: Mapping[str, Sequence[int]] | None = None) -> Costs:
    """Parameters and operations of each layer.

    inputs: shapes by input name ("" for the only one); without one, what the graph says, an open first axis being 1. What depends on
    another open axis is None. Raises ConversionError for an input that the model doesn't have, or another number of axes.
    """
    sized = _with_sizes(model, inputs or {})
    layers: dict[str, LayerCost] = {}
    seen: set[str] = set()
    for node in sized.graph:
        if node.op_type == "Constant":
            continue
        name = path_of(node) or str(node.outputs[0].name)
        layer = layers.setdefault(source_of(node) or name, LayerCost(name, source_of(node)))
        layer.operators.append(node.op_type)
        layer.shape = _dims(node.outputs[0])
        linear, other = operations(node)
        layer.multiply_adds = _sum((layer.multiply_adds, linear))
        layer.other = _sum((layer.other, other))
        _count_tensors(node, layer, sized.graph, seen)
    shapes = {str(value.name): _dims(value) or [] for value in sized.graph.inputs}
    return Costs(shapes, list(layers.values()))


def stored(model: ir.Model) -> tuple[int, int]:
    """How many numbers of a graph are learnt, and how many others it keeps; no shape is looked at."""
    total, seen = LayerCost("", ""), set[str]()
    for node in model.graph:
        _count_tensors(node, total, model.graph, seen)
    return total.parameters, total.buffers


def _with_sizes(model: ir.Model, given: Mapping[str, Sequence[int]]) -> ir.Model:
    """The model with its shapes worked out anew, for inputs of these sizes."""
    values = {str(value.name): value for value in model.graph.inputs}
    shapes: dict[str, list[int | None]] = {}
    for name, shape in given.items():
        name = name if name or len(values) != 1 else next(iter(values))
        if name not in values:
            raise ConversionError(f"no input is called '{printable(name)}'", hint=f"the inputs are {', '.join(map(printable, values))}")
        rank = len(_dims(values[name]) or shape)
        if rank != len(shape):
            raise ConversionError(f"input '{printable(name)}' has {rank} axes, the shape given {len(shape)}")
        shapes[name] = [int(size) for size in shape]
    for name, value in values.items():
        dims = _dims(value)
        if name not in shapes and dims is not None:
            shapes[name] = [1 if axis == 0 and size is None else size for axis, size in enumerate(dims)]
    if all(shapes.get(name) == _dims(value) for name, value in values.items()):
        return model

    def change(proto: onnx.ModelProto) -> onnx.ModelProto:
        del proto.graph.value_info[:]
        for value in proto.graph.output:
            value.type.tensor_type.ClearField("shape")
        for value in proto.graph.input:
            for axis, size in enumerate(shapes.get(value.name, [])):
                while len(value.type.tensor_type.shape.dim) <= axis:
                    value.type.tensor_type.shape.dim.add()
                if size is not None:
                    value.type.tensor_type.shape.dim[axis].dim_value = size
        return proto

    return rewrite(model, change)


def _count_tensors(node: ir.Node, layer: LayerCost, graph: ir.Graph, seen: set[str]) -> None:
    """Counts the node's initializers, those that its subgraphs read too."""
    used = [(position, value) for position, value in enumerate(node.inputs) if value is not None]
    for attribute in node.attributes.values():
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            graphs = [attribute.as_graph()] if attribute.type == ir.AttributeType.GRAPH else list(attribute.as_graphs())
            used += [(0, value) for inner in graphs for below in inner.all_nodes() for value in below.inputs if value is not None]
    for position, value in used:
        name = str(value.name)
        if name in seen or graph.initializers.get(name) is not value or value.const_value is None:
            continue
        seen.add(name)
        is_statistic = node.op_type == "BatchNormalization" and position > 2
        if is_statistic or is_buffer(value) or not value.const_value.dtype.is_floating_point():
            layer.buffers += value.const_value.size
        else:
            layer.parameters += value.const_value.size
            layer.weights += value.const_value.size if _linear(node) else 0


# -- operations of one node -----------------------------------------------------------------------------------------------

_MOVES = frozenset(
    "BatchToSpace Cast CastLike Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace DequantizeLinear Dropout Expand "
    "EyeLike Flatten Gather GatherElements GatherND Identity NonZero OneHot Pad QuantizeLinear Range Reshape ReverseSequence Scatter "
    "ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceInsert Shape Size Slice SpaceToDepth Split "
    "SplitToSequence Squeeze Tile Transpose Trilu Unsqueeze Where".split()
)
_THRICE = frozenset(
    "GroupNormalization InstanceNormalization LayerNormalization LogSoftmax LpNormalization MeanVarianceNormalization RMSNormalization "
    "Softmax".split()
)
_UNKNOWN = frozenset("Attention If Loop Scan SequenceMap NonMaxSuppression TopK Unique".split())
_RECURRENT = frozenset(("GRU", "LSTM", "RNN"))
_WEIGHT_AT = {"Conv": 1, "ConvInteger": 1, "DeformConv": 1, "QLinearConv": 3}
_FACTOR_AT = {"MatMul": 1, "MatMulInteger": 1, "Gemm": 1, "QLinearMatMul": 3}


def operations(node: ir.Node) -> tuple[int | None, int | None]:
    """Multiply-adds of convolutions and products, and other operations; None where a shape, or how often something runs, isn't known."""
    if node.domain not in ("", "ai.onnx") or node.op_type in _UNKNOWN:
        return None, None
    if node.op_type in _MOVES:
        return 0, 0
    linear = _linear(node)
    if linear is not None:
        return linear(), 0
    return 0, _rest(node)


def _linear(node: ir.Node) -> Callable[[], int | None] | None:
    """What counts the multiply-adds of a convolution or a product of matrices; None for another operator."""
    op_type = node.op_type
    if op_type in _WEIGHT_AT:  # each output is a product with one filter: (C_out, C_in / group, kernel)
        return lambda: _product([_count(node.outputs[0]), _size(_input(node, _WEIGHT_AT[op_type]), 1)])
    if op_type == "ConvTranspose":  # each input goes through one filter: (C_in, C_out / group, kernel)
        return lambda: _product([_count(_input(node, 0)), _size(_input(node, 1), 1)])
    if op_type in _FACTOR_AT:
        axis = -2 if node.attributes.get_int("transA", 0) else -1
        return lambda: _product([_count(node.outputs[0]), _size(_input(node, 0), axis, 1)])
    if op_type in _RECURRENT:  # at every step of time, each of W and R once for each item
        return lambda: _product([_size(_input(node, 0), 0, 2), _sum((_count(_input(node, 1)), _count(_input(node, 2))))])
    if op_type == "Einsum":
        return lambda: _einsum(node)
    return None


def _einsum(node: ir.Node) -> int | None:
    """One multiply-add for every combination of the letters' values."""
    equation = (node.attributes.get_string("equation", "") or "").replace(" ", "")
    terms = re.split(",", equation.partition("->")[0])
    sizes: dict[str, int | None] = {}
    for letters, value in zip(terms, node.inputs, strict=False):
        dims = _dims(value)
        if "." in letters or dims is None or len(dims) != len(letters):
            return None
        sizes.update(zip(letters, dims, strict=True))
    return _product(sizes.values())


def _rest(node: ir.Node) -> int | None:
    if node.op_type in ("MaxPool", "AveragePool", "LpPool"):
        return _product([_count(node.outputs[0]), *node.attributes["kernel_shape"].as_ints()])
    if node.op_type.startswith(("Reduce", "Global", "Arg")):
        return _count(_input(node, 0))
    times = 3 if node.op_type in _THRICE else node.attributes.get_int("size", 1) if node.op_type == "LRN" else 1
    return _product([times, _count(node.outputs[0])])


def _input(node: ir.Node, position: int) -> ir.Value | None:
    return node.inputs[position] if position < len(node.inputs) else None


def _dims(value: ir.Value | None) -> list[int | None] | None:
    if value is None or value.shape is None:
        return None
    return [d if isinstance(d, int) else None for d in value.shape]


def _count(value: ir.Value | None) -> int | None:
    return _size(value, 0)


def _size(value: ir.Value | None, axis: int, count: int | None = None) -> int | None:
    """Elements along the axes from one on, `count` of them, all by default."""
    dims = _dims(value)
    if dims is None or not -len(dims) <= axis <= len(dims):
        return None
    axis = axis % len(dims) if dims else 0
    return _product(dims[axis:][:count])


def _product(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else math.prod(size for size in known if size is not None)


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def _shown(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"
