"""Attention as onnxruntime's operators have it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def attend(q, k, v, heads, mask=None, bias=None, causal=False, scale=None, fill=-10000.0):
    """mask: 1 for what is seen, (N, T) or (N, S, T); or lengths (N,). bias: added to the scores."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        if mask.dim() == 1:
            mask = torch.arange(k.shape[2], device=mask.device) < mask.unsqueeze(1)
        mask = mask.bool().unsqueeze(1) if mask.dim() == 3 else mask.bool()[:, None, None]
        scores = scores + torch.where(mask, 0.0, fill).to(scores.dtype)
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = torch.where(seen, scores, fill)
    return (F.softmax(scores, -1) @ v).transpose(1, 2).flatten(2)
