"""Convolutions over images and volumes: nn/Spatial*Convolution*.lua, nn/Volumetric*Convolution.lua, cudnn.torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim, Extent, GraphBuilder
from converters.readers.torch7.module import Array, Module, lowers
from converters.readers.torch7.references import Values

_WITHOUT_PADDING = ("nn.SpatialFullConvolution", "nn.SpatialDilatedConvolution")


def batched(g: GraphBuilder, module: Module, x: ir.Value, rank: int, channels: int) -> tuple[ir.Value, bool]:
    """x with a batch of `rank` dimensions, and whether it came without; its channels checked."""
    found = g.rank(x)
    if found not in (rank - 1, rank):
        raise module.error(f"its input must have {rank - 1} or {rank} dimensions, but has shape {g.shape(x)}")
    axis = found - rank + 1
    (given,) = g.fixed(x, axis, axis + 1)
    if given != channels:
        raise module.error(f"it takes {channels} channels, but its input has {given} (shape {g.shape(x)})")
    return (x, False) if found == rank else (g.emit("Unsqueeze", x, [0]), True)


def unbatched(g: GraphBuilder, x: ir.Value, single: bool) -> ir.Value:
    return g.emit("Squeeze", x, [0]) if single else x


def bias_of(module: Module, count: int) -> ir.Value | None:
    """The bias as a parameter, None where the module has none."""
    bias = module.optional_tensor("bias")
    if bias is None:
        return None
    if bias.size != count:
        raise module.error(f"field 'bias' has {bias.size} elements for {count} output channels")
    return module.param("bias", bias.reshape(-1))


def strides_and_kernel(module: Module, axes: str, weight_kernel: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
    """Strides and kernel sizes for axes such as "HW"; those of the weight must agree."""
    kernel = [module.integer(f"k{axis}", least=1) for axis in axes]
    if weight_kernel is not None and list(weight_kernel) != kernel:
        raise module.error(f"field 'weight' has a kernel of {tuple(weight_kernel)}, but the fields say {tuple(kernel)}")
    return [module.integer(f"d{axis}", 1, least=1) for axis in axes], kernel


def pads_of(module: Module, axes: str) -> list[int]:
    """padT, padH, padW; the old single field `padding` stands for padH and padW, but in classes that never read it."""
    if axes == "HW" and "padding" in module and not (module.type in _WITHOUT_PADDING and "padW" in module):
        return [module.integer("padding", least=0)] * 2
    return [module.integer(f"pad{axis}", 0, least=0) for axis in axes]


def convolve(
    g: GraphBuilder,
    module: Module,
    x: ir.Value,
    weight: Array,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> ir.Value:
    """Convolution with weight (out, in / groups, *kernel), for a batch or one sample."""
    outputs, per_group = weight.shape[:2]
    if groups < 1 or outputs % groups:
        raise module.error(f"{outputs} output channels can't be in {groups} groups")
    batch, single = batched(g, module, x, weight.ndim, per_group * groups)
    out = g.emit(
        "Conv",
        batch,
        module.param("weight", weight),
        bias_of(module, outputs),
        kernel_shape=list(weight.shape[2:]),
        strides=list(strides),
        pads=[*pads, *pads],
        dilations=list(dilations) if dilations is not None and max(dilations) > 1 else None,
        group=groups if groups > 1 else None,
    )
    _check_size(g, module, out, x)
    return unbatched(g, out, single)


def _check_size(g: GraphBuilder, module: Module, out: ir.Value, x: ir.Value) -> None:
    if any(isinstance(d, int) and d < 1 for d in g.shape(out)[2:]):
        raise module.error(f"its input of shape {g.shape(x)} is smaller than its kernel")


def _weight(module: Module, groups: int, kernel: Sequence[int]) -> Array:
    """The weight as (out, in / groups, *kernel); 2-D ones of (out, in * kH * kW) are viewed so. Source: nn/SpatialConvolution.lua."""
    weight = module.tensor("weight")
    outputs, inputs = module.integer("nOutputPlane", least=1), module.integer("nInputPlane", least=1)
    if groups < 1 or inputs % groups or outputs % groups:
        raise module.error(f"{inputs} input and {outputs} output channels can't be in {groups} groups")
    shape = (outputs, inputs // groups, *kernel)
    if weight.ndim not in (2, len(shape)) or weight.size != np.prod(shape, dtype=object) or weight.shape[0] != outputs:
        raise module.error(f"field 'weight' has shape {weight.shape}, expected {shape}")
    return weight.reshape(shape)


def _image(module: Module) -> tuple[Dim, ...]:
    """(N, C, H, W)."""
    return "N", module.integer("nInputPlane", least=1), "H", "W"


@lowers("nn.SpatialConvolution", "nn.SpatialConvolutionMM", "nn.SpatialDilatedConvolution", input_shape=_image)
@lowers("cudnn.SpatialConvolution", "cudnn.SpatialConvolutionMM", input_shape=_image)
@lowers("w2nn.EdgeFilter")
def spatial_convolution(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Convolution of (N, C, H, W). Source: nn/Spatial(Dilated)Convolution.lua, cudnn.torch/SpatialConvolution.lua."""
    groups = module.integer("groups", 1, least=1) if module.type.startswith("cudnn.") else 1
    strides, kernel = strides_and_kernel(module, "HW")
    dilations = [module.integer(f"dilation{axis}", 1, least=1) for axis in "HW"]
    return convolve(
        g, module, x, _weight(module, groups, kernel), strides=strides, pads=pads_of(module, "HW"), dilations=dilations, groups=groups
    )


