"""The softmax family, and the heads that training puts on a net. Sources: mxnet src/operator/softmax_output-inl.h, nn/softmax-inl.h,
regression_output.cc, svm_output.cc, make_loss.cc."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.errors import printable
from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.axes import first
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import read_type
from converters.readers.mxnet.operators.normalization import like
from converters.readers.mxnet.parameter import Index, Label
from converters.readers.mxnet.signature import lowers


@lowers("SoftmaxOutput", "Softmax", ignores="grad_scale ignore_label use_ignore normalization out_grad smooth_alpha")
def softmax_output(
    g: OperatorBuilder, data: ir.Value, label: Label | None = None, *, multi_output: bool = False, preserve_shape: bool = False
) -> ir.Value:
    """Softmax over all but the first axis, over axis 1 (multi_output) or over the last (preserve_shape); the label is for training.

    (MXNet 1.6 to 1.9 with MKL-DNN take the last axis of a 4-D input at inference, unlike training, GPUs and the documentation.)

    Source: mxnet src/operator/softmax_output-inl.h.
    """
    rank = g.rank(data)
    if multi_output and rank > 1:
        return g.emit("Softmax", data, axis=1)
    if preserve_shape or rank <= 2:
        return g.emit("Softmax", data, axis=-1)
    return like(g, g.emit("Softmax", g.reshape(data, [g.shape(data)[0], None]), axis=-1), data)


@lowers("SoftmaxActivation")
def softmax_activation(g: OperatorBuilder, data: ir.Value, *, mode: Literal["instance", "channel"] = "instance") -> ir.Value:
    """Softmax over axis 1 (channel) or the last axis (instance). Source: mxnet src/operator/nn/softmax_activation-inl.h."""
    if mode == "instance" and g.rank(data) > 2:
        g.warn("mode instance of an input with more than two axes: the softmax goes over the last one, as MXNet does on CPU")
    return g.emit("Softmax", data, axis=1 if mode == "channel" else -1)


def _softmax(
    g: OperatorBuilder,
    op_type: str,
    data: ir.Value,
    length: ir.Value | None,
    axis: int,
    temperature: float | None,
    dtype: str | None,
    use_length: bool,
) -> ir.Value:
    axis = g.axis(data, axis)
    x = g.cast(data, read_type(g, dtype)) if dtype else data
    if g.dtype(x).kind != "f":
        x = g.cast(x, np.float32)
    if temperature is not None and temperature != 1.0:
        x = g.emit("Div", x, temperature)
    if not use_length:
        return g.emit(op_type, x, axis=axis)
    if length is None:
        raise g.error("the input 'length' is missing, and use_length is set")
    positions = g.along(g.positions(x, axis), axis, g.rank(x))
    inside = g.emit("Less", positions, g.emit("Unsqueeze", g.cast(length, np.int64), [axis]))
    lowest = np.full((), -np.inf, g.dtype(x))
    masked = g.emit(op_type, g.emit("Where", inside, x, lowest), axis=axis)
    return g.emit("Where", inside, masked, np.zeros((), g.dtype(x)))


@lowers("softmax", "_npx_softmax", axes=first)
def softmax(
    g: OperatorBuilder,
    data: ir.Value,
    length: Index | None = None,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: str | None = None,
    use_length: bool | None = False,
) -> ir.Value:
    """Softmax along an axis, with a temperature, up to a length per row. Source: mxnet src/operator/nn/softmax-inl.h."""
    return _softmax(g, "Softmax", data, length, axis, temperature, dtype, bool(use_length))


@lowers("log_softmax", "_npx_log_softmax", axes=first)
def log_softmax(
    g: OperatorBuilder,
    data: ir.Value,
    length: Index | None = None,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: str | None = None,
    use_length: bool | None = False,
) -> ir.Value:
    """Logarithm of the softmax. Source: mxnet src/operator/nn/softmax-inl.h."""
    return _softmax(g, "LogSoftmax", data, length, axis, temperature, dtype, bool(use_length))


@lowers("softmin")
def softmin(
    g: OperatorBuilder,
    data: ir.Value,
    length: Index | None = None,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: str | None = None,
    use_length: bool | None = False,
) -> ir.Value:
    """Softmax of the negated input. Source: mxnet src/operator/nn/softmax-inl.h."""
    return _softmax(g, "Softmax", g.emit("Neg", data), length, axis, temperature, dtype, bool(use_length))


@lowers("LogisticRegressionOutput", ignores="grad_scale")
def logistic_output(g: OperatorBuilder, data: ir.Value, label: Label | None = None) -> ir.Value:
    """A sigmoid; the label is for training. Source: mxnet src/operator/regression_output-inl.h."""
    return g.emit("Sigmoid", data)


@lowers("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput", ignores="grad_scale margin regularization_coefficient use_linear")
def regression_output(g: OperatorBuilder, data: ir.Value, label: Label | None = None) -> ir.Value:
    """The input itself; the label is for training. Source: mxnet src/operator/regression_output-inl.h, svm_output-inl.h."""
    return g.identity(data)


@lowers("WarpCTC")
def warp_ctc(g: OperatorBuilder, data: ir.Value, label: Label | None = None, *, label_length: int = 0, input_length: int = 0) -> ir.Value:
    """Softmax over the classes of every step, (T N, C); the label is for training."""
    return g.emit("Softmax", data, axis=-1)


@lowers("IdentityAttachKLSparseReg", ignores="momentum sparseness_target penalty")
def sparse_regularisation(g: OperatorBuilder, data: ir.Value, moving_avg: Label | None = None) -> ir.Value:
    """The input itself; the penalty is for training. Source: mxnet src/operator/identity_attach_KL_sparse_reg-inl.h."""
    return g.identity(data)


@lowers(
    "MakeLoss",
    "make_loss",
    "BlockGrad",
    "stop_gradient",
    "_copy",
    "_np_copy",
    "_npi_copyto",
    "identity",
    "_CrossDeviceCopy",
    "_copyto",
    "cast_storage",
    "_contrib_gradientmultiplier",
    "_NoGradient",
    ignores="grad_scale normalization valid_thresh stype scalar is_int",
    axes=first,
)
def identity(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """The input itself: what it changes is the gradient, the device or the storage.

    Source: mxnet src/operator/tensor/elemwise_unary_op_basic.cc.
    """
    return g.identity(data)


@lowers("_identity_with_attr_like_rhs")
def identity_like(g: OperatorBuilder, lhs: ir.Value, rhs: Label | None = None) -> ir.Value:
    """The first input itself. Source: mxnet src/operator/tensor/elemwise_unary_op_basic.cc."""
    return g.identity(lhs)


@lowers("Dropout", "_npx_dropout", ignores="cudnn_off", axes=first)
def dropout(
    g: OperatorBuilder, data: ir.Value, *, p: float = 0.5, mode: Literal["training", "always"] = "training", axes: Ints = ()
) -> ir.Value:
    """The input itself at inference; mode always, which drops at random even then, is refused. axes: shared by what drops together.

    Source: mxnet src/operator/nn/dropout-inl.h.
    """
    if mode == "always" and p > 0:
        raise g.error("mode always drops at random at inference too, which can't be converted; use mode training")
    shared = bool(axes)  # one draw for a whole channel
    y = data if shared and tuple(axes) != tuple(range(2, g.rank(data))) else g.dropout(data, p, channels=shared)
    return g.identity(data) if y is data else y


@lowers("softmax_cross_entropy")
def softmax_cross_entropy(g: OperatorBuilder, data: ir.Value, label: ir.Value) -> ir.Value:
    """The sum over the rows of -log softmax(data)[label], shape (1,). Source: mxnet src/operator/loss_binary_op-inl.h."""
    logarithms = g.emit("LogSoftmax", data, axis=-1)
    picked = g.emit("GatherElements", logarithms, g.emit("Unsqueeze", g.cast(label, np.int64), [1]), axis=1)
    return g.emit("Neg", g.reshape(g.emit("ReduceSum", picked, [0, 1], keepdims=1), [1]))


@lowers("Custom", "_npi_Custom")
def custom(g: OperatorBuilder, *data: ir.Value, op_type: str = "", **attributes: str) -> ir.Value:
    """Refused: Python code of one's own, which no file holds. Source: mxnet src/operator/custom/custom.cc."""
    raise g.error(
        f"op_type '{printable(op_type)}' is Python code that is in no file; "
        "end the net before it with --output, or register a lowering with @lowers('Custom', replace=True)"
    )
