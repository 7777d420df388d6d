"""Files that lie: each ends in an error that says what is wrong, or in the honest weights; nothing runs, nothing is left behind."""

from __future__ import annotations

import io
import os
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import strip_to_weights
from converters.errors import ConversionError, ConversionWarning, FormatError
from converters.inspection import inspect
from converters.readers.pytorch import read_weights
from converters.readers.pytorch.archives.archive import read_checkpoint
from converters.readers.pytorch.pickles.interface import Budget
from tests.readers.pytorch import classes
from tests.readers.pytorch.files import DATA, HONEST, dictionary, number, numbers, old_index, storage, stream, tarred, tensor, text, zipped
from tests.readers.pytorch.test_forms import json_script
from tests.readers.pytorch.test_strip import save, strip

CALL = b"cposix\nsystem\n(" + text("touch canary") + b"tR"


def refused(path: Path, words: str) -> None:
    before = sorted(path.parent.iterdir())
    with pytest.raises(ConversionError, match=words) as caught:
        strip_to_weights(path)
    assert len(str(caught.value)) < 2000 and str(caught.value).isprintable()
    assert sorted(path.parent.iterdir()) == before


V2 = b"ctorch._utils\n_rebuild_tensor_v2\n("
TAIL = b"\x89ccollections\nOrderedDict\n)RtR"
SIX = storage("0", 6)
ONE = number(0) + numbers((1,)) + numbers((1,))
LAYOUT = b"ctorch.serialization\n_get_layout\n"

