"""A .pth and the .py beside it are one: where one of them is of another conversion, whoever takes both is told."""

import shutil
import warnings

import numpy as np
import pytest
import torch

import converters
from converters.graph.builder import GraphBuilder
from converters.writers.pairs import check_pair


def net(seed: int):
    g = GraphBuilder("net", symbolic_batch=True)
    weight = g.param("weight", np.random.default_rng(seed).standard_normal((2, 3)).astype(np.float32), path="fc")
    g.output(g.emit("Gemm", g.input("x", (1, 3)), weight, transB=1), "y")
    return g.finish()


@pytest.fixture
def mixed(tmp_path):
    """The weights of one conversion beside the source of the next."""
    converters.save(net(1), tmp_path / "net.pth")
    shutil.copy(tmp_path / "net.pth", tmp_path / "old.pth")
    converters.save(net(2), tmp_path / "net.pth", force=True)
    shutil.copy(tmp_path / "old.pth", tmp_path / "net.pth")
    return tmp_path / "net.pth"


@pytest.mark.parametrize("take", ["verify", "the check itself"])
def test_a_mix_is_noticed(mixed, take):
    with pytest.warns(converters.ConversionWarning, match=r"net.pth isn't the file that net.py was written together with"):
        if take == "verify":
            converters.save(net(2), mixed.with_suffix(".onnx"))
            converters.verify(mixed, mixed.with_suffix(".onnx"), trust=True)
        else:
            check_pair(mixed, mixed.with_suffix(".py"))


def test_a_pair_says_nothing(tmp_path):
    converters.save(net(1), tmp_path / "net.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_pair(tmp_path / "net.pth", tmp_path / "net.py")


def test_weights_that_torch_saved_later_are_noticed_too(tmp_path):
    converters.save(net(1), tmp_path / "net.pth")
    torch.save(torch.load(tmp_path / "net.pth"), tmp_path / "net.pth")
    with pytest.warns(converters.ConversionWarning, match="one of them is newer"):
        check_pair(tmp_path / "net.pth", tmp_path / "net.py")


def test_source_without_the_mark_is_anyones(tmp_path):
    converters.save(net(1), tmp_path / "net.pth")
    (tmp_path / "net.py").write_text("def build(): pass\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_pair(tmp_path / "net.pth", tmp_path / "net.py")
