"""Source of pooling."""

from __future__ import annotations

from converters.writers.source.node import Node, arguments, pair, writes
from converters.writers.source.operators.convolution import follows_size, of_known_size, same_padded, same_pads


def _window(n: Node) -> tuple[str, list[int], list[int], list[int], list[int], bool]:
    """The input, kernel, strides, pads (begins, ends), dilations, ceil_mode."""
    x = n[0]
    kernel = [int(k) for k in n.attr("kernel_shape")]
    dims = len(kernel)
    if dims not in (1, 2, 3):
        raise n.error(f"{dims} spatial axes; PyTorch pools over 1 to 3")
    strides = list(n.attr("strides", [1] * dims))
    dilations = list(n.attr("dilations", [1] * dims))
    pads = list(n.attr("pads", [0] * 2 * dims))
    ceil_mode = bool(n.attr("ceil_mode", 0))
    mode = n.attr("auto_pad", "NOTSET")
    if mode == "VALID":
        pads, ceil_mode = [0] * 2 * dims, False
    elif mode != "NOTSET":
        pads, ceil_mode = same_pads(n, kernel, strides, dilations, mode), False
        x = of_known_size(n) if follows_size(kernel, strides) else x
    return x, kernel, strides, pads, dilations, ceil_mode


def _is_plain(kernel: list[int], pads: list[int]) -> bool:
    """Whether torch's pooling takes these pads: even on both sides, at most half the kernel."""
    half = len(kernel)
    return pads[:half] == pads[half:] and all(0 <= p <= k // 2 for p, k in zip(pads, kernel, strict=False))


def _as_ceil_mode(kernel: list[int], strides: list[int], pads: list[int], dilations: list[int], ceil_mode: bool) -> tuple[list[int], bool]:
    """Pads that only let the last window in, as torch says it: ceil_mode. Else what was given. It is the same at every size."""
    half = len(kernel)
    begins, ends = pads[:half], pads[half:]
    if ceil_mode or begins == ends:
        return pads, ceil_mode
    for k, s, begin, end, d in zip(kernel, strides, begins, ends, dilations, strict=True):
        if end - begin != s - 1 or end > d * (k - 1) or not 0 <= begin <= k // 2:
            return pads, ceil_mode
    return begins * 2, True


@writes("MaxPool")
def max_pool(n: Node) -> str | list[str]:
    """F.max_pool1d, 2d, 3d; pads that those don't take are written out."""
    mode, count = str(n.attr("auto_pad", "NOTSET")), len(n.attr("kernel_shape"))
    given = list(n.attr("strides", [1] * count))
    if mode.startswith("SAME") and follows_size(list(n.attr("kernel_shape")), given) and n.is_float() and not n.wants(1):
        window, spread = [int(k) for k in n.attr("kernel_shape")], list(n.attr("dilations", [1] * count))
        padded = same_padded(n, window, given, spread, mode, '-float("inf")')
        return [f"F.max_pool{count}d({arguments(padded, pair(window), pair(given), dilation=pair(spread) if max(spread) > 1 else None)})"]
    x, kernel, strides, pads, dilations, ceil_mode = _window(n)
    dims = len(kernel)
    if n.wants(1):
        call = arguments(x, kernel, strides, pads, dilations, ceil_mode, bool(n.attr("storage_order", 0)))
        return n.unpack(f"{n.function('max_pool_with_indices')}({call})", 2)
    if n.is_float():
        pads, ceil_mode = _as_ceil_mode(kernel, strides, pads, dilations, ceil_mode)
    if n.is_float() and _is_plain(kernel, pads):
        call = arguments(
            x,
            pair(kernel),
            pair(strides),
            pair(pads[:dims]) if any(pads) else None,
            dilation=None if dilations == [1] * dims else pair(dilations),
            ceil_mode=ceil_mode or None,
        ).replace(", None", "")
        return [f"F.max_pool{dims}d({call})"]
    return [f"{n.function('max_pool')}({arguments(x, kernel, strides, pads, dilations, ceil_mode)})"]


@writes("AveragePool")
def average_pool(n: Node) -> str:
    """F.avg_pool1d, 2d, 3d; uneven pads and dilations through sums and counts."""
    x, kernel, strides, pads, dilations, ceil_mode = _window(n)
    dims = len(kernel)
    include = bool(n.attr("count_include_pad", 0))
    if not include:
        pads, ceil_mode = _as_ceil_mode(kernel, strides, pads, dilations, ceil_mode)
    if _is_plain(kernel, pads) and dilations == [1] * dims and not _is_below(n, kernel):
        call = arguments(
            x,
            pair(kernel),
            pair(strides),
            padding=pair(pads[:dims]) if any(pads) else None,
            ceil_mode=ceil_mode or None,
            count_include_pad=False if not include and (any(pads)) else None,
        )
        return f"F.avg_pool{dims}d({call})"
    return f"{n.function('average_pool')}({arguments(x, kernel, strides, pads, dilations, ceil_mode, include)})"


def _is_below(n: Node, kernel: list[int]) -> bool:
    """Whether clips are smaller than the kernel, pads aside, which avg_pool3d refuses."""
    shape = n.shape(0)
    if len(kernel) != 3 or shape is None:
        return False
    return any(isinstance(size, int) and size < k for size, k in zip(shape[2:], kernel, strict=True))


@writes("LpPool")
def lp_pool(n: Node) -> str:
    """The p-norm of each window."""
    x, kernel, strides, pads, dilations, ceil_mode = _window(n)
    return f"{n.function('lp_pool')}({arguments(x, n.attr('p', 2), kernel, strides, pads, dilations, ceil_mode)})"


def _spatial(n: Node) -> str:
    axes = list(range(2, n.known_rank()))
    return f"({axes[0]},)" if len(axes) == 1 else str(tuple(axes))


@writes("GlobalAveragePool")
def global_average_pool(n: Node) -> str:
    """The mean over all spatial axes."""
    return f"{n[0]}.mean({_spatial(n)}, keepdim=True)"


@writes("GlobalMaxPool")
def global_max_pool(n: Node) -> str:
    """The maximum over all spatial axes."""
    return f"{n[0]}.amax({_spatial(n)}, keepdim=True)"


@writes("GlobalLpPool")
def global_lp_pool(n: Node) -> str:
    """The p-norm over all spatial axes."""
    p = n.attr("p", 2)
    return f"{n[0]}.abs().pow({p}).sum({_spatial(n)}, keepdim=True).pow({1 / p!r})"
