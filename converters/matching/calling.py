"""Calls the user's class."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from converters.matching.fitting import tensors_in

CLASS_ERRORS = (RuntimeError, TypeError, ValueError, IndexError)
"""What a class raises for tensors that it isn't made for."""


def copied(module: torch.nn.Module) -> torch.nn.Module:
    """A copy; torch copies no tensor that was computed, as modules with the old weight_norm hold one."""
    computed = [t for inner in module.modules() for t in vars(inner).values() if isinstance(t, torch.Tensor) and not t.is_leaf]
    return copy.deepcopy(module, {id(tensor): tensor.detach().clone() for tensor in computed})


def class_fails(problem: Exception) -> str:
    """What it says then."""
    return f"your class fails: {(str(problem).splitlines() or [type(problem).__name__])[0]}"


def answers_of(module: torch.nn.Module, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A class's answers, whatever it puts them in."""
    with torch.no_grad():
        return list(tensors_in(module(*tensors)))


@contextmanager
def slow_attention() -> Iterator[None]:
    """Attention in steps that can be watched, not as one operation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
