"""Each kind of pair gets every weight where it belongs, or is refused with the place."""

from __future__ import annotations

import functools
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import converters
from converters.runtimes.torch import call
from tests.matching.copies import off
from tests.matching.kinds import Pair, pairs


def drawn(make, seed):
    torch.manual_seed(seed)
    module = make().eval()
    for inner in module.modules():
        if isinstance(inner, nn.BatchNorm2d):
            inner.running_mean.normal_(0, 0.3)
            inner.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(inner.weight, 0.5, 1.5)
            nn.init.normal_(inner.bias)
    return module


@functools.cache
def loaded(make, shape):
    """The graph of a class's whole-model file."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(drawn(make, 1), Path(folder, "net.pth"))
        return converters.load(Path(folder, "net.pth"), inputs={"": shape}, code=Path(__file__).parents[2], trust=True)


MAKES: dict[object, object] = {}


@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: pair.name)
def test_a_kind_of_pair(pair: Pair):
    make = pair.source
    if isinstance(make, functools.partial):  # equal ones are one source, which is read once
        make = MAKES.setdefault((make.func, make.args, tuple(make.keywords.items())), make)
    model, target = loaded(make, tuple(pair.shape)), drawn(pair.target, 2)
    if pair.says:
        with pytest.raises(converters.ConversionError, match=pair.says):
            converters.match(model, target)
        return
    found = converters.match(model, target)
    assert found.proven
    target.load_state_dict(found.apply(), strict=True)
    x = torch.randn(3, *pair.shape[1:], generator=torch.Generator().manual_seed(4))
    assert off(call(drawn(pair.source, 1), [x])[0], call(target, [x])[0]) < 1e-5