TENSORS: dict[str, tuple[bytes, str]] = {
    "too large": (tensor("0", 6, (300, 2), (2, 1)), "outside its storage"),
    "stride too large": (tensor("0", 6, (3, 2), (200, 1)), "outside its storage"),
    "stride that overflows": (tensor("0", 6, (3,), (1 << 62,)), "outside its storage"),
    "offset too large": (tensor("0", 6, (2,), (1,), offset=5), "outside its storage"),
    "negative offset": (tensor("0", 6, (2,), (1,), offset=-1), "offset is -1"),
    "negative size": (tensor("0", 6, (-3,), (1,)), "size is -3"),
    "negative stride": (tensor("0", 6, (3, 2), (-2, 1)), "stride is -2"),
    "size that overflows": (tensor("0", 6, (1 << 32, 1 << 32), (0, 0)), "more bytes than can be counted"),
    "sizes and strides differ": (tensor("0", 6, (3, 2), (1,)), "2 sizes and 1 strides"),
    "size of text": (V2 + SIX + number(0) + text("ab") + numbers((1,)) + TAIL, "a str, not a tuple"),
    "size of floats": (V2 + SIX + number(0) + b"G" + struct.pack(">d", 2.0) + b"\x85" + numbers((1,)) + TAIL, "float, not an integer"),
    "size of booleans": (V2 + SIX + number(0) + b"\x88\x85" + numbers((1,)) + TAIL, "bool, not an integer"),
    "size that holds itself": (V2 + SIX + number(0) + b"]q\x09h\x09a" + numbers((1,)) + TAIL, "list, not an integer"),
    "65 dimensions": (tensor("0", 6, (1,) * 65, (1,) * 65), "65 dimensions"),
    "no storage": (V2 + b"N" + number(0) + numbers((1,)) + numbers((1,)) + TAIL, "NoneType, not of a storage"),
    "too few arguments": (V2 + SIX + b"tR", "1 arguments"),
    "storage of another length": (tensor("0", 7, (7,), (1,)), "24 bytes; 7 elements"),
    "storage that isn't there": (tensor("7", 6, (6,), (1,)), "no 'archive/data/7'"),
    "storage elsewhere": (tensor("../version", 6, (6,), (1,)), r"no 'archive/data/\.\./version'"),
    "huge storage": (tensor("0", 1 << 62, (6,), (1,)), "24 bytes"),
    "storage of a length that is text": (V2 + SIX.replace(number(6), text("6")) + b"K\x00)" + b")" + TAIL, "a str, not an integer"),
    "storage of an evil class": (tensor("0", 6, (6,), (1,), kind="posix system"), "posix.system, which isn't one of torch's"),
    "storage of a dict": (tensor("0", 6, (6,), (1,), kind="collections OrderedDict"), "isn't one of torch's"),
    "storage of a class that looks like torch's": (tensor("0", 6, (6,), (1,), kind="torch\u200b FloatStorage"), "isn't one of torch's"),
    "unknown kind of object": (V2 + b"(" + text("module") + b"cm\nC\n" + text("a") + text("b") + text("c") + b"tQ", "isn't a storage"),
    "outside object that is text": (b"P../../etc/passwd\n", "isn't a storage"),
    "entry of a tensor": (HONEST["w"] + text("a") + b"K\x01s", "an entry is set in a Tensor"),
    "entries of a storage": (SIX + b"(" + text("a") + b"K\x01u", "an entry is set in a TypedStorage"),
    "state of a storage": (SIX + b"}b", "a state is given to a TypedStorage"),
    "a function changed": (b"ctorch._utils\n_rebuild_tensor_v2\nN}" + text("__code__") + b"K\x01s\x86b", "changes torch._utils"),
    "unknown element type": (V2.replace(b"v2", b"v3") + SIX + ONE + TAIL[:-2] + b"ctorch\nint3\ntR", "torch.int3"),
    "a list as a key": (b"}]K\x01s", "used as a dictionary's key"),
    "quantized without a scheme": (b"ctorch._utils\n_rebuild_qtensor\n(" + SIX + ONE + b"N\x89NtR", "scheme"),
    "sparse without indices": (b"ctorch._utils\n_rebuild_sparse_tensor\n(" + LAYOUT + text("torch.sparse_coo") + b"\x85R)tR", "indices"),
    "unknown layout": (LAYOUT + text("torch.evil") + b"\x85R", "layout"),
    "array of another length": (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01K\x09\x85cnumpy\ndtype\n(U\x02f4K\x00K\x01tR\x89C\x04abcdtb",
        "has 4 bytes",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_lying_tensor(name: str, tmp_path: Path) -> None:
    value, words = TENSORS[name]
    refused(zipped(tmp_path / "m.pth", dictionary({"x": value, **HONEST})), words)


def attributes(entries: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in entries.items()) + b"u"


TABLES = {"_parameters": b"}", "_buffers": b"}", "_modules": b"}"}


def module(**tables: bytes) -> bytes:
    """A module of an unknown class, memo entry 0."""
    return b"cm\nNet\n)\x81q\x00" + attributes({**TABLES, **tables}) + b"b"


def one(name: bytes, value: bytes) -> bytes:
    """A dictionary of one entry."""
    return b"}" + name + value + b"s"


MODULES: dict[str, tuple[bytes, str]] = {
    "contains itself": (module(_modules=one(text("a"), b"h\x00")), "contains itself"),
    "parameters in a list": (module(_parameters=b"]"), "_parameters is a list"),
    "a parameter that is a number": (module(_parameters=one(text("w"), b"K\x01")), "isn't a tensor"),
    "a child that is a number": (module(_modules=one(text("a"), b"K\x01")), "form of its own"),
    "a child named by a number": (module(_modules=one(b"K\x01", module())), "not by text"),
    "names of buffers as text": (module(_non_persistent_buffers_set=text("w")), "is a str"),
    "its own dictionary": (
        b"cm\nNet\n)\x81}q\x00(" + b"".join(text(name) + b"h\x00" for name in TABLES) + text("w") + HONEST["w"] + b"ub",
        "isn't a tensor",
    ),
}
LEAF = module(_parameters=one(text("w"), HONEST["w"])) + b"q\x010"


@pytest.mark.parametrize("name", MODULES)
def test_lying_module(name: str, tmp_path: Path) -> None:
    value, words = MODULES[name]
    refused(zipped(tmp_path / "m.pth", b"\x80\x02" + value + b"."), words)


@pytest.mark.parametrize("depth", [10_000, 100_000])
def test_deep_modules(depth: int, tmp_path: Path) -> None:
    level = module(_modules=one(text("a"), b"h\x01")) + b"q\x01"
    refused(zipped(tmp_path / "m.pth", b"\x80\x02" + LEAF + level * depth + b"."), "deep")


def test_modules_with_more_paths_than_atoms(tmp_path: Path) -> None:
    level = module(_modules=b"}(" + text("a") + b"h\x01" + text("b") + b"h\x01u") + b"q\x01"
    refused(zipped(tmp_path / "m.pth", b"\x80\x02" + LEAF + level * 200 + b"."), "paths lead through")


def test_expanded_tensor_stays_small(tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.pth", dictionary({"w": tensor("0", 6, (1 << 34,), (0,))}))
    target = strip_to_weights(path).path
    assert target.stat().st_size < 5000
    for options in ({"target": tmp_path / "m.safetensors"}, {"contiguous": True, "force": True}):
        with pytest.raises(ConversionError, match="repeats"):
            strip_to_weights(path, **options)  # type: ignore[arg-type]


def evil_places() -> dict[str, Callable[[Path], Path]]:
    index = dictionary(HONEST)
    plain = old_index(index)
    container = b"(" + text("module") + b"cposix\nsystem\n" + text("/x/../y") + text("source") + b"tQ" + text("touch canary") + b"\x85R0"
    return {
        "before the weights": lambda path: zipped(path, b"\x80\x02" + CALL + b"0" + index[2:]),
        "as an entry": lambda path: zipped(path, dictionary({**HONEST, "evil": CALL})),
        "in the magic number": lambda path: stream(path, plain, magic=b"\x80\x02" + CALL + b"0\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."),
        "in the system's facts": lambda path: stream(path, plain, system=b"\x80\x02" + CALL + b"."),
        "in the keys": lambda path: stream(path, plain, keys=b"\x80\x02" + CALL + b"0](" + text("0") + text("1") + b"e."),
        "as a container": lambda path: stream(path, plain[:2] + container + plain[2:]),
    }


@pytest.mark.parametrize("name", evil_places())
def test_calls_aren_t_made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = evil_places()[name](tmp_path / "m.pth")
    with pytest.warns(ConversionWarning, match=r"asks to call posix\.system"):
        got = strip(path)
    assert got["b"].tolist() == [10.0, 11.0, 12.0] and not (tmp_path / "canary").exists()


def test_evil_container_names_write_nothing_elsewhere(tmp_path: Path) -> None:
    plain = old_index(dictionary(HONEST))
    container = b"(" + text("module") + b"cm\n../../evil\n" + text("/etc/../evil.py") + text("print(1)") + b"tQ0"
    path = stream(tmp_path / "m.pth", plain[:2] + container + plain[2:])
    strip_to_weights(path, source_dir=tmp_path / "source")
    assert [file.name for file in (tmp_path / "source").iterdir()] == ["000_m..._.._evil.py.txt"]


def zip_with(path: Path, change: Callable[[bytearray], None]) -> Path:
    zipped(path, dictionary(HONEST))
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(bytes(content))
    return path


def central(content: bytearray, name: bytes) -> int:
    return content.rfind(b"archive/" + name) - 46


def patch(name: bytes, field: int, code: str, value: int) -> Callable[[bytearray], None]:
    return lambda content: struct.pack_into(code, content, central(content, name) + field, value)


ZIPS: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "method 99": (patch(b"data/0", 10, "<H", 99), "disagree"),
    "encrypted": (patch(b"data/0", 8, "<H", 1), "encrypted"),
    "announces 4 GB": (patch(b"data/0", 24, "<I", 0xFFFFFFFF), "announced as"),
    "reaches beyond": (lambda c: (patch(b"data/0", 24, "<I", 9999)(c), patch(b"data/0", 20, "<I", 9999)(c))[0], "beyond"),
    "elsewhere": (patch(b"data/0", 42, "<I", 5), "no entry at byte 5"),
    "another's data": (lambda c: patch(b"data/1", 42, "<I", struct.unpack_from("<I", c, central(c, b"data/0") + 42)[0])(c), "disagree"),
    "another name inside": (lambda c: c.__setitem__(slice(30, 46), b"archive/evil.pkl"), "disagree"),
    "directory elsewhere": (lambda c: struct.pack_into("<I", c, len(c) - 6, 3), "directory"),
    "more entries announced": (lambda c: struct.pack_into("<HH", c, len(c) - 14, 60000, 60000), "announces 60000"),
    "fewer entries announced": (lambda c: struct.pack_into("<HH", c, len(c) - 14, 1, 1), "longer than its entries"),
    "other disks": (lambda c: struct.pack_into("<H", c, len(c) - 18, 3), "directory"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_lying_zip(name: str, tmp_path: Path) -> None:
    change, words = ZIPS[name]
    refused(zip_with(tmp_path / "m.pth", change), words)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_doubled_entries(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", dictionary(HONEST))
        archive.writestr("archive/data.pkl", b"\x80\x02" + CALL + b".")
    refused(path, "twice")


def test_overlapping_entries(tmp_path: Path) -> None:
    """Two entries whose data is the same bytes, as in a zip bomb."""
    path = zipped(tmp_path / "m.pth", dictionary(HONEST), {"0": DATA["0"]}, more={"xx": b"PK\3\4" + b"\0" * 200})
    content = bytearray(path.read_bytes())
    entry = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 24, 24, 12, 0) + b"archive/xx/y"
    inside = content.find(b"PK\3\4" + b"\0" * 200)
    content[inside : inside + len(entry)] = entry
    end = content.rfind(b"PK\5\6")
    directory = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 24, 24, 12, 0, 0, 0, 0, 0, inside) + b"archive/xx/y"
    content[end:end] = directory
    count, size = struct.unpack_from("<HI", content, end + len(directory) + 10)
    struct.pack_into("<HHI", content, end + len(directory) + 8, count + 1, count + 1, size + len(directory))
    path.write_bytes(bytes(content))
    refused(path, "overlap")


def test_an_index_that_inflates_to_many_objects(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "m.pth", b"\x80\x02" + b"]" * 20_000_000 + b".", method=zipfile.ZIP_DEFLATED), "bomb")


@pytest.mark.parametrize("deep", ["quantizers", "subclasses"])
def test_tensors_nested_without_end(deep: str, tmp_path: Path) -> None:
    if deep == "quantizers":
        start = b"ctorch._utils\n_rebuild_qtensor\n("
        scales = HONEST["b"] + b"q\x00"
        level = start + storage("2", 3, "torch QInt8Storage") + ONE + b"(ctorch\nper_channel_affine\nh\x00h\x00K\x00t\x89NtRq\x000"
        value = scales + b"0" + level * 5000 + b"h\x00"
        refused(zipped(tmp_path / "m.pth", dictionary({"x": value}), {**DATA, "2": b"abc"}), "no tensors")
    else:
        level = b"ctorch._tensor\n_rebuild_from_type_v2\n"
        index = dictionary({"x": level + b"(" + (level + b"cm\nT\n(") * 5000 + SIX + b"t}t" * 5000 + b"tR"})
        with pytest.raises(ConversionError):
            read_weights(zipped(tmp_path / "m.pth", index))


@pytest.mark.parametrize("place", ["storage", "index", "unused"])
def test_zip_bombs(place: str, tmp_path: Path) -> None:
    many = bytes(300_000_000)
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + many if place == "index" else dictionary({"w": HONEST["w"]}))
        archive.writestr("archive/data/0", many if place == "storage" else DATA["0"])
        if place == "unused":
            archive.writestr("archive/data/1", many)
    if place == "unused":
        assert strip(path)["w"].shape == (2, 3)
    else:
        refused(path, "bytes")


def test_lying_inflated_size(tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.pth", dictionary({"w": HONEST["w"]}), {"0": bytes(2_000_000)}, method=zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    patch(b"data/0", 24, "<I", 24)(content)
    path.write_bytes(bytes(content))
    refused(path, "inflates to more than the 24 bytes")


STREAMS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "storage not listed": (lambda p: stream(p, old_index(dictionary(HONEST)), {"0": DATA["0"]}), "isn't in the file"),
    "storage listed twice": (lambda p: stream(p, old_index(dictionary(HONEST)), keys=b"\x80\x02](" + text("0") * 2 + b"e."), "twice"),
    "storage nobody has": (lambda p: stream(p, old_index(dictionary({})), DATA), "nothing refers to"),
    "keys that are no list": (lambda p: stream(p, old_index(dictionary(HONEST)), keys=b"K\x01."), "isn't a list"),
    "another length": (lambda p: stream(p, old_index(dictionary(HONEST)), {"0": DATA["0"][:8], "1": DATA["1"]}), "2 elements"),
    "another magic number": (lambda p: stream(p, old_index(dictionary(HONEST)), magic=b"\x80\x02K\x01."), "one after the other"),
    "view outside": (
        lambda p: stream(p, dictionary({"w": V2 + storage("0", 6, more=b"(" + text("v") + number(5) + number(3) + b"t") + number(0)}), {}),
        "view of 3 elements at 5",
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_lying_stream(name: str, tmp_path: Path) -> None:
    make, words = STREAMS[name]
    refused(make(tmp_path / "m.pth"), words)


def test_huge_record_of_a_stream(tmp_path: Path) -> None:
    path = stream(tmp_path / "m.pth", old_index(dictionary({"w": tensor("0", 1 << 60, (6,), (1,))})), {})
    content = path.read_bytes()[: -len(b"\x80\x02]q\x00.")] + b"\x80\x02](" + text("0") + b"e." + struct.pack("<q", 1 << 60)
    path.write_bytes(content)
    refused(path, "cut short")


TARS: dict[str, tuple[list[Any], list[Any], list[Any], str]] = {
    "view outside": ([], [("7", "torch FloatStorage", DATA["0"], 4)], [("9", "7", 5, 3)], "view of 3 elements at 5"),
    "view of nothing": ([], [], [("9", "7", 0, 1)], "isn't in the file"),
    "tensor outside": ([("1", "7", (9,), (1,), 0)], [("7", "torch FloatStorage", DATA["0"], 4)], [], "outside its storage"),
    "tensor of nothing": ([("1", "7", (1,), (1,), 0)], [], [], "NoneType"),
    "identity in words": ([("one", "7", (1,), (1,), 0)], [("7", "torch FloatStorage", DATA["0"], 4)], [], "no integer"),
    "evil class": ([], [("7", "posix system", DATA["0"], 4)], [], "isn't one of torch's"),
}


@pytest.mark.parametrize("name", TARS)
def test_lying_tar(name: str, tmp_path: Path) -> None:
    tensors, storages, views, words = TARS[name]
    refused(tarred(tmp_path / "m.pth", b"N.", tensors, storages, views), words)


def test_broken_tar_headers(tmp_path: Path) -> None:
    path = tarred(tmp_path / "m.pth", b"N.", [], [], [])
    content = bytearray(path.read_bytes())
    content[124:135] = b"77777777777"
    path.write_bytes(bytes(content))
    refused(path, "checksum")
    content[148:154] = b"%06o" % (sum(content[:148]) + 256 + sum(content[156:512]))
    path.write_bytes(bytes(content))
    refused(path, "cut short")


def honest_files(folder: Path) -> list[bytes]:
    """Small honest checkpoints of each form."""
    index = b"\x80\x02}(" + text("w") + text("101") + b"Qu."
    tarred(folder / "tar", index, [("101", "7", (2, 3), (3, 1), 0)], [("7", "torch FloatStorage", DATA["0"], 4)], [])
    zipped(folder / "zip", dictionary(HONEST))
    zipped(folder / "deflated", dictionary(HONEST), method=zipfile.ZIP_DEFLATED)
    stream(folder / "stream", old_index(dictionary(HONEST)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(classes.Buffers(), folder / "module")
        save(classes.Buffers(), folder / "old", "stream")
        save({"q": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "s": torch.eye(2).to_sparse()}, folder / "odd")
    json_script(folder / "script")
    return [(folder / name).read_bytes() for name in ("tar", "zip", "deflated", "stream", "module", "old", "odd", "script")]


def read_all(path: Path) -> None:
    """Reads the weights of a file, and every number."""
    try:
        for weight in read_weights(path).tensors.values():
            if weight.layout == "strided" if hasattr(weight, "layout") else weight.nbytes < 1 << 20:  # type: ignore[union-attr]
                weight.numpy()
    except ConversionError as problem:
        assert len(str(problem)) < 5000


@pytest.mark.parametrize("form", range(8))
def test_files_cut_anywhere_are_refused(form: int, tmp_path: Path) -> None:
    content = honest_files(tmp_path)[form]
    path = tmp_path / "cut"
    step = max(1, len(content) // 150)
    for length in range(1, len(content) - 1, step):
        path.write_bytes(content[:length])
        try:
            read_weights(path)
        except ConversionError as problem:
            assert len(str(problem)) < 2000
        else:
            assert form == 0 or length > len(content) - 100, length


FUZZED = int(os.environ.get("FUZZ_INPUTS", "150"))


@pytest.mark.filterwarnings("ignore::converters.errors.ConversionWarning")
@pytest.mark.parametrize("form", range(8))
def test_files_with_changed_bytes_are_read_or_refused(form: int, tmp_path: Path) -> None:
    content = honest_files(tmp_path)[form]
    path = tmp_path / "changed"
    chance = random.Random(form + FUZZED)
    for _ in range(FUZZED):
        changed = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            at = chance.randrange(len(changed))
            match chance.randrange(4):
                case 0:
                    changed[at] = chance.randrange(256)
                case 1:
                    changed[at] ^= 1 << chance.randrange(8)
                case 2:
                    del changed[at : at + chance.randrange(1, 9)]
                case 3:
                    changed[at:at] = changed[at : at + chance.randrange(1, 40)]
        path.write_bytes(bytes(changed) or b"x")
        read_all(path)


STARTS = [b"", b"\x80\x02", b"PK\3\4", b"PK\5\6", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."]


@given(st.binary(min_size=1, max_size=300), st.sampled_from(STARTS))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_refused_or_read(data: bytes, start: bytes) -> None:
    from converters.errors import ConversionError
    from converters.readers.pytorch.archives.archive import _read

    try:
        _read(memoryview(start + data), Budget(), "m.pth", 0)
    except ConversionError as problem:
        assert len(str(problem)) < 5000


def test_names_in_messages_are_made_safe(tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.pth", dictionary({"a\x1b[31m": b"cevil\x1b[2J\nX\n(" + HONEST["w"] + b"tR"}))
    refused(path, r"a\\x1b")


def test_read_checkpoint_reports_the_file(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(io.BytesIO(b"\x80\x02K").getvalue())
    with pytest.raises(FormatError, match=re.escape(f"{tmp_path}/m.pth: ")):
        read_checkpoint(tmp_path / "m.pth")


def test_calls_that_a_pickle_asks_for_are_named_wherever_it_is_looked_at(tmp_path: Path) -> None:
    evil = b"cos\nsystem\n" + text("echo") + b"\x85R"
    named = r"asks to call os\.system, which was not run"
    path = tmp_path / "m.pth"
    for content in (b"\x80\x02" + evil + b".", b"\x80\x02]" + evil + b"a\xff"):  # nothing that is a weight; broken after the call
        path.write_bytes(content)
        with pytest.raises(FormatError if content.endswith(b"\xff") else ConversionError, match=named):
            read_weights(path)
    zipped(path, dictionary({**HONEST, "note": evil}))
    with pytest.warns(ConversionWarning, match=r"asks to call os\.system; nothing of it was run"):
        assert strip_to_weights(path, tmp_path / "out.pth").suspicious == ["os.system"]
    found = inspect(path)
    assert found.suspicious == found.as_dict()["suspicious"] == ["os.system"] and "not run:" in str(found)
