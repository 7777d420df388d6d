"""Layers of optical flow and of sequences."""

from __future__ import annotations

import math

import numpy as np

from tests.readers.caffe import formulas


def correlated(layer, a, b):
    p = layer.get("correlation_param")
    pad, k, reach = p.get("pad", 0), p.get("kernel_size"), p.get("max_displacement")
    s1, s2 = p.get("stride_1", 1), p.get("stride_2", 1)
    around = [(0, 0), (0, 0), (pad, pad), (pad, pad)]
    border, steps = reach + (k - 1) // 2, reach // s2
    a, b = np.pad(a, around), np.pad(b, [(0, 0), (0, 0), (pad + s2, pad + s2), (pad + s2, pad + s2)])
    out = [math.ceil((n - 2 * border) / s1) for n in a.shape[2:]]
    y = []
    for dy in range(-steps, steps + 1):
        for dx in range(-steps, steps + 1):
            total = 0
            for u in range(k):
                for v in range(k):
                    r, c = u + reach, v + reach
                    one = a[:, :, r : r + (out[0] - 1) * s1 + 1 : s1, c : c + (out[1] - 1) * s1 + 1 : s1]
                    r, c = r + dy * s2 + s2, c + dx * s2 + s2
                    two = b[:, :, r : r + (out[0] - 1) * s1 + 1 : s1, c : c + (out[1] - 1) * s1 + 1 : s1]
                    total = total + (np.abs(one - two) if p.get("correlation_type") == "SUBTRACT" else one * two).sum(1)
            y.append(total / (k * k * a.shape[1]))
    return np.stack(y, 1)


def _by_tables(x, tables):
    """Rows and columns of x as sums of its own."""
    return tables[0].astype(x.dtype) @ (x @ tables[1].T.astype(x.dtype))


def _grid(x):
    rows, columns = np.mgrid[: x.shape[2], : x.shape[3]]
    return columns[None].astype(float), rows[None].astype(float)


def grid(layer, x):
    return np.broadcast_to(np.stack([g[0] for g in _grid(x)])[None], (x.shape[0], 2, *x.shape[2:]))


def _sampled(image, x, y, *, zeros):
    """Between four pixels: neighbors outside are 0, or held to the edge."""
    h, w = image.shape[2:]
    x0, y0 = np.floor(x), np.floor(y)
    total = 0
    numbers = np.arange(len(image))[:, None, None]
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        r, c = y0 + down, x0 + right
        weight = np.abs(1 - down - (y - y0)) * np.abs(1 - right - (x - x0))
        inside = (r >= 0) & (r < h) & (c >= 0) & (c < w)
        r, c = r.clip(0, h - 1).astype(int), c.clip(0, w - 1).astype(int)
        seen = image[numbers, :, r, c].transpose(0, 3, 1, 2)
        total = total + seen * (weight * (inside if zeros else 1))[:, None]
    return total


def warped(layer, image, places, *, of_grid):
    """LiteFlowNet's where a Grid is in the net, else PWC-Net's."""
    if of_grid:
        return _sampled(image, places[:, 0], places[:, 1], zeros=True)
    columns, rows = _grid(image)
    x, y = columns + places[:, 0], rows + places[:, 1]
    inside = (x >= 0) & (y >= 0) & (x <= image.shape[3] - 1) & (y <= image.shape[2] - 1)
    return np.where(inside[:, None], _sampled(image, x, y, zeros=False), 0)


def flow_warped(layer, image, flow):
    columns, rows = _grid(image)
    x, y = columns + flow[:, 0], rows + flow[:, 1]
    inside = (x >= 0) & (y >= 0) & (x < image.shape[3]) & (y < image.shape[2])
    fill = np.nan if layer.get("flow_warp_param").get("fill_value") == "NOT_A_NUMBER" else 0
    return np.where(inside[:, None], _sampled(image, x, y, zeros=False), fill)


