"""Files are told by their content; what is commonly mistaken for a model is named."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest

import converters
from converters.recognition import identify
from tests.conformance import FIXTURES


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return data.getvalue()


def tarred(name: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return data.getvalue()


def npy() -> bytes:
    data = io.BytesIO()
    np.save(data, np.zeros(3))
    return data.getvalue()


INLINE = {
    "html": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\0",
    "bzip2": b"BZh91AY&SY",
    "xz": b"\xfd7zXZ\0\0\0",
    "npz": zipped("a.npy"),
    "npy": npy(),
    "zip": zipped("model.caffemodel"),
    "json": b'{"config": {"layers": []}}',
    "pickle": pickle.dumps({"a": 1}, protocol=2),
    "torch-zip": zipped("archive/data.pkl", "archive/data/0"),
    "torchscript": zipped("archive/data.pkl", "archive/constants.pkl"),
    "torch-tar": tarred("sys_info"),
    "torch-stream": pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + b"rest",
    "safetensors": struct.pack("<Q", 2) + b"{}" + b"\0" * 8,
    "mxnet-symbol": b'{\n  "nodes": [], "heads": []}',
    "mxnet-params": struct.pack("<QQQ", 0x112, 0, 0),
    "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 20,
    "prototxt": b'\n# a comment\nname: "net"\nlayer { name: "a" }\n',
    "caffemodel": b"\x0a\x03net\xa2\x06\x02\x0a\x00",
    "onnx": b"\x08\x09\x12\x07pytorch",
    "t7": struct.pack("<iii", 4, 1, 3) + b"V 1",
    "t7-ascii": b"4\n1\n3\nV 1\n13\nnn.Sequential\n",
    "text": b"just some words that say nothing\n",
    "unknown": b"\xfe\xed\xfa\xce\xff\x00\x01\x02\x03",
}


@pytest.mark.parametrize("name", INLINE)
def test_kind(name, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(INLINE[name])
    assert identify(path).name == name


@pytest.mark.parametrize(
    "file, name",
    [
        ("caffe/deploy.prototxt", "prototxt"),
        ("caffe/train_val.prototxt", "prototxt"),
        ("caffe/digits.caffemodel", "caffemodel"),
        ("caffe/digits.caffemodel.h5", "hdf5"),
        ("torch7/digits.t7", "t7"),
        ("mxnet/digits-symbol.json", "mxnet-symbol"),
        ("mxnet/digits-0010.params", "mxnet-params"),
        ("pytorch/digits_whole.pth", "torch-zip"),
        ("pytorch/digits_whole_legacy.pth", "torch-stream"),
    ],
)
def test_kind_of_real_files(file, name):
    assert identify(FIXTURES / "digits" / file).name == name


@pytest.mark.parametrize("name", ["html", "git-lfs", "gzip", "npz", "json", "zip", "text", "unknown"])
def test_the_mistaken_are_refused_by_name(name, tmp_path):
    path = tmp_path / "model.t7"
    path.write_bytes(INLINE[name])
    with pytest.raises(converters.FormatError, match=r"model\.t7: this is "):
        converters.load(path)


def test_what_nobody_knows_is_refused(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(INLINE["unknown"])
    with pytest.raises(converters.FormatError, match="of no kind that is known here"):
        converters.load(path)


def test_no_file_at_all():
    with pytest.raises(converters.ConversionError, match="no file"):
        converters.load()
