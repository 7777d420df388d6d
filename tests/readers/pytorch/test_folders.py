"""Checkpoints in several files or in folders, made with torch itself: every number, and a refusal where a part is missing."""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from converters.errors import ConversionError
from converters.strip import strip_to_weights

WORLD = 2


def weights():
    torch.manual_seed(0)
    named = {"fc.weight": (5, 3), "fc.bias": (5,), "up.weight": (2, 4), "scale": (3,)}
    return {name: torch.randn(shape) for name, shape in named.items()} | {"half": torch.randn(4, 2).bfloat16()}


def _rank(rank: int, folder: str) -> None:
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    mesh = init_device_mesh("cpu", (WORLD,))
    kinds = {"scale": Replicate(), "up.weight": Shard(1)}
    state = {name: distribute_tensor(tensor, mesh, [kinds.get(name, Shard(0))]) for name, tensor in weights().items()}
    os.makedirs(f"{folder}/ranks", exist_ok=True)
    torch.save({"model": state, "epoch": 3}, f"{folder}/ranks/rank{rank}.pt")
    dcp.save({"model": state}, checkpoint_id=f"{folder}/dcp")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What two processes of torch.distributed write."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(_rank, (str(folder),), nprocs=WORLD)
    return folder


def check(source, target):
    strip_to_weights(source, target)
    got = torch.load(target, weights_only=True)
    assert got.keys() == weights().keys()
    for name, tensor in weights().items():
        assert got[name].dtype == tensor.dtype and torch.equal(got[name], tensor), name


@pytest.mark.parametrize("name", ["ranks", "dcp"])
def test_shards_of_two_ranks_are_joined(name, two_ranks, tmp_path):
    check(two_ranks / name, tmp_path / "out.pth")


def test_one_shard_alone_is_refused_and_says_which(two_ranks, tmp_path):
    with pytest.raises(ConversionError, match=r"2 of 5 slices of a DTensor along axis 0; give the folder"):
        strip_to_weights(two_ranks / "ranks" / "rank1.pt", tmp_path / "out.pth")


def test_a_missing_rank_is_noticed(two_ranks, tmp_path):
    (tmp_path / "ranks").mkdir()
    for name in ("a0.pt", "a1.pt"):
        (tmp_path / "ranks" / name).write_bytes((two_ranks / "ranks" / "rank0.pt").read_bytes())
    with pytest.raises(ConversionError, match="elements"):
        strip_to_weights(tmp_path / "ranks", tmp_path / "out.pth")


def test_a_distributed_checkpoint_without_a_file(two_ranks, tmp_path):
    (tmp_path / "dcp").mkdir()
    for name in (".metadata", "__0_0.distcp"):
        (tmp_path / "dcp" / name).write_bytes((two_ranks / "dcp" / name).read_bytes())
    with pytest.raises(ConversionError, match=r"__1_0\.distcp isn't in the folder"):
        strip_to_weights(tmp_path / "dcp", tmp_path / "out.pth")


def shards(folder: Path, ending: str) -> Path:
    """Two files and their index, as Hugging Face names them."""
    named = list(weights().items())
    places = {}
    stem = "model" if ending == "safetensors" else "pytorch_model"
    for number, part in enumerate((dict(named[:2]), dict(named[2:])), 1):
        file = f"{stem}-{number:05}-of-00002.{ending}"
        save_file(part, folder / file) if ending == "safetensors" else torch.save(part, folder / file)
        places |= dict.fromkeys(part, file)
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("ending", ["bin", "safetensors"])
@pytest.mark.parametrize("given", ["index", "folder"])
def test_an_index_and_its_files(ending, given, tmp_path):
    (tmp_path / "in").mkdir()
    index = shards(tmp_path / "in", ending)
    strip_to_weights(index if given == "index" else index.parent, tmp_path / "out.pth")
    got = torch.load(tmp_path / "out.pth", weights_only=True)
    assert got.keys() == weights().keys() and all(torch.equal(got[name], tensor) for name, tensor in weights().items())


@pytest.mark.parametrize("times", [1, 6])
def test_parts_that_repeat_few_bytes_are_not_joined(times):
    """A part of strides 0, and one part at many places: neither is room that a small file may ask for."""
    from converters.readers.pytorch.archives.folder import _joined
    from converters.tensors.storage import ArrayStorage
    from converters.tensors.tensor import Tensor

    rows = 1 << 16
    if times == 1:
        one = Tensor(ArrayStorage(np.zeros(1, np.float32)), "float32", (rows, 1 << 13), stride=(0, 0))
        parts = [((at * rows, 0), one) for at in range(2)]
    else:
        part = Tensor(ArrayStorage(np.zeros((rows, 1 << 10), np.float32)), "float32", (rows, 1 << 10))
        parts = [((at * rows, 0), part) for at in range(times)]
    with pytest.raises(ConversionError, match="its parts repeat"):
        _joined("w", (rows * len(parts), parts[0][1].shape[1]), parts)


@pytest.mark.parametrize("name", ["../model.bin", "/etc/passwd", "gone.bin"])
def test_an_index_that_leads_elsewhere(name, tmp_path):
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(ConversionError, match="beside the index"):
        strip_to_weights(index, tmp_path / "out.pth")


def test_a_zip_that_somebody_unpacked(tmp_path):
    torch.save(weights(), tmp_path / "model.pth")
    with zipfile.ZipFile(tmp_path / "model.pth") as archive:
        archive.extractall(tmp_path / "unpacked")
    check(tmp_path / "unpacked" / "model", tmp_path / "out.pth")
    next((tmp_path / "unpacked" / "model" / "data").iterdir()).write_bytes(b"short")
    with pytest.raises(ConversionError, match="has 5 bytes"):
        strip_to_weights(tmp_path / "unpacked" / "model", tmp_path / "out2.pth")


def test_several_checkpoints_that_are_no_ranks(tmp_path):
    for name in ("a.pth", "b.pth"):
        torch.save(weights(), tmp_path / name)
    with pytest.raises(ConversionError, match=r"several checkpoints, and none is a part of another: a\.pth, b\.pth"):
        strip_to_weights(tmp_path, tmp_path.parent / "joined.pth")


def _reconstruct_persistent_obj(meta):
    raise AssertionError("nothing in the file may run")


class Persistent(torch.nn.Linear):
    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": "import torch", "class_name": "Net", "state": self.__dict__}
        return _reconstruct_persistent_obj, (meta,)


def test_classes_that_carry_their_source(tmp_path, monkeypatch):
    """As StyleGAN's snapshots are pickled."""
    package, module = types.ModuleType("torch_utils"), types.ModuleType("torch_utils.persistence")
    monkeypatch.setitem(sys.modules, "torch_utils", package)
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", module)
    package.persistence, module._reconstruct_persistent_obj = module, _reconstruct_persistent_obj
    monkeypatch.setattr(_reconstruct_persistent_obj, "__module__", "torch_utils.persistence")
    net = Persistent(3, 2)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"G_ema": net, "args": {"path": "x"}}))
    strip_to_weights(tmp_path / "net.pkl", tmp_path / "out.pth")
    got = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(got) == ["weight", "bias"] and torch.equal(got["weight"], net.weight)
