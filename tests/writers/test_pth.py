"""The .pth writer: what torch.load gives back, bit for bit, from every kind of array-like."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from converters.errors import ConversionError, OutputExistsError, UnsupportedError
from converters.tensors.dtypes import DTYPES
from converters.tensors.storage import CHUNK, Storage
from converters.tensors.tensor import Tensor
from converters.writers.pth import write_pth


def load(path: Path, **options: Any) -> Any:
    return torch.load(path, weights_only=True, **options)


def check(path: Path, tensors: Mapping[str, Any]) -> Any:
    """Writes, reads by both ways of torch.load, compares, and checks every entry's CRC and place."""
    write_pth(path, tensors, force=True)
    for got in (load(path), load(path, mmap=True)):
        assert list(got) == list(tensors)
        for name, value in tensors.items():
            array = value.numpy() if isinstance(value, ir.Tensor) else np.asarray(value)  # numpy 2.2 would make float64 of an ir.Tensor
            assert tuple(got[name].shape) == array.shape
            flat = torch.empty(got[name].shape, dtype=got[name].dtype).copy_(got[name]).reshape(-1)
            little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
            assert bytes(flat.view(torch.uint8).numpy()) == little.tobytes(), name
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        content = path.read_bytes()
        for entry in archive.infolist():
            name_size, extra_size = struct.unpack_from("<HH", content, entry.header_offset + 26)
            assert (entry.header_offset + 30 + name_size + extra_size) % 64 == 0
    return load(path)


def test_every_type(tmp_path: Path) -> None:
    raw = np.arange(1, 49, dtype=np.uint8)
    tensors: dict[str, Any] = {}
    for name in "float64 float32 float16 int64 int32 int16 int8 uint8 complex64 complex128 uint16 uint32 uint64".split():
        tensors[name] = raw.view(name)
    tensors["bool"] = raw % 2 == 0
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"):
        tensors[name] = raw.view(getattr(ml_dtypes, name))
    got = check(tmp_path / "m.pth", tensors)
    assert [str(tensor.dtype).removeprefix("torch.") for tensor in got.values()] == list(tensors)


def test_shapes_and_orders(tmp_path: Path) -> None:
    base = np.arange(24.0).reshape(2, 3, 4)
    got = check(
        tmp_path / "m.pth",
        {
            "scalar": np.array(2.0),
            "number": np.float32(3),
            "empty": np.empty((0, 3)),
            "base": base,
            "turned": base.transpose(2, 0, 1),
            "fortran": np.asfortranarray(base + 1),
            "part": base[1],
            "step": base[:, ::2],
            "back": base[::-1],
            "spread": np.broadcast_to(np.float32(7), (3, 5)),
            "big-endian": np.arange(5, dtype=">f4"),
            "bytes": memoryview(b"abc"),
            "list": [1.0, 2.0],
        },
    )
    assert got["base"].data_ptr() == got["turned"].data_ptr() and got["part"].data_ptr() == got["base"][1].data_ptr()


