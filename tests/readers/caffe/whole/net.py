"""Runs a prototxt in numpy, drawing its weights as it goes: each layer's are scaled so that what it answers is about 1 in size."""

from __future__ import annotations

import zlib

import numpy as np

from tests.readers.caffe import formulas, wire
from tests.readers.caffe.whole import boxes, flow, maps
from tests.readers.caffe.whole.text import Message, in_test, kind, parse

IN_PLACE = ("Dropout", "SpatialDropout", "Split", "Python:spatial_dropout.SpatialDropoutLayer")
SINKS = ("Silence", "FLOWriter", "HDF5Output", "ImgWriter", "EvalDetection", "DetectionEvaluate", "RegionLoss")
LOSSES = ("SoftmaxWithLoss", "EuclideanLoss", "Accuracy")


class Net:
    """A prototxt, its inputs and the weights drawn for it.

    meanings: whose PriorBox and Warp the net has, which its file tells to whoever looks at the whole of it.
    """

    def __init__(self, text: str, inputs: dict[str, np.ndarray], meanings: dict[str, str] | None = None, dtype: type = np.float64) -> None:
        self.top = parse(text)
        self.inputs = {name: a.astype(dtype) for name, a in inputs.items()}
        self.layers = [layer for layer in self.top.all("layer") or self.top.all("layers") if in_test(layer)]
        self.weights: dict[str, list[np.ndarray]] = {}
        self.shared: dict[str, np.ndarray] = {}
        self.blobs: dict[str, np.ndarray] = {}
        self.meanings = meanings or {}
        self.has_grid = any(kind(layer) == "Grid" for layer in self.layers)

    def run(self) -> dict[str, np.ndarray]:
        """All blobs as they are in the end."""
        self.blobs.update(self.inputs)
        for layer in self.layers:
            tops = layer.all("top")
            if not layer.all("bottom") and tops and all(top in self.inputs for top in tops[:1]):
                continue
            if kind(layer) in SINKS + LOSSES or any(b not in self.blobs for b in layer.all("bottom")):
                continue
            made = self._layer(layer, [self.blobs[b] for b in layer.all("bottom")])
            for top, value in zip(tops, made if isinstance(made, (list, tuple)) else [made], strict=False):
                self.blobs[top] = value
        return self.blobs

    def caffemodel(self) -> bytes:
        return wire.caffemodel(self.weights)

    # -- weights -----------------------------------------------------------------------------------------------------------

    def _drawn(self, layer: Message, position: int, shape, low=None, high=None) -> np.ndarray:
        """A blob: normal with its fan-in, or uniform; kept as float32, as the file has it."""
        specs = layer.all("param")
        name = specs[position].get("name", "") if position < len(specs) and isinstance(specs[position], Message) else ""
        held = self.weights.setdefault(layer.get("name"), [])
        if name and name in self.shared:
            held.append(self.shared[name])
            return self.shared[name]
        rng = np.random.default_rng(zlib.crc32(f"{layer.get('name')} {position}".encode()))
        if low is None:
            made = rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        else:
            made = rng.uniform(low, high, shape)
        made = made.astype(np.float32)
        if name:
            self.shared[name] = made
        held.append(made)
        return made

    def _linear(self, layer: Message, shape, bias, apply, count: int):
        """A linear layer whose weights are scaled to its answer, where they are new."""
        specs = layer.all("param")
        name = specs[0].get("name", "") if specs and isinstance(specs[0], Message) else ""
        if layer.get("name") in self.weights or name in self.shared:  # another bottom, or shared
            w = self._drawn(layer, 0, shape)
            b = self._drawn(layer, 1, (count,), -0.2, 0.2) if bias else None
            return apply(w, b)
        w = self._drawn(layer, 0, shape)
        sum_of = layer.get("convolution_param").get("weight_filler", Message()).get("value", 0)
        if sum_of:  # which isn't trained: a sum that others are divided by
            w[:] = sum_of
        else:
            size = float(apply(w, None).std()) or 1.0
            w /= np.float32(size)
        y = apply(w, None)
        if bias:
            y = y + maps.column(self._drawn(layer, 1, (count,), -0.2, 0.2), y)
        return y

    # -- layers ------------------------------------------------------------------------------------------------------------

    def _layer(self, layer: Message, xs):
        name = kind(layer)
        found = getattr(self, f"_{name.lower()}", None) if ":" not in name else None
        if found is not None:
            return found(layer, *xs)
        if name in IN_PLACE:
            return [xs[0]] * len(layer.all("top"))
        if name in SIMPLE:
            return SIMPLE[name](layer, *xs)
        raise NotImplementedError(name)

    def _convolution(self, layer, *xs):
        axes = xs[0].ndim - 2
        kernel, stride, pad, dilation, group, outputs = maps.window(layer, axes)
        if kind(layer) in ("ConvolutionDepthwise", "DepthwiseConvolution"):
            group = xs[0].shape[1]
        shape = (outputs, xs[0].shape[1] // group, *kernel)
        bias = layer.get("convolution_param").get("bias_term", True)
        first = self._linear(layer, shape, bias, lambda w, b: maps.convolved(xs[0], w, b, stride, pad, dilation, group), outputs)
        w, *b = self.weights[layer.get("name")]
        return [first, *(maps.convolved(x, w, *b or [None], stride, pad, dilation, group) for x in xs[1:])]

    _convolutiondepthwise = _depthwiseconvolution = _convolution

    def _deconvolution(self, layer, x):
        kernel, stride, pad, dilation, group, outputs = maps.window(layer, x.ndim - 2)
        shape, bias = (x.shape[1], outputs // group, *kernel), layer.get("convolution_param").get("bias_term", True)
        return self._linear(layer, shape, bias, lambda w, b: maps.spread(x, w, b, stride, pad, dilation, group), outputs)

    def _window_3d(self, layer):
        p = layer.get("convolution3d_param") if "convolution3d_param" in layer else layer.get("convolution_param")
        side = p.get("kernel_size")
        kernel = [p.get("kernel_depth", 1), side, side]
        stride = [p.get("temporal_stride", 1), *[p.get("stride", 1)] * 2]
        return kernel, stride, [p.get("temporal_pad", 0), *[p.get("pad", 0)] * 2], p.get("num_output"), p.get("bias_term", True)

    def _convolution3d(self, layer, x):
        kernel, stride, pad, outputs, bias = self._window_3d(layer)
        shape = (outputs, x.shape[1], *kernel)
        return self._linear(layer, shape, bias, lambda w, b: maps.convolved(x, w, b, stride, pad, [1] * 3, 1), outputs)

    def _deconvolution3d(self, layer, x):
        kernel, stride, pad, outputs, bias = self._window_3d(layer)
        shape = (x.shape[1], outputs, *kernel)
        return self._linear(layer, shape, bias, lambda w, b: maps.spread(x, w, b, stride, pad, [1] * 3, 1), outputs)

    def _innerproduct(self, layer, x):
        p = layer.get("inner_product_param")
        axis = p.get("axis", 1)
        flat = x.reshape(*x.shape[:axis], -1)
        outputs = p.get("num_output")

        def apply(w, b):
            y = flat @ (w if p.get("transpose", False) else w.T)
            return y if b is None else y + b

        shape = (outputs, flat.shape[-1])
        w = self._drawn(layer, 0, shape[::-1] if p.get("transpose", False) else shape)
        size = float(apply(w, None).std()) or 1.0
        w /= np.float32(size)
        return apply(w, self._drawn(layer, 1, (outputs,), -0.2, 0.2) if p.get("bias_term", True) else None)

    def _batchnorm(self, layer, x):
        factor = np.float32(2)
        mean, variance = _statistics(x)
        eps = layer.get("batch_norm_param").get("eps", 1e-5)
        self.weights[layer.get("name")] = [mean * factor, variance * factor, np.array([factor], np.float32)]
        return formulas.batch_norm(x, mean.astype(x.dtype), variance.astype(x.dtype), eps)

    def _bn(self, layer, x):
        shape = (1, x.shape[1], 1, 1)
        slope, bias = self._drawn(layer, 0, shape, 0.6, 1.4), self._drawn(layer, 1, shape, -0.3, 0.3)
        if layer.get("bn_param").get("bn_mode") == "INFERENCE":
            return x * slope + bias
        mean, variance = (v.reshape(shape) for v in _statistics(x))
        self.weights[layer.get("name")] += [mean, variance]
        return (x - mean) / np.sqrt(variance.astype(x.dtype) + layer.get("bn_param").get("eps", 1e-5)) * slope + bias

    def _scale(self, layer, x, by=None):
        p = layer.get("scale_param")
        axes = p.get("num_axes", 1)
        axis = p.get("axis", 1) % x.ndim
        shape = by.shape if by is not None else x.shape[axis:] if axes < 0 else x.shape[axis : axis + axes]
        own = by if by is not None else self._drawn(layer, 0, shape, 0.6, 1.4)
        bias = self._drawn(layer, int(by is None), shape, -0.3, 0.3) if p.get("bias_term", False) else None
        return maps.scaled(layer, x, own, bias)

    def _bias(self, layer, x, by=None):
        if by is not None:
            axis = layer.get("bias_param").get("axis", 1) % x.ndim
            return x + by.reshape(*[1] * axis, *by.shape, *[1] * (x.ndim - axis - by.ndim))
        return x + maps.column(self._drawn(layer, 0, (x.shape[1],), -0.3, 0.3), x)

    def _prelu(self, layer, x):
        shared = layer.get("prelu_param").get("channel_shared", False)
        slope = self._drawn(layer, 0, (1,) if shared else (x.shape[1],), 0.1, 0.4)
        return np.maximum(x, 0) + maps.column(slope, x) * np.minimum(x, 0)

    def _normalize(self, layer, x):
        shared = layer.get("norm_param").get("channel_shared", True)
        return maps.normalized(layer, x, self._drawn(layer, 0, (1,) if shared else (x.shape[1],), 5, 20))

    def _lstm(self, layer, x, *more):
        if kind(layer) == "Lstm":
            size, width = layer.get("lstm_param").get("num_output"), int(np.prod(x.shape[2:]))
            w, u = self._drawn(layer, 0, (4 * size, width)), self._drawn(layer, 1, (4 * size, size))
            return flow.lstm_of_sequences(layer, x, w, u, self._drawn(layer, 2, (4 * size,), -0.2, 0.2))
        size, width = layer.get("recurrent_param").get("num_output"), int(np.prod(x.shape[2:]))
        w, b = self._drawn(layer, 0, (4 * size, width)), self._drawn(layer, 1, (4 * size,), -0.2, 0.2)
        return formulas.lstm(x, more[0], w, b, self._drawn(layer, 2, (4 * size, size)))[0]

    def _priorbox(self, layer, x, image):
        return boxes.prior_boxes(layer, x, image, self.meanings.get("PriorBox", ""))

    _priorboxclustered = _priorbox

    def _warp(self, layer, image, places):
        return flow.warped(layer, image, places, of_grid=self.has_grid)

    def _dataaugmentation(self, layer, x):
        p = layer.get("augmentation_param")
        size = (p.get("crop_height", 0) or x.shape[2], p.get("crop_width", 0) or x.shape[3])
        if p.get("recompute_mean", 0) > 0:
            self.weights[layer.get("name")] = [np.array([1001], np.float32)]
            self._drawn(layer, 1, (1, x.shape[1], *size), -0.3, 0.3)
            self._drawn(layer, 2, (1, x.shape[1], 1, 1), -0.3, 0.3)
        return flow.augmented(layer, x, self.weights.get(layer.get("name"), ()))

    def _parameter(self, layer):
        return self._drawn(layer, 0, tuple(layer.get("parameter_param").get("shape").all("dim")), -1, 1)

    def _dummydata(self, layer):
        p = layer.get("dummy_data_param")
        shapes = [tuple(s.all("dim")) for s in p.all("shape")]
        shapes = shapes or [tuple(p.get(n) for n in ("num", "channels", "height", "width"))]
        fillers = p.all("data_filler") or [Message()]
        assert all(f.get("type", "constant") == "constant" for f in fillers)
        return [np.full(s, fillers[min(i, len(fillers) - 1)].get("value", 0.0)) for i, s in enumerate(shapes)]


def _statistics(x):
    """Mean and variance of each channel; 0 and 1 where so few numbers are left that without their mean they would be rounding."""
    axes = tuple(a for a in range(x.ndim) if a != 1)
    if x.size < 8 * x.shape[1]:
        return np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
    return np.float32(x.mean(axes)), np.float32(x.var(axes) + 1e-3)


def _relu(layer, x):
    slope = layer.get("relu_param").get("negative_slope", 0.0)
    return np.maximum(x, 0) + slope * np.minimum(x, 0)


def _power(layer, x):
    p = layer.get("power_param")
    return (p.get("shift", 0.0) + p.get("scale", 1.0) * x) ** p.get("power", 1.0)


def _grn(layer, x):
    return x / np.sqrt((x**2).sum(1, keepdims=True) + layer.get("grn_param").get("bias", 1e-7))


def _lrn(layer, x):
    p = layer.get("lrn_param")
    size, alpha, beta = p.get("local_size", 5), p.get("alpha", 1.0), p.get("beta", 0.75)
    if p.get("norm_region", "ACROSS_CHANNELS") == "ACROSS_CHANNELS":
        return formulas.lrn_across(x, size, alpha, beta, p.get("k", 1.0))
    return formulas.lrn_within(x, size, alpha, beta)


def _cont(layer):
    p = layer.get("continuation_indicator_param")
    made = np.ones((p.get("time_step"), p.get("batch_size")))
    made[0] = 0
    return made


def _concat(layer, *xs):
    p = layer.get("concat_param")
    return np.concatenate(xs, p.get("axis", p.get("concat_dim", 1)))


def _permute(layer, x):
    order = layer.get("permute_param").all("order")
    return x.transpose([*order, *(a for a in range(x.ndim) if a not in order)])


def _softmax(layer, x):
    return maps.softmax(x, layer.get("softmax_param").get("axis", 1))


def _flatten(layer, x):
    p = layer.get("flatten_param")
    start, end = p.get("axis", 1) % x.ndim, p.get("end_axis", -1) % x.ndim
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def _argmax(layer, x):
    p = layer.get("argmax_param")
    axis = p.get("axis")
    return x.shape[axis] - 1 - np.flip(x, axis).argmax(axis, keepdims=True)


def _tile(layer, x):
    p = layer.get("tile_param")
    return np.concatenate([x] * p.get("tiles"), p.get("axis", 1))


def _ssh(layer, *bottoms):
    return boxes.proposed(layer, *bottoms, most=1000)


SIMPLE = {
    "Tile": _tile,
    "Python:SSH.layers.proposal_layer.ProposalLayer": _ssh,
    "ReLU": _relu,
    "Relu": _relu,
    "ReLU6": lambda layer, x: np.clip(x, 0, 6),
    "Sigmoid": lambda layer, x: formulas.sigmoid(x),
    "TanH": lambda layer, x: np.tanh(x),
    "AbsVal": lambda layer, x: np.abs(x),
    "Power": _power,
    "NegSquare": lambda layer, x: -(x**2),
    "ExpMax": flow.exp_max,
    "GRN": _grn,
    "LRN": _lrn,
    "Pooling": maps.pooled,
    "Pooling3D": maps.pooled_3d,
    "Concat": _concat,
    "Slice": maps.sliced,
    "Flatten": _flatten,
    "Reshape": maps.reshaped,
    "Permute": _permute,
    "Softmax": _softmax,
    "VoxelSoftmax": lambda layer, x: maps.softmax(x, 1),
    "ArgMax": _argmax,
    "Eltwise": maps.elementwise,
    "Crop": maps.cropped,
    "Interp": maps.interpolated,
    "Upsample": maps.upsampled,
    "ShuffleChannel": maps.shuffled,
    "Reorg": maps.reorganized,
    "Im2col": maps.columns,
    "Reduction": maps.reduced,
    "DetectionOutput": boxes.detections,
    "Yolov3DetectionOutput": boxes.yolo3,
    "Python:rpn.proposal_layer.ProposalLayer": boxes.proposed,
    "Python:layers.text_proposal_layer.ProposalLayer": boxes.text_lines,
    "Proposal": boxes.proposed_by_pvanet,
    "ROIPooling": boxes.pooled_regions,
    "PSROIPooling": boxes.position_sensitive,
    "Correlation": flow.correlated,
    "Grid": flow.grid,
    "FlowWarp": flow.flow_warped,
    "Resample": flow.resampled,
    "Downsample": flow.downsampled,
    "Accum": flow.accumulated,
    "Mean": flow.mean_taken,
    "ChannelNorm": lambda layer, x: np.sqrt((x**2).sum(1, keepdims=True)),
    "Transpose": lambda layer, x: x.transpose(layer.get("transpose_param").all("dim")),
    "Reverse": lambda layer, x: np.flip(x, layer.get("reverse_param").get("axis", 0)),
    "ContinuationIndicator": _cont,
}
