"""Loops over functions that the forward defines."""

from __future__ import annotations

import torch


def loop(body, count, condition, states, device, empty=()):
    """body(turn, condition, *states) gives the next condition and states, and what is stacked.

    empty: what is stacked of no turn at all.
    """
    turn, lines = 0, []
    if condition is True:
        condition = torch.tensor(True, device=device)
    while (count is None or turn < count) and condition:
        condition, *results = body(torch.tensor(turn, device=device), condition, *states)
        states = results[: len(states)]
        lines.append(results[len(states) :])
        turn += 1
    stacked = [torch.stack(line) for line in zip(*lines)] if lines else empty
    return (*states, *stacked)


def scan(body, states, inputs, axes, backward, out_axes, out_backward):
    """body(*states, *slices) gives the next states, and what is stacked."""
    lines = []
    inputs = [x.flip(axis) if back else x for x, axis, back in zip(inputs, axes, backward)]
    for turn in range(inputs[0].shape[axes[0]]):
        results = body(*states, *(x.select(axis, turn) for x, axis in zip(inputs, axes)))
        states = results[: len(states)]
        lines.append(results[len(states) :])
    stacked = [
        torch.stack(line[::-1] if back else line, axis)
        for line, axis, back in zip(zip(*lines), out_axes, out_backward)
    ]
    return (*states, *stacked)
