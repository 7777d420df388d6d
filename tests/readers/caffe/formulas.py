"""Caffe's layers in plain numpy, window by window, as its C++ loops go: slow, and independent of the lowerings."""

from __future__ import annotations

import itertools
import math

import numpy as np


def convolve(x, w, b=None, stride=None, pad=None, dilation=None, group=1):
    """x (N, C, *spatial), w (O, C/group, *kernel)."""
    axes = x.ndim - 2
    stride, pad, dilation = stride or [1] * axes, pad or [0] * axes, dilation or [1] * axes
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0)] + [(p, p) for p in pad])
    kernel = w.shape[2:]
    out = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *out))
    per_in, per_out = x.shape[1] // group, w.shape[0] // group
    for at in itertools.product(*map(range, out)):
        window = tuple(slice(i * s, i * s + d * (k - 1) + 1, d) for i, s, d, k in zip(at, stride, dilation, kernel, strict=True))
        patch = x[(slice(None), slice(None), *window)]
        for k in range(group):
            part = patch[:, k * per_in : (k + 1) * per_in].reshape(x.shape[0], -1)
            own = w[k * per_out : (k + 1) * per_out].reshape(per_out, -1)
            y[(slice(None), slice(k * per_out, (k + 1) * per_out), *at)] = part @ own.T
    return y if b is None else y + b.reshape(-1, *[1] * axes)


def deconvolve(x, w, b=None, stride=None, pad=None, dilation=None, group=1):
    """x (N, C, *spatial), w (C, O/group, *kernel)."""
    axes = x.ndim - 2
    stride, pad, dilation = stride or [1] * axes, pad or [0] * axes, dilation or [1] * axes
    full = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(x.shape[2:], w.shape[2:], stride, dilation, strict=True)]
    per_in, per_out = x.shape[1] // group, w.shape[1]
    y = np.zeros((x.shape[0], per_out * group, *full))
    for at in itertools.product(*map(range, x.shape[2:])):
        window = tuple(slice(i * s, i * s + d * (k - 1) + 1, d) for i, s, d, k in zip(at, stride, dilation, w.shape[2:], strict=True))
        for k in range(group):
            pixel = x[(slice(None), slice(k * per_in, (k + 1) * per_in), *at)]
            spread = np.tensordot(pixel, w[k * per_in : (k + 1) * per_in], 1)
            y[(slice(None), slice(k * per_out, (k + 1) * per_out), *window)] += spread
    y = y[(slice(None), slice(None), *[slice(p, n - p) for p, n in zip(pad, full, strict=True)])]
    return y if b is None else y + b.reshape(-1, *[1] * axes)


