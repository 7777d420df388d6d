"""The safetensors writer and reader against the safetensors library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from converters.errors import ConversionError, FormatError, UnsupportedError
from converters.formats import load_weights
from converters.writers.pth import write_pth
from converters.writers.safetensors import write_safetensors

TENSORS: dict[str, Any] = {
    "count": np.array(7, np.int64),
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "half": np.arange(3, dtype=np.float16),
    "byte": np.arange(5, dtype=np.uint8),
    "brain": np.arange(3).astype(ml_dtypes.bfloat16),
    "eight": np.arange(3).astype(ml_dtypes.float8_e4m3fn),
    "double": np.arange(2, dtype=np.float64),
    "truth": np.array([True, False, True]),
    "short": np.arange(3, dtype=np.int16),
    "empty": np.empty((0, 3), np.float32),
    "big-endian": np.arange(3, dtype=">i4"),
}


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_safetensors(path, TENSORS, metadata={"note": "x"})
    got = safetensors.torch.load_file(path)
    assert set(got) == set(TENSORS)
    for name, array in TENSORS.items():
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
        assert tuple(got[name].shape) == array.shape
        assert bytes(got[name].reshape(-1).view(torch.uint8).numpy()) == little.tobytes(), name
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "x"}


def test_everything_is_aligned_and_listed_in_order(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_safetensors(path, TENSORS)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0 and list(header) == ["__metadata__", *TENSORS]
    for name, array in TENSORS.items():
        assert header[name]["data_offsets"][0] % array.dtype.itemsize == 0
    assert list(load_weights(path)) == list(TENSORS)


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tensors = {
        "w": torch.randn(3, 4),
        "b": torch.ones(2, dtype=torch.bfloat16),
        "f": torch.ones(3).to(torch.float8_e5m2),
        "e": torch.empty(0),
    }
    safetensors.torch.save_file(tensors, path)
    got = load_weights(path)
    assert set(got) == set(tensors)
    assert np.array_equal(np.asarray(got["w"]), tensors["w"].numpy())
    assert all(np.asarray(got[name]).tobytes() == bytes(tensor.reshape(-1).view(torch.uint8).numpy()) for name, tensor in tensors.items())


def test_tied_tensors_are_written_twice_and_named(tmp_path: Path) -> None:
    weight = np.ones((2, 2), np.float32)
    write_safetensors(tmp_path / "m.safetensors", {"a": weight, "b": weight, "c": np.ones(1)})
    with safe_open(tmp_path / "m.safetensors", "np") as file:
        assert json.loads(file.metadata()["tied"]) == [["a", "b"]]
        assert np.array_equal(file.get_tensor("a"), file.get_tensor("b"))


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(UnsupportedError, match=r"a \(complex128\), b \(complex128\)"):
        write_safetensors(path, {"a": np.ones(1, complex), "b": np.ones(1, complex)})
    with pytest.raises(ConversionError, match="__metadata__"):
        write_safetensors(path, {"__metadata__": np.ones(1)})
    with pytest.raises(ConversionError, match="surrogate"):
        write_safetensors(path, {"\ud800": np.ones(1)})
    assert not list(tmp_path.iterdir())


def entry(start: int, stop: int, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [(stop - start) // 4], "data_offsets": [start, stop], **changes}


HEADERS: dict[str, tuple[Any, str]] = {
    "broken": (b"{oops", "broken header"),
    "deep": (b'{"a":' + b"[" * 200_000, "broken header"),
    "a name twice": (b'{"a":1,"a":2}', "twice"),
    "entry of text": ({"a": "b"}, "isn't described"),
    "without a shape": ({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, "isn't described"),
    "unknown type": ({"a": entry(0, 4, dtype="F7")}, "F7"),
    "type of a list": ({"a": entry(0, 4, dtype=["F32"])}, "isn't known"),
    "negative shape": ({"a": entry(0, 4, shape=[-1])}, "no counts"),
    "shape of truth": ({"a": entry(0, 4, shape=[True])}, "no counts"),
    "shape that overflows": ({"a": entry(0, 4, shape=[1 << 40, 1 << 40])}, "needs"),
    "beyond the file": ({"a": entry(0, 4000)}, "needs 4000 bytes"),
    "backwards": ({"a": entry(8, 4, shape=[1])}, "needs 4 bytes"),
    "another size": ({"a": entry(0, 8, shape=[1])}, "needs 4 bytes"),
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, "overlaps"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_lying_headers(name: str, tmp_path: Path) -> None:
    header, words = HEADERS[name]
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (tmp_path / "m.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(64))
    with pytest.raises(ConversionError, match=words):
        load_weights(tmp_path / "m.safetensors")


def test_a_header_longer_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b'{"a"' + bytes(64))
    with pytest.raises(FormatError, match="of no kind that is known here"):
        load_weights(tmp_path / "m.safetensors")


def test_few_bytes_that_repeat_take_no_room(tmp_path):
    """24 bytes as 64 GiB; 1 MB under a hundred thousand names; fifty tensors that are each just small enough."""
    one = np.lib.stride_tricks.as_strided(np.zeros(6, np.float32), (1 << 17, 1 << 17), (0, 0))
    same = np.zeros(1 << 18, np.float32)
    some = {f"t{n}": np.lib.stride_tricks.as_strided(np.full(6, n, np.float32), (1 << 14, 1 << 14), (0, 0)) for n in range(50)}
    for tensors in ({"w": one}, dict.fromkeys(map(str, range(100_000)), same), some):
        with pytest.raises(ConversionError, match=r"repeats? \d+ bytes to \d{11,}"):
            write_safetensors(tmp_path / "out.safetensors", tensors)
    with pytest.raises(ConversionError, match=r"w: repeats 4 bytes to 68719476736; a checkpoint would hold them all"):
        write_pth(tmp_path / "out.pth", {"w": one})
    assert not list(tmp_path.iterdir())
