"""Attention as exporters write it: a softmax of products of queries and keys, times the values."""

from __future__ import annotations

import math

import onnx_ir as ir

from converters.graph.patterns.algebra import Parts, Pattern, is_float, made_by, number_of
from converters.graph.recurrent.constants import constant_of


def attention(parts: Parts) -> Pattern | None:
    """softmax(q k^T scale + mask) v. "keys" are k^T, as they go into the product; scale is missing where it is torch's own."""
    softmax, v = parts.node(parts.last.inputs[0], "Softmax"), parts.last.inputs[1]
    if softmax is None or not is_float(v) or not _is_over_last(softmax, parts.opset):
        return None
    for scores, mask in _summands(parts, softmax.inputs[0]):
        way = parts.fork()
        scale, product = way.scaled(scores)
        node = way.node(product, "MatMul")
        if node is None:
            continue
        queries, keys = _Scaled(way, node.inputs[0]), _Scaled(way, node.inputs[1])
        q, total = queries.value, _total(scale, queries, keys)
        rank = _rank(q)
        if total is None or q is None or rank is None or rank < 3 or {_rank(keys.value), _rank(v)} != {rank}:
            continue
        if mask is None or _is_mask(mask, node.outputs[0], rank):
            width = list(q.shape or ())[-1]
            usual = math.isnan(total) or (isinstance(width, int) and math.isclose(total, width**-0.5, rel_tol=1e-6))
            return way.pattern("attention", {} if usual else {"scale": total}, q=q, keys=keys.value, v=v, mask=mask)
    return None


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def _is_over_last(softmax: ir.Node, opset: int) -> bool:
    axis, rank = softmax.attributes.get_int("axis", -1 if opset >= 13 else 1), _rank(softmax.inputs[0])
    return axis == -1 or (rank is not None and axis == rank - 1)


def _summands(parts: Parts, value: ir.Value | None) -> list[tuple[ir.Value | None, ir.Value | None]]:
    """Scores with the mask that is added to them, or without one."""
    node = parts.node(value, "Add")
    if node is None:
        return [(value, None)]
    left, right = node.inputs
    return [(left, right), (right, left)]


def _is_mask(mask: ir.Value, scores: ir.Value, rank: int) -> bool:
    """Whether a mask has two axes at least, and leaves the shape of the scores alone."""
    if mask.shape is None or not 2 <= len(mask.shape) <= rank or mask.dtype != scores.dtype:
        return False
    theirs = list(scores.shape or ())
    for size, other in zip(reversed(list(mask.shape)), reversed(theirs), strict=False):
        if isinstance(size, int) and size != 1 and isinstance(other, int) and size != other:
            return False
        if isinstance(other, int) and other == 1 and size != 1:
            return False
    return True


class _Scaled:
    """Queries or keys without the numbers that they are multiplied with: scale, and powers of the width in `by`."""

    def __init__(self, parts: Parts, value: ir.Value | None) -> None:
        self.scale, self.value = parts.scaled(value)
        self.by: ir.Value | None = None
        node = made_by(self.value, "Mul")
        for place in (0, 1) if node is not None else ():
            assert node is not None
            if _size_of(node.inputs[place]) is not None:
                parts.nodes.add(node)
                self.by, self.value = node.inputs[place], node.inputs[1 - place]
                break


def _total(scale: float, queries: _Scaled, keys: _Scaled) -> float | None:
    """What all numbers come to; nan for one divided by the root of the queries' width, None where it is something else."""
    number, power = scale * queries.scale * keys.scale, 0.0
    for by in (queries.by, keys.by):
        if by is None:
            continue
        found = _size_of(by)
        if found is None or found[2] is not queries.value:
            return None
        number, power = number * found[0], power + found[1]
    if power == 0:
        return number
    return math.nan if power == -0.5 and math.isclose(number, 1.0, rel_tol=1e-6) else None


def _size_of(value: ir.Value | None, depth: int = 0) -> tuple[float, float, ir.Value | None] | None:
    """A value as `number * width ** power`, the width being the last size of some value."""
    node = None if value is None else value.producer()
    if node is None or depth > 8 or node.domain not in ("", "ai.onnx"):
        return None
    number = number_of(value, value)
    if number is not None:
        return number, 0.0, None
    if node.op_type in ("Slice", "Gather", "Squeeze", "Unsqueeze"):
        whose = _last_size(node)
        return None if whose is None else (1.0, 1.0, whose)
    parts = [_size_of(v, depth + 1) for v in node.inputs[:2]] if node.op_type in ("Cast", "Sqrt", "Div", "Mul") else []
    if not parts or parts[0] is None or (len(parts) == 2 and parts[1] is None):
        return None
    first = parts[0]
    if node.op_type == "Cast":
        return first if is_float(node.outputs[0]) else None
    if node.op_type == "Sqrt":
        return (math.sqrt(first[0]), first[1] / 2, first[2]) if first[0] > 0 else None
    second = parts[1]
    if second is None or not second[0] or (first[2] is not None and second[2] is not None and first[2] is not second[2]):
        return None
    whose = first[2] if first[2] is not None else second[2]
    if node.op_type == "Div":
        return first[0] / second[0], first[1] - second[1], whose
    return first[0] * second[0], first[1] + second[1], whose


def _last_size(node: ir.Node) -> ir.Value | None:
    """Whose last size it is that a node cuts out of a shape."""
    shape = made_by(node.inputs[0], "Shape")
    if shape is None or shape.attributes or shape.inputs[0] is None:
        return None
    rank = _rank(shape.inputs[0])
    known = [constant_of(v) for v in node.inputs[1:] if v is not None]
    numbers = [[int(n) for n in part[0]().reshape(-1)] for part in known if part is not None]
    if len(numbers) != len(known):
        return None
    last = [[-1]] if rank is None else [[-1], [rank - 1]]
    if node.op_type == "Gather":
        return shape.inputs[0] if numbers and numbers[0] in last else None
    if node.op_type != "Slice" or len(numbers) < 2 or numbers[0] not in last or numbers[1][0] < (rank or 1 << 31):
        return None
    return shape.inputs[0] if numbers[2:] in ([], [[0]], [[0], [1]]) else None
