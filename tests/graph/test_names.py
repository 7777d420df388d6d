"""Names of a source as identifiers that torch leaves free."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from converters.graph.builder import GraphBuilder
from converters.graph.names import identifier, is_name, module_name
from converters.writers.source.writer import to_module

TORCHS_OWN = sorted(name for name in dir(nn.Module()) if not name.startswith("__"))


def test_every_attribute_of_a_module_is_reserved():
    assert "_modules" in TORCHS_OWN and "training" in TORCHS_OWN
    assert [name for name in TORCHS_OWN if identifier(name) == name or is_name(name)] == []


@pytest.mark.parametrize("kind", [nn.ModuleDict, nn.ModuleList, nn.Sequential])
def test_containers_have_few_names_beyond(kind):
    """A container that a written module uses for numbered layers holds nothing else, so these stay free for layers."""
    beyond = {name for name in dir(kind()) if not name.startswith("_") and identifier(name) == name}
    assert beyond <= {"append", "clear", "extend", "insert", "items", "keys", "pop", "update", "values"}


@pytest.mark.parametrize(
    "name", [*TORCHS_OWN, "append", "items", "keys", "pop", "values", "constant", "torch", "nn", "F", "build", "Model"]
)
def test_a_layer_of_any_name_runs(name):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    g = GraphBuilder("net")
    x = g.input("data", (1, 3))
    x = g.emit("Gemm", x, g.param("weight", weight, path=identifier(name)), transB=1)
    x = g.emit("Add", x, g.param("bias", np.float32([1, 2]), path=f"{identifier(name)}_2"))
    g.output(x, name)
    module = to_module(g.finish())
    assert list(module.state_dict()) == [f"{identifier(name)}.weight", f"{identifier(name)}_2.bias"]
    np.testing.assert_array_equal(module(torch.ones(1, 3)).detach().numpy(), [[1 + 0 + 1 + 2, 3 + 4 + 5 + 2]])


def test_no_file_hides_a_module_that_torch_needs():
    script = "import sys, torch, torch.export, torch._dynamo; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    own = {
        name
        for name in loaded
        if name.startswith(("__", "_distutils", "_cython", "cython"))
        or "editable" in name
        or name in ("sitecustomize", "_remote_module_non_scriptable")
    }
    assert "torch" in loaded and "numpy" in loaded
    assert [name for name in sorted(set(loaded) - own) if module_name(name) == name] == []


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("lenet", "lenet"),
        ("resnet-50.v2", "resnet_50_v2"),
        ("torch", "torch_"),
        ("Math", "Math_"),
        ("class", "class_"),
        ("3d", "_3d"),
        ("réseau", "réseau"),
    ],
)
def test_a_files_stem_as_a_module(stem, name):
    assert module_name(stem) == name
