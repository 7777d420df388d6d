"""Whole modules that real PyTorch 1.2 to 1.12 wrote (fixtures/pytorch/old_torch.zip, made by tests/old_torch.py): weights and numbers."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from converters.errors import ConversionError
from converters.readers.pytorch.archives.archive import read_checkpoint
from converters.tracing.rebuild import rebuild
from tests import old_torch_table as table
from tests.conformance import FIXTURES, read_npz

ARCHIVE = FIXTURES / "pytorch" / "old_torch.zip"
NO_WEIGHTS = {"upsample_nearest", "upsample_corners", "across_maps", "newer_activations", "pools", "folds", "cosine"}
REFUSED = {"quantized"}
"""Packed weights of a whole module, which only torch's own code unpacks."""


def names() -> list[str]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        return [name.removesuffix(".pth") for name in archive.namelist() if name.endswith(".pth")]


def unpacked(name: str, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    with zipfile.ZipFile(ARCHIVE) as archive:
        (folder / "m.pth").write_bytes(archive.read(f"{name}.pth"))
        return folder / "m.pth", read_npz(archive.read(f"{name}.npz"))


def flat(value: object) -> list[torch.Tensor]:
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in flat(part)]
    return [value] if isinstance(value, torch.Tensor) else []


@pytest.mark.parametrize("name", names())
def test_weights(name: str, tmp_path: Path) -> None:
    path, arrays = unpacked(name, tmp_path)
    kind = name.split("/")[1]
    assert table.weights(path, arrays, more=False) == (table.REFUSED if kind in NO_WEIGHTS | REFUSED else table.LIKE)


@pytest.mark.parametrize("name", [name for name in names() if not name.endswith(("parts", "quantized"))])
def test_numbers(name: str, tmp_path: Path) -> None:
    """The module that is rebuilt says in this torch what it said in its own."""
    path, arrays = unpacked(name, tmp_path)
    given = [torch.from_numpy(array) for key, array in arrays.items() if key.startswith("in_")]
    inputs = [given[0], tuple(given[1:])] if name.endswith("lstm_states") else given
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = flat(rebuild(read_checkpoint(path).root)(*inputs))
    wanted = [array for key, array in arrays.items() if key.startswith("out_")]
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["1.5.1/circular", "1.5.1/upsample", "1.8.1/upsample_nearest", "1.8.1/lstm_proj", "1.12.1/cosine"])
def test_graphs(name: str, tmp_path: Path) -> None:
    path, arrays = unpacked(name, tmp_path)
    assert table.graph(path, name.split("/")[1], arrays, trust=False) == table.LIKE


def test_packed_weights_are_named(tmp_path: Path) -> None:
    from converters.strip import strip_to_weights

    path, _ = unpacked("1.12.1/quantized", tmp_path)
    with pytest.raises(ConversionError, match="packed form"):
        strip_to_weights(path)
