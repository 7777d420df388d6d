"""Source of normalization layers."""

from __future__ import annotations

import numpy as np

from converters.writers.source.code import number
from converters.writers.source.node import Node, arguments, writes
from converters.writers.source.together import layer_norm


def _eps(n: Node, default: float = 1e-5) -> str:
    return number(np.float32(n.attr("epsilon", default)))


@writes("BatchNormalization")
def batch_normalization(n: Node) -> list[str]:
    """nn.BatchNorm1d, 2d, 3d in eval mode."""
    if n.attr("training_mode", 0) or (n.opset < 7 and not n.attr("is_test", 0)) or any(n.wants(i) for i in range(1, n.outputs)):
        raise n.error("training mode; only inference is written")
    rank, eps = n.rank(), _eps(n)
    if n.attr("spatial", 1) == 0 and rank != 2:  # statistics of every position by itself
        return [f"({n[0]} - {n[3]}) / torch.sqrt({n[4]} + {eps}) * {n[1]} + {n[2]}"]
    features = (n.shape(1) or [None])[0]
    names = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}
    if rank in names and features is not None:
        build = arguments(features, eps=None if eps == "1e-05" else eps)
        layer = n.layer(
            f"nn.{names[rank]}({build}", {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}, ("running_mean", "running_var")
        )
        if layer:
            return [f"{layer}({n[0]})"]
    return [f"F.batch_norm({arguments(n[0], n[3], n[4], n[1], n[2], eps=None if eps == '1e-05' else eps)})"]


@writes("InstanceNormalization")
def instance_normalization(n: Node) -> str:
    """nn.InstanceNorm1d, 2d or 3d, else F.instance_norm: with the input's own statistics. Scales of 1 and shifts of 0 are left out."""
    rank, weight, bias = n.rank(0), n.fixed(1), n.fixed(2)
    eps = None if _eps(n) == "1e-05" else _eps(n)
    if weight is not None and bias is not None and (weight == 1).all() and (bias == 0).all():
        return f"F.instance_norm({arguments(n[0], eps=eps)})"
    channels = n.shape(1)
    if rank in (3, 4, 5) and channels and channels[0] is not None and n.shape(2) == channels:
        build = f"nn.InstanceNorm{rank - 2}d({arguments(channels[0], eps=eps, affine=True)}"
        if layer := n.layer(build, {"weight": 1, "bias": 2}):
            return f"{layer}({n[0]})"
    return f"F.instance_norm({arguments(n[0], weight=n[1], bias=n[2], eps=eps)})"


@writes("LRN")
def lrn(n: Node) -> str:
    """F.local_response_norm; for an even size the window reaches further up than down, which torch has the other way round."""
    size = int(n.attr("size"))
    alpha, beta, k = (number(np.float32(n.attr(name, default))) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    if size % 2:
        return f"F.local_response_norm({n[0]}, {size}, alpha={alpha}, beta={beta}, k={k})"
    return f"F.local_response_norm({n[0]}.flip(1), {size}, alpha={alpha}, beta={beta}, k={k}).flip(1)"


@writes("LayerNormalization")
def layer_normalization(n: Node) -> list[str]:
    """F.layer_norm over the last axes."""
    rank = n.known_rank()
    axis = int(n.attr("axis", -1)) % rank
    sizes, weight, shape = n.shape(1), n.value(1), n.shape(0) or []
    is_plain = sizes is not None and None not in sizes and len(sizes) == rank - axis and sizes == shape[axis:]
    if not n.wants(1) and not n.wants(2) and is_plain and (not n.has(2) or n.shape(2) == sizes):
        return [layer_norm(n, n[0], [size for size in sizes or () if size is not None], weight, n.value(2), _eps(n))]
    axes = tuple(range(axis, rank))
    mean = n.assign(f"{n[0]}.mean({axes}, keepdim=True)")
    deviation = n.assign(f"1 / (({n[0]} - {mean}).square().mean({axes}, keepdim=True) + {_eps(n)}).sqrt()")
    result = f"({n[0]} - {mean}) * {deviation} * {n[1]}" + (f" + {n[2]}" if n.has(2) else "")
    return [result, mean, deviation]


@writes("RMSNormalization")
def rms_normalization(n: Node) -> str:
    """x / sqrt(mean(x ** 2) + eps) * weight over the last axes."""
    rank = n.known_rank()
    axes = tuple(range(int(n.attr("axis", -1)) % rank, rank))
    return f"{n[0]} * ({n[0]}.square().mean({axes}, keepdim=True) + {_eps(n)}).rsqrt() * {n[1]}"


@writes("GroupNormalization")
def group_normalization(n: Node) -> str:
    """F.group_norm; before opset 21 with one weight per group."""
    groups = int(n.attr("num_groups"))
    if n.opset >= 21:
        return f"F.group_norm({n[0]}, {groups}, {n[1]}, {n[2]}, {_eps(n)})"
    per = n.assign(f"{n[0]}.shape[1] // {groups}")
    return f"F.group_norm({n[0]}, {groups}, {n[1]}.repeat_interleave({per}), {n[2]}.repeat_interleave({per}), {_eps(n)})"


@writes("MeanVarianceNormalization")
def mean_variance_normalization(n: Node) -> str:
    """(x - mean) / (deviation + 1e-9)."""
    axes = tuple(n.attr("axes", (0, 2, 3)))
    centered = n.assign(f"{n[0]} - {n[0]}.mean({axes}, keepdim=True)")
    return f"{centered} / ({centered}.square().mean({axes}, keepdim=True).sqrt() + 1e-9)"


@writes("LpNormalization")
def lp_normalization(n: Node) -> str:
    """x / norm(x) along an axis; zero where the norm is zero."""
    p, axis = n.attr("p", 2), n.attr("axis", -1)
    norm = n.assign(f"{n[0]}.norm({p}, {axis}, keepdim=True)")
    return f"torch.where({norm} == 0, 0, {n[0]} / {norm})"
