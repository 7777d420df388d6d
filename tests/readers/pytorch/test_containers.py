"""Files of other programs that hold weights: numpy's, JAX's, torch.export's, gzip's and .nemo's; and what must not be believed of them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.errors import ConversionError
from converters.formats import load_weights
from converters.inspection import inspect
from converters.options import LoadOptions
from converters.strip import StripOptions, strip_to_weights
from tests.conformance import FIXTURES, read_npz
from tests.readers.pytorch.files import HONEST, dictionary, text, zipped
from tests.readers.pytorch.test_hostile import CALL, refused
from tests.readers.pytorch.test_strip import compare, save, strip

ARRAYS: dict[str, Any] = {
    "w": np.arange(12, dtype="f4").reshape(3, 4),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "turned": np.arange(3, dtype=">f4"),
    "turned/columns": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 3), "f2"),
    "flags": np.array([True, False]),
    "c": np.array([1 + 2j], "c8"),
}


def same(path: Path, want: dict[str, Any], **options: Any) -> None:
    """The weights that are written are these arrays, whose bfloat16 numbers are given as bits."""
    target = strip_to_weights(path, path.with_name("out.pth"), StripOptions(force=True, **options)).path
    got = torch.load(target, weights_only=True)
    assert list(got) == list(want)
    for name, tensor in got.items():
        array = tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
        expected = np.asarray(want[name])
        assert array.dtype == expected.dtype.newbyteorder("=") and array.shape == expected.shape and np.array_equal(array, expected), name


# -- numpy


def test_dictionaries_that_numpy_saved(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", ARRAYS)  # type: ignore[arg-type]
    same(tmp_path / "d.npy", ARRAYS)
    np.save(tmp_path / "one.npy", ARRAYS["columns"])
    refused(tmp_path / "one.npy", r"array of \(3, 4\) float64 alone")
    net = {"conv1_1": {"weights": ARRAYS["w"], "biases": ARRAYS["scalar"]}, "fc8": [ARRAYS["columns"], ARRAYS["flags"]]}
    np.save(tmp_path / "net.npy", net)  # type: ignore[arg-type]
    same(
        tmp_path / "net.npy",
        {"conv1_1.weights": ARRAYS["w"], "conv1_1.biases": 2.5, "fc8.0": ARRAYS["columns"], "fc8.1": ARRAYS["flags"]},
    )
    same(tmp_path / "net.npy", {"weights": ARRAYS["w"], "biases": 2.5}, key="conv1_1")


@pytest.mark.parametrize("packed", [False, True])
def test_archives_of_arrays(packed: bool, tmp_path: Path) -> None:
    (np.savez_compressed if packed else np.savez)(tmp_path / "z.npz", **ARRAYS)
    same(tmp_path / "z.npz", ARRAYS)
    assert list(inspect(tmp_path / "z.npz").tensors) == list(ARRAYS)
    large = np.arange(600_000, dtype="f4").reshape(600, 1000)
    np.savez_compressed(tmp_path / "large.npz", a=large, net=np.array({"b": large}, dtype=object))
    same(tmp_path / "large.npz", {"a": large, "net.b": large})


NPY = b"\x93NUMPY\x01\x00"
OBJECTS = "{'descr': '|O', 'fortran_order': False, 'shape': (), }\n"


def npy(header: str, data: bytes = b"") -> bytes:
    return NPY + len(header).to_bytes(2, "little") + header.encode() + data


HEADERS: dict[str, tuple[bytes, str]] = {
    "more than there is": (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }\n", bytes(8)), "has 8 bytes"),
    "huge": (npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 62}, 16), }}\n", bytes(8)), "has 8 bytes"),
    "records": (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n", bytes(4)), "a type that no weight has"),
    "dates": (npy("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,), }\n", bytes(8)), "which no weight has"),
    "three bytes": (npy("{'descr': '<i3', 'fortran_order': False, 'shape': (2,), }\n", bytes(6)), "which no weight has"),
    "long doubles": (npy("{'descr': '<f16', 'fortran_order': False, 'shape': (1,), }\n", bytes(16)), "which no weight has"),
    "no array": (npy(OBJECTS, b"\x80\x02cfoo\nbar\n)\x81]K\x01a\x85b."), "there are no weights in it"),
    "code": (npy("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (), }\n"), "a type that no weight has"),
    "cut": (NPY + b"\xff\xff{'descr'", "cut short"),
    "objects that aren't there": (npy(OBJECTS), "the pickle ends"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie(name: str, tmp_path: Path) -> None:
    content, words = HEADERS[name]
    (tmp_path / "m.npy").write_bytes(content)
    refused(tmp_path / "m.npy", f"{words}|alone")
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("a.npy", content)
    refused(tmp_path / "m.npz", words)


def test_object_arrays_call_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", {"w": ARRAYS["w"]})  # type: ignore[arg-type]
    content = (tmp_path / "m.npy").read_bytes()
    start = content.index(b"\n") + 1
    (tmp_path / "m.npy").write_bytes(content[:start] + b"\x80\x02}(" + text("w") + CALL + b"u.")
    refused(tmp_path / "m.npy", "posix.system")


# -- JAX


def jax_files() -> list[str]:
    with zipfile.ZipFile(FIXTURES / "pytorch" / "jax.zip") as archive:
        return [name for name in archive.namelist() if not name.endswith(".npz")]


@pytest.mark.parametrize("name", jax_files())
def test_what_jax_flax_and_haiku_wrote(name: str, tmp_path: Path) -> None:
    """Files of JAX 0.10.2, flax 0.12.8 and haiku 0.0.17, with what these read from them, joined by dots."""
    with zipfile.ZipFile(FIXTURES / "pytorch" / "jax.zip") as archive:
        (tmp_path / name).write_bytes(archive.read(name))
        same(tmp_path / name, read_npz(archive.read(name.split(".")[0] + ".npz")))


def test_arrays_of_jax_call_nothing_but_numpy(tmp_path: Path) -> None:
    for function in (b"cposix\nsystem\n", b"cjax._src.array\n_reconstruct_array\n"):
        array = b"cjax._src.array\n_reconstruct_array\n(" + function + b"(" + text("touch canary") + b"tN}tR"
        (tmp_path / "m.pkl").write_bytes(dictionary({"w": array}))
        refused(tmp_path / "m.pkl", "no weights")


def test_networks_side_by_side_stay_a_question(tmp_path: Path) -> None:
    """Two dictionaries of numpy arrays under names of their own may be two networks."""
    arrays = {"generator": {"conv.weight": np.ones(2)}, "discriminator": {"conv.weight": np.ones(2)}}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(arrays))
    with pytest.raises(ConversionError, match="several sets of weights"):
        load_weights(tmp_path / "m.pkl")


MSGPACK: dict[str, tuple[bytes, str]] = {
    "cut": (b"\x81\xa1a\xc4\xff", "255 bytes are announced"),
    "a bomb of nothing": (b"\x81\xa1a" + b"\x91" * 2000 + b"\xc0", "nested without an end"),
    "very many": (b"\x81\xa1a\xdd\xff\xff\xff\xff", "1 bytes are announced"),
    "more behind": (b"\x81\xa1a\xc0\xc0", "1 bytes after"),
    "an array of too few bytes": (b"\x81\xa1a\xc7\x0e\x01\x93\x91\x09\xa7float32\xc4\x01\x00", "has 1 bytes"),
    "no array": (b"\x81\xa1a\xc0", "no weights"),
}


@pytest.mark.parametrize("name", MSGPACK)
def test_msgpack_that_lies(name: str, tmp_path: Path) -> None:
    content, words = MSGPACK[name]
    (tmp_path / "m.msgpack").write_bytes(content)
    refused(tmp_path / "m.msgpack", words)


# -- torch.export


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn, self.again = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.again.weight
        self.low = nn.Parameter(torch.randn(3).bfloat16(), requires_grad=False)
        self.empty = nn.Parameter(torch.empty(0, 3))
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).t())
        self.register_buffer("transient", torch.ones(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tied(self.again(self.bn(self.fc(x)))) + self.transient.sum() + self.low.float().sum() + self.turned.sum()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Net().eval(), (torch.randn(2, 3),))
        torch.export.save(program, path)
    return path, dict(torch.export.load(path).state_dict)


def test_programs_of_torch_export(exported: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    path, state = exported
    (tmp_path / "net.pt2").write_bytes(path.read_bytes())
    compare(strip(tmp_path / "net.pt2"), state, metadata=False)
    assert inspect(path).tensors["tied.weight"].shape == (4, 4)


def changed(path: Path, target: Path, **entries: bytes) -> Path:
    """A copy of an archive with other contents for the entries that end so."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            ending = next((key for key in entries if info.filename.endswith(key)), None)
            new.writestr(info.filename, old.read(info) if ending is None else entries[ending])
    return target


