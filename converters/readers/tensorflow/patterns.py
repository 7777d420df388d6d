"""What is told by looking at several nodes: a dropout that a training graph left switched on, and how the axes of its inputs lie.

Sources: TensorFlow's python/ops/nn_ops.py (dropout_v2) of 0.x, 1.x and 2.x.
"""

from __future__ import annotations

import math

from converters.readers.tensorflow.builder import TensorBuilder
from converters.readers.tensorflow.graph import Node, Port
from converters.readers.tensorflow.values import IMAGE, Tensor, identity


def without_dropout(g: TensorBuilder, node: Node) -> Port | None:
    """What a dropout passes on in inference; None where the node is none. The user is told.

    Its three forms, for a uniform random U: x / keep * floor(keep + U), x / keep * (U >= rate), where(U >= rate, x / keep, 0).
    """
    if node.op in ("Mul", "MulNoNan") and len(node.inputs) == 2:
        sides = [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])]
    elif node.op in ("SelectV2", "Select") and len(node.inputs) == 3 and _number(g, node.inputs[2]) == 0:
        sides = [(node.inputs[1], node.inputs[0])]
    else:
        return None
    for scaled, mask in sides:
        keep = _kept(g, mask)
        x = _unscaled(g, scaled, keep) if keep is not None else None
        if x is not None:
            g.warn(f"dropout that is switched on (a training graph); it is left out, as in inference (it kept {keep:g})")
            return x
    return None


def _node(g: TensorBuilder, port: Port) -> Node | None:
    node = g.nodes.get(port[0])
    while node is not None and node.op in ("Identity", "Cast", "Floor") and node.inputs:
        if node.op == "Floor":
            return node
        node = g.nodes.get(node.inputs[0][0])
    return node


def _number(g: TensorBuilder, port: Port) -> float | None:
    flow = g.flows.get(port)
    if isinstance(flow, Tensor) and flow.array is not None and flow.array.size == 1 and flow.array.dtype.kind in "fiu":
        return float(flow.array.reshape(()))
    return None


def _kept(g: TensorBuilder, mask: Port) -> float | None:
    """The share that a mask keeps; None where it is no dropout's."""
    node = _node(g, mask)
    if node is None:
        return None
    if node.op == "Floor":
        total = _node(g, node.inputs[0])
        if total is None or total.op not in ("Add", "AddV2") or len(total.inputs) != 2:
            return None
        numbers = [(_number(g, one), other) for one, other in (total.inputs, total.inputs[::-1])]
        return next((number for number, other in numbers if number is not None and _is_uniform(g, other)), None)
    if node.op == "GreaterEqual" and len(node.inputs) == 2:
        rate = _number(g, node.inputs[1])
        return 1 - rate if rate is not None and _is_uniform(g, node.inputs[0]) else None
    return None


def _is_uniform(g: TensorBuilder, port: Port) -> bool:
    """Whether these are random numbers between 0 and 1: RandomUniform, or times 1 plus 0, as random_uniform writes it."""
    node = _node(g, port)
    for _ in range(4):
        if node is None:
            return False
        if node.op in ("RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2"):
            return True
        neutral = {"Add": 0.0, "AddV2": 0.0, "Mul": 1.0}.get(node.op)
        others = [other for one, other in (node.inputs, node.inputs[::-1]) if len(node.inputs) == 2 and _number(g, one) == neutral]
        node = _node(g, others[0]) if neutral is not None and others else None
    return False


def _unscaled(g: TensorBuilder, port: Port, keep: float) -> Port | None:
    """The x of x / keep, or of x * (1 / keep)."""
    node = _node(g, port)
    if node is None or len(node.inputs) != 2:
        return None
    for x, by in (node.inputs, node.inputs[::-1]):
        number = _number(g, by)
        if number is None:
            continue
        divides = node.op == "RealDiv" and by == node.inputs[1] and math.isclose(number, keep, rel_tol=1e-5)
        multiplies = node.op == "Mul" and math.isclose(number * keep, 1.0, rel_tol=1e-5)
        if divides or multiplies:
            return x
    return port if math.isclose(keep, 1.0) else None


# -- how inputs lie ---------------------------------------------------------------------------------------------------


def input_order(g: TensorBuilder, node: Node, rank: int) -> tuple[int, ...]:
    """The order in which an input's axes are given: that of an image for every input of 4 axes, unless the net takes it as NCHW."""
    if rank != 4:
        return identity(rank)
    if _first_format(g, node) == "NCHW":
        g.is_nchw = True
        return identity(4)
    return IMAGE


def _first_format(g: TensorBuilder, node: Node) -> str:
    """The data_format of the first operator behind a node that has one; a Transpose in between ends the search."""
    waiting, seen = [node.name], {node.name}
    while waiting:
        name = waiting.pop(0)
        for reader in g.readers.get(name, ()):
            if reader.has("data_format"):
                return reader.text("data_format", "NHWC")
            if reader.op == "Transpose" or reader.name in seen or len(seen) > 1000:
                continue
            seen.add(reader.name)
            waiting.append(reader.name)
    return ""
