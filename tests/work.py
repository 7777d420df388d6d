"""Limits on the work that something may take, whatever the machine and whatever else runs on it: no clock on the wall is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@cache
def unit() -> float:
    """CPU seconds that this machine takes for ten million steps of plain Python: half a second or so on one of 2020."""
    begun = time.process_time()
    total = 0
    for step in range(10_000_000):
        total += step
    assert total == 49_999_995_000_000
    return time.process_time() - begun


@contextmanager
def at_most(units: float, what: str) -> Iterator[None]:
    """Fails where its block takes more CPU time than `units` times that of ten million steps of plain Python."""
    allowed = units * unit()
    begun = time.process_time()
    yield
    spent = time.process_time() - begun
    assert spent <= allowed, f"{what}: {spent / unit():.1f} units of work, {units} are allowed"
