"""Source of convolutions."""

from __future__ import annotations

from converters.writers.source.node import Node, arguments, pair, writes

_TRANSPOSED = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


def spatial_pads(pads: list[int]) -> str:
    """ONNX pads (all begins, all ends) as F.pad's (begin, end of the last axis first)."""
    half = len(pads) // 2
    return "(" + ", ".join(f"{pads[axis]}, {pads[axis + half]}" for axis in reversed(range(half))) + ")"


def same_pads(n: Node, kernel: list[int], strides: list[int], dilations: list[int], mode: str) -> list[int]:
    """auto_pad SAME_UPPER or SAME_LOWER as explicit pads; the spatial size must be known, unless it doesn't matter."""
    shape = n.shape(0)
    if shape is None or None in shape[2:]:
        if not follows_size(kernel, strides):
            totals = [(k - 1) * d + 1 - s if s > 1 else (k - 1) * d for k, s, d in zip(kernel, strides, dilations, strict=True)]
        else:
            raise n.error(f"auto_pad {mode} with a stride needs input sizes that are known")
    else:
        sizes = [int(d or 0) for d in shape[2:]]
        totals = [(-(-size // s) - 1) * s + (k - 1) * d + 1 - size for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)]
    if min(totals) < 0 and n.op_type in ("AveragePool", "LpPool"):
        raise n.error(f"auto_pad {mode} with a stride beyond the kernel, where ONNX and its runtimes disagree; give pads")
    totals = [max(total, 0) for total in totals]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return small + large if mode == "SAME_UPPER" else large + small


def follows_size(kernel: list[int], strides: list[int]) -> bool:
    """Whether the pads of auto_pad SAME are others at another size of the input."""
    return any(s > 1 and k > 1 for k, s in zip(kernel, strides, strict=True))


def of_known_size(n: Node) -> str:
    """The input, of the spatial size that it has here: the pads are computed from that, and other sizes are refused."""
    return n.assign(f"{n.function('of_size')}({n[0]}, {[int(d or 0) for d in (n.shape(0) or [])[2:]]})")


def same_padded(n: Node, kernel: list[int], strides: list[int], dilations: list[int], mode: str, value: str) -> str:
    """The input with the pads of SAME_UPPER or SAME_LOWER that its size asks for."""
    settings = f"{kernel}, {strides}, {dilations}, {mode == 'SAME_UPPER'}, {value}"
    return n.assign(f"{n.function('pad_same')}({n[0]}, {settings})")


@writes("Conv")
def conv(n: Node) -> str:
    """nn.Conv1d, 2d, 3d; uneven padding goes before it."""
    weight = n.shape(1)
    if weight is None:
        raise n.error("the weight's rank is unknown")
    dims = len(weight) - 2
    if dims not in (1, 2, 3):
        raise n.error(f"{dims} spatial axes; PyTorch has convolutions of 1 to 3")
    kernel = [int(k) for k in n.attr("kernel_shape", None) or [k or 0 for k in weight[2:]]]
    strides = list(n.attr("strides", [1] * dims))
    dilations = list(n.attr("dilations", [1] * dims))
    pads = list(n.attr("pads", [0] * 2 * dims))
    groups = n.attr("group", 1)
    mode = n.attr("auto_pad", "NOTSET")
    if mode == "VALID":
        pads = [0] * 2 * dims
    elif mode != "NOTSET":
        pads = [] if follows_size(kernel, strides) else same_pads(n, kernel, strides, dilations, mode)
    x = n[0] if pads else same_padded(n, kernel, strides, dilations, mode, "0.0")
    pads = pads or [0] * 2 * dims
    if pads[:dims] != pads[dims:] or min(pads, default=0) < 0:
        x = n.assign(f"F.pad({x}, {spatial_pads(pads)})")
        pads = [0] * 2 * dims
    shared = {
        "stride": None if strides == [1] * dims else pair(strides),
        "padding": None if not any(pads) else pair(pads[:dims]),
        "dilation": None if dilations == [1] * dims else pair(dilations),
        "groups": None if groups == 1 else groups,
    }
    if None not in weight and kernel == weight[2:] and min(int(d or 0) for d in weight) > 0:
        build = arguments(int(weight[1] or 0) * groups, weight[0], pair(kernel), **shared, bias=None if n.has(2) else False)
        layer = n.layer(f"nn.Conv{dims}d({build}", {"weight": 1, "bias": 2 if n.has(2) else None})
        if layer:
            return f"{layer}({x})"
    return f"F.conv{dims}d({arguments(x, n[1], *([n[2]] if n.has(2) else []), **shared)})"


def _cropping(n: Node, kernel: list[int], strides: list[int], dilations: list[int], pads: list[int], extra: list[int]) -> list[int]:
    """What a transposed convolution cuts off its output, as pads: given, or told by auto_pad or the output's shape."""
    dims = len(kernel)
    mode = n.attr("auto_pad", "NOTSET")
    shape = n.shape(0)
    wanted = n.attr("output_shape")
    if mode == "VALID":
        return [0] * 2 * dims
    if wanted is not None or mode != "NOTSET":
        spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        if wanted is not None:
            if shape is None or None in shape[2:]:
                raise n.error("output_shape needs input sizes that are known")
            totals = [
                s * (int(size or 0) - 1) + e + k - int(out)
                for size, s, e, k, out in zip(shape[2:], strides, extra, spread, list(wanted)[-dims:], strict=True)
            ]
        else:  # the output is input * stride
            totals = [e + k - s for s, e, k in zip(strides, extra, spread, strict=True)]
            if min(totals) < 0:
                raise n.error(f"auto_pad {mode} with a stride beyond the kernel, where ONNX and its runtimes disagree; give pads")
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        pads = large + small if mode == "SAME_LOWER" or (mode == "NOTSET") else small + large
        if mode == "SAME_UPPER":
            pads = small + large
    return pads


@writes("ConvTranspose")
def conv_transpose(n: Node) -> str:
    """nn.ConvTranspose1d, 2d, 3d; uneven cropping comes after it."""
    weight = n.shape(1)
    if weight is None or None in weight:
        raise n.error("the weight's shape is unknown")
    dims = len(weight) - 2
    if dims not in (1, 2, 3):
        raise n.error(f"{dims} spatial axes; PyTorch has convolutions of 1 to 3")
    kernel = [int(k or 0) for k in weight[2:]]
    strides = list(n.attr("strides", [1] * dims))
    dilations = list(n.attr("dilations", [1] * dims))
    pads = list(n.attr("pads", [0] * 2 * dims))
    extra = list(n.attr("output_padding", [0] * dims))
    groups = n.attr("group", 1)
    x = n[0] if n.attr("output_shape") is None else of_known_size(n)
    pads = _cropping(n, kernel, strides, dilations, pads, extra)
    # Where the end is cropped less than the beginning, that is output padding; torch wants it below stride or dilation.
    begin, end = pads[:dims], pads[dims:]
    crop: list[int] | None = None
    total_extra = [e + b - t for e, b, t in zip(extra, begin, end, strict=True)]
    fits = all(0 <= t < max(s, d) for t, s, d in zip(total_extra, strides, dilations, strict=True))
    if min(begin) >= 0 and fits:
        padding, output_padding = begin, total_extra
    else:
        padding, output_padding = [0] * dims, [0] * dims
        crop = [-b for b in begin] + [e - t for e, t in zip(extra, end, strict=True)]
    shared = {
        "stride": None if strides == [1] * dims else pair(strides),
        "padding": pair(padding) if any(padding) else None,
        "output_padding": pair(output_padding) if any(output_padding) else None,
        "groups": None if groups == 1 else groups,
    }
    dilation = {"dilation": None if dilations == [1] * dims else pair(dilations)}
    result = None
    grows = crop is not None and max(crop) > 0 and n.has(2)  # positions that no input reaches hold the bias alone
    if grows:
        spread_bias = f"{n[2]}.view({', '.join(['-1'] + ['1'] * dims)})"
        product = f"F.conv_transpose{dims}d({arguments(x, n[1], **shared, **dilation)})"
        return f"F.pad({product}, {spatial_pads(crop or [])}) + {spread_bias}"
    if min(int(d or 0) for d in weight) > 0:
        build = arguments(weight[0], int(weight[1] or 0) * groups, pair(kernel), **shared, bias=None if n.has(2) else False, **dilation)
        layer = n.layer(f"nn.ConvTranspose{dims}d({build}", {"weight": 1, "bias": 2 if n.has(2) else None})
        if layer:
            result = f"{layer}({x})"
    if result is None:
        result = f"F.conv_transpose{dims}d({arguments(x, n[1], *([n[2]] if n.has(2) else []), **shared, **dilation)})"
    if crop is None:
        return result
    return f"F.pad({result}, {spatial_pads(crop)})"
