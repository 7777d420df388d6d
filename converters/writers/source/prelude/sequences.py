"""Lists of tensors."""

from __future__ import annotations


def without(sequence, place):
    """The list without one of its tensors."""
    place %= len(sequence)
    return sequence[:place] + sequence[place + 1 :]
