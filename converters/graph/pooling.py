"""Pooling, exactly: windows as the source framework counts them, in ONNX operators.

Caffe, Torch7, MXNet and PyTorch agree on where window i starts (i * stride - pad) and what it covers. They differ in how many
windows there are and in what an average divides by. A reader says both; this module finds the operators:

- the plain MaxPool or AveragePool node, where ONNX's written semantics (those of PyTorch) give just these windows;
- else one with explicit pads before and behind the image;
- for averages that no attribute describes, the average of the real pixels times a table of factors;
- windows that hold no pixel at all are added around the result;
- where none of these follows another image size, and a reader says how windows are counted, the image is extended (or cut) just as far
  as the last window of the size that comes, and the divisors are worked out from it.

But for the last of these, no Pad node stands before a pool: onnxruntime fuses the two, and then refuses pads that reach the kernel's size.

Windows whose edges follow from the size (adaptive pooling) are slices, reduced one by one.

Sources: caffe/src/caffe/layers/pooling_layer.cpp, spp_layer.cpp; THNN/generic/SpatialAveragePooling.c, SpatialAdaptiveAveragePooling.c,
SpatialDilatedMaxPooling.c; mxnet src/operator/nn/pool.h; ONNX MaxPool-12 and AveragePool-19.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.graph.windows import Clip, Ints, divisors, output_sizes

MOST_WINDOWS = 1024
"""Of an axis of an adaptive pool: each is a slice of its own."""


def pool(
    g: GraphBuilder,
    x: ir.Value,
    mode: Literal["max", "average", "sum"],
    *,
    kernel: Ints,
    strides: Ints,
    pads: Ints,
    out: Ints,
    dilations: Ints | None = None,
    divisor: Literal["padded", "real", "kernel"] = "padded",
    ceil: bool | None = None,
    clip: Clip = "padded",
) -> ir.Value:
    """Pools x (N, C, *spatial) into (N, C, *out), whatever number of windows `out` asks for.

    pads: before each axis; behind it the image is extended as `out` needs, and that overhang never counts. A window that holds
    no pixel gives the lowest finite number (max), 0 (sum), or 0 over its divisor (average). divisor of an average: "padded" counts
    the pixels and the pads (`pads` on both sides), "real" the pixels alone, "kernel" is always the whole kernel.
    ceil, clip: how another image size is counted, by output_sizes: such a size gets its own number of windows, or an error when the net
    runs, and an average of nothing is 0 where no window is ever dropped (MXNet). None: the windows are those of this size, whatever comes.
    Raises ConversionError for a kernel, stride, pad or output size that makes no sense.
    """
    windows = _windows(g, x, kernel, strides, pads, out, dilations, ceil, clip)
    whole = ceil is False  # no window reaches over the pads
    divisor = "padded" if whole and divisor == "kernel" else divisor
    if ceil is not None and not (
        windows.follows and (mode == "max" or (mode == "average" and divisor != "kernel") or (whole and not any(pads)))
    ):
        return _AnySize(g, x, windows, pads, out, ceil, clip).pool(mode, divisor)
    if mode == "max":
        return _surround(g, windows, windows.node(g, "MaxPool", x)[0], _lowest(x))
    if mode == "average" and windows.ceil_mode is not None and (divisor != "kernel" or (not any(pads) and not windows.ceil_mode)):
        return windows.node(g, "AveragePool", x, count_include_pad=int(divisor != "real" and any(pads)) or None)[0]
    # The average of the real pixels, times their number, over the divisor that is asked for.
    average = _surround(g, windows, windows.node(g, "AveragePool", x, ceil=False)[0], 0.0)
    factors = divisors(windows.sizes, kernel, strides, pads, out, real=True).clip(min=0)
    if mode == "average":
        wanted = divisors(windows.sizes, kernel, strides, pads, out, real=divisor == "real")
        if divisor == "kernel":
            wanted = np.full(wanted.shape, float(math.prod(kernel)))
        with np.errstate(divide="ignore", invalid="ignore"):  # an empty window over an empty divisor is the NaN that the frameworks answer
            factors = factors / wanted
    if np.all(factors == factors.flat[0]):
        factors = factors.flat[0]
    return g.emit("Mul", average, g.const(factors, x.dtype.numpy() if x.dtype else np.float32, role="window_factors"))


def max_pool_with_indices(
    g: GraphBuilder,
    x: ir.Value,
    *,
    kernel: Ints,
    strides: Ints,
    pads: Ints,
    out: Ints,
    dilations: Ints | None = None,
    ceil: bool | None = None,
) -> tuple[ir.Value, ir.Value]:
    """Max pooling of x (N, C, *spatial), and for each window the row-major index in its plane of its first maximum.

    The indices are int64 from 0, -1 for a window without a pixel. ceil: as for `pool`.
    """
    windows = _windows(g, x, kernel, strides, pads, out, dilations, ceil, "padded")
    if ceil is not None and not windows.follows:
        x = g.pin(x)
    values, flat = windows.node(g, "MaxPool", x, outputs=2)
    plane: ir.Value | int = math.prod(windows.sizes)
    if ceil is not None and windows.follows:
        plane = g.emit("ReduceProd", g.emit("Shape", x, start=2), keepdims=0)
    indices = g.emit("Mod", flat, plane)
    return _surround(g, windows, values, _lowest(x)), _surround(g, windows, indices, -1)


@dataclass(frozen=True)
class _Windows:
    """The windows of a pooling that hold a pixel, as ONNX pads; and how many without one lie before and behind them."""

    sizes: tuple[int, ...]
    kernel: Ints
    strides: Ints
    dilations: Ints | None
    ceil_mode: int | None  # the symmetric pads with this ceil_mode are just these windows; None: neither mode is
    symmetric: list[int]
    explicit: list[int]
    kept: list[int]
    before: list[int]
    behind: list[int]
    follows: bool  # ceil_mode counts the windows of any other size too

    def node(
        self, g: GraphBuilder, op_type: str, x: ir.Value, *, outputs: int = 1, ceil: bool = True, count_include_pad: int | None = None
    ) -> tuple[ir.Value, ...]:
        """The pool node's outputs. ceil=False: explicit pads even where a ceil_mode would do."""
        plain = self.ceil_mode is not None and (ceil or not self.ceil_mode)
        pads = self.symmetric if plain else self.explicit
        if any(p >= k for p, k in zip(pads, [*self.kernel, *self.kernel], strict=True)):
            # Only dilated kernels get here: their pads may exceed what runtimes take as an attribute.
            if op_type != "MaxPool" or outputs > 1:
                raise g.error(f"pads {pads} reach the kernel's size {tuple(self.kernel)}")
            x, pads = pad_lowest(g, x, pads), [0] * len(pads)
        return g.emit_all(
            op_type,
            x,
            outputs=outputs,
            shape=[*g.shape(x)[:2], *self.kept],
            kernel_shape=list(self.kernel),
            strides=list(self.strides),
            pads=pads if any(pads) else None,
            dilations=list(self.dilations) if self.dilations is not None and max(self.dilations) > 1 else None,
            ceil_mode=(self.ceil_mode or None) if plain else None,
            count_include_pad=count_include_pad,
        )


