"""Source of activations."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.provenance import CHANNELS
from converters.writers.source.code import number
from converters.writers.source.node import Node, arguments, writes


def _float(value: float) -> str:
    """ONNX's float attributes are float32."""
    return number(np.float32(value))


@writes("Relu")
def relu(n: Node) -> str:
    """F.relu."""
    return f"F.relu({n[0]})"


@writes("LeakyRelu")
def leaky_relu(n: Node) -> str:
    """F.leaky_relu."""
    return f"F.leaky_relu({n[0]}, {_float(n.attr('alpha', 0.01))})"


@writes("Elu")
def elu(n: Node) -> str:
    """F.elu."""
    return f"F.elu({n[0]}, {_float(n.attr('alpha', 1.0))})"


@writes("Celu")
def celu(n: Node) -> str:
    """F.celu."""
    return f"F.celu({n[0]}, {_float(n.attr('alpha', 1.0))})"


@writes("Selu")
def selu(n: Node) -> str:
    """gamma * F.elu(x, alpha)."""
    alpha, gamma = n.attr("alpha", 1.67326319217681884765625), n.attr("gamma", 1.05070102214813232421875)
    return f"{_float(gamma)} * F.elu({n[0]}, {_float(alpha)})"


@writes("PRelu")
def prelu(n: Node) -> str:
    """nn.PReLU; torch.where for slopes that aren't one per channel."""
    rank, slope = n.rank(0), n.shape(1)
    shape = n.shape(0)
    if slope is not None and rank is not None and rank >= 2 and shape is not None:
        trailing = slope[1:] if len(slope) == rank - 1 else None
        if len(slope) == 1 and slope[0] == 1:
            layer = n.layer("nn.PReLU(1", {"weight": 1})
            return f"{layer}({n[0]})" if layer else f"F.prelu({n[0]}, {n[1]})"
        if n.opset < 7 and len(slope) == 1 and slope[0] == shape[1]:
            layer = n.layer(f"nn.PReLU({slope[0]}", {"weight": 1})
            return f"{layer}({n[0]})" if layer else f"F.prelu({n[0]}, {n[1]})"
        if trailing is not None and all(d == 1 for d in trailing) and slope[0] is not None and slope[0] == shape[1]:
            layer = n.layer(f"nn.PReLU({slope[0]}", {"weight": _before_axes(n)})
            return f"{layer}({n[0]})" if layer else f"F.prelu({n[0]}, {n[1]}.flatten())"
        if len(slope) == rank and slope[0] == 1 and all(d == 1 for d in slope[2:]) and slope[1] == shape[1]:
            return f"F.prelu({n[0]}, {n[1]}.flatten())"
        if slope and not _broadcasts(slope, shape):
            if len(slope) != 1 or slope[0] is None or slope[0] != shape[1]:
                raise n.error(f"slopes of shape {tuple(slope)} don't broadcast to the input's {tuple(shape)}")
            layer = n.layer(f"nn.PReLU({slope[0]}", {"weight": 1})  # as exporters of MXNet mean it
            return f"{layer}({n[0]})" if layer else f"F.prelu({n[0]}, {n[1]})"
    x, weight = n[0], n[1]
    return f"torch.where({x} >= 0, {x}, {x} * {weight})"


def _before_axes(n: Node) -> ir.Value | None:
    """The slopes (C,) that got axes of size 1 behind them; None where they are something else."""
    value = n.value(1)
    producer = None if value is None else value.producer()
    before = producer.inputs[0] if producer is not None and producer.op_type in ("Reshape", "Unsqueeze") else None
    return before if before is not None and before.shape is not None and len(before.shape) == 1 else None


def _broadcasts(slope: list[int | None], shape: list[int | None]) -> bool:
    """Whether slopes fit an input by ONNX's rules, as far as sizes are known."""
    pairs = zip(reversed(slope), reversed(shape), strict=False)
    return len(slope) <= len(shape) and all(a in (1, None) or b is None or a == b for a, b in pairs)


@writes("Softplus")
def softplus(n: Node) -> str:
    """log(1 + exp(x)), for all x."""
    return f"torch.logaddexp({n[0]}, torch.zeros_like({n[0]}))"


@writes("Softsign")
def softsign(n: Node) -> str:
    """F.softsign."""
    return f"F.softsign({n[0]})"


