"""Normalization. Sources: TensorFlow's core/kernels/fused_batch_norm_op.cc, batch_norm_op.h, lrn_op.cc; python/ops/nn_impl.py."""

from __future__ import annotations

import numpy as np

from converters.graph.builder import Operand
from converters.readers.tensorflow.graph import Port
from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.values import IMAGE, VOLUME, constant, identity


@lowers("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def fused_batch_norm(
    g: TensorBuilder, node: Node, x: Tensor, scale: Tensor, offset: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, ...]:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset of each channel; epsilon is 1e-4 unless stated.

    A training graph's, which takes the batch's own statistics, is refused, but where the file says which moving averages it keeps.
    """
    training = node.flag("is_training", True)
    if training:
        mean, variance = _moving(g, node)
    y = batch_norm(g, x, scale, offset, mean, variance, node.real("epsilon", 1e-4), node.text("data_format", "NHWC"))
    return (y,) if training else (y, mean, variance, mean, variance)


@lowers("BatchNormWithGlobalNormalization")
def old_batch_norm(g: TensorBuilder, node: Node, x: Tensor, mean: Tensor, variance: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
    """As FusedBatchNorm; gamma counts only where scale_after_normalization says so."""
    if not node.flag("scale_after_normalization"):
        gamma = constant(np.ones(g.array(gamma, "gamma").shape, gamma.dtype))
    return batch_norm(g, x, gamma, beta, mean, variance, node.real("variance_epsilon", 0.0), "NHWC")


def batch_norm(
    g: TensorBuilder, x: Tensor, scale: Tensor, offset: Tensor, mean: Tensor, variance: Tensor, epsilon: float, layout: str
) -> Tensor:
    order = identity(x.rank) if layout.startswith("NC") else {4: IMAGE, 5: VOLUME}.get(x.rank, identity(x.rank))
    if layout.startswith("NC"):
        g.is_nchw = True
    parts = (("weight", scale), ("bias", offset), ("running_mean", mean), ("running_var", variance))
    shapes = {g.dims(part) for _, part in parts}
    if len(shapes) != 1:
        raise g.error(f"its scale, offset, mean and variance have the shapes {', '.join(map(str, shapes))}, which have to be one")
    value = g.ordered(x, order, keep_blocks=True)
    operands: list[Operand] = []
    for role, part in parts:
        if part.array is None:
            operands.append(g.plain(part))
        else:
            operands.append(g.weight(part, role, part.array, buffer="running" in role))
    return g.result(g.emit("BatchNormalization", value, *operands, epsilon=float(epsilon)), order, blocks=x.blocks)


def _moving(g: TensorBuilder, node: Node) -> tuple[Tensor, Tensor]:
    """The moving averages that a training graph keeps of this layer's mean and variance.

    Raises ConversionError where the graph doesn't say, or they aren't read by anything that was lowered.
    """
    found = []
    for port in (1, 2):
        averages = {source for reader in _readers(g, node, port) for source in _assigned(g, reader)}
        if len(averages) != 1:
            break
        found.append(averages.pop())
    if len(found) != 2:
        message = "normalizes with the statistics of the batch, as in training"
        raise node.source.error(message, hint="give the graph for inference (is_training=False)")
    values = [g.variable(name) for name in found]
    g.warn(f"a training graph: the moving averages '{found[0]}' and '{found[1]}' stand for the batch's statistics, as in inference")
    return values[0], values[1]


def _readers(g: TensorBuilder, node: Node, port: int) -> list[Node]:
    """Who reads an output, through nodes that pass on what they get."""
    waiting: list[Port] = [(node.name, port)]
    found: list[Node] = []
    while waiting:
        name, number = waiting.pop()
        for reader in g.readers.get(name, ()):
            if (name, number) not in reader.inputs or len(found) > 100:
                continue
            if reader.op in ("Identity", "Switch", "Merge"):
                waiting += [(reader.name, 0), *([(reader.name, 1)] if reader.op == "Switch" else [])]
            else:
                found.append(reader)
    return found


def _assigned(g: TensorBuilder, reader: Node) -> list[str]:
    """The variable whose moving average a node brings nearer to the statistics: AssignSub(v, (v - statistics) * (1 - decay))."""
    if reader.op != "Sub" or not reader.inputs:
        return []
    names = []
    for product in g.readers.get(reader.name, ()):
        for update in g.readers.get(product.name, ()) if product.op == "Mul" else ():
            if update.op in ("AssignSub", "AssignSubVariableOp") and update.inputs:
                names.append(update.inputs[0][0])
    return names


@lowers("LRN")
def lrn(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """x / (bias + alpha * sum of squares over 2 r + 1 channels)^beta; alpha isn't divided by their number, as it is in ONNX."""
    size = 2 * node.integer("depth_radius", 5) + 1
    alpha, beta, bias = node.real("alpha", 1.0) * size, node.real("beta", 0.5), node.real("bias", 1.0)
    return g.result(g.emit("LRN", g.ordered(x, IMAGE), size=size, alpha=alpha, beta=beta, bias=bias), IMAGE)


