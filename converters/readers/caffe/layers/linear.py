"""Matrix products and factors."""

from __future__ import annotations

import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.axes import canonical_axis, flat_from
from converters.readers.caffe.registry import lowers
from converters.schemas import caffe_pb2


@lowers("InnerProduct", outputs="inner_product_param")
def inner_product(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Fully connected: all axes from `axis` on become num_output. x: (N, ...) to (N, num_output).

    Source: caffe/layers/inner_product_layer.cpp.
    """
    p = layer.params.inner_product_param
    if p.num_output < 1:
        raise layer.error("num_output is 0 or missing")
    axis = canonical_axis(g, layer, x, p.axis)
    matrix, length = flat_from(g, x, axis)
    layer.weights.expect(1 + p.bias_term)
    weight = layer.weights.value(g, 0, "weight", (p.num_output, length), p.weight_filler, transposed=p.transpose)
    bias = [layer.weights.value(g, 1, "bias", (p.num_output,), p.bias_filler)] if p.bias_term else []
    y = g.emit("Gemm", matrix, weight, *bias, transB=1)
    return y if axis == 1 else g.reshape(y, [*g.extents(x, 0, axis), p.num_output])


@lowers("Embed")
def embed(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Looks up rows of a table. x: indices of any shape to (*shape, num_output). Source: caffe/layers/embed_layer.cpp."""
    p = layer.params.embed_param
    if p.num_output < 1 or p.input_dim < 1:
        raise layer.error("num_output and input_dim must be at least 1")
    layer.weights.expect(1 + p.bias_term)
    weight = layer.weights.value(g, 0, "weight", (p.input_dim, p.num_output), p.weight_filler)
    y = g.emit("Gather", weight, g.emit("Cast", x, to=ir.DataType.INT64), axis=0)
    if p.bias_term:
        y = g.emit("Add", y, layer.weights.value(g, 1, "bias", (p.num_output,), p.bias_filler))
    return y


def _operand_shape(
    g: GraphBuilder, layer: Layer, x: ir.Value, p: caffe_pb2.ScaleParameter | caffe_pb2.BiasParameter
) -> tuple[int, tuple[int, ...]]:
    """The first axis that a parameter of Scale or Bias covers, and its shape."""
    axis = canonical_axis(g, layer, x, p.axis)
    if p.num_axes < -1:
        raise layer.error(f"num_axes {p.num_axes}; it is at least -1")
    end = g.rank(x) if p.num_axes == -1 else axis + p.num_axes
    if end > g.rank(x):
        raise layer.error(f"num_axes {p.num_axes} from axis {axis} on reach behind the {g.rank(x)} axes of its bottom")
    return axis, g.fixed(x, axis, end)


def _align(g: GraphBuilder, layer: Layer, x: ir.Value, y: ir.Value, p: caffe_pb2.ScaleParameter | caffe_pb2.BiasParameter) -> ir.Value:
    """A second bottom with axes of length 1 behind it, so that it broadcasts over x from `axis` on."""
    rank = g.rank(y)
    axis = canonical_axis(g, layer, x, p.axis) if rank else 0
    if axis + rank > g.rank(x):
        raise layer.error(f"its second bottom of shape {g.shape(y)} reaches behind the axes of the first, {g.shape(x)}")
    covered, dims = g.shape(x)[axis : axis + rank], g.shape(y)
    if covered != dims:
        if all(isinstance(d, int) for d in (*covered, *dims)):
            raise layer.error(f"its second bottom of shape {dims} doesn't fit axes {axis} to {axis + rank - 1} of {g.shape(x)}")
        g.fixed(x)
        g.fixed(y)
    trailing = g.rank(x) - axis - rank
    return g.reshape(y, [*g.extents(y), *[1] * trailing]) if trailing else y


@lowers("Scale", in_place=True, keeps_count=True)
def scale(g: GraphBuilder, layer: Layer, x: ir.Value, factor: ir.Value | None = None) -> ir.Value:
    """x times a factor that covers num_axes axes from `axis` on: learned, or a second bottom; plus a bias.

    x: (N, C, ...). Source: caffe/layers/scale_layer.cpp.
    """
    p = layer.params.scale_param
    if factor is None:
        layer.weights.expect(1 + p.bias_term)
        axis, shape = _operand_shape(g, layer, x, p)
        trailing = [1] * (g.rank(x) - axis - len(shape)) if shape else []
        filler = p.filler if p.HasField("filler") else 1.0
        y = g.emit("Mul", x, layer.weights.value(g, 0, "weight", shape, filler, view=(*shape, *trailing)))
    else:
        layer.weights.expect(int(p.bias_term))
        aligned = _align(g, layer, x, factor, p)
        axis = canonical_axis(g, layer, x, p.axis) if g.rank(factor) else 0
        shape = g.fixed(factor) if p.bias_term else ()
        trailing = [1] * (g.rank(x) - axis - len(shape)) if shape else []
        y = g.emit("Mul", x, aligned)
    if p.bias_term:
        y = g.emit("Add", y, layer.weights.value(g, int(factor is None), "bias", shape, p.bias_filler, view=(*shape, *trailing)))
    return y


@lowers("Bias", in_place=True, blobs=("bias",), keeps_count=True)
def bias(g: GraphBuilder, layer: Layer, x: ir.Value, addend: ir.Value | None = None) -> ir.Value:
    """x plus an addend that covers num_axes axes from `axis` on: learned, or a second bottom.

    x: (N, C, ...). Source: caffe/layers/bias_layer.cpp.
    """
    p = layer.params.bias_param
    if addend is not None:
        layer.weights.expect(0)
        return g.emit("Add", x, _align(g, layer, x, addend, p))
    layer.weights.expect(1)
    axis, shape = _operand_shape(g, layer, x, p)
    trailing = [1] * (g.rank(x) - axis - len(shape)) if shape else []
    return g.emit("Add", x, layer.weights.value(g, 0, "bias", shape, p.filler, view=(*shape, *trailing)))
