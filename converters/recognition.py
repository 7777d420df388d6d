"""What is this file? Told by its content, never by its suffix; and the things that are commonly mistaken for a model."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from converters.errors import FormatError
from converters.files import StrPath, map_file

if TYPE_CHECKING:
    pass

Family = Literal["caffe", "torch7", "mxnet", "onnx", "pytorch", "weights", "mistaken", "unknown"]


@dataclass(frozen=True)
class Kind:
    """A kind of file: the family that reads it, and in words what it is (and, for a mistaken one, what to do)."""

    name: str
    family: Family
    words: str


_KINDS = {
    kind.name: kind
    for kind in (
        Kind("prototxt", "caffe", "a Caffe net in text form (prototxt)"),
        Kind("caffemodel", "caffe", "Caffe weights (binary NetParameter)"),
        Kind("hdf5", "caffe", "an HDF5 file (Caffe weights in HDF5 form, if /data is in it)"),
        Kind("t7", "torch7", "a Lua Torch file (binary)"),
        Kind("t7-ascii", "torch7", "a Lua Torch file (ASCII)"),
        Kind("mxnet-symbol", "mxnet", "an MXNet symbol (JSON)"),
        Kind("mxnet-params", "mxnet", "MXNet parameters"),
        Kind("onnx", "onnx", "an ONNX model"),
        Kind("torch-zip", "pytorch", "a PyTorch checkpoint (zip)"),
        Kind("torchscript", "pytorch", "a TorchScript archive"),
        Kind("torch-stream", "pytorch", "a PyTorch checkpoint (stream of 0.4 to 1.5)"),
        Kind("torch-tar", "pytorch", "a PyTorch checkpoint (tar of 0.1 to 0.3)"),
        Kind("safetensors", "weights", "safetensors weights"),
        Kind("pickle", "mistaken", "a plain Python pickle, not a model that can be read without running it"),
        Kind("html", "mistaken", "an HTML page, not a model; the download went wrong, fetch the file again"),
        Kind("git-lfs", "mistaken", "a git-lfs pointer, not the file itself; fetch that with: git lfs pull"),
        Kind("gzip", "mistaken", "gzip-compressed; unpack it first with: gunzip"),
        Kind("bzip2", "mistaken", "bzip2-compressed; unpack it first with: bunzip2"),
        Kind("xz", "mistaken", "xz-compressed; unpack it first with: unxz"),
        Kind("npz", "mistaken", "an archive of numpy arrays (.npz), not a model"),
        Kind("npy", "mistaken", "a numpy array (.npy), not a model"),
        Kind("zip", "mistaken", "a zip archive that holds no PyTorch checkpoint; unpack it and give the files inside"),
        Kind("json", "mistaken", "JSON, but not an MXNet symbol (it has no list of nodes)"),
        Kind("unknown", "unknown", "of no kind that is known here"),
    )
}

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x12\x01\0\0\0\0\0\0", "mxnet-params"),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "torch-stream"),
    (b"version https://git-lfs", "git-lfs"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x93NUMPY", "npy"),
)


def identify(path: StrPath) -> Kind:
    """The kind of a file, from its bytes. Raises ConversionError where it can't be read or is empty."""
    view = map_file(path)
    head = bytes(view[:4096])
    for start, name in _STARTS:
        if head.startswith(start):
            return _KINDS[name]
    if head.startswith(b"PK\x03\x04"):
        return _KINDS[_zip_kind(path)]
    if head[257:262] == b"ustar" or re.match(rb"(sys_info|pickle|storages|tensors)\0", head):
        return _KINDS["torch-tar"]
    return _KINDS[_by_structure(view, head)]


def _by_structure(view: memoryview, head: bytes) -> str:
    first = int.from_bytes(head[:8], "little")
    if len(head) > 8 and 2 <= first <= len(view) - 8 and head[8:9] == b"{":
        return "safetensors"
    if re.match(rb"[0-8]\n-?\d", head):
        return "t7-ascii"
    if (
        len(head) >= 8
        and int.from_bytes(head[:4], "little") in (1, 2, 3, 4, 5, 6, 7, 8)
        and head[4:8] != b"\n\n\n\n"
        and head[1:4] == b"\0\0\0"
    ):
        return "t7"
    if len(head) >= 8 and int.from_bytes(head[:4], "big") in (1, 2, 3, 4, 5, 6, 7, 8) and head[:3] == b"\0\0\0":
        return "t7"
    if re.match(rb"\x80[\x02-\x05]|\(?[dl]p\d+\n|c[\w.]+\n\w+\n|[]}]q.\(", head):  # protocols 0 and 1 have no mark of their own
        return "pickle"
    if re.match(rb"\x08[\x01-\x1f]", head):
        return "onnx"
    text = _as_text(head)
    if text is not None:
        if re.match(r"\s*(<!doctype html|<html|<head|<\?xml)", text, re.IGNORECASE):
            return "html"
        if re.match(r"\s*\{", text):
            return "mxnet-symbol" if re.search(rb'"nodes"\s*:', view) else "json"
        if re.search(r"^\s*(layers?\s*:?\s*\{|input\s*:|input_dim\s*:|name\s*:)", text, re.MULTILINE):
            return "prototxt"
        return "unknown"
    if head[:1] in (b"\x0a", b"\x12", b"\x1a", b"\x22", b"\x28", b"\x30", b"\x38", b"\x42", b"\xa2"):
        return "caffemodel"
    return "unknown"


def _as_text(head: bytes) -> str | None:
    """The head as text where it is text (UTF-8, or UTF-16 with its mark), else None."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head[: len(head) // 2 * 2].decode("utf-16", "replace")
    if b"\0" in head:
        return None
    text = head.decode("utf-8-sig", "replace")
    strange = sum(not (c.isprintable() or c.isspace()) or c == "\ufffd" for c in text)
    return text if strange * 20 <= len(text) else None


def _zip_kind(path: StrPath) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2]: name for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return "torch-zip"  # broken or cut: the checkpoint reader says how
    if ("constants.pkl" in names and "data.pkl" in names) or ("model.json" in names and "version" in names):
        return "torchscript"
    if "data.pkl" in names or "extern_modules" in names:  # extern_modules: a torch.package
        return "torch-zip"
    return "npz" if any(name.endswith(".npy") for name in names) else "zip"


def refuse_mistaken(path: StrPath, kind: Kind) -> None:
    """Raises FormatError for a file that is commonly mistaken for a model, saying what it is."""
    if kind.family == "mistaken":
        raise FormatError(f"{os.path.basename(path)}: this is {kind.words}")
