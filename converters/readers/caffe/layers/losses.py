"""Losses and accuracies.

They are computed where a net is given its labels as inputs, as Caffe does then, and left out where a data layer would give them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim, Extent, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.axes import canonical_axis, check_same_shape, flat_from
from converters.readers.caffe.registry import lowers
from converters.schemas import caffe_pb2

LossParams = caffe_pb2.LossParameter
_TINY = float(np.finfo(np.float32).tiny)


def _label(g: GraphBuilder, layer: Layer, x: ir.Value, label: ir.Value, axis: int, ignored: int | None) -> tuple[ir.Value, ir.Value | None]:
    """Labels as int64 in x's shape with one value along `axis`; and 1 for those that count, where some don't."""
    dims: list[Dim | Extent] = [g.shape(x)[0], *g.extents(x, 1)] if g.rank(x) else []
    dims[axis] = 1
    index = g.emit("Cast", g.reshape(label, dims), to=ir.DataType.INT64)
    if ignored is None:
        return index, None
    counts = g.emit("Not", g.emit("Equal", index, ignored))
    return g.emit("Where", counts, index, g.const(np.int64(0))), g.emit("Cast", counts, to=ir.DataType.FLOAT)


def _ignored(p: LossParams | caffe_pb2.AccuracyParameter) -> int | None:
    return p.ignore_label if p.HasField("ignore_label") else None


def _reduce(g: GraphBuilder, terms: ir.Value, axis: int, mode: int, p: LossParams, counted: ir.Value | None) -> ir.Value:
    """The sum of all terms over what the normalization says; `axis` is the first that isn't the batch's."""
    rank = g.rank(terms)
    if counted is not None:
        terms = g.emit("Mul", terms, counted)
    if mode == p.NONE:
        return g.emit("ReduceSum", terms, list(range(rank)), keepdims=0)
    if mode == p.BATCH_SIZE:
        inner = g.emit("ReduceSum", terms, list(range(axis, rank)), keepdims=0)
        return g.emit("ReduceMean", inner, list(range(axis)), keepdims=0) if axis else inner
    if mode == p.FULL or counted is None:
        return g.emit("ReduceMean", terms, list(range(rank)), keepdims=0)
    total = g.emit("ReduceSum", terms, list(range(rank)), keepdims=0)
    return g.emit("Div", total, g.emit("Max", g.emit("ReduceSum", counted, list(range(rank)), keepdims=0), 1.0))


def _mode(p: LossParams, default: int) -> int:
    if p.HasField("normalization") or not p.HasField("normalize"):
        return int(p.normalization) if p.HasField("normalization") else default
    return int(p.VALID if p.normalize else p.BATCH_SIZE)


@lowers("SoftmaxWithLoss", role="loss", tops=2)
def softmax_with_loss(g: GraphBuilder, layer: Layer, x: ir.Value, label: ir.Value) -> list[ir.Value]:
    """Cross entropy of the softmax of x and labels; the softmax as a second top.

    x: (N, C, ...), label: (N, ...). Source: caffe/layers/softmax_loss_layer.cpp.
    """
    axis = canonical_axis(g, layer, x, layer.params.softmax_param.axis)
    p = layer.params.loss_param
    index, counted = _label(g, layer, x, label, axis, _ignored(p))
    probability = g.emit("Softmax", x, axis=axis)
    terms = g.emit("Neg", g.emit("Log", g.emit("Max", g.emit("GatherElements", probability, index, axis=axis), _TINY)))
    return [_reduce(g, terms, axis, _mode(p, p.VALID), p, counted), probability]


@lowers("InfogainLoss", role="loss", tops=2)
def infogain_loss(g: GraphBuilder, layer: Layer, x: ir.Value, label: ir.Value, gains: ir.Value) -> list[ir.Value]:
    """Cross entropy of the softmax of x and the rows of a matrix that labels pick; the softmax as a second top.

    x: (N, C, ...), label: (N, ...), gains: (..., C, C). Source: caffe/layers/infogain_loss_layer.cpp.
    """
    axis = canonical_axis(g, layer, x, layer.params.infogain_loss_param.axis)
    p = layer.params.loss_param
    index, counted = _label(g, layer, x, label, axis, _ignored(p))
    probability = g.emit("Softmax", x, axis=axis)
    classes, rank = g.fixed(x, axis, axis + 1)[0], g.rank(x)
    rows = g.emit("Gather", g.reshape(gains, [classes, classes]), g.emit("Squeeze", index, [axis]), axis=0)  # classes come last
    weights = g.emit("Transpose", rows, perm=[*range(axis), rank - 1, *range(axis, rank - 1)])
    terms = g.emit("Mul", weights, g.emit("Neg", g.emit("Log", g.emit("Max", probability, 1e-20))))
    terms = g.emit("ReduceSum", terms, [axis], keepdims=1)
    return [_reduce(g, terms, axis, _mode(p, p.VALID), p, counted), probability]


def _as_matrix(g: GraphBuilder, x: ir.Value) -> ir.Value:
    return flat_from(g, x, 1)[0]


@lowers("MultinomialLogisticLoss", role="loss")
def multinomial_logistic_loss(g: GraphBuilder, layer: Layer, x: ir.Value, label: ir.Value) -> ir.Value:
    """Mean of -log of the probability of the label. x: (N, C), label: (N). Source: caffe/layers/multinomial_logistic_loss_layer.cpp."""
    x = _as_matrix(g, x)
    index, _ = _label(g, layer, x, label, 1, None)
    terms = g.emit("Neg", g.emit("Log", g.emit("Max", g.emit("GatherElements", x, index, axis=1), 1e-20)))
    return g.emit("ReduceMean", terms, list(range(g.rank(x))), keepdims=0)


@lowers("EuclideanLoss", role="loss")
def euclidean_loss(g: GraphBuilder, layer: Layer, a: ir.Value, b: ir.Value) -> ir.Value:
    """Sum of squared differences over twice the batch size. a, b: (N, ...). Source: caffe/layers/euclidean_loss_layer.cpp."""
    b = _in_shape_of(g, layer, a, b)
    difference = g.emit("Sub", a, b)
    return _mean_of_sums(g, g.emit("Mul", difference, difference), 0.5)


def _in_shape_of(g: GraphBuilder, layer: Layer, x: ir.Value, other: ir.Value) -> ir.Value:
    """A second bottom, of which Caffe asks for the number of elements only, in the shape of the first."""
    if g.shape(x) == g.shape(other):
        return other
    here, there = (_as_matrix(g, value) for value in (x, other)) if min(g.rank(x), g.rank(other)) else (x, other)
    check_same_shape(g, layer, [here, there])
    return g.reshape(other, [g.shape(x)[0], *g.extents(x, 1)] if g.rank(x) else [])


def _mean_of_sums(g: GraphBuilder, terms: ir.Value, factor: float = 1.0) -> ir.Value:
    rest = list(range(1, g.rank(terms)))
    sums = g.emit("ReduceSum", terms, rest, keepdims=0) if rest else terms
    y = g.emit("ReduceMean", sums, [0], keepdims=0)
    return g.emit("Mul", y, factor) if factor != 1 else y


@lowers("SigmoidCrossEntropyLoss", role="loss")
def sigmoid_cross_entropy_loss(g: GraphBuilder, layer: Layer, x: ir.Value, target: ir.Value) -> ir.Value:
    """Cross entropy of the sigmoid of x and as many targets.

    x, target: (N, ...). Source: caffe/layers/sigmoid_cross_entropy_loss_layer.cpp.
    """
    target = _in_shape_of(g, layer, x, target)
    p = layer.params.loss_param
    counted = None
    if p.HasField("ignore_label"):
        whole = g.emit("Cast", target, to=ir.DataType.INT64)
        counted = g.emit("Cast", g.emit("Not", g.emit("Equal", whole, p.ignore_label)), to=ir.DataType.FLOAT)
    # log(1 + exp(x)) - x * target, without overflow
    terms = g.emit("Sub", g.emit("Softplus", x), g.emit("Mul", x, target))
    return _reduce(g, terms, 1, _mode(p, p.BATCH_SIZE), p, counted)


@lowers("HingeLoss", role="loss")
def hinge_loss(g: GraphBuilder, layer: Layer, x: ir.Value, label: ir.Value) -> ir.Value:
    """Sum of one-against-all margins (L1) or of their squares (L2) over the batch size.

    x: (N, C), label: (N). Source: caffe/layers/hinge_loss_layer.cpp.
    """
    x = _as_matrix(g, x)
    index, _ = _label(g, layer, x, label, 1, None)
    classes = np.arange(g.fixed(x, 1, 2)[0]).reshape(-1, *[1] * (g.rank(x) - 2))
    sign = g.emit("Where", g.emit("Equal", index, g.const(classes)), g.const(np.float32(-1)), g.const(np.float32(1)))
    margin = g.emit("Relu", g.emit("Add", g.emit("Mul", x, sign), 1.0))
    p = layer.params.hinge_loss_param
    return _mean_of_sums(g, g.emit("Mul", margin, margin) if p.norm == p.L2 else margin)


@lowers("ContrastiveLoss", role="loss")
def contrastive_loss(g: GraphBuilder, layer: Layer, a: ir.Value, b: ir.Value, similar: ir.Value) -> ir.Value:
    """Half the mean of the squared distance of similar pairs and of the squared margin of others.

    a, b: (N, C), similar: (N). Source: caffe/layers/contrastive_loss_layer.cpp.
    """
    check_same_shape(g, layer, [a, b])
    p = layer.params.contrastive_loss_param
    difference = g.emit("Sub", a, b)
    squared = g.emit("ReduceSum", g.emit("Mul", difference, difference), list(range(1, g.rank(a))), keepdims=0)
    if p.legacy_version:
        apart = g.emit("Relu", g.emit("Sub", p.margin, squared))
    else:
        margin = g.emit("Relu", g.emit("Sub", p.margin, g.emit("Sqrt", squared)))
        apart = g.emit("Mul", margin, margin)
    together = g.emit("Cast", g.emit("Cast", g.reshape(similar, [g.shape(a)[0]]), to=ir.DataType.INT64), to=ir.DataType.BOOL)
    return _mean_of_sums(g, g.emit("Where", together, squared, apart), 0.5)


@lowers("Accuracy", role="loss", tops=2)
def accuracy(g: GraphBuilder, layer: Layer, x: ir.Value, label: ir.Value) -> list[ir.Value]:
    """Share of labels among the top_k classes; classes with the label's own score count as better. By class as a second top.

    x: (N, C, ...), label: (N, ...). Source: caffe/layers/accuracy_layer.cpp.
    """
    p = layer.params.accuracy_param
    axis = canonical_axis(g, layer, x, p.axis)
    index, counted = _label(g, layer, x, label, axis, _ignored(p))
    own = g.emit("GatherElements", x, index, axis=axis)
    better = g.emit("Cast", g.emit("GreaterOrEqual", x, own), to=ir.DataType.FLOAT)
    right = g.emit("Less", g.emit("ReduceSum", better, [axis], keepdims=1), float(p.top_k + 1))
    right = g.emit("Cast", right, to=ir.DataType.FLOAT)
    q = layer.params.loss_param
    share = _reduce(g, right, axis, q.VALID, q, counted)
    if len(layer.tops) < 2:
        return [share]
    classes = np.arange(g.fixed(x, axis, axis + 1)[0]).reshape(-1, *[1] * (g.rank(x) - axis - 1))
    member = g.emit("Cast", g.emit("Equal", index, g.const(classes)), to=ir.DataType.FLOAT)
    member = member if counted is None else g.emit("Mul", member, counted)
    others = [a for a in range(g.rank(x)) if a != axis]
    found = g.emit("ReduceSum", g.emit("Mul", member, right), others, keepdims=0)
    return [share, g.emit("Div", found, g.emit("Max", g.emit("ReduceSum", member, others, keepdims=0), 1.0))]


@lowers(
    "SmoothL1Loss",
    "L1Loss",
    "MultiBoxLoss",
    "RegionLoss",
    "SegAccuracy",
    "CenterLoss",
    "TripletLoss",
    "FocalLoss",
    "SoftmaxWithFocalLoss",
    "WeightedSoftmaxWithLoss",
    "SoftmaxWithLossOHEM",
    "BoxAnnotatorOHEM",
    "CTCLoss",
    role="training",
)
def training_loss(g: GraphBuilder, layer: Layer, *bottoms: ir.Value) -> Sequence[ir.Value]:
    """Left out, with a warning: a loss of forks that matters in training alone. Source: the forks' layers of these names."""
    return ()
