"""Copies of nets under other names, shuffled and with other numbers get every weight where it belongs; spoiled ones none.

Small nets of each framework and torch classes here, those of $CONVERTERS_DATA/zoo too with CONVERTERS_SWEEP=1.
"""

from __future__ import annotations

import itertools
import os
import warnings

import pytest

from tests.matching import copies
from tests.work import at_most

SECONDS = 60


def test_copies_are_solved_and_spoiled_ones_refused():
    """A net whose weights are in no module of their own (an embedding's, a recurrent layer's that is called as a function) isn't solved."""
    verdicts: dict[str, list[str]] = {"copy": [], "spoiled": []}
    for name, load in itertools.chain(copies.digits(), copies.conformance(), copies.modules()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = load()
        for bad in (False, True):
            with at_most(2 * SECONDS, name):
                verdict, _ = copies.try_copy(model, 1, bad=bad)
            verdicts["spoiled" if bad else "copy"].append(f"{verdict}: {name}")
    right = [verdict for verdict in verdicts["copy"] if verdict.startswith("right")]
    others = "\n".join(verdict for verdict in verdicts["copy"] if verdict not in right)
    assert len(verdicts["copy"]) >= 30 and len(right) >= 0.9 * len(verdicts["copy"]), others
    assert not [verdict for verdict in verdicts["copy"] if verdict.startswith("WRONG")], others
    spoiled = [verdict for verdict in verdicts["spoiled"] if not verdict.startswith(":")]
    assert len(spoiled) >= 15 and all(verdict.startswith("refused") for verdict in spoiled), "\n".join(spoiled)


@pytest.mark.skipif(not (os.environ.get("CONVERTERS_SWEEP") and os.environ.get("CONVERTERS_DATA")), reason="takes minutes")
@pytest.mark.parametrize("name", [name for name, _ in copies.zoo()])
def test_copies_of_published_nets(name):
    model = dict(copies.zoo())[name]()
    with at_most(2 * SECONDS, name):
        assert copies.try_copy(model, 1)[0] == "right"
    assert copies.try_copy(model, 1, bad=True)[0].split(":")[0] in ("refused", "")