@lowers("L2Loss")
def l2_loss(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Half the sum of squares."""
    value = g.plain(x)
    return g.result(g.emit("Mul", g.emit("ReduceSum", g.emit("Mul", value, value), keepdims=0), 0.5))


# -- a batch norm in parts -------------------------------------------------------------------------------------------------


def put_together(g: TensorBuilder, node: Node) -> Tensor | None:
    """x * inv + (beta - mean * inv), with inv = gamma / sqrt(variance + epsilon), as tf.nn.batch_normalization writes it; else None."""
    for product, shift in (node.inputs, node.inputs[::-1]) if len(node.inputs) == 2 else ():
        times, minus = _only(g, product, "Mul"), _only(g, shift, "Sub", "Neg")
        if times is None or minus is None:
            continue
        for x, inverse in (times.inputs, times.inputs[::-1]):
            parts = _parts(g, minus, inverse)
            flow = g.flows.get(x)
            if parts is not None and isinstance(flow, Tensor) and flow.value is not None and flow.rank in (2, 4):
                gamma, beta, mean, variance, epsilon = parts
                channels = mean.array.shape if mean.array is not None else ()
                if len(channels) != 1 or channels[0] != g.dims(flow)[-1]:
                    continue
                ones = constant(np.ones(channels, mean.dtype))
                zeros = constant(np.zeros(channels, mean.dtype))
                return batch_norm(g, flow, gamma or ones, beta or zeros, mean, variance, epsilon, "NHWC")
    return None


def _only(g: TensorBuilder, port: Port, *kinds: str) -> Node | None:
    node = g.nodes.get(port[0])
    return node if node is not None and node.op in kinds and port[1] == 0 else None


def _fixed(g: TensorBuilder, port: Port) -> Tensor | None:
    flow = g.flows.get(port)
    return flow if isinstance(flow, Tensor) and flow.array is not None and flow.array.dtype.kind == "f" else None


def _parts(g: TensorBuilder, minus: Node, inverse: Port) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor, float] | None:
    """gamma, beta, mean, variance and epsilon of the two halves; None where they aren't those of a batch norm."""
    beta_port, scaled = (minus.inputs[0], minus.inputs[1]) if minus.op == "Sub" else (None, minus.inputs[0])
    product = _only(g, scaled, "Mul")
    if product is None or inverse not in product.inputs:
        return None
    mean = _fixed(g, product.inputs[0] if product.inputs[1] == inverse else product.inputs[1])
    beta = _fixed(g, beta_port) if beta_port is not None else None
    root, gamma = _only(g, inverse, "Rsqrt"), None
    scale = _only(g, inverse, "Mul")
    if scale is not None:
        for one, other in (scale.inputs, scale.inputs[::-1]):
            if _only(g, one, "Rsqrt") is not None:
                root, gamma = _only(g, one, "Rsqrt"), _fixed(g, other)
        if gamma is None:
            return None
    total = _only(g, root.inputs[0], "Add", "AddV2") if root is not None else None
    if total is None or mean is None or (beta is None and beta_port is not None):
        return None
    for one, other in (total.inputs, total.inputs[::-1]):
        variance, epsilon = _fixed(g, one), _fixed(g, other)
        if variance is not None and epsilon is not None and epsilon.array is not None and epsilon.array.size == 1 and variance.rank == 1:
            return gamma, beta, mean, variance, float(epsilon.array.reshape(()))
    return None
