"""Checkpoints of all ages and containers, made byte by byte."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters.errors import ConversionError, ConversionWarning, FormatError
from converters.formats import load_weights
from converters.readers.pytorch import read_weights
from converters.readers.pytorch.archives.archive import read_checkpoint
from converters.readers.pytorch.pickles.stubs import Stub
from converters.strip import strip_to_weights
from tests.readers.pytorch import classes
from tests.readers.pytorch.files import DATA, HONEST, dictionary, number, numbers, old_index, storage, stream, tarred, tensor, text, zipped
from tests.readers.pytorch.test_strip import compare, save, strip

WANT = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([10.0, 11.0, 12.0])}


def test_zip(tmp_path: Path) -> None:
    compare(strip(zipped(tmp_path / "m.pth", dictionary(HONEST))), WANT)


@pytest.mark.parametrize("root", ["", "a name/", "ключ/", "model.v1/"])
def test_zip_root_of_any_name(root: str, tmp_path: Path) -> None:
    compare(strip(zipped(tmp_path / "m.pth", dictionary(HONEST), root=root)), WANT)


def test_zip_that_was_packed_again(tmp_path: Path) -> None:
    compare(strip(zipped(tmp_path / "m.pth", dictionary(HONEST), method=zipfile.ZIP_DEFLATED)), WANT)
    big = {"0": np.arange(600_000, dtype="<f4").tobytes()}
    index = dictionary({"w": tensor("0", 600_000, (600, 1000), (1000, 1)), "part": tensor("0", 600_000, (5,), (1,), offset=400_000)})
    path = zipped(tmp_path / "big.pth", index, big, method=zipfile.ZIP_DEFLATED)
    want = torch.arange(600_000.0).reshape(600, 1000)
    compare(strip(path), {"w": want, "part": want.reshape(-1)[400_000:400_005]})
    assert np.array_equal(np.asarray(load_weights(path)["part"]), np.arange(400_000, 400_005))


def test_zip_with_folders_and_other_files(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/", "")
        archive.writestr("archive/data/", "")
        archive.writestr("archive/data.pkl", dictionary(HONEST))
        archive.writestr("archive/notes/data.pkl", b"nothing")
        for key, content in DATA.items():
            archive.writestr(f"archive/data/{key}", content)
    compare(strip(path), WANT)


def test_zip_of_a_checkpoint(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.pth", dictionary(HONEST))
    with zipfile.ZipFile(tmp_path / "outer.pth", "w") as archive:
        archive.write(inner, "inner.pth")
    compare(strip(tmp_path / "outer.pth"), WANT)


def test_large_end_record(tmp_path: Path) -> None:
    """Archives whose end record says that the true numbers are in the 64-bit one."""
    path = zipped(tmp_path / "m.pth", dictionary(HONEST))
    content = path.read_bytes()
    end = content.rfind(b"PK\5\6")
    count, size, start = struct.unpack_from("<HII", content, end + 10)
    large = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start) + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    path.write_bytes(content[:end] + large + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    compare(strip(path), WANT)


BIG_ENDIAN = {
    "float64": ("DoubleStorage", ">f8"),
    "float32": ("FloatStorage", ">f4"),
    "float16": ("HalfStorage", ">f2"),
    "int64": ("LongStorage", ">i8"),
    "int16": ("ShortStorage", ">i2"),
    "int8": ("CharStorage", ">i1"),
    "complex64": ("ComplexFloatStorage", ">c8"),
    "complex128": ("ComplexDoubleStorage", ">c16"),
}


@pytest.mark.parametrize("name", BIG_ENDIAN)
def test_big_endian_zip(name: str, tmp_path: Path) -> None:
    kind, code = BIG_ENDIAN[name]
    array = (np.arange(12) * (1 + 2j if "complex" in name else 1)).astype(code)
    index = dictionary(
        {"w": tensor("0", 12, (3, 4), (4, 1), kind=f"torch {kind}"), "v": tensor("0", 12, (3,), (4,), offset=1, kind=f"torch {kind}")}
    )
    got = strip(zipped(tmp_path / "m.pth", index, {"0": array.tobytes()}, order="big"))
    assert got["w"].dtype == getattr(torch, name)
    assert np.array_equal(got["w"].numpy(), array.reshape(3, 4)) and np.array_equal(got["v"].numpy(), array[1::4])


def test_big_endian_untyped_storage(tmp_path: Path) -> None:
    head = (
        b"ctorch._utils\n_rebuild_tensor_v3\n("
        + storage("0", 8, "torch.storage UntypedStorage")
        + number(1)
        + numbers((3,))
        + numbers((1,))
    )
    index = dictionary({"w": head + b"\x89ccollections\nOrderedDict\n)Rctorch\nuint16\ntR"})
    got = strip(zipped(tmp_path / "m.pth", index, {"0": np.arange(4, dtype=">u2").tobytes()}, order="big"))
    assert got["w"].dtype == torch.uint16 and got["w"].tolist() == [1, 2, 3]


def test_a_storage_has_one_type(tmp_path: Path) -> None:
    index = dictionary({"a": tensor("0", 6, (6,), (1,)), "b": tensor("0", 6, (6,), (1,), kind="torch IntStorage")})
    for path in (zipped(tmp_path / "m.pth", index), stream(tmp_path / "n.pth", old_index(index), {"0": DATA["0"]})):
        with pytest.raises(FormatError, match="the storage '0' is used as float32 and as int32"):
            read_weights(path)


SET = b"(" + storage("0", 6) + number(2) + numbers((2,)) + numbers((2,)) + b"tb"  # BUILD with (storage, offset, size, stride)
STATES: dict[str, tuple[bytes, Any]] = {
    "another view": (tensor("0", 6, (6,), (1,)) + SET, [2.0, 4.0]),
    "requires_grad": (tensor("0", 6, (2,), (1,)) + b"(\x89\x89}tb", [0.0, 1.0]),
    "a typed tensor": (b"ctorch\nFloatTensor\n)R" + SET, [2.0, 4.0]),
    "a parameter": (b"ctorch.nn.parameter\nParameter\n" + tensor("0", 6, (6,), (1,)) + b"\x85R" + SET, [2.0, 4.0]),
    "data of a variable": (b"ctorch.autograd\nVariable\n)R(" + tensor("0", 6, (2,), (1,)) + b"N}\x89\x89tb", [0.0, 1.0]),
    "another type": (tensor("1", 3, (3,), (1,), kind="torch LongStorage") + SET, "another type"),
    "a dictionary": (tensor("0", 6, (6,), (1,)) + b"}" + text("data") + number(1) + b"sb", "none of torch's"),
    "one of two fields": (tensor("0", 6, (6,), (1,)) + b"(" + storage("0", 6) + number(2) + b"tb", "none of torch's"),
    "a number": (tensor("0", 6, (6,), (1,)) + number(3) + b"b", "none of torch's"),
}


@pytest.mark.parametrize("name", STATES)
def test_state_given_to_a_tensor(name: str, tmp_path: Path) -> None:
    value, expected = STATES[name]
    data = {"0": DATA["0"], "1": np.arange(3, dtype="<i8").tobytes()}
    path = zipped(tmp_path / "m.pth", dictionary({"w": value}), data)
    if isinstance(expected, str):
        with pytest.raises(FormatError, match=expected):
            read_weights(path)
    else:
        assert strip(path)["w"].tolist() == expected
        if name in ("another view", "a typed tensor"):  # torch's weights_only takes these, torch itself all of them
            assert torch.load(path, weights_only=True)["w"].tolist() == expected


def test_several_checkpoints_in_one_file_are_refused(tmp_path: Path) -> None:
    one, two = (
        zipped(tmp_path / "1.pth", dictionary(HONEST)).read_bytes(),
        stream(tmp_path / "2.pth", old_index(dictionary(HONEST))).read_bytes(),
    )
    path = tmp_path / "m.pth"
    for content in (two + two, two + one, one + one, pickle.dumps({"a": np.ones(2)}) * 2):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="one after the other"):
            read_weights(path)
    path.write_bytes(two + b"junk")
    with pytest.warns(ConversionWarning, match="4 bytes after its end"):
        compare(strip(path), WANT)


def test_stream(tmp_path: Path) -> None:
    compare(strip(stream(tmp_path / "m.pth", old_index(dictionary(HONEST)))), WANT)


def test_stream_with_views_of_storages(tmp_path: Path) -> None:
    window = b"(" + text("view") + number(2) + number(3) + b"t"
    head = b"ctorch._utils\n_rebuild_tensor\n(" + storage("0", 6, more=window) + number(1) + numbers((2,)) + numbers((1,)) + b"tR"
    index = old_index(dictionary({"whole": tensor("0", 6, (6,), (1,))}))
    index = index[:-2] + text("part") + head + b"u."
    got = strip(stream(tmp_path / "m.pth", index, {"0": DATA["0"]}))
    assert got["part"].tolist() == [3.0, 4.0]
    assert got["part"].untyped_storage().data_ptr() == got["whole"].untyped_storage().data_ptr()


def test_stream_with_more_behind_warns(tmp_path: Path) -> None:
    path = stream(tmp_path / "m.pth", old_index(dictionary(HONEST)))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.warns(ConversionWarning, match="4 bytes after"):
        compare(strip(path), WANT)


@pytest.mark.parametrize("file_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar(file_format: int, tmp_path: Path) -> None:
    index = b"\x80\x02}(" + text("w") + text("101") + b"Q" + text("b") + text("102") + b"Q" + text("row") + text("-103") + b"Qu."
    stored = [("7", "torch FloatStorage", DATA["0"], 4), ("8", "torch.cuda FloatStorage", DATA["1"], 4)]
    tensors = [("101", "7", (2, 3), (3, 1), 0), ("102", "8", (3,), (1,), 0), ("-103", "9", (2,), (1,), 1)]
    got = strip(tarred(tmp_path / "m.pth.tar", index, tensors, stored, [("9", "7", 3, 3)], file_format=file_format))
    assert list(got) == ["w", "b", "row"] and got["row"].tolist() == [4.0, 5.0]
    assert torch.equal(got["w"], WANT["w"]) and torch.equal(got["b"], WANT["b"])
    assert got["row"].untyped_storage().data_ptr() == got["w"].untyped_storage().data_ptr()


def test_tar_of_parameters(tmp_path: Path) -> None:
    """Parameter(tensor) with a state of three fields, and the oldest, whose tensor comes with its state of five."""
    make = b"ctorch.nn.parameter\nParameter\n"
    three = make + text("101") + b"Q\x85\x81(\x88\x89ccollections\nOrderedDict\n)Rtb"
    five = make + b")\x81(" + text("102") + b"QNccollections\nOrderedDict\n)R\x88\x89tb"
    index = b"\x80\x02}(" + text("w") + three + text("b") + five + b"u."
    stored = [("7", "torch FloatStorage", DATA["0"], 4), ("8", "torch FloatStorage", DATA["1"], 4)]
    tensors = [("101", "7", (2, 3), (3, 1), 0), ("102", "8", (3,), (1,), 0)]
    compare(strip(tarred(tmp_path / "m.pth", index, tensors, stored, [])), WANT)


def test_tar_of_a_checkpoint(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.pth", dictionary(HONEST))
    with tarfile.open(tmp_path / "outer.tar", "w") as archive:
        archive.add(inner, "folder/inner.pth")
    compare(strip(tmp_path / "outer.tar"), WANT)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickle_of_tensors(protocol: int, tmp_path: Path) -> None:
    """pickle.dump of tensors holds a whole checkpoint for each storage, as bytes."""
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(WANT, protocol))
    compare(strip(path), WANT)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickle_of_arrays(protocol: int, tmp_path: Path) -> None:
    arrays = {
        "w": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "h": np.ones(3, "f2"),
        "e": np.zeros((0, 2)),
    }
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}, protocol))
    got = strip(path)
    assert all(np.array_equal(got[name].numpy(), array) and got[name].numpy().dtype == array.dtype for name, array in arrays.items())


def test_python_2_strings(tmp_path: Path) -> None:
    """Names as byte strings, an attribute that isn't UTF-8, a numpy array whose bytes are a string."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01K\x02\x85cnumpy\ndtype\n(U\x02f4K\x00K\x01tR"
    array += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08" + struct.pack("<2f", 1, -2) + b"tb"
    index = b"\x80\x02}(U\x01w" + HONEST["w"] + b"U\x04note" + b"T\x03\x00\x00\x00\xff\xfe\xe9" + b"U\x01a" + array + b"u."
    got = strip(zipped(tmp_path / "m.pth", index))
    assert list(got) == ["w", "a"] and got["a"].tolist() == [1.0, -2.0]


