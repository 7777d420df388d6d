"""Convolution and its transpose. Sources: mxnet src/operator/nn/convolution.cc, deconvolution-inl.h."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.parameter import Parameter
from converters.readers.mxnet.signature import lowers


def spatial(g: OperatorBuilder, name: str, given: Ints, kernel: Ints, default: int, least: int) -> list[int]:
    """An attribute with a number per spatial axis; () means the default. Raises ConversionError for a wrong count or a number too small."""
    if not 1 <= len(kernel) <= 3 or min(kernel) < 1:
        raise g.error(f"attribute kernel is {kernel}; 1 to 3 sizes of at least 1 make a kernel")
    values = list(given) or [default] * len(kernel)
    if len(values) != len(kernel):
        raise g.error(f"attribute {name} is {given}, but the kernel {kernel} has {len(kernel)} axes")
    if min(values) < least:
        raise g.error(f"attribute {name} is {given}; at least {least} makes sense")
    return values


def channels_last(layout: str | None) -> bool:
    """Whether a layout puts the channels behind the spatial axes."""
    return layout is not None and layout.endswith("C")


def to_channels_first(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    rank = g.rank(data)
    return g.emit("Transpose", data, perm=[0, rank - 1, *range(1, rank - 1)])


def to_channels_last(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    rank = g.rank(data)
    return g.emit("Transpose", data, perm=[0, *range(2, rank), 1])


def channels(g: OperatorBuilder, data: ir.Value, kernel: Ints, groups: int, num_filter: int) -> int:
    """Channels of data (N, C, *spatial), once ranks and groups fit. Raises ConversionError."""
    if not 1 <= len(kernel) <= 3 or min(kernel) < 1:
        raise g.error(f"attribute kernel is {kernel}; 1 to 3 sizes of at least 1 make a kernel")
    if g.rank(data) != len(kernel) + 2:
        raise g.error(
            f"a kernel of {len(kernel)} axes needs an input of {len(kernel) + 2} axes (N, C, ...), but it has shape {g.shape(data)}"
        )
    count = g.fixed(data, 1, 2)[0]
    if groups < 1 or num_filter < 1 or count % groups or num_filter % groups:
        raise g.error(f"{count} input channels and num_filter {num_filter} don't divide into num_group {groups}")
    return count


@lowers("Convolution", "Convolution_v1", "_npx_convolution", ignores="cudnn_tune cudnn_off workspace")
def convolution(
    g: OperatorBuilder,
    data: ir.Value,
    weight: Parameter,
    bias: Parameter | None = None,
    *,
    kernel: Ints,
    num_filter: int,
    stride: Ints = (),
    dilate: Ints = (),
    pad: Ints = (),
    num_group: int = 1,
    no_bias: bool = False,
    layout: str | None = None,
) -> ir.Value:
    """Convolution of 1 to 3 axes, with groups and dilation; channels first or last. Source: mxnet src/operator/nn/convolution-inl.h."""
    last = channels_last(layout)
    x = to_channels_first(g, data) if last else data
    count = channels(g, x, kernel, num_group, num_filter)
    strides = spatial(g, "stride", stride, kernel, 1, 1)
    dilations = spatial(g, "dilate", dilate, kernel, 1, 1)
    pads = spatial(g, "pad", pad, kernel, 0, 0)
    out = []
    for size, k, s, d, p in zip(g.shape(x)[2:], kernel, strides, dilations, pads, strict=True):
        room = size + 2 * p - d * (k - 1) - 1 if isinstance(size, int) else None
        if room is not None and room < 0:
            raise g.error(f"kernel {kernel} (dilate {tuple(dilations)}, pad {tuple(pads)}) is larger than the input of shape {g.shape(x)}")
        out.append(None if room is None else room // s + 1)
    if last:
        w = weight.use((num_filter, *kernel, count // num_group), g.dtype(x))
        w = g.emit("Transpose", w, perm=[0, len(kernel) + 1, *range(1, len(kernel) + 1)])
    else:
        w = weight.use((num_filter, count // num_group, *kernel), g.dtype(x))
    result = g.emit(
        "Conv",
        x,
        w,
        _bias(g, bias, no_bias, num_filter, g.dtype(x)),
        kernel_shape=list(kernel),
        strides=strides,
        dilations=dilations if max(dilations) > 1 else None,
        pads=[*pads, *pads] if any(pads) else None,
        group=num_group if num_group > 1 else None,
    )
    return to_channels_last(g, result) if last else result


def _bias(g: OperatorBuilder, bias: Parameter | None, no_bias: bool, size: int, dtype: np.dtype) -> ir.Value | None:
    if no_bias:
        return None
    if bias is None:
        raise g.error("the input 'bias' is missing, and no_bias isn't set")
    return bias.use((size,), dtype)


@lowers("Deconvolution", "_npx_deconvolution", ignores="cudnn_tune cudnn_off workspace")
def deconvolution(
    g: OperatorBuilder,
    data: ir.Value,
    weight: Parameter,
    bias: Parameter | None = None,
    *,
    kernel: Ints,
    num_filter: int,
    stride: Ints = (),
    dilate: Ints = (),
    pad: Ints = (),
    adj: Ints = (),
    target_shape: Ints = (),
    num_group: int = 1,
    no_bias: bool = True,
    layout: str | None = None,
) -> ir.Value:
    """Transposed convolution: size s(X - 1) + d(k - 1) + 1 - 2p + adj, or target_shape, which replaces pad and adj.

    Source: mxnet src/operator/nn/deconvolution-inl.h.
    """
    last = channels_last(layout)
    x = to_channels_first(g, data) if last else data
    count = channels(g, x, kernel, num_group, num_filter)
    strides = spatial(g, "stride", stride, kernel, 1, 1)
    dilations = spatial(g, "dilate", dilate, kernel, 1, 1)
    pads = spatial(g, "pad", pad, kernel, 0, 0)
    extra = spatial(g, "adj", adj, kernel, 0, 0)
    if any(target_shape):
        x = g.pin(x)
        targets = spatial(g, "target_shape", target_shape, kernel, 0, 0)
        for axis, (size, k, s, d) in enumerate(zip(g.fixed(x, 2), kernel, strides, dilations, strict=True)):
            surplus = s * (size - 1) + d * (k - 1) + 1 - targets[axis]
            if surplus < 0:
                raise g.error(f"target_shape {tuple(targets)} is larger than what the input {g.shape(x)} can give")
            pads[axis], extra[axis] = (surplus + 1) // 2, surplus % 2
    for axis, (a, s) in enumerate(zip(extra, strides, strict=True)):
        if a >= s and not any(target_shape):
            raise g.error(f"attribute adj is {adj}, which must be smaller than the stride {tuple(strides)} (axis {axis})")
    if last:
        w = weight.use((count, *kernel, num_filter // num_group), g.dtype(x))
        w = g.emit("Transpose", w, perm=[0, len(kernel) + 1, *range(1, len(kernel) + 1)])
    else:
        w = weight.use((count, num_filter // num_group, *kernel), g.dtype(x))
    return_value = transposed(
        g, x, w, _bias(g, bias, no_bias, num_filter, g.dtype(x)), list(kernel), strides, dilations, pads, extra, num_group
    )
    return to_channels_last(g, return_value) if last else return_value


def transposed(
    g: OperatorBuilder,
    x: ir.Value,
    w: ir.Value,
    b: ir.Value | None,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    extra: list[int],
    groups: int,
) -> ir.Value:
    """A ConvTranspose node; an end that is longer than torch's output_padding allows is cropped by hand."""
    crop = [a >= max(s, d) for a, s, d in zip(extra, strides, dilations, strict=True)]
    pads = [p - 1 if c else p for p, c in zip(pads, crop, strict=True)]
    extra = [a - 1 if c else a for a, c in zip(extra, crop, strict=True)]
    result = g.emit(
        "ConvTranspose",
        x,
        w,
        b,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations if max(dilations) > 1 else None,
        pads=[*pads, *pads] if any(pads) else None,
        output_padding=extra if any(extra) else None,
        group=groups if groups > 1 else None,
    )
    axes = [i + 2 for i, c in enumerate(crop) if c]
    if axes:  # one more than wanted in front
        result = g.emit("Slice", result, [1] * len(axes), [2**31 - 1] * len(axes), axes)
    sizes = [s for s in g.shape(result)[2:] if isinstance(s, int)]
    if sizes and min(sizes) < 1:
        raise g.error(f"the output would have shape {g.shape(result)}")
    return result
