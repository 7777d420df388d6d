"""What TensorFlow's operators compute, in numpy, window by window: slow, and without anything of the package."""

from __future__ import annotations

import numpy as np


def same(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int, int]:
    """Windows, and the padding before and behind an axis, of SAME."""
    out = -(-size // stride)
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return out, total // 2, total - total // 2


def windows(x: np.ndarray, kernel: tuple[int, int], strides: tuple[int, int], padding: str, fill: float, dilations=(1, 1)) -> np.ndarray:
    """(N, H, W, C) -> (N, rows, columns, h, w, C)."""
    pads = []
    for axis in range(2):
        if padding == "SAME":
            _, before, behind = same(x.shape[axis + 1], kernel[axis], strides[axis], dilations[axis])
            pads.append((before, behind))
        else:
            pads.append((0, 0))
    x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    h, w = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    rows = range(0, x.shape[1] - h + 1, strides[0])
    columns = range(0, x.shape[2] - w + 1, strides[1])
    return np.stack([np.stack([x[:, r : r + h : dilations[0], c : c + w : dilations[1]] for c in columns], 1) for r in rows], 1)


def conv(x: np.ndarray, filter: np.ndarray, strides=(1, 1), padding="SAME", dilations=(1, 1)) -> np.ndarray:
    found = windows(x.astype(np.float64), filter.shape[:2], strides, padding, 0.0, dilations)
    groups = x.shape[3] // filter.shape[2]
    parts = np.split(found, groups, axis=5)
    filters = np.split(filter, groups, axis=3)
    return np.concatenate([np.einsum("nrshwi,hwio->nrso", p, f) for p, f in zip(parts, filters, strict=True)], 3)


def depthwise_deconv(x: np.ndarray, filter: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The gradient of a depthwise convolution: each channel's as if there were no other."""
    multiplier = filter.shape[3]
    parts = [deconv(x[..., c * multiplier : (c + 1) * multiplier], filter[:, :, c : c + 1], size) for c in range(filter.shape[2])]
    return np.concatenate(parts, 3)


def depthwise(x: np.ndarray, filter: np.ndarray, strides=(1, 1), padding="SAME") -> np.ndarray:
    found = windows(x.astype(np.float64), filter.shape[:2], strides, padding, 0.0)
    y = np.einsum("nrshwi,hwim->nrsim", found, filter)
    return y.reshape(*y.shape[:3], -1)


def deconv(x: np.ndarray, filter: np.ndarray, size: tuple[int, int], strides=(2, 2), padding="SAME") -> np.ndarray:
    """The gradient: each pixel of x adds its filter to the window that a convolution would have taken there."""
    h, w, out, _ = filter.shape
    pads = [same(n, k, s)[1] if padding == "SAME" else 0 for n, k, s in zip(size, (h, w), strides, strict=True)]
    room = [max((x.shape[axis + 1] - 1) * strides[axis] + (h, w)[axis], size[axis] + pads[axis]) for axis in range(2)]
    y = np.zeros((len(x), *room, out))
    for r in range(x.shape[1]):
        for c in range(x.shape[2]):
            y[:, r * strides[0] : r * strides[0] + h, c * strides[1] : c * strides[1] + w] += np.einsum("ni,hwoi->nhwo", x[:, r, c], filter)
    return y[:, pads[0] : pads[0] + size[0], pads[1] : pads[1] + size[1]]


def max_pool(x: np.ndarray, kernel=(3, 3), strides=(2, 2), padding="SAME") -> np.ndarray:
    return windows(x, kernel, strides, padding, -np.inf).max((3, 4))


def average_pool(x: np.ndarray, kernel=(3, 3), strides=(2, 2), padding="SAME") -> np.ndarray:
    return np.nanmean(windows(x.astype(np.float64), kernel, strides, padding, np.nan), (3, 4))


def lrn(x: np.ndarray, radius: int, bias: float, alpha: float, beta: float) -> np.ndarray:
    squares = np.pad(np.square(x.astype(np.float64)), [(0, 0)] * 3 + [(radius, radius)])
    total = sum(squares[..., i : i + x.shape[3]] for i in range(2 * radius + 1))
    return x / (bias + alpha * total) ** beta


def linear_rows(size: int, out: int, align: bool = False, half: bool = False) -> np.ndarray:
    """Weights of a bilinear resize, (out, size)."""
    table = np.zeros((out, size))
    scale = (size - 1) / (out - 1) if align and out > 1 else size / out
    for i in range(out):
        at = (i + 0.5) * scale - 0.5 if half else i * scale
        at = max(at, 0.0) if half else at
        low = min(int(np.floor(at)), size - 1)
        table[i, low] += 1 - (at - low)
        table[i, min(low + 1, size - 1)] += at - low
    return table


def bilinear(x: np.ndarray, size: tuple[int, int], **mode: bool) -> np.ndarray:
    rows, columns = linear_rows(x.shape[1], size[0], **mode), linear_rows(x.shape[2], size[1], **mode)
    return np.einsum("rh,nhwc,sw->nrsc", rows, x.astype(np.float64), columns)


def nearest(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.floor(np.arange(out) * (n / out)).astype(int) for n, out in zip(x.shape[1:3], size, strict=True))
    return x[:, rows][:, :, columns]


def cubic_rows(size: int, out: int) -> np.ndarray:
    """Weights of a bicubic resize of old, a = -0.75, the edge repeated."""
    a, table = -0.75, np.zeros((out, size))
    for i in range(out):
        at = i * size / out
        low = int(np.floor(at))
        fraction = np.rint((at - low) * 1024) / 1024
        for step in range(-1, 3):
            d = abs(step - fraction)
            weight = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            table[i, min(max(low + step, 0), size - 1)] += weight
    return table


def bicubic(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.einsum("rh,nhwc,sw->nrsc", cubic_rows(x.shape[1], size[0]), x.astype(np.float64), cubic_rows(x.shape[2], size[1]))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def fake_quant(x: np.ndarray, low: float, high: float, bits: int = 8) -> np.ndarray:
    most = 2**bits - 1
    scale = (high - low) / most
    zero = np.clip(np.floor(-low / scale + 0.5), 0, most)
    bottom, top = -zero * scale, (most - zero) * scale
    return np.floor((np.clip(x.astype(np.float64), bottom, top) - bottom) / scale + 0.5) * scale + bottom


def space_to_depth(x: np.ndarray, block: int) -> np.ndarray:
    n, h, w, c = x.shape
    y = x.reshape(n, h // block, block, w // block, block, c).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h // block, w // block, block * block * c)


def depth_to_space(x: np.ndarray, block: int) -> np.ndarray:
    n, h, w, c = x.shape
    y = x.reshape(n, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, h * block, w * block, c // block**2)