WRONG_PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "outside": ({"path_name": "../../../etc/passwd"}, "has no"),
    "beyond its bytes": ({"tensor_meta": {"sizes": [{"as_int": 999}], "strides": [{"as_int": 1}]}}, "outside its storage"),
    "an offset of nothing": ({"tensor_meta": {"storage_offset": {"as_expr": {"expr_str": "s0"}}}}, "not an integer"),
    "another type": ({"tensor_meta": {"dtype": 77}}, "isn't known"),
    "a sparse one": ({"tensor_meta": {"layout": 1}}, "isn't known"),
    "no entry": ({"path_name": 3}, "doesn't say where it is"),
}


@pytest.mark.parametrize("name", WRONG_PLACES)
def test_programs_that_lie(name: str, exported: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    with zipfile.ZipFile(exported[0]) as archive:
        config = json.loads(archive.read(next(n for n in archive.namelist() if n.endswith("weights_config.json"))))
    entry = config["config"]["fc.weight"]
    other, words = WRONG_PLACES[name]
    entry["tensor_meta"] |= other.pop("tensor_meta", {})
    entry |= other
    refused(changed(exported[0], tmp_path / "m.pt2", **{"weights_config.json": json.dumps(config).encode()}), words)


def test_a_pickled_weight_of_a_program_runs_nothing(exported: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    with zipfile.ZipFile(exported[0]) as archive:
        config = json.loads(archive.read(next(n for n in archive.namelist() if n.endswith("weights_config.json"))))
    entry = config["config"]["fc.weight"]
    entry["use_pickle"] = True
    evil = zipped(tmp_path / "evil.pth", b"\x80\x02" + CALL + b".").read_bytes()
    entries = {"weights_config.json": json.dumps(config).encode(), entry["path_name"]: evil}
    path = changed(exported[0], tmp_path / "m.pt2", **entries)
    refused(path, r"posix\.system")


def test_programs_of_before_2_8(tmp_path: Path) -> None:
    """A zip with the state_dict as a checkpoint: torch/export/__init__.py of 2.1 to 2.7."""
    state = nn.Linear(2, 3).state_dict()
    for ending in ("pt", "json"):
        with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
            archive.writestr("serialized_exported_program.json", "{}")
            archive.writestr(f"serialized_state_dict.{ending}", save(state, tmp_path / "s.pth").read_bytes())
            archive.writestr("serialized_constants.pt", save({}, tmp_path / "c.pth").read_bytes())
            archive.writestr("version", "7.1")
        compare(strip(tmp_path / "m.pt2"), state)


# -- packed


def packed(path: Path, members: dict[str, bytes], mode: Any) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_nemo(mode: str, tmp_path: Path) -> None:
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    content = save(state, tmp_path / "s.pth").read_bytes()
    members = {"./model_config.yaml": b"a: 1\n", "./model_weights.ckpt": content, "./1f_tokenizer.model": b"\n\x0e\n\x05<unk>\x15"}
    compare(strip(packed(tmp_path / "m.nemo", members, mode)), state)
    refused(packed(tmp_path / "n.nemo", {"a.ckpt": content, "b.ckpt": content}, mode), r"a\.ckpt, b\.ckpt")
    refused(packed(tmp_path / "o.nemo", {"a.yaml": b"a: 1\n"}, mode), r"tar archive of a\.yaml")


def test_gzip(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "m.pth", dictionary(HONEST)).read_bytes()
    path = tmp_path / "m.pth.gz"
    path.write_bytes(gzip.compress(inner[:50]) + gzip.compress(inner[50:]))
    assert list(load_weights(path)) == ["w", "b"]
    path.write_bytes(gzip.compress(inner)[:-30])
    refused(path, "cut short")
    path.write_bytes(gzip.compress(b"some text"))
    refused(path, "gunzip")
    path.write_bytes(gzip.compress(gzip.compress(gzip.compress(inner))))
    refused(path, "gunzip")


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    (tmp_path / "m.nemo").write_bytes(gzip.compress(bytes(1 << 27)))
    refused(tmp_path / "m.nemo", "looks like a bomb")


# -- quantized


@pytest.mark.filterwarnings("ignore")
def test_packed_weights_are_refused_by_name(tmp_path: Path) -> None:
    from torch.ao import quantization

    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    try:
        model = quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 3)), {nn.Linear})
        refused(save(model.state_dict(), tmp_path / "m.pth"), "packed form")
    finally:
        torch.backends.quantized.engine = engine