def test_protocol_0(tmp_path: Path) -> None:
    index = b"(dp0\nS'w'\np1\nctorch._utils\n_rebuild_tensor\np2\n(" + storage("0", 6) + b"I0\n(L2L\nI3\ntp3\n(I3\nI1\nttRp4\ns."
    got = strip(zipped(tmp_path / "m.pth", index))
    compare(got, {"w": WANT["w"]})


def test_sparse_memo(tmp_path: Path) -> None:
    index = b"\x80\x02}r\xff\xff\xff\x7f(" + text("w") + HONEST["w"] + b"r\x00\x00\x00\x40" + text("again") + b"j\x00\x00\x00\x40u."
    got = strip(zipped(tmp_path / "m.pth", index))
    assert torch.equal(got["w"], WANT["w"]) and got["again"].data_ptr() == got["w"].data_ptr()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("script", [True, False], ids=["scripted", "traced"])
def test_torchscript(script: bool, tmp_path: Path) -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("late", torch.ones(2))
            self.early = nn.Parameter(torch.zeros(2))
            self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)
            return x * self.late + self.early

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.bn = Inner(), nn.BatchNorm1d(2)
            self.scale = nn.Parameter(torch.ones(1))
            self.plain, self.many = torch.ones(3), [torch.ones(1)]
            self.register_buffer("temporary", torch.ones(1), persistent=False)
            self.list = nn.ParameterList([nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for parameter in self.list:
                x = x * parameter
            return self.bn(self.inner(x)) * self.scale * self.plain.sum() * self.many[0] * self.temporary

    model = Outer().eval()
    scripted = torch.jit.script(model) if script else torch.jit.trace(model, torch.ones(3, 2))
    path = tmp_path / "m.pt"
    scripted.save(str(path))
    assert read_checkpoint(path).form == "TorchScript"
    compare(strip(path), torch.jit.load(str(path)).state_dict(), metadata=False)


def json_script(path: Path, *, tensor_number: str = "1") -> Path:
    """A TorchScript archive as 1.2 and 1.3 wrote it: modules in JSON, buffers as pickled attributes."""
    tensors = [
        {"dims": ["2", "3"], "strides": ["3", "1"], "offset": "0", "dataType": "FLOAT", "data": {"key": "tensors/0"}},
        {"dims": ["3"], "strides": ["1"], "dataType": "FLOAT", "data": {"key": "tensors/1"}},
    ]
    buffers = [{"name": "b", "type": "Tensor", "id": "0"}, {"name": "training", "type": "bool", "id": "1"}]
    inner = {"name": "0", "parameters": [{"name": "w", "tensorId": "0", "isBuffer": False}], "attributes": buffers}
    main = {"submodules": [inner], "parameters": [{"name": "first", "tensorId": tensor_number, "isBuffer": True}]}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/version", "2")
        archive.writestr("m/attributes.pkl", b"\x80\x02ctorch.jit._pickle\nbuild_tensor_from_id\nK\x01\x85R\x85.")
        for key, content in DATA.items():
            archive.writestr(f"m/tensors/{key}", content)
        archive.writestr("m/model.json", json.dumps({"mainModule": main, "tensors": tensors}))
    return path


def test_torchscript_of_before_1_4(tmp_path: Path) -> None:
    got = strip(json_script(tmp_path / "m.pth"))
    assert list(got) == ["first", "0.w", "0.b"] and torch.equal(got["0.w"], WANT["w"]) and torch.equal(got["0.b"], WANT["b"])
    with pytest.raises(FormatError, match="tensor 7 of 2"):
        read_weights(json_script(tmp_path / "n.pth", tensor_number="7"))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torch_package(tmp_path: Path) -> None:
    from torch.package import PackageExporter

    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with PackageExporter(str(tmp_path / "m.pt")) as exporter:
        exporter.extern("**")
        exporter.save_pickle("m", "m.pkl", model)
    compare(strip(tmp_path / "m.pt"), model.state_dict())


def test_classes_pickled_by_value(tmp_path: Path) -> None:
    """A class that is itself the result of a call, as cloudpickle and dill write it."""
    made = b"cmaker\nmake_class\n(ctype\ntype\n" + text("Net") + b")}tR"
    attributes = {"_parameters": b"}(" + text("w") + HONEST["w"] + b"u", "_buffers": b"}", "_modules": b"}", "_state_dict_hooks": b"}"}
    index = b"\x80\x02" + made + b")\x81}(" + b"".join(text(name) + value for name, value in attributes.items()) + b"ub."
    path = zipped(tmp_path / "m.pth", index)
    compare(strip(path), {"w": WANT["w"]}, metadata=False)
    root = read_checkpoint(path).root
    assert isinstance(root, Stub) and root.class_name == "Net"


def test_module_of_before_0_4(tmp_path: Path) -> None:
    """No set of non-persistent buffers, a _backend made by a call, no num_batches_tracked, running statistics as plain tensors."""
    attributes = {
        "_backend": b"ctorch.nn.backends.thnn\n_get_thnn_function_backend\n)R",
        "_parameters": b"ccollections\nOrderedDict\n](](" + text("weight") + HONEST["b"] + b"e](" + text("bias") + b"Nee\x85R",
        "_buffers": b"ccollections\nOrderedDict\n](](" + text("running_mean") + HONEST["w"] + b"ee\x85R",
        "_modules": b"ccollections\nOrderedDict\n)R",
    }
    index = b"\x80\x02ctorch.nn.modules.batchnorm\nBatchNorm2d\n)\x81}(" + b"".join(text(a) + b for a, b in attributes.items()) + b"ub."
    got = strip(zipped(tmp_path / "m.pth", index))
    compare(got, {"weight": WANT["b"], "running_mean": WANT["w"]}, metadata=False)
    assert got._metadata == {"": {"version": 2}}


def test_checksums_that_were_never_computed_warn(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    torch.serialization.set_crc32_options(False)
    try:
        save(WANT, path)
    finally:
        torch.serialization.set_crc32_options(True)
    with pytest.warns(ConversionWarning, match="no valid checksums"):
        compare(strip(path), WANT)


def test_a_checksum_is_computed_once_from_zip_to_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, seen = tmp_path / "m.pth", tmp_path / "out.pth", []

    def counted(data: memoryview, value: int = 0) -> int:
        seen.append(len(data))
        return zlib.crc32(data, value)

    save({"weight": torch.arange(30_000.0)}, source)
    monkeypatch.setattr("converters.readers.pytorch.archives.zip.crc32", counted)
    monkeypatch.setattr("converters.writers.pth.crc32", counted)
    strip_to_weights(source, target)
    assert seen.count(120_000) == 1
    compare(torch.load(target, weights_only=True), {"weight": torch.arange(30_000.0)}, metadata=False)


def test_a_wrong_checksum_warns(tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.pth", dictionary(HONEST))
    content = bytearray(path.read_bytes())
    content[content.find(DATA["1"]) + 1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.warns(ConversionWarning, match="data/1: its checksum doesn't match"):
        strip(path)


def test_data_that_was_never_written_is_refused(tmp_path: Path) -> None:
    with torch.serialization.skip_data():
        save(WANT, tmp_path / "m.pth")
    with pytest.raises(FormatError, match="never written"):
        read_weights(tmp_path / "m.pth")


def test_zeros_are_weights(tmp_path: Path) -> None:
    zeros = {"w": torch.zeros(100), "one": torch.zeros(1)}
    compare(strip(save(zeros, tmp_path / "m.pth")), zeros)


MISTAKEN: dict[str, tuple[bytes, str]] = {
    "html": (b"<!DOCTYPE html><html>404</html>", "HTML page"),
    "html after space": (b"\n\n  <html><body>", "HTML page"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "gzip": (b"\x1f\x8b\x08\x00abc", "gunzip"),
    "xz": (b"\xfd7zXZ\0abc", "unxz"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "png": (b"\x89PNG\r\n\x1a\n", "an image"),
    "npy": (b"\x93NUMPY\x01\x00", "no array that numpy saved"),
    "json": (b'{"error": 404}', "JSON"),
    "text": (b"import torch\n\nclass Net:\n", "a text file"),
    "zeros": (bytes(4096), "zero bytes"),
    "noise": (bytes(range(200, 256)) * 8, "first bytes are c8 c9"),
    "empty": (b"", "empty"),
    "safetensors, cut": ((1 << 50).to_bytes(8, "little") + b'{"a"', "no kind that is known"),
    "pickle of nothing": (pickle.dumps([1, 2]), "no weights"),
}


@pytest.mark.parametrize("name", MISTAKEN)
def test_other_files_are_named(name: str, tmp_path: Path) -> None:
    content, words = MISTAKEN[name]
    path = tmp_path / "m.pth"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=words):
        load_weights(path)


def test_other_zips_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(FormatError, match=r"holds readme\.txt"):
        read_weights(tmp_path / "m.zip")


def test_lazy_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    model = classes.Net().half()
    path = save(model, tmp_path / "m.pth")
    weights = load_weights(path)
    assert list(weights) == list(model.state_dict())
    for name, expected in model.state_dict().items():
        weight: Any = weights[name]
        assert weight.shape == tuple(expected.shape) and weight.nbytes == expected.nbytes and weight.dtype == expected.numpy().dtype
        array = np.asarray(weight)
        assert np.array_equal(array, expected.numpy()) and not array.flags.writeable and not array.flags.owndata


def test_loading_from_memory_is_the_same_as_the_buffer(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(WANT, buffer)
    (tmp_path / "m.pth").write_bytes(buffer.getvalue())
    compare(strip(tmp_path / "m.pth"), WANT)


def test_the_zip_of_torch_1_4(tmp_path: Path) -> None:
    """`_use_new_zipfile_serialization=True` of 1.4 kept the storages under tensors/; TorchScript's identities had a sixth field."""
    whole = tensor("0", 6, (6,), (1,))
    for sixth in (b"", b"N"):
        value = whole.replace(storage("0", 6), storage("0", 6, more=sixth))
        path = zipped(tmp_path / "m.pth", dictionary({"a": value}), {"0": DATA["0"]}, folder="tensors")
        assert strip(path)["a"].tolist() == np.frombuffer(DATA["0"], "<f4").tolist()
    window = dictionary({"a": whole.replace(storage("0", 6), storage("0", 6, more=number(1)))})
    with pytest.raises(FormatError, match="five fields"):
        read_weights(zipped(tmp_path / "n.pth", window, {"0": DATA["0"]}))


def test_modules_of_torch_fx(tmp_path: Path) -> None:
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.BatchNorm1d(3)))
    compare(strip(save(traced, tmp_path / "m.pth")), traced.state_dict(), metadata=False)
    inside = nn.Sequential(nn.Linear(2, 2), traced)
    compare(strip(save({"net": inside, "epoch": 1}, tmp_path / "n.pth")), inside.state_dict(), metadata=False)
