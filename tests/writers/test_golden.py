"""The written source of a net per topic, compared with what lies in tests/writers/golden, built and run."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

import converters.writers.source.operators
from converters.writers.source.lines import WIDTH
from tests.writers.golden_nets import GOLDEN, NETS, text_of

TOPICS = sorted(p.stem for p in Path(converters.writers.source.operators.__file__).parent.glob("[a-z]*.py"))


def test_every_topic_has_a_net():
    assert set(TOPICS) <= set(NETS)
    assert sorted(path.stem for path in GOLDEN.glob("[a-z]*.py")) == sorted(NETS)


@pytest.mark.parametrize("name", sorted(NETS))
def test_the_source_is_what_was_seen(name):
    """After a change that is meant: python -m tests.writers.golden_nets, and a look at the diff."""
    assert text_of(name) == (GOLDEN / f"{name}.py").read_text()


@pytest.mark.parametrize("name", sorted(NETS))
def test_it_loads_and_runs_at_another_batch(name, tmp_path):
    model = NETS[name]()
    converters.save(model, tmp_path / f"{name}.pth")
    module = importlib.import_module(f"tests.writers.golden.{name}").build(str(tmp_path / f"{name}.pth"))
    for batch in (2, 3):
        inputs = []
        for value in model.graph.inputs:
            shape = [batch if d.value == "N" else 3 for d in map(ir_dim, value.shape)]
            shape = [d if isinstance(d, int) else s for d, s in zip(value.shape, shape, strict=True)]
            number = torch.rand(shape) if value.dtype.is_floating_point() else torch.ones(shape, dtype=torch.int64)
            inputs.append(number)
        with torch.no_grad():
            answer = module(*inputs)
        first = answer[0] if isinstance(answer, tuple) else answer
        assert torch.isfinite(first.double()).all()
        assert first.shape[0] == batch or name in ("detection", "recurrent")


def ir_dim(dimension):
    return dimension if hasattr(dimension, "value") else type("Number", (), {"value": dimension})


@pytest.mark.parametrize("name", sorted(NETS))
def test_lines_are_short(name):
    assert [line for line in text_of(name).splitlines() if len(line) > WIDTH] == []
