"""Layer normalization as exporters write it before operator set 17, and as TensorFlow does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from converters.graph.patterns.algebra import Parts, Pattern, is_float, made_by, number_of
from converters.graph.recurrent.constants import constant_of


def layer_norm(parts: Parts) -> Pattern | None:
    """(x - mean) / sqrt(var + eps), times a weight and plus a bias where they are there."""
    for read in {"Add": (_affine, _folded), "Mul": (_weighted, _plain), "Div": (_plain,)}[parts.last.op_type]:
        way = parts.fork()
        found = read(way, parts.last)
        if found is not None:
            return way.pattern("layer_norm", {"eps": found.eps, "axes": found.axes}, x=found.x, weight=found.weight, bias=found.bias)
    return None


@dataclass(frozen=True)
class _Norm:
    """axes: how many of the last ones are normalized."""

    x: ir.Value
    axes: int
    eps: float
    weight: ir.Value | None = None
    bias: ir.Value | None = None

    def has_shape_of(self, value: ir.Value | None) -> bool:
        """Whether a constant has just the axes that are normalized."""
        if value is None or value.shape is None or self.x.shape is None or not _is_constant(value):
            return False
        return list(value.shape) == list(self.x.shape)[-self.axes :]


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and constant_of(value) is not None


def _affine(parts: Parts, last: ir.Node) -> _Norm | None:
    found = _with_constant(parts, last, ("Mul",), _weighted)
    return None if found is None else replace(found[0], bias=found[1])


def _weighted(parts: Parts, product: ir.Node) -> _Norm | None:
    found = _with_constant(parts, product, ("Div", "Mul"), _plain)
    return None if found is None else replace(found[0], weight=found[1])


def _with_constant(
    parts: Parts, node: ir.Node, op_types: tuple[str, ...], read: Callable[[Parts, ir.Node], _Norm | None]
) -> tuple[_Norm, ir.Value] | None:
    """What one input of a node is, as `read` reads it, and the other, a constant of the axes that are normalized."""
    for place in (0, 1):
        before, constant = made_by(node.inputs[1 - place], *op_types), node.inputs[place]
        found = None if before is None or not _is_constant(constant) else read(parts, before)
        if found is not None and before is not None and constant is not None and found.has_shape_of(constant):
            parts.nodes.add(before)
            return found, constant
    return None


def _plain(parts: Parts, node: ir.Node) -> _Norm | None:
    """(x - mean) / sqrt(var + eps), or times what one is divided by."""
    if node.op_type == "Div":
        return _normalized(parts, node.inputs[0], parts.node(node.inputs[1], "Sqrt"))
    for place in (0, 1):
        root = _reciprocal(parts, node.inputs[place])
        if root is not None and (found := _normalized(parts, node.inputs[1 - place], root)) is not None:
            return found
    return None


def _reciprocal(parts: Parts, value: ir.Value | None) -> ir.Node | None:
    """The Sqrt that one is divided by."""
    node = made_by(value, "Reciprocal", "Div")
    if node is None or (node.op_type == "Div" and number_of(node.inputs[0], node.inputs[1]) != 1.0):
        return None
    root = made_by(node.inputs[-1], "Sqrt")
    if root is not None:
        parts.nodes |= {node, root}
    return root


def _normalized(parts: Parts, centered: ir.Value | None, root: ir.Node | None) -> _Norm | None:
    difference = parts.node(centered, "Sub")
    if difference is None or root is None:
        return None
    x, mean = difference.inputs
    found = _deviation(parts, root, x, mean)
    return found if found is not None and _is_mean(parts, mean, x, found.axes) else None


def _deviation(parts: Parts, root: ir.Node, x: ir.Value | None, mean: ir.Value | None) -> _Norm | None:
    """The axes and eps of sqrt(mean((x - mean) ** 2) + eps)."""
    total = parts.node(root.inputs[0], "Add")
    for place in (0, 1) if total is not None and x is not None and x.shape is not None and is_float(x) else ():
        assert total is not None and x is not None and x.shape is not None
        variance = parts.node(total.inputs[1 - place], "ReduceMean")
        eps = number_of(total.inputs[place], total.inputs[1 - place])
        axes = None if variance is None else _last_axes(variance, len(x.shape))
        if variance is None or eps is None or axes is None or not all(isinstance(size, int) for size in list(x.shape)[-axes:]):
            continue
        again = _squared(parts, variance.inputs[0])
        if again is not None and again.inputs[0] is x and (again.inputs[1] is mean or _is_mean(parts, again.inputs[1], x, axes)):
            return _Norm(x, axes, eps)
    return None


def _squared(parts: Parts, value: ir.Value | None) -> ir.Node | None:
    """The Sub whose result is squared."""
    node = parts.node(value, "Pow", "Mul")
    if node is None:
        return None
    left, right = node.inputs
    if left is not right if node.op_type == "Mul" else number_of(right, left) != 2.0:
        return None
    return parts.node(left, "Sub")


def _is_mean(parts: Parts, value: ir.Value | None, x: ir.Value | None, axes: int) -> bool:
    node = parts.node(value, "ReduceMean")
    return node is not None and node.inputs[0] is x and x is not None and x.shape is not None and _last_axes(node, len(x.shape)) == axes


def _last_axes(node: ir.Node, rank: int) -> int | None:
    """How many axes a mean is taken over, where these are the last ones and stay."""
    axes = node.attributes.get_ints("axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        known = constant_of(node.inputs[1])
        axes = None if known is None else [int(axis) for axis in known[0]().reshape(-1)]
    if not axes or not node.attributes.get_int("keepdims", 1):
        return None
    places = sorted(axis % rank for axis in axes) if all(-rank <= axis < rank for axis in axes) else []
    return len(places) if places == list(range(rank - len(places), rank)) and places else None


def _folded(parts: Parts, last: ir.Node) -> _Norm | None:
    """x s + (bias - mean s), s being weight / sqrt(var + eps)."""
    for place in (0, 1):
        product, rest = made_by(last.inputs[place], "Mul"), made_by(last.inputs[1 - place], "Sub")
        shifted = None if rest is None else made_by(rest.inputs[1], "Mul")
        if product is None or rest is None or shifted is None:
            continue
        for x, scale in (product.inputs, product.inputs[::-1]):
            mean = next((v for v, other in (shifted.inputs, shifted.inputs[::-1]) if other is scale), None)
            slope = made_by(scale, "Mul")
            for weight, inverse in (slope.inputs, slope.inputs[::-1]) if slope is not None else ():
                root = _reciprocal(parts, inverse)
                found = None if root is None else _deviation(parts, root, x, mean)
                if found is None or slope is None or not _is_mean(parts, mean, x, found.axes):
                    continue
                if found.has_shape_of(weight) and found.has_shape_of(rest.inputs[0]):
                    parts.nodes |= {product, rest, shifted, slope}
                    return replace(found, weight=weight, bias=rest.inputs[0])
    return None