@writes("HardSigmoid")
def hard_sigmoid(n: Node) -> str:
    """clamp(alpha x + beta, 0, 1)."""
    return f"({_float(n.attr('alpha', 0.2))} * {n[0]} + {_float(n.attr('beta', 0.5))}).clamp(0, 1)"


@writes("HardSwish")
def hard_swish(n: Node) -> str:
    """F.hardswish."""
    return f"F.hardswish({n[0]})"


@writes("Mish")
def mish(n: Node) -> str:
    """F.mish."""
    return f"F.mish({n[0]})"


@writes("Swish")
def swish(n: Node) -> str:
    """x * sigmoid(alpha x)."""
    alpha = n.attr("alpha", 1.0)
    return f"F.silu({n[0]})" if alpha == 1 else f"{n[0]} * ({_float(alpha)} * {n[0]}).sigmoid()"


@writes("Gelu")
def gelu(n: Node) -> str:
    """F.gelu."""
    return f"F.gelu({arguments(n[0], approximate=repr('tanh') if n.attr('approximate', 'none') == 'tanh' else None)})"


@writes("ThresholdedRelu")
def thresholded_relu(n: Node) -> str:
    """F.threshold."""
    return f"F.threshold({n[0]}, {_float(n.attr('alpha', 1.0))}, 0.0)"


@writes("Shrink")
def shrink(n: Node) -> str:
    """x - bias above lambd, x + bias below -lambd, 0 between."""
    x, bias, lambd = n[0], _float(n.attr("bias", 0.0)), _float(n.attr("lambd", 0.5))
    return f"torch.where({x} > {lambd}, {x} - {bias}, torch.where({x} < -{lambd}, {x} + {bias}, torch.zeros_like({x})))"


def _softmax(name: str) -> None:
    def write(n: Node) -> str:
        axis = n.attr("axis", -1 if n.opset >= 13 else 1)
        if n.opset < 13:
            rank = n.known_rank()
            if axis % max(rank, 1) != rank - 1:  # the older operator works on (product of dims before axis, product of the rest)
                shape = n.assign(f"{n[0]}.shape")
                start = axis % rank
                flat = n.assign(f"{n[0]}.flatten({start})")
                return f"F.{name}({flat}, {start}).reshape({shape})"
        return f"F.{name}({n[0]}, {axis})"

    write.__doc__ = f"F.{name}."
    writes("Softmax" if name == "softmax" else "LogSoftmax")(write)


_softmax("softmax")
_softmax("log_softmax")


@writes("Hardmax")
def hardmax(n: Node) -> str:
    """1 at the first maximum, 0 elsewhere."""
    axis = n.attr("axis", -1 if n.opset >= 13 else 1)
    if n.opset < 13:
        start = axis % max(n.known_rank(), 1)
        shape = n.assign(f"{n[0]}.shape")
        x = n.assign(f"{n[0]}.flatten({start})")
        return f"torch.zeros_like({x}).scatter({start}, {x}.argmax({start}, keepdim=True), 1).reshape({shape})"
    return f"torch.zeros_like({n[0]}).scatter({axis}, {n[0]}.argmax({axis}, keepdim=True), 1)"


@writes("Dropout")
def dropout(n: Node) -> list[str]:
    """nn.Dropout, which does nothing in eval mode; an operator in training mode is refused."""
    if n.opset < 7 and not n.attr("is_test", 0):
        raise n.error("dropout in training mode is random; only inference is written")
    if n.has(2):
        training = n.static(2)
        if training is None or bool(training):
            raise n.error("dropout in training mode is random; only inference is written")
    ratio = n.attr("ratio", 0.5) if n.opset < 12 else 0.5 if not n.has(1) else n.static(1)
    p = None if ratio is None else float(np.asarray(ratio).reshape(-1)[0])
    y = n[0]
    if p is not None and 0 < p <= 1 and n.opset >= 7:
        kind = {3: "Dropout1d", 5: "Dropout3d"}.get(n.rank() or 4, "Dropout2d") if n.ir.metadata_props.get(CHANNELS) else "Dropout"
        y = f"{n.plain_layer(f'nn.{kind}(p={_float(p)})', 'dropout')}({y})"
    return [y, f"torch.ones_like({n[0]}, dtype=torch.bool)"] if n.outputs > 1 else [y]