def test_large_and_uneven_arrays_are_streamed(tmp_path: Path) -> None:
    big = np.arange(CHUNK // 4 * 3 + 5, dtype=np.float32)
    check(
        tmp_path / "m.pth",
        {"big": big, "turned": big[: 900 * 800].reshape(900, 800)[:, ::3], "deep": big[: 2 * 400 * 900].reshape(2, 400, 900)[::-1]},
    )


def test_ties_between_equal_arrays_only_where_memory_is_shared(tmp_path: Path) -> None:
    weight = np.ones((3, 2), np.float32)
    got = check(tmp_path / "m.pth", {"a": weight, "b": weight, "c": weight.copy(), "d": weight.view(np.int32)})
    assert got["a"].untyped_storage().data_ptr() == got["b"].untyped_storage().data_ptr()
    assert len({got[name].untyped_storage().data_ptr() for name in "acd"}) == 3


def test_lazy_tensors_and_mixed_types_over_one_storage(tmp_path: Path) -> None:
    storage = Storage(memoryview(np.arange(8, dtype=np.float32).tobytes()))
    tensors = {
        "floats": Tensor(storage, "float32", (2, 2), (1, 2), 3),
        "integers": Tensor(storage, "int16", (3,), (1,), 9),
        "doubles": Tensor(storage, "float64", (1,), (1,), 3),
    }
    got = check(tmp_path / "m.pth", tensors)
    assert len({tensor.untyped_storage().data_ptr() for tensor in got.values()}) == 1


def test_only_what_is_looked_at_is_written(tmp_path: Path) -> None:
    storage = Storage(memoryview(bytes(10_000_000)))
    write_pth(tmp_path / "m.pth", {"w": Tensor(storage, "float32", (10,), (1,), 1_000_000)})
    assert (tmp_path / "m.pth").stat().st_size < 5000


def test_onnx_ir_tensors(tmp_path: Path) -> None:
    check(
        tmp_path / "m.pth",
        {"w": ir.Tensor(np.ones((2, 3), np.float32)), "b": ir.Tensor(np.ones(3, ml_dtypes.bfloat16), dtype=ir.DataType.BFLOAT16)},
    )


def test_metadata_and_order(tmp_path: Path) -> None:
    metadata = {"": {"version": 1}, "bn": {"version": 2, "spectral_norm": {"weight.version": 1}}}
    write_pth(tmp_path / "m.pth", {"z": np.ones(1), "a": np.ones(1)}, metadata=metadata)
    got = load(tmp_path / "m.pth")
    assert list(got) == ["z", "a"] and dict(got._metadata) == metadata and type(got).__name__ == "OrderedDict"


def test_no_tensors(tmp_path: Path) -> None:
    write_pth(tmp_path / "m.pth", {})
    assert load(tmp_path / "m.pth") == {}


def test_names(tmp_path: Path) -> None:
    names = ["", "a.b", "ключ", "x" * 400, "\ud800", "new\nline"]
    write_pth(tmp_path / "m.pth", {name: np.ones(1) for name in names})
    assert list(load(tmp_path / "m.pth")) == names


def test_more_than_65535_entries(tmp_path: Path) -> None:
    many = {f"t{i}": np.array([i % 256], np.uint8) for i in range(66_000)}
    write_pth(tmp_path / "m.pth", many)
    got = load(tmp_path / "m.pth")
    assert len(got) == len(many) and got["t65999"].tolist() == [65_999 % 256]


def test_64_bit_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forms that sizes and places beyond 4 GB need, with a limit low enough to reach."""
    import converters.writers.pth as writer

    monkeypatch.setattr(writer, "_LIMIT", 200)
    tensors = {"a": np.arange(100, dtype=np.float32), "b": np.arange(3, dtype=np.int64), "c": np.arange(1000, dtype=np.float64)}
    content = tmp_path / "m.pth"
    write_pth(content, tensors)
    raw = content.read_bytes()
    end = raw.rfind(b"PK\5\6")
    assert raw[end - 20 : end - 16] == b"PK\6\7" and raw.count(b"PK\6\6") == 1
    place = int.from_bytes(raw[end - 12 : end - 4], "little")
    count, size, start = struct.unpack_from("<3Q", raw, place + 32)
    assert count == 7 and start + size == place


def test_the_same_weights_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pth(tmp_path / f"{name}.pth", {"w": np.arange(5.0)})
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    for value in (np.array(["a"]), np.array([None]), np.array([1], "M8[s]")):
        with pytest.raises(ConversionError, match="no tensor"):
            write_pth(path, {"w": value})
    with pytest.raises(UnsupportedError, match="PyTorch has no such type"):
        write_pth(path, {"w": np.ones(1, np.longdouble)})
    with pytest.raises(ConversionError, match="names are text"):
        write_pth(path, {1: np.ones(1)})  # type: ignore[dict-item]
    with pytest.raises(ConversionError, match="objects"):
        write_pth(path, {"w": np.ones(1)}, metadata={"": {"x": object()}})
    assert not list(tmp_path.iterdir())
    write_pth(path, {"w": np.ones(1)})
    with pytest.raises(OutputExistsError):
        write_pth(path, {"w": np.ones(1)})


def test_kinds_are_torch_s() -> None:
    for name, element in DTYPES.items():
        if hasattr(torch, name) and not name.startswith(("quint4", "quint2", "float4")):
            assert torch.empty(0, dtype=getattr(torch, name)).element_size() == element.itemsize if not name.startswith("q") else True


TYPES = arrays.integer_dtypes(endianness="?") | arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64))


@given(arrays.arrays(TYPES, arrays.array_shapes(min_dims=0, min_side=0)), st.data())
@settings(max_examples=150, deadline=None)
def test_any_view_of_any_array(tmp_path_factory: pytest.TempPathFactory, array: Any, data: st.DataObject) -> None:
    view = array.transpose(data.draw(st.permutations(range(array.ndim))))
    if view.ndim:
        view = view[data.draw(arrays.basic_indices(view.shape))]
    check(tmp_path_factory.mktemp("any") / "m.pth", {"array": array, "view": view})
