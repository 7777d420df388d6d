"""The reader: every encoding, identity of objects, broken files, and agreement with torchfile."""

from __future__ import annotations

import math
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import converters
from converters.errors import ConversionWarning, FormatError
from converters.readers.torch7 import t7
from tests.readers.torch7.lua import Function, Object, Pairs, Storage, Tensor, dumps, module

ENCODINGS = {
    "binary": {},
    "long4": {"long_bytes": 4},
    "big": {"order": ">"},
    "big_long4": {"order": ">", "long_bytes": 4},
    "ascii": {"ascii": True},
}


def read(folder: Path, data: bytes) -> Any:
    path = folder / "file.t7"
    path.write_bytes(data)
    return t7.read(path)


@pytest.mark.parametrize("options", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_every_encoding(options: dict[str, Any], tmp_path: Path) -> None:
    arrays = {kind: np.array([[1, 2, 3], [100, 5, 6]], dtype=kind) for kind in ("u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8")}
    arrays["f4"] = np.float32([[0.1, -1e30, 3], [4, np.inf, 1e-40]])
    text = "\0 line\nbreak \udcff é"
    table = read(
        tmp_path, dumps({"text": text, "empty": "", "no": False, "list": [1, 2.5, -0.0], "e": np.zeros(0, "f4"), **arrays}, **options)
    )
    assert table["text"] == text and table["empty"] == "" and table["no"] is False
    assert table["list"].array() == [1, 2.5, 0] and math.copysign(1, table["list"][3]) == -1
    assert table["e"].elements == 0 and table["e"].array.shape == (0,)
    for kind, array in arrays.items():
        assert table[kind].array.dtype.kind == array.dtype.kind
        np.testing.assert_array_equal(table[kind].array, array, strict=False)
        assert not table[kind].array.flags.writeable


def test_all_entries_of_odd_tables(tmp_path: Path) -> None:
    key = {"a": 1}
    table = read(tmp_path, dumps(Pairs([(1, "one"), (True, "true"), ("1", "text"), (-3, "neg"), (1.5, "half"), (key, "table"), (2, key)])))
    assert len(table) == 7
    assert (table[1], table[True], table["1"], table[-3], table[1.5]) == ("one", "true", "text", "neg", "half")
    assert table[table[2]] == "table"
    assert table.array() == ["one", table[2]]


def test_identity_is_kept(tmp_path: Path) -> None:
    storage = Storage(np.arange(6, dtype="f4"))
    shared = Tensor(storage, (2,), (3,), 1)
    table = read(tmp_path, dumps([shared, Tensor(storage, (3, 2), (1, 0), 0), shared, storage]))
    first, second, third, whole = table.array()
    assert first is third and first.storage is second.storage is whole
    np.testing.assert_array_equal(first.array, [1, 4])
    np.testing.assert_array_equal(second.array, [[0, 0], [1, 1], [2, 2]])


def test_cycles(tmp_path: Path) -> None:
    made = Object("nn.Loop", {})
    made.fields["self"] = made
    value = read(tmp_path, dumps(made))
    assert value.get("self") is value


@pytest.mark.parametrize("tag", [6, 7, 8])
def test_functions_are_kept_and_not_run(tag: int, tmp_path: Path) -> None:
    function = Function(b"\x1bLJ\x02", {"name": "x", "value": 3}, tag)
    table = read(tmp_path, dumps([function, function, "after"]))
    assert table[1].code == b"\x1bLJ\x02" and table[1].upvalues["value"] == 3 and table[3] == "after"
    assert (table[1] is table[2]) == (tag != 6)


def test_objects_of_before_versions(tmp_path: Path) -> None:
    value = read(tmp_path, dumps(Object("nn.Old", {"x": 1}, version=None)))
    assert (value.typename, value.version, value.get("x")) == ("nn.Old", 0, 1)


def test_classes_with_a_layout_of_their_own(tmp_path: Path) -> None:
    vector = struct.pack("<2i", 4, 1) + _text("V 1") + _text("tds.Vec") + struct.pack("<q", 2) + dumps("a") + dumps(2)
    value = read(tmp_path, vector)
    assert value.payload.array() == ["a", 2]
    table = struct.pack("<2i", 4, 1) + _text("V 1") + _text("tds.Hash") + struct.pack("<q", 1) + dumps("k") + dumps(2)
    assert read(tmp_path, table).get("k") == 2
    timer = struct.pack("<2i", 4, 2) + _text("V 1") + _text("torch.Timer")  # of which Torch7 writes nothing
    profile = struct.pack("<3i", 3, 1, 2) + dumps("timer") + timer + dumps("after") + dumps(2)
    assert read(tmp_path, profile).get("after") == 2
    gpu = (
        struct.pack("<2i", 4, 1)
        + _text("V 1")
        + _text("nn.GPU")
        + dumps(None)
        + dumps({"device": 2}).replace(struct.pack("<2i", 3, 1), struct.pack("<2i", 3, 2))
    )
    assert read(tmp_path, gpu).get("device") == 2


def _text(text: str) -> bytes:
    return struct.pack("<i", len(text)) + text.encode()


def test_deep_nests_end_in_an_answer(tmp_path: Path) -> None:
    depth = 200_000
    parts = [struct.pack("<3i", 3, i + 1, 1) + dumps(1) for i in range(depth)]
    value = read(tmp_path, b"".join(parts) + dumps(None))
    count = 0
    while isinstance(value, t7.Table):
        value, count = value.get(1), count + 1
    assert count == depth
    assert sys.getrecursionlimit() < depth


@pytest.mark.parametrize("depth", [99, 400, 3000])
def test_containers_of_any_depth(depth: int, tmp_path: Path) -> None:
    weight, x = np.arange(6, dtype="f4").reshape(2, 3), np.float32([[1, 2, 3]])
    made = module("nn.Linear", weight=weight)
    for _ in range(depth):
        made = module("nn.Sequential", made)
    path = tmp_path / "deep.t7"
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(40 * depth)  # for the writer of this test
        path.write_bytes(dumps(made))
    finally:
        sys.setrecursionlimit(limit)
    model = converters.load(path, inputs={"input": (1, 3)})
    assert list(model.graph.initializers) == list(converters.load_weights(path))
    np.testing.assert_array_equal(converters.to_module(model)(torch.from_numpy(x)).detach().numpy(), x @ weight.T)
    converters.save(model, tmp_path / "deep.onnx")


def test_bytes_behind_the_object_are_told(tmp_path: Path) -> None:
    with pytest.warns(ConversionWarning, match="5 bytes follow"):
        assert read(tmp_path, dumps("x") + b"other") == "x"


def _tensor(dims: Any, size: Any, stride: Any, offset: int, storage: bytes) -> bytes:
    head = struct.pack("<2i", 4, 1) + _text("V 1") + _text("torch.FloatTensor") + struct.pack("<i", dims)
    return head + struct.pack(f"<{len(size) + len(stride) + 1}q", *size, *stride, offset) + storage


FOUR = struct.pack("<2i", 4, 2) + _text("V 1") + _text("torch.FloatStorage") + struct.pack("<q", 4) + bytes(16)
BYTES = struct.pack("<2i", 4, 2) + _text("V 1") + _text("torch.ByteStorage") + struct.pack("<q", 4) + bytes(4)
NIL = struct.pack("<i", 0)

BROKEN = {
    "empty": (b"", r"file\.t7: the file is empty \(0 bytes\)"),
    "one_byte": (b"\4", "1 of 4 bytes"),
    "unknown_tag": (struct.pack("<i", 9) + bytes(20), "no type tag of Torch7"),
    "inner_tag": (dumps(["x"])[:-9] + struct.pack("<i", 99) + bytes(5), r"offset 24 \(\$\[1\]\): unknown type tag 99"),
    "cut_string": (dumps("hello")[:-2], "string of length 5 can't be in the 3 bytes"),
    "negative_string": (struct.pack("<2i", 2, -5) + b"xyz", "string of length -5"),
    "giant_string": (struct.pack("<2i", 2, 2**31 - 1) + b"xyz", "2147483647 can't be in the 3 bytes"),
    "giant_table": (struct.pack("<3i", 3, 1, 2**31 - 1) + bytes(40), "table of length 2147483647"),
    "negative_table": (struct.pack("<3i", 3, 1, -1) + bytes(40), "table of length -1"),
    "nil_key": (struct.pack("<3i", 3, 1, 1) + NIL + dumps(1), "entry without a key"),
    "many_dimensions": (_tensor(1_000_000, (), (), 1, NIL), "tensor of 1000000 dimensions"),
    "negative_dimensions": (_tensor(-1, (), (), 1, NIL), "tensor of -1 dimensions"),
    "negative_size": (_tensor(1, (-2,), (1,), 1, FOUR), "negative sizes"),
    "negative_stride": (_tensor(1, (4,), (-1,), 4, FOUR), "negative sizes, strides"),
    "negative_offset": (_tensor(1, (4,), (1,), 0, FOUR), "offset -1"),
    "past_the_end": (_tensor(1, (4,), (1,), 2, FOUR), "reaches element 4 of a storage of 4"),
    "size_overflow": (_tensor(2, (2**62, 4), (4, 1), 1, FOUR), "reaches element 18446744073709551615"),
    "no_storage": (_tensor(1, (4,), (1,), 1, NIL), "reaches element 3 of a storage of 0"),
    "storage_of_another_type": (_tensor(1, (4,), (1,), 1, BYTES), "FloatTensor over a torch.ByteStorage"),
    "storage_is_a_number": (_tensor(1, (4,), (1,), 1, dumps(3)), "storage is something else"),
    "cut_storage": (_tensor(1, (4,), (1,), 1, FOUR[:-6]), "6 of 16 bytes are missing"),
    "negative_storage": (FOUR.replace(struct.pack("<q", 4), struct.pack("<q", -4)), "storage of length -4"),
    "giant_storage": (FOUR.replace(struct.pack("<q", 4), struct.pack("<q", 2**61)), "bytes are missing"),
    "giant_empty_tensor": (_tensor(2, (0, 2**62), (2**62, 1), 0, FOUR), "offset -1"),
    "unknown_tensor": (_tensor(1, (4,), (1,), 1, FOUR).replace(b"FloatTensor", b"Fl0atTensor"), "unknown Torch class 'torch.Fl0atTensor'"),
    "bad_version": (struct.pack("<2i", 4, 1) + _text("V x") + _text("nn.A"), "'V x' is no version"),
    "ascii_cut": (b"2\n5\nhel", "string of length 5"),
    "ascii_word": (b"1\nseven\n", "a number is due, not 'seven'"),
    "ascii_storage": (b"4\n1\n3\nV 1\n18\ntorch.FloatStorage\n900\n1 2\n", "doesn't fit in the"),
    "ascii_number": (b"4\n1\n3\nV 1\n18\ntorch.FloatStorage\n3\n1 x 2\n", "a word that is no number of its type"),
    "ascii_overflow": (b"4\n1\n3\nV 1\n18\ntorch.ShortStorage\n2\n1 70000\n", "a word that is no number of its type"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=message):
        read(tmp_path, data)


def test_text_over_several_lines(tmp_path: Path) -> None:
    """What fscanf reads: any white space between numbers, and every spelling of not-a-number."""
    storage = read(tmp_path, b"4\r\n1\r\n3\r\nV 1\r\n18\r\ntorch.FloatStorage\r\n4\r\n1.5 -nan\r\n  inf\t-0\r\n")
    assert storage.array.tolist()[0::2] == [1.5, math.inf] and math.isnan(storage.array[1]) and math.copysign(1, storage.array[3]) == -1


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text()
    | st.binary()
    | arrays(np.float32, array_shapes(max_dims=3), elements=st.floats(width=32)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.floats(allow_nan=False), inner, max_size=4),
    max_leaves=8,
)


def plain(value: Any) -> Any:
    """As the reader should answer it, for a comparison: tables as dicts, tensors as their bytes."""
    if isinstance(value, t7.Table):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return {float(k): plain(v) for k, v in enumerate(value, 1) if v is not None}
    if isinstance(value, np.ndarray | t7.Tensor):
        array = value if isinstance(value, np.ndarray) else value.array
        return array.shape, np.nan_to_num(array.astype(np.float32), nan=7.5).tobytes()
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return "nan" if isinstance(value, float) and value != value else value


def test_a_cut_that_shorter_longs_could_read_is_told(tmp_path: Any) -> None:
    data = dumps([np.zeros((2, 4, 5), np.float32)], **ENCODINGS["binary"])
    for cut in range(len(data)):
        with pytest.raises(FormatError):
            read(tmp_path, data[:cut])


@settings(max_examples=150, deadline=None)
@given(value=VALUES, name=st.sampled_from(sorted(ENCODINGS)), cut=st.integers(0, 2**20))
def test_any_value_comes_back_and_any_cut_is_told(value: Any, name: str, cut: int, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    data = dumps(value, **ENCODINGS[name])
    assert plain(read(folder, data)) == plain(value)
    try:
        read(folder, data[: cut % len(data)])
    except FormatError as problem:
        assert "file.t7: " in str(problem)
    else:  # text that is cut behind its last character, or inside its last number, is whole
        assert name == "ascii"


# -- torchfile, the second reader --------------------------------------------------------------------------------------


def same(ours: Any, theirs: Any, seen: set[tuple[int, int]]) -> bool:
    """Whether torchfile has read the same thing, as far as it keeps it: lists for arrays, ints for whole numbers, bytes for text."""
    waiting = [(ours, theirs)]
    while waiting:
        a, b = waiting.pop()
        if (id(a), id(b)) in seen:
            continue
        if isinstance(a, t7.Table | t7.TorchObject):
            seen.add((id(a), id(b)))
        if isinstance(a, t7.TorchObject):
            assert b.torch_typename() == a.typename.encode()
            waiting.append((a.payload, b._obj))
        elif isinstance(a, t7.Table) and isinstance(b, list):
            assert len(a) == len(b)
            waiting += zip(a.array(), b, strict=True)
        elif isinstance(a, t7.Table):
            assert len(a) == len(b)
            for key, value in a.items():
                if isinstance(key, str | float | bool):
                    waiting.append((value, b[key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key]))
        elif isinstance(a, t7.Tensor | t7.Storage):
            np.testing.assert_array_equal(a.array, b, strict=bool(a.array.size))
        elif isinstance(a, t7.Function):
            assert a.code == b.dumped
        else:
            assert (a.encode("utf-8", "surrogateescape") if isinstance(a, str) else a) == b or (a != a and b != b)
    return True


FIXTURES = [
    module(
        "nn.Sequential",
        module("nn.Linear", weight=np.arange(6, dtype="f4").reshape(2, 3), bias=np.float32([1, 2])),
        module("nn.ReLU", inplace=True),
    ),
    {"model": Object("nn.gModule", {"f": Function(b"code", [1, 2], 8)}), "epoch": 12, "rate": 0.25, "flag": True, "text": "\xff"},
    {"sizes": Storage(np.int64([3, 4])), "column": Tensor(Storage(np.arange(12.0)), (3,), (4,), 2), "same": [1, "two"]},
]


@pytest.mark.parametrize("made", FIXTURES)
def test_agrees_with_torchfile(made: Any, tmp_path: Path) -> None:
    ours = read(tmp_path, dumps(made))
    assert same(ours, torchfile.load(str(tmp_path / "file.t7")), set())