def test_scales_that_are_lists(tmp_path: Path) -> None:
    """As the first per-channel tensors were written; torch takes them to be float64 and int64."""
    weight = torch.quantize_per_channel(torch.randn(2, 3), torch.tensor([0.5, 0.25]), torch.tensor([0, 1]), 0, torch.qint8)
    (function, args), more = weight.__reduce_ex__(2), torch.tensor
    scheme, _scales, _zeros, axis = args[4]

    class Listed:
        def __reduce__(self) -> Any:
            return function, (*args[:4], (scheme, [0.5, 0.25], [0, 1], axis), *args[5:])

    path = save({"w": Listed()}, tmp_path / "m.pth")
    got = strip(path)["w"]
    assert torch.equal(got.dequantize(), weight.dequantize()) and torch.equal(got.q_per_channel_scales(), more([0.5, 0.25]).double())


def test_a_refusal_names_what_to_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", a=np.ones(2))
    with pytest.raises(ConversionError, match="strip-to-weights"):
        __import__("converters").load(tmp_path / "m.npz")


def test_a_container_that_contains_itself_has_an_end(tmp_path: Path) -> None:
    root: dict[str, Any] = {"m": {"w": torch.ones(2)}}
    root["n"] = root
    torch.save(root, tmp_path / "m.pth")
    with pytest.raises(ConversionError, match="several sets of weights"):
        load_weights(tmp_path / "m.pth")
    assert list(load_weights(tmp_path / "m.pth", LoadOptions(key="m"))) == ["w"]
