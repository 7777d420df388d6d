"""Layers that give values out of nothing, and those that give none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers
from converters.readers.caffe.weights import FILL_LIMIT, fill
from converters.schemas import caffe_pb2


@lowers("Parameter")
def parameter(g: GraphBuilder, layer: Layer) -> ir.Value:
    """A learned blob, of the shape that it states. Source: caffe/layers/parameter_layer.cpp."""
    shape = tuple(layer.params.parameter_param.shape.dim)
    if any(d < 1 for d in shape):
        raise layer.error(f"the shape {shape} has a dimension below 1")
    layer.weights.expect(1)
    return layer.weights.value(g, 0, "weight", shape)


@lowers("DummyData")
def dummy_data(g: GraphBuilder, layer: Layer) -> list[ir.Value]:
    """Constants of the shapes that it states. Source: caffe/layers/dummy_data_layer.cpp."""
    p = layer.params.dummy_data_param
    tops = len(layer.tops)
    shapes = [tuple(shape.dim) for shape in p.shape]
    if not shapes:
        columns = [list(column) for column in (p.num, p.channels, p.height, p.width)]
        if any(len(column) not in (1, tops) for column in columns):
            raise layer.error(f"num, channels, height and width must be given once, or {tops} times")
        shapes = [tuple(column[min(i, len(column) - 1)] for column in columns) for i in range(tops)]
    fillers: Sequence[caffe_pb2.FillerParameter | None] = list(p.data_filler) or [None]
    for what, values in (("shapes", shapes), ("data_filler", fillers)):
        if len(values) not in (1, tops):
            raise layer.error(f"has {len(values)} {what} for {tops} tops")
    results = []
    for index in range(tops):
        shape = shapes[min(index, len(shapes) - 1)]
        if any(d < 1 for d in shape) or math.prod(shape) > FILL_LIMIT:
            raise layer.error(f"the shape {shape} can't be made")
        filler = fillers[min(index, len(fillers) - 1)]
        if filler is None or filler.type == "constant":
            value = filler.value if filler is not None else 0.0
            results.append(g.emit("Expand", fill(value, (), layer, "data"), list(shape), shape=shape))
        else:
            results.append(g.const(fill(filler, shape, layer, "data"), role="data"))
    return results


@lowers("Silence", "DetectionEvaluate", "EvalDetection", role="sink")
def sink(g: GraphBuilder, layer: Layer, *bottoms: ir.Value) -> Sequence[ir.Value]:
    """Gives nothing: its bottoms are no outputs of the net, unless it has no others. Source: caffe/layers/silence_layer.cpp."""
    return ()


@lowers("HDF5Output", "ImgWriter", "FLOWriter", "MatWrite", role="writer")
def writer(g: GraphBuilder, layer: Layer, *bottoms: ir.Value) -> Sequence[ir.Value]:
    """Writes its bottoms into files while Caffe runs: they are outputs of the net.

    Source: caffe/layers/hdf5_output_layer.cpp, FlowNet's flo_writer_layer.cpp.
    """
    return ()


@lowers("ContinuationIndicator")
def continuation_indicator(g: GraphBuilder, layer: Layer) -> ir.Value:
    """0 for the first of time_step rows, 1 for the others, batch_size of each. Source: crnn.caffe's continuation_indicator_layer.cpp."""
    p = layer.params.continuation_indicator_param
    if p.time_step < 1 or p.batch_size < 1 or p.time_step * p.batch_size > FILL_LIMIT:
        raise layer.error(f"time_step {p.time_step} and batch_size {p.batch_size}; both are at least 1")
    column = np.ones((p.time_step, 1), np.float32)
    column[0] = 0
    return g.const(np.repeat(column, p.batch_size, axis=1), role="cont")