def pool(x, mode, kernel, stride=(1, 1), pad=(0, 0), ceil=True, include_pad=True):
    """pooling_layer.cpp: (values, indices); the last window is dropped only where something is padded."""
    sizes, out = x.shape[2:], []
    for n, k, s, p in zip(sizes, kernel, stride, pad, strict=True):
        room = (n + 2 * p - k) / s
        out.append(int(math.ceil(room) if ceil else math.floor(room)) + 1)
    if any(pad):
        out = [o - 1 if (o - 1) * s >= n + p else o for o, s, n, p in zip(out, stride, sizes, pad, strict=True)]
    values = np.full((*x.shape[:2], *out), -np.finfo(np.float32).max if mode == "max" else 0.0)
    indices = np.full(values.shape, -1.0)
    for i, j in itertools.product(*map(range, out)):
        h0, w0 = i * stride[0] - pad[0], j * stride[1] - pad[1]
        h1, w1 = min(h0 + kernel[0], sizes[0] + pad[0]), min(w0 + kernel[1], sizes[1] + pad[1])
        divisor = (h1 - h0) * (w1 - w0)
        h0, w0, h1, w1 = max(h0, 0), max(w0, 0), min(h1, sizes[0]), min(w1, sizes[1])
        window = x[:, :, h0:h1, w0:w1].astype(np.float64)
        flat = window.reshape(*x.shape[:2], -1)
        if mode == "max" and flat.shape[2]:
            values[:, :, i, j] = flat.max(2)
            best = flat.argmax(2)
            indices[:, :, i, j] = (best // (w1 - w0) + h0) * sizes[1] + best % (w1 - w0) + w0
        elif mode == "average":
            values[:, :, i, j] = flat.sum(2) / (divisor if include_pad else flat.shape[2])
        elif mode == "stochastic":
            total = flat.sum(2)
            values[:, :, i, j] = np.where(total > 0, (flat**2).sum(2) / np.where(total > 0, total, 1), 0)
    return values, indices


def lrn_across(x, size, alpha, beta, k):
    squares = np.pad(x.astype(np.float64) ** 2, [(0, 0), (size // 2, size // 2), (0, 0), (0, 0)])
    total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return x * (k + alpha / size * total) ** -beta


def lrn_within(x, size, alpha, beta):
    half = size // 2
    squares = np.pad(x.astype(np.float64) ** 2, [(0, 0), (0, 0), (half, half), (half, half)])
    total = sum(squares[:, :, i : i + x.shape[2], j : j + x.shape[3]] for i in range(size) for j in range(size))
    return x * (1 + alpha * total / size**2) ** -beta


def bilinear(x, height, width):
    """interp.cpp: corners aligned."""

    def weights(n, out):
        table = np.zeros((out, n))
        ratio = (n - 1) / (out - 1) if out > 1 else 0.0
        for i in range(out):
            low = int(ratio * i)
            part = ratio * i - low
            table[i, low] += 1 - part
            table[i, min(low + 1, n - 1)] += part
        return table

    return weights(x.shape[2], height) @ (x @ weights(x.shape[3], width).T)


def unpool(x, mask, height, width):
    y = np.zeros((*x.shape[:2], height * width), np.float32)
    for n, c in itertools.product(range(x.shape[0]), range(x.shape[1])):
        for value, index in zip(x[n, c].ravel(), mask[n, c].ravel(), strict=True):
            y[n, c, int(index)] = value
    return y.reshape(*x.shape[:2], height, width)


def roi_pool(x, rois, height, width, scale):
    y = np.zeros((len(rois), x.shape[1], height, width), np.float32)

    def nearest(v):
        return int(math.floor(abs(v) + 0.5)) * (1 if v >= 0 else -1)

    for r, (batch, *corners) in enumerate(rois):
        x0, y0, x1, y1 = (nearest(c * scale) for c in corners)
        bin_h, bin_w = max(y1 - y0 + 1, 1) / height, max(x1 - x0 + 1, 1) / width
        for i, j in itertools.product(range(height), range(width)):
            top, bottom = math.floor(i * bin_h) + y0, math.ceil((i + 1) * bin_h) + y0
            left, right = math.floor(j * bin_w) + x0, math.ceil((j + 1) * bin_w) + x0
            rows = slice(min(max(top, 0), x.shape[2]), min(max(bottom, 0), x.shape[2]))
            columns = slice(min(max(left, 0), x.shape[3]), min(max(right, 0), x.shape[3]))
            window = x[int(batch), :, rows, columns]
            y[r, :, i, j] = window.max((1, 2)) if window.size else 0
    return y


def batch_norm(x, mean, variance, eps=1e-5, weight=1.0, bias=0.0):
    def column(v):
        return np.reshape(v, (-1, *[1] * (x.ndim - 2))) if np.ndim(v) else v

    return (x - column(mean)) / np.sqrt(column(variance) + eps) * column(weight) + column(bias)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def lstm(x, cont, w_x, b, w_h, static=None, w_static=None, h=None, c=None):
    """(all h, the last h, the last c)."""
    steps, streams, size = x.shape[0], x.shape[1], w_h.shape[1]
    h = np.zeros((streams, size)) if h is None else h[0]
    c = np.zeros((streams, size)) if c is None else c[0]
    outputs = []
    for t in range(steps):
        alive = cont[t][:, None]
        gates = x[t].reshape(streams, -1) @ w_x.T + b + (alive * h) @ w_h.T
        if static is not None:
            gates = gates + static.reshape(streams, -1) @ w_static.T
        i, f, o, g = np.split(gates, 4, 1)
        c = np.where(alive == 0, 0, alive * sigmoid(f)) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), h[None], c[None]


def rnn(x, cont, w_x, b, w_h, w_o, b_o, static=None, w_static=None, h=None):
    """(all o, the last h)."""
    h = np.zeros((x.shape[1], w_h.shape[1])) if h is None else h[0]
    outputs = []
    for t in range(x.shape[0]):
        total = x[t].reshape(x.shape[1], -1) @ w_x.T + b + (cont[t][:, None] * h) @ w_h.T
        if static is not None:
            total = total + static.reshape(x.shape[1], -1) @ w_static.T
        h = np.tanh(total)
        outputs.append(np.tanh(h @ w_o.T + b_o))
    return np.stack(outputs), h[None]
