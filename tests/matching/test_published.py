"""Nets of published patterns, with few blocks, onto hand-written classes; and onto ten wrong ones, whose refusal names the place."""

from __future__ import annotations

import functools

import pytest

from tests.matching import published

load = functools.cache(functools.partial(published.load, small=True))
WRONG = list(published.wrong(small=True))


@pytest.mark.parametrize(("net", "what", "make"), list(published.small()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_hand_written_class_gets_the_weights(net, what, make):
    row = published.try_pair(net, what, load(net), make)
    assert row.matched and row.right, row


@pytest.mark.parametrize(("net", "what", "make", "place"), WRONG, ids=[what for _, what, _, _ in WRONG])
def test_a_wrong_class_is_refused_with_the_place(net, what, make, place):
    row = published.try_pair(net, what, load(net), make)
    assert not row.matched and place in row.said, row