def resampled(layer, x, like=None):
    """FlowNet2's Resample, pixel by pixel along each axis: its weights are products."""
    p = layer.get("resample_param")
    out = like.shape[2:] if like is not None else (p.get("height"), p.get("width"))
    fy, fx = x.shape[2] / out[0], x.shape[3] / out[1]
    smooth, kind = p.get("antialias", True) and (fx > 1 or fy > 1), p.get("type")

    def kernel(d):
        d = abs(d)
        if kind == "LINEAR":
            return max(0.0, 1 - d)
        return 1.5 * d**3 - 2.5 * d**2 + 1 if d < 1 else -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0

    tables = []
    for n, o, f, other in ((x.shape[2], out[0], fy, fx), (x.shape[3], out[1], fx, fy)):
        table = np.zeros((o, n))
        for i in range(o):
            place = i * f + other / 2 - 0.5
            middle = math.floor(abs(place) + 0.5) * (1 if place >= 0 else -1)
            if kind == "NEAREST":
                table[i, min(max(middle, 0), n - 1)] = 1
                continue
            scale = 1 / f if smooth else 1
            reach = 2 if f < 1 else math.ceil((4 if kind == "CUBIC" else 2) / scale)
            for j in range(max(0, middle - reach), min(n, middle + reach + 1)):
                table[i, j] = kernel(scale * (place - j))
            if table[i].sum():
                table[i] /= table[i].sum()
        tables.append(table)
    return _by_tables(x, tables)


def downsampled(layer, x, like=None):
    p = layer.get("downsample_param")
    out = like.shape[2:] if like is not None else (p.get("top_height"), p.get("top_width"))
    if tuple(out) == x.shape[2:]:
        return x
    tables = []
    for n, o in zip(x.shape[2:], out, strict=True):
        s = (n - 1) / (o - 1)
        table = np.zeros((o, n))
        for i in range(o):
            middle = math.floor(i * s + 0.5)
            for j in range(max(0, middle - math.ceil(s)), min(n, middle + math.ceil(s) + 1)):
                table[i, j] = max(0.0, 1 - abs(i * s - j) / s)
            table[i] /= table[i].sum()
        tables.append(table)
    return _by_tables(x, tables)


def accumulated(layer, *maps):
    p = layer.get("accum_param")
    if p.get("have_reference", False):
        *maps, like = maps
        size = like.shape[2:]
    else:
        size = [max(m.shape[a] for m in maps) for a in (2, 3)]
        wanted = [p.get("top_height", 0), p.get("top_width", 0)]
        size = wanted if wanted[0] > size[0] and wanted[1] > size[1] else size
        d = p.get("size_divisible_by", 1) or 1
        size = [-(-n // d) * d for n in size]
    return np.concatenate([m if m.shape[2:] == tuple(size) else formulas.bilinear(m, *size) for m in maps], 1)


def mean_taken(layer, x):
    p = layer.get("mean_param")
    value = np.resize(p.all("value"), x.shape[1]).reshape(1, -1, 1, 1) * p.get("mean_scale", 1.0)
    inner = p.get("input_scale", 1.0) * x
    return p.get("output_scale", 1.0) * (inner + value if p.get("operation") == "ADD" else inner - value)


def augmented(layer, x, blobs):
    p = layer.get("augmentation_param")
    y = x
    if p.get("crop_width", 0) and p.get("crop_height", 0):
        out = (p.get("crop_height"), p.get("crop_width"))
        tables = []
        for n, o in zip(x.shape[2:], out, strict=True):
            table = np.zeros((o, n))
            for i in range(o):
                place = min(max(i + 0.5 * (n - o), 0), n - 1.05)
                low = int(place)
                table[i, low] += 1 - (place - low)
                table[i, min(low + 1, n - 1)] += place - low
            tables.append(table)
        y = _by_tables(x, tables)
    if p.get("recompute_mean", 0) > 0:
        return y - (blobs[1].reshape(1, *y.shape[1:]) if p.get("mean_per_pixel", True) else blobs[2].reshape(1, -1, 1, 1))
    if len(p.all("mean")) == 3 and not p.get("mean_per_pixel", True):
        return y - np.reshape(p.all("mean"), (1, 3, 1, 1))
    return y


def exp_max(layer, x):
    p = layer.get("exp_param")
    base = 1.0 if p.get("base", -1.0) == -1 else math.log(p.get("base"))
    shifted = x - x[:1].max(1, keepdims=True)
    return np.exp(base * p.get("scale", 1.0) * shifted) * math.exp(base * p.get("shift", 0.0))


def lstm_of_sequences(layer, x, w, u, b):
    """Junhyuk's Lstm."""
    size = u.shape[1]
    h = c = np.zeros((x.shape[1], size))
    made = []
    for step in x.reshape(*x.shape[:2], -1):
        i, f, o, g = np.split(step @ w.T + b + h @ u.T, 4, 1)
        c = formulas.sigmoid(f) * c + formulas.sigmoid(i) * np.tanh(g)
        h = formulas.sigmoid(o) * np.tanh(c)
        made.append(h)
    return np.stack(made)
