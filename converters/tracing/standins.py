"""Modules that torch.onnx doesn't follow, in place of which others of the same numbers are exported."""

from __future__ import annotations

import torch
from torch import nn

from converters.tracing.old import class_of


def with_standins(module: nn.Module) -> nn.Module:
    """The module with others in place of those: nn.RReLU, in eval mode a leaky one with the mean slope, and nn.CrossMapLRN2d."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            parent._modules[name] = _standin(child)
    return _standin(module)


def _standin(module: nn.Module) -> nn.Module:
    if type(module) is nn.RReLU:
        return nn.LeakyReLU((module.lower + module.upper) / 2)
    if type(module) is nn.CrossMapLRN2d:
        other: nn.Module = class_of("CrossMapLRN2d", {})(module.size)
        other.__dict__.update({name: getattr(module, name) for name in ("alpha", "beta", "k")})
        return other.eval()
    return module
