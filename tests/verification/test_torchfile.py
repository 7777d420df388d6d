"""The second reading of a .t7: what torchfile has is compared, what it can't read is said and proves nothing."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchfile

from converters.cli import main
from converters.errors import FormatError
from converters.verification.torchfile import read_again
from tests.conformance import FIXTURES
from tests.readers.torch7.lua import Pairs, dumps, module

DIGITS = FIXTURES / "digits/torch7/digits.t7"
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def written(folder: Path, value: Any, **options: Any) -> Path:
    path = folder / "file.t7"
    path.write_bytes(dumps(value, **options))
    return path


def test_every_tensor_of_a_real_file_is_read_twice():
    found = read_again(DIGITS)
    assert found.ok and not found.absent and not found.unreadable
    assert found.equal > 50
    assert str(found) == f"read a second time by torchfile: {found.equal} tensors, all equal"


def test_tensors_in_modules_tables_and_odd_keys(tmp_path):
    mul = module("nn.Mul", weight=ARRAY.copy())
    value = Pairs([("x", ARRAY), (1.5, ARRAY[0]), ("\udcff", ARRAY.T), (2, mul), ("e", np.zeros(0, "f4"))])
    found = read_again(written(tmp_path, value))
    assert (found.equal, found.different, found.absent) == (5, [], [])
    key = {"a": 1}
    found = read_again(written(tmp_path, Pairs([(True, ARRAY), (1, ARRAY + 1), (key, ARRAY + 2)])))
    assert (found.equal, found.different, len(found.absent)) == (0, [], 3)  # true and 1 are one key to it, and objects are others
    assert "3 that it doesn't have: True, 1" in str(found)


@pytest.mark.parametrize("change", [lambda a: a + 1, lambda a: a.astype("f8"), lambda a: a.T, lambda a: a[:1]])
def test_what_it_reads_otherwise_is_named(change, tmp_path, monkeypatch):
    path = written(tmp_path, {"layer": {"weight": ARRAY, "bias": ARRAY[0]}})
    monkeypatch.setattr(torchfile, "load", lambda *_, **__: {b"layer": {b"weight": change(ARRAY), b"bias": ARRAY[0]}})
    found = read_again(path)
    assert not found.ok and found.different == ["layer.weight"] and found.equal == 1
    assert str(found) == "NOT EQUAL: torchfile reads 1 tensors of file.t7 otherwise: layer.weight"


def test_views_that_leave_their_storage_are_never_looked_at(tmp_path, monkeypatch):
    path = written(tmp_path, {"weight": ARRAY})
    outside = np.lib.stride_tricks.as_strided(np.zeros(6, "f4"), (2, 3), (1 << 40, 4))
    monkeypatch.setattr(torchfile, "load", lambda *_, **__: {b"weight": outside})
    assert read_again(path).absent == ["weight"]


@pytest.mark.parametrize(
    ("value", "options"),
    [
        ({"x": ARRAY}, {"long_bytes": 4}),
        ({"x": ARRAY}, {"order": ">"}),
        ({"x": ARRAY}, {"ascii": True}),
        ({"x": ARRAY.astype("f2")}, {}),
    ],
    ids=["4-byte longs", "big-endian", "text", "half precision"],
)
def test_what_it_cannot_read_is_no_fault(value, options, tmp_path):
    found = read_again(written(tmp_path, value, **options))
    assert found.ok and found.unreadable and not found.equal
    assert str(found).startswith("not read a second time: torchfile can't read file.t7: ")


def test_deep_nesting_ends_its_recursion_not_ours(tmp_path):
    path = tmp_path / "file.t7"
    levels = [struct.pack("<iiiii", 3, index, 1, 2, 1) + b"y" for index in range(1, 3001)]  # a table with one entry, "y", and so on
    path.write_bytes(b"".join(levels) + struct.pack("<i", 0))
    assert read_again(path).unreadable.startswith("RecursionError")


def test_it_runs_only_behind_our_reader(tmp_path, monkeypatch):
    path = tmp_path / "broken.t7"
    path.write_bytes(DIGITS.read_bytes()[:1000])
    monkeypatch.setattr(torchfile, "load", lambda *_, **__: pytest.fail("torchfile was asked"))
    with pytest.raises(FormatError):
        read_again(path)


def test_the_command_says_so(tmp_path, capsys, monkeypatch):
    words = ["lua2torch", str(DIGITS), str(tmp_path / "out.pth"), "--input", "2x1x16x16", "--verify", "--json"]
    assert main(words) == 0
    assert "tensors, all equal" in json.loads(capsys.readouterr().out)["read_again"]
    tensors = torchfile.load(str(DIGITS), use_list_heuristic=False, use_int_heuristic=False)
    tensors._obj[b"modules"][1.0]._obj[b"weight"] += 1
    monkeypatch.setattr(torchfile, "load", lambda *_, **__: tensors)
    assert main([*words, "--force"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "NOT EQUAL: torchfile reads 1 tensors of digits.t7 otherwise: modules.1.weight" in error