@lowers("nn.VolumetricConvolution", "cudnn.VolumetricConvolution", "nn.VolumetricDilatedConvolution", "nn.VolumetricConvolutionMM")
def volumetric_convolution(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Convolution of (N, C, T, H, W). Source: nn/VolumetricConvolution.lua, nn/VolumetricDilatedConvolution.lua."""
    groups = module.integer("groups", 1, least=1) if module.type.startswith("cudnn.") else 1
    strides, kernel = strides_and_kernel(module, "THW")
    dilations = [module.integer(f"dilation{axis}", 1, least=1) for axis in "THW"]
    return convolve(
        g, module, x, _weight(module, groups, kernel), strides=strides, pads=pads_of(module, "THW"), dilations=dilations, groups=groups
    )


@lowers("nn.SpatialDepthWiseConvolution")
def spatial_depth_wise_convolution(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """`nOutputPlane` kernels for each input channel; weight (multiplier, in * kH * kW). Rows of H pixels are taken from an image
    that isn't square, as if H and W were each other's. Source: THNN/generic/SpatialDepthWiseConvolution.c.
    """
    inputs, multiplier = module.integer("nInputPlane", least=1), module.integer("nOutputPlane", least=1)
    strides, kernel = strides_and_kernel(module, "HW")
    weight = module.tensor("weight")
    if weight.shape[0] != multiplier or weight.size != multiplier * inputs * kernel[0] * kernel[1]:
        raise module.error(f"field 'weight' has shape {weight.shape}, expected {(multiplier, inputs, *kernel)}")
    weight = weight.reshape(multiplier, inputs, *kernel).swapaxes(0, 1).reshape(inputs * multiplier, 1, *kernel)
    bias = module.optional_tensor("bias")
    batch, single = batched(g, module, x, 4, inputs)
    if bias is not None:
        if bias.size != multiplier * inputs:
            raise module.error(f"field 'bias' has shape {bias.shape}, expected {(multiplier, inputs)}")
        bias = np.ascontiguousarray(bias.reshape(multiplier, inputs).T).reshape(-1)
    height, width = g.fixed(batch, 2)
    if height != width:
        message = f"nn takes the height for the width of an image that isn't square (its input has shape {g.shape(x)}); so does the result"
        g.warn(message)
    turned = [g.shape(batch)[0], inputs, Extent(batch, 3), Extent(batch, 2)]
    batch = g.reshape(batch, turned, absolute=True)
    out = g.emit(
        "Conv",
        batch,
        module.param("weight", np.ascontiguousarray(weight)),
        None if bias is None else module.param("bias", bias),
        kernel_shape=kernel,
        strides=strides,
        pads=pads_of(module, "HW") * 2,
        group=inputs,
    )
    _check_size(g, module, out, x)
    return unbatched(g, out, single)


@lowers("nn.SpatialBinaryConvolution")
def spatial_binary_convolution(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Convolution with the weight's signs times its mean |weight| per output. Source: dpnn/SpatialBinaryConvolution.lua."""
    strides, kernel = strides_and_kernel(module, "HW")
    weight = _weight(module, 1, kernel).astype(np.float64)
    scale = abs(weight).mean((1, 2, 3), keepdims=True)
    signs = (np.where(weight >= 0, 1.0, -1.0) * scale).astype(module.dtype)
    return convolve(g, module, x, signs, strides=strides, pads=pads_of(module, "HW"))


def _dense(module: Module) -> Array:
    """The kernels of a connection table of rows {in, out}, from 1, as a weight (out, in, kH, kW)."""
    kernels = module.tensor("weight", None, None, None)
    table = module.tensor("connTable", len(kernels), 2)
    outputs = module.tensor("bias", None).shape[0]
    inputs = module.integer("nInputPlane", int(table[:, 0].max(initial=1)), least=1)
    if outputs * inputs * kernels[0].size > 1 << 28:
        raise module.error(f"a dense weight of {outputs} by {inputs} kernels would be too large")
    if (table < 1).any() or (table[:, 0] > inputs).any() or (table[:, 1] > outputs).any() or (table != np.floor(table)).any():
        raise module.error(f"field 'connTable' names planes outside 1 to {inputs} (in) and 1 to {outputs} (out)")
    dense = np.zeros((outputs, inputs, *kernels.shape[1:]), dtype=module.dtype)
    np.add.at(dense, (table[:, 1].astype(np.int64) - 1, table[:, 0].astype(np.int64) - 1), kernels)
    return dense


@lowers("nn.SpatialConvolutionMap")
def spatial_convolution_map(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Convolution of the pairs of planes in connTable, as a dense one. Source: THNN/generic/SpatialConvolutionMap.c."""
    weight = _dense(module)
    strides, _ = strides_and_kernel(module, "HW", weight.shape[2:])
    return convolve(g, module, x, weight, strides=strides, pads=[0, 0])


@lowers("nn.SpatialFullConvolutionMap")
def spatial_full_convolution_map(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Transposed convolution of the pairs of planes in connTable, as a dense one. Source: THNN/generic/SpatialFullConvolutionMap.c."""
    weight = np.ascontiguousarray(_dense(module).swapaxes(0, 1))
    strides, _ = strides_and_kernel(module, "HW", weight.shape[2:])
    return deconvolve(g, module, x, weight, strides=strides, pads=[0, 0], adjust=[0, 0])


def deconvolve(
    g: GraphBuilder,
    module: Module,
    x: ir.Value,
    weight: Array,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    adjust: Sequence[int],
    groups: int = 1,
) -> ir.Value:
    """Transposed convolution with weight (in, out / groups, *kernel): size (in - 1) stride - 2 pad + kernel + adjust."""
    batch, single = batched(g, module, x, weight.ndim, weight.shape[0])
    if any(a >= s for a, s in zip(adjust, strides, strict=True)):
        raise module.error(f"adj {tuple(adjust)} must be smaller than the stride {tuple(strides)}")
    out = g.emit(
        "ConvTranspose",
        batch,
        module.param("weight", weight),
        bias_of(module, weight.shape[1] * groups),
        kernel_shape=list(weight.shape[2:]),
        strides=list(strides),
        pads=[*pads, *pads],
        output_padding=list(adjust) if any(adjust) else None,
        group=groups if groups > 1 else None,
    )
    _check_size(g, module, out, x)
    return unbatched(g, out, single)


def _deconvolve_to(g: GraphBuilder, module: Module, x: Values, axes: str, weight: Array, pads: Sequence[int], groups: int) -> ir.Value:
    """Transposed convolution with adj of the fields or, for a table {image, reference}, as nn derives it from the reference's size."""
    strides, kernel = strides_and_kernel(module, axes)
    if not isinstance(x, Sequence):
        adjust = [module.integer(f"adj{axis}", 0, least=0) for axis in axes]
        return deconvolve(g, module, x, weight, strides=strides, pads=pads, adjust=adjust, groups=groups)
    image, reference = module.tensors(x, 2)
    # with the largest adj, of which the reference's size says how much stays
    most = [s - 1 for s in strides]
    out = deconvolve(g, module, image, weight, strides=strides, pads=pads, adjust=most, groups=groups)
    wanted, given, count = g.fixed(reference, -len(axes)), g.fixed(image, -len(axes)), g.rank(reference) - len(axes)
    fixed = [k - 2 * p for k, p in zip(kernel, pads, strict=True)]
    adjust = [(size - f) % s for size, f, s in zip(wanted, fixed, strides, strict=True)]
    sizes = [(n - 1) * s + f + a for n, s, f, a in zip(given, strides, fixed, adjust, strict=True)]
    left = g.emit("Mod", g.emit("Add", g.emit("Shape", reference, start=count), [-f for f in fixed]), list(strides))
    least = g.emit(
        "Add",
        g.emit("Mul", g.emit("Shape", image, start=g.rank(image) - len(axes)), list(strides)),
        [f - s for f, s in zip(fixed, strides, strict=True)],
    )
    lead = g.shape(out)[: g.rank(out) - len(axes)]
    ends, zeros = g.emit("Add", least, left), [0] * len(axes)
    return g.emit("Slice", out, zeros, ends, list(range(len(lead), g.rank(out))), shape=[*lead, *sizes])


def _full_weight(module: Module, kernel: Sequence[int], groups: int = 1, *, outputs_first: bool = False) -> Array:
    inputs, outputs = module.integer("nInputPlane", least=1), module.integer("nOutputPlane", least=1)
    weight = module.tensor("weight")
    shape = (inputs, outputs // groups, *kernel)
    if outputs_first:
        stored = (outputs, inputs, *kernel)
        if weight.shape != stored:
            raise module.error(f"field 'weight' has shape {weight.shape}, expected {stored}")
        return np.ascontiguousarray(weight.swapaxes(0, 1))
    if weight.shape[:1] != (inputs,) or weight.size != np.prod(shape, dtype=object):
        raise module.error(f"field 'weight' has shape {weight.shape}, expected {shape}")
    return weight.reshape(shape)


@lowers("nn.SpatialFullConvolution", "cudnn.SpatialFullConvolution", input_shape=_image, tables=True)
def spatial_full_convolution(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """Transposed convolution of (N, C, H, W), or of {image, reference} to the reference's size. Source: nn/SpatialFullConvolution.lua."""
    groups = module.integer("groups", 1, least=1) if module.type.startswith("cudnn.") else 1
    kernel = strides_and_kernel(module, "HW")[1]
    return _deconvolve_to(g, module, x, "HW", _full_weight(module, kernel, groups), pads_of(module, "HW"), groups)


@lowers("nn.VolumetricFullConvolution", "cudnn.VolumetricFullConvolution", tables=True)
def volumetric_full_convolution(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """Transposed convolution of (N, C, T, H, W); old files hold the weight transposed. Source: nn/VolumetricFullConvolution.lua."""
    groups = module.integer("groups", 1, least=1) if module.type.startswith("cudnn.") else 1
    kernel = strides_and_kernel(module, "THW")[1]
    old = "adjW" not in module and module.type.startswith("nn.")
    pads = pads_of(module, "THW")
    if old:
        pads = [module.integer(f"p{axis}", pad, least=0) for axis, pad in zip("THW", pads, strict=True)]
    return _deconvolve_to(g, module, x, "THW", _full_weight(module, kernel, groups, outputs_first=old), pads, groups)


@lowers("nn.SpatialConvolutionLocal")
def spatial_convolution_local(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Convolution with a kernel for each position, (oH, oW, out, in, kH, kW). Source: THNN/generic/SpatialConvolutionLocal.c."""
    rows, columns, outputs, inputs, *kernel = _local_sizes(module)
    weight = module.tensor("weight")
    shape = (rows, columns, outputs, inputs, *kernel)
    if weight.size != np.prod(shape, dtype=object):
        raise module.error(f"field 'weight' has shape {weight.shape}, expected {shape}")
    return _local(g, module, x, weight.reshape(shape), [module.integer(f"pad{axis}", 0, least=0) for axis in "HW"])


def _local_sizes(module: Module) -> tuple[int, ...]:
    """Rows, columns, outputs, inputs and the kernel."""
    kernel = strides_and_kernel(module, "HW")[1]
    return (*(module.integer(field, least=1) for field in ("oH", "oW", "nOutputPlane", "nInputPlane")), *kernel)


@lowers("nn.LocallyConnected")
def locally_connected(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Convolution with a kernel for each position, (out, oH, oW, in, kH, kW). Source: fbnn/LocallyConnected.lua."""
    weight = module.tensor("weight", None, None, None, None, None, None)
    if weight.shape[3:] != (module.integer("nInputPlane", least=1), *strides_and_kernel(module, "HW")[1]):
        raise module.error(f"field 'weight' has shape {weight.shape}, which isn't that of its planes and kernel")
    return _local(g, module, x, np.ascontiguousarray(weight.transpose(1, 2, 0, 3, 4, 5)), [0, 0])


def _local(g: GraphBuilder, module: Module, x: ir.Value, weight: Array, pads: list[int]) -> ir.Value:
    """weight: (oH, oW, out, in, kH, kW)."""
    rows, columns, outputs, inputs, kernel_h, kernel_w = weight.shape
    strides, _ = strides_and_kernel(module, "HW")
    batch, single = batched(g, module, x, 4, inputs)
    height, width = g.fixed(batch, 2)
    for size, k, s, p, o in zip((height, width), (kernel_h, kernel_w), strides, pads, (rows, columns), strict=True):
        if (size + 2 * p - k) // s + 1 != o:
            raise module.error(f"its input has shape {g.shape(x)}, but its weights are for {rows} by {columns} positions")
    # the pixels under each position: (in * kH * kW, rows * columns) of them, as rows of a table to gather from
    if any(pads):
        batch = g.emit("Pad", batch, [0, 0, *pads, 0, 0, *pads], 0.0)
    wide = width + 2 * pads[1]
    plane = (height + 2 * pads[0]) * wide
    corner = (np.arange(rows) * strides[0])[:, None] * wide + np.arange(columns) * strides[1]
    offset = np.arange(kernel_h)[:, None] * wide + np.arange(kernel_w)
    index = corner.reshape(-1, 1) + offset.reshape(1, -1)
    count = g.shape(batch)[0]
    pixels = g.reshape(batch, [count, inputs, plane])
    windows = g.emit("Gather", pixels, g.const(index, np.int64, role="windows"), axis=2)  # (N, in, positions, kH * kW)
    windows = g.emit("Transpose", windows, perm=[2, 0, 1, 3])
    size = inputs * kernel_h * kernel_w
    windows = g.reshape(windows, [rows * columns, count, size])
    kernels = g.reshape(module.param("weight", weight), [rows * columns, outputs, size])
    out = g.emit("MatMul", windows, g.emit("Transpose", kernels, perm=[0, 2, 1]))  # (positions, N, out)
    out = g.reshape(g.emit("Transpose", out, perm=[1, 2, 0]), [g.shape(batch)[0], outputs, rows, columns])
    bias = module.optional_tensor("bias")
    if bias is not None:
        if bias.size != outputs * rows * columns:
            raise module.error(f"field 'bias' has shape {bias.shape}, expected {(outputs, rows, columns)}")
        out = g.emit("Add", out, module.param("bias", bias.reshape(outputs, rows, columns)))
    return unbatched(g, out, single)