def _windows(
    g: GraphBuilder, x: ir.Value, kernel: Ints, strides: Ints, pads: Ints, out: Ints, dilations: Ints | None, ceil: bool | None, clip: Clip
) -> _Windows:
    """Checks that everything fits, and sorts the windows. Raises ConversionError."""
    rank = len(kernel)
    if g.rank(x) != rank + 2:
        raise g.error(f"a pooling over {rank} axes needs an input of {rank + 2} axes (N, C, ...), but it has shape {g.shape(x)}")
    sizes = g.fixed(x, 2)
    what = f"kernel {tuple(kernel)}, stride {tuple(strides)}, pad {tuple(pads)} on {sizes}"
    if min(kernel) < 1 or min(strides) < 1 or min(dilations or [1]) < 1:
        raise g.error(f"kernel, stride and dilation must be at least 1, but this is {what}")
    if min(pads) < 0:
        raise g.error(f"a pad can't be negative: {what}")
    if min(out) < 1:
        raise g.error(f"the output would have size {tuple(out)}: {what}")
    before, kept, front, back = [], [], [], []
    for size, k, s, p, d, o in zip(sizes, kernel, strides, pads, dilations or [1] * rank, out, strict=True):
        extent = d * (k - 1) + 1
        skipped = min(o, max(0, -(-(p - extent + 1) // s)))  # windows that end before the first pixel
        stop = min(o, -(-(size + p) // s))  # the first that starts behind the last pixel
        if stop <= skipped:
            raise g.error(f"no window holds a pixel: {what}")
        before.append(skipped)
        kept.append(stop - skipped)
        front.append(p - skipped * s)
        back.append(max(0, (stop - 1) * s - p + extent - size))
    ceil_mode = None
    if kept == list(out) and all(size + 2 * p >= k for size, p, k in zip(sizes, pads, kernel, strict=True)):
        fits = (
            c
            for c in ((1, 0) if ceil else (0, 1))
            if output_sizes(sizes, kernel, strides, pads, ceil=bool(c), clip="never", dilations=dilations) == kept
        )
        ceil_mode = next(fits, None)
    behind = [o - b - n for o, b, n in zip(out, before, kept, strict=True)]
    # ONNX drops a last window that starts behind the image on each axis, Caffe only where some axis is padded, MXNet never; one can start
    # there where a stride is longer than its kernel, and in MXNet than what the pad leaves of it.
    same = not ceil or all(s + (p if clip == "never" else 0) <= k for s, p, k in zip(strides, pads, kernel, strict=True))
    follows = ceil is not None and ceil_mode == int(ceil) and same
    return _Windows(sizes, kernel, strides, dilations, ceil_mode, [*pads, *pads], front + back, kept, before, behind, follows)


@dataclass(frozen=True)
class _AnySize:
    """A pool whose windows no operator counts, at whatever size the image has when the net runs.

    Behind the image come as many pads as the last window needs, or fewer than none; what an average divides by is worked out likewise.
    """

    g: GraphBuilder
    x: ir.Value
    windows: _Windows
    pads: Ints
    out: Ints
    ceil: bool
    clip: Clip

    def pool(self, mode: Literal["max", "average", "sum"], divisor: Literal["padded", "real", "kernel"]) -> ir.Value:
        g, w = self.g, self.windows
        counts = [self._count(i) for i in range(len(w.kernel))]
        behind = []
        for i, count in enumerate(counts):
            reach = g.emit("Add", g.emit("Mul", count, w.strides[i]), self._extent(i) - w.strides[i] - self.pads[i])
            behind.append(g.emit("Sub", reach, self._length(i)))
        amounts = g.emit("Concat", [0, 0, *self.pads, 0, 0], *behind, axis=0)
        padded = g.emit("Pad", self.x, amounts, -math.inf if mode == "max" else 0.0)
        shape = [*g.shape(self.x)[:2], *self.out]
        attributes: dict[str, Any] = {"kernel_shape": list(w.kernel), "strides": list(w.strides), "shape": shape}
        dilations = list(w.dilations) if w.dilations is not None and max(w.dilations) > 1 else None
        if mode == "max":
            y = g.emit("MaxPool", padded, dilations=dilations, **attributes)
            empty = any(s + p > k for s, p, k in zip(w.strides, self.pads, w.kernel, strict=True))
            return g.emit("Max", y, g.const(np.array(_lowest(self.x), self._dtype))) if empty else y
        y = g.emit("AveragePool", padded, **attributes)
        if mode == "average" and divisor == "kernel":
            return y
        y = g.emit("Mul", y, float(math.prod(w.kernel)))
        if mode == "sum":
            return y
        divisors = self._divisors(counts, real=divisor == "real")
        return g.emit("Div", y, g.emit("Max", divisors, 1.0) if self.clip == "never" else divisors)

    @property
    def _dtype(self) -> Any:
        return self.x.dtype.numpy() if self.x.dtype else np.float32

    def _extent(self, i: int) -> int:
        return (self.windows.dilations[i] if self.windows.dilations is not None else 1) * (self.windows.kernel[i] - 1) + 1

    def _length(self, i: int) -> ir.Value:
        return _one(self.g.sizes([Extent(self.x, i + 2)]))

    def _count(self, i: int) -> ir.Value:
        """The number of windows along an axis, as `output_sizes` has it. One stride more is divided, for numbers below 0 are rounded up."""
        s, p, extent = self.windows.strides[i], self.pads[i], self._extent(i)
        more = -(-extent // s)
        room = Extent(self.x, i + 2, 2 * p - extent + (s - 1 if self.ceil else 0) + more * s, s, 1, 1 - more)
        count = _one(self.g.sizes([room]))
        if self.clip == "padded" and any(self.pads):
            count = self.g.emit("Min", count, _one(self.g.sizes([Extent(self.x, i + 2, p - 1, s, 1, 1)])))
        return count

    def _divisors(self, counts: Sequence[ir.Value], *, real: bool) -> ir.Value:
        """What `divisors` says, as a value of the output's image size."""
        g, table, rank = self.g, None, len(counts)
        for i, count in enumerate(counts):
            s, p, k = self.windows.strides[i], self.pads[i], self.windows.kernel[i]
            length = self._length(i)
            zero, one = np.array(0, np.int64), np.array(1, np.int64)
            steps = g.emit("Range", zero, g.emit("Squeeze", count, [0]), one, shape=[self.out[i]])
            start = g.emit("Sub", g.emit("Mul", steps, s), p)
            end = g.emit("Min", g.emit("Add", start, k), g.emit("Add", length, p))
            if real:
                start, end = g.emit("Max", start, [0]), g.emit("Min", end, length)
            part = g.emit("Sub", end, start)
            part = g.emit("Unsqueeze", part, [axis for axis in range(rank) if axis != i]) if rank > 1 else part
            table = part if table is None else g.emit("Mul", table, part)
        if table is None:
            raise g.error("a pooling needs spatial axes")
        return g.emit("Cast", table, to=ir.DataType.from_numpy(np.dtype(self._dtype)).value)


def _one(value: ir.Value | list[int]) -> ir.Value:
    if isinstance(value, list):
        raise TypeError("a size that follows the image is a value")
    return value


def pad_lowest(g: GraphBuilder, x: ir.Value, pads: Ints) -> ir.Value:
    """x with its spatial axes extended by -infinity: that value, unlike the lowest number, keeps onnxruntime from fusing the Pad."""
    rank = len(pads) // 2
    return g.emit("Pad", x, [0, 0, *pads[:rank], 0, 0, *pads[rank:]], -math.inf)


def _lowest(x: ir.Value) -> float:
    return float(np.finfo(x.dtype.numpy() if x.dtype else np.float32).min)


def _surround(g: GraphBuilder, windows: _Windows, pooled: ir.Value, value: float) -> ir.Value:
    """Adds the windows without a pixel, filled with `value`."""
    amounts = [0, 0, *windows.before, 0, 0, *windows.behind]
    return g.emit("Pad", pooled, amounts, value) if any(amounts) else pooled


def adaptive_pool(g: GraphBuilder, x: ir.Value, mode: Literal["max", "average"], out: Ints) -> ir.Value:
    """Pools x (N, C, *spatial) into (N, C, *out): window i of an axis from floor(i n / count) to ceil((i + 1) n / count).

    Raises ConversionError for more windows than operators make sense.
    """
    if max(out) > MOST_WINDOWS:
        raise g.error(f"an adaptive pooling to {tuple(out)} of an input of shape {g.shape(x)} would need too many operators")
    for axis, count in enumerate(out, 2):
        length = g.sizes([Extent(x, axis)])
        ranges = []
        for i in range(count):
            start, end = (g.emit("Mul", length, number) if number != 1 else length for number in (i, i + 1))
            ranges.append((g.emit("Div", start, count), g.emit("Div", g.emit("Add", end, count - 1), count)))
        x = over_ranges(g, x, axis, "ReduceMax" if mode == "max" else "ReduceMean", ranges)
    return x


def over_ranges(g: GraphBuilder, x: ir.Value, axis: int, op_type: str, ranges: Sequence[tuple[ir.Value, ir.Value]]) -> ir.Value:
    """x with an axis reduced over each of the ranges, side by side. ranges: where one starts and ends, int64 values of shape (1,)."""
    shape = [None if i == axis else dim for i, dim in enumerate(g.shape(x))]
    parts = [g.emit(op_type, g.emit("Slice", x, start, end, [axis], shape=shape), [axis], keepdims=1) for start, end in ranges]
    return g.emit("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]
