"""Checkpoints with the state_dict that PyTorch gives, good and hostile: the folders pth/conformance and pth/bad of $CONVERTERS_DATA.

A case is a folder: the file, case.json (file; expect: strip, either, any or refuse; choose: the --key; expected_keys, dtypes and shapes
in order; bits: how an array stands for a tensor numpy has no type for) and expected.npz with the tensors in that order.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import converters

DATA = os.environ.get("CONVERTERS_DATA")


def folders(kind: str) -> list[Path]:
    return sorted(path.parent for path in Path(DATA or os.devnull).glob(f"pth/{kind}/*/case.json"))


def bits(tensor: torch.Tensor, note: str | None) -> np.ndarray[Any, Any]:
    """The array that stands for a tensor."""
    if tensor.is_quantized:
        return tensor.int_repr().numpy()
    if tensor.layout != torch.strided:
        return tensor.to_dense().numpy()
    tensor = tensor.resolve_conj().resolve_neg().contiguous().clone()
    if note == "view_as_real":
        return torch.view_as_real(tensor).numpy()
    if note == "bits":
        return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.element_size() == 2 else tensor.view(torch.uint8).numpy()
    return tensor.numpy()


def compare(path: Path, about: dict[str, Any], folder: Path) -> None:
    allowed = set(about.get("allow_extra", ()))
    state = {str(k): v for k, v in torch.load(path, weights_only=True).items() if str(k) not in allowed}
    with np.load(folder / "expected.npz") as archive:
        arrays = [archive[name] for name in archive.files]
    notes = about.get("bits") or [None] * len(arrays)
    if not about.get("key_free"):
        assert list(state) == about["expected_keys"]
    for (name, tensor), array, note in zip(state.items(), arrays, notes, strict=True):
        got = bits(tensor, note)
        assert (got.dtype, got.shape) == (array.dtype, array.shape), name
        assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(array).tobytes(), name


def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = json.loads((folder / "case.json").read_text())
    canary, target = tmp_path / "canary", tmp_path / "out.pth"
    monkeypatch.setenv("CANARY", str(canary))
    choose = about.get("choose")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            converters.strip_to_weights(folder / about["file"], target, key=None if choose is None else str(choose))
        except converters.ConversionError:
            assert about["expect"] != "strip" and not about.get("control"), "refused"
            assert list(tmp_path.iterdir()) == []
            return
        assert about["expect"] != "refuse" and not canary.exists()
        if about["expect"] != "any":
            compare(target, about, folder)


@pytest.mark.skipif(not DATA, reason="CONVERTERS_DATA is not set")
@pytest.mark.parametrize("folder", folders("conformance"), ids=lambda f: f.name)
def test_good(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder, tmp_path, monkeypatch)


@pytest.mark.skipif(not DATA, reason="CONVERTERS_DATA is not set")
@pytest.mark.parametrize("folder", folders("bad"), ids=lambda f: f.name)
def test_hostile(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(folder, tmp_path, monkeypatch)
