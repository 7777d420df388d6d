"""What several topics of Torch7 modules compute, in numpy, written from Torch7's sources."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from tests.readers.torch7.lua import Object, module
from tests.readers.torch7.module_case import rand

FLT_MAX = np.finfo(np.float32).max


def conv(x: np.ndarray, w: np.ndarray, b: Any = None, d: Any = None, p: Any = None, dil: Any = None, groups: int = 1) -> np.ndarray:
    """Correlation over any number of axes. x: (N, C, ...), w: (out, in / groups, ...)."""
    axes = w.ndim - 2
    d, p, dil = d or (1,) * axes, p or (0,) * axes, dil or (1,) * axes
    x = np.pad(x.astype("f8"), [(0, 0), (0, 0), *((n, n) for n in p)])
    sizes = [(n - e * (k - 1) - 1) // s + 1 for n, k, s, e in zip(x.shape[2:], w.shape[2:], d, dil, strict=True)]
    out = np.zeros((len(x), len(w), *sizes))
    per_in, per_out = w.shape[1], len(w) // groups
    for at in itertools.product(*map(range, w.shape[2:])):
        window = x[(..., *(slice(a * e, a * e + (n - 1) * s + 1, s) for a, e, n, s in zip(at, dil, sizes, d, strict=True)))]
        for group in range(groups):
            part = np.einsum(
                "nc...,oc->no...",
                window[:, group * per_in : (group + 1) * per_in],
                w[(slice(group * per_out, (group + 1) * per_out), slice(None), *at)],
            )
            out[:, group * per_out : (group + 1) * per_out] += part
    return out if b is None else out + b.reshape(-1, *[1] * axes)


def full_conv(x: np.ndarray, w: np.ndarray, b: Any, d: Any, p: Any, adj: Any) -> np.ndarray:
    """Each pixel spreads its kernel. w: (in, out, ...); size (in - 1) d - 2 p + k + adj."""
    k = w.shape[2:]
    whole = [(n - 1) * s + size + a for n, s, size, a in zip(x.shape[2:], d, k, adj, strict=True)]
    out = np.zeros((len(x), w.shape[1], *whole))
    for at in itertools.product(*map(range, x.shape[2:])):
        where = tuple(slice(i * s, i * s + size) for i, s, size in zip(at, d, k, strict=True))
        out[(slice(None), slice(None), *where)] += np.einsum("nc,co...->no...", x[(slice(None), slice(None), *at)], w)
    out = out[(slice(None), slice(None), *(slice(n, size - n) for n, size in zip(p, whole, strict=True)))]
    return out + b.reshape(-1, *[1] * len(k))


def pooled(x: np.ndarray, k: Any, d: Any, p: Any, ceil: bool = False, kind: str = "max", dil: Any = None, clip: bool = True) -> np.ndarray:
    """Windows one by one, as THNN's loops go through them."""
    axes = len(k)
    dil = dil or (1,) * axes
    sizes = []
    for n, size, s, pad, e in zip(x.shape[2:], k, d, p, dil, strict=True):
        room = (n - e * (size - 1) - 1 + 2 * pad) / s
        count = (math.ceil(room) if ceil else math.floor(room)) + 1
        if clip and any(p) and (count - 1) * s >= n + pad:
            count -= 1
        sizes.append(count)
    out = np.zeros((*x.shape[:2], *sizes))
    for at in itertools.product(*map(range, sizes)):
        places, padded, real = [], 1, 1
        for i, n, size, s, pad, e in zip(at, x.shape[2:], k, d, p, dil, strict=True):
            start = i * s - pad
            end = min(start + size, n + pad)
            padded *= end - start
            places.append([t for t in range(start, start + e * (size - 1) + 1, e) if 0 <= t < n])
            real *= len(places[-1])
        window = x[np.ix_(range(len(x)), range(x.shape[1]), *places)]
        flat = window.reshape(*x.shape[:2], -1).astype("f8")
        if kind == "max":
            value = flat.max(2) if flat.shape[2] else -FLT_MAX
        else:
            divisor = {"include": padded, "exclude": real, "kernel": math.prod(k), "sum": 1}[kind]
            with np.errstate(invalid="ignore", divide="ignore"):
                value = flat.sum(2) / np.float64(divisor)
        out[(slice(None), slice(None), *at)] = value
    return out


MAP = np.float32([[1, 2], [3, 1], [2, 2], [1, 1], [1, 2]])

MAP_W = rand(5, 3, 2)


def dense(inputs: int = 3, outputs: int = 2) -> np.ndarray:
    w = np.zeros((outputs, inputs, 3, 2))
    for kernel, (i, o) in zip(MAP_W, MAP.astype(int), strict=True):
        w[o - 1, i - 1] += kernel
    return w


def pooling(name: str, k: Any, d: Any = None, p: Any = None, version: int = 2, **more: Any) -> Object:
    axes = "THW"[-len(k) :]
    fields: dict[str, Any] = {f"k{a}": n for a, n in zip(axes, k, strict=True)}
    fields |= {f"d{a}": n for a, n in zip(axes, d or k, strict=True)}
    if p is not None:
        fields |= {f"pad{a}": n for a, n in zip(axes, p, strict=True)}
    return module(name, version=version, **fields, **more)
