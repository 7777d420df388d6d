"""What is this file? Told by its content, never by its suffix: what can be read, and what is commonly mistaken for it.

Magic numbers and layouts: GGUF and GGML (ggml-org/ggml), TFLite (schema.fbs), TensorFlow (graph.proto, saved_model.proto,
tensor_bundle), Core ML (Model.proto), Darknet (src/parser.c), ncnn (paramdict.cpp), HDF5 and MATLAB 5 (their format specifications).
"""

from __future__ import annotations

import dataclasses
import glob
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from converters.errors import FormatError, printable
from converters.files import InputFile, StrPath
from converters.schemas.wire import BYTES, FIXED32, VARINT, CutOffError, spans


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    words: what it is, as "this is ..." goes on. hint: what to do with it, where it can't be read here. starts: first bytes that tell
    it. text: a pattern that the beginning of a text file of this kind matches, in any case and line.
    """

    name: str
    words: str
    hint: str = ""
    starts: tuple[bytes, ...] = ()
    text: str = ""


_AGAIN = "the download went wrong; fetch the file again"
_UNPACK = "unpack it and give the files inside"
_WEIGHTS = "strip-to-weights and load_weights read it"

_TORCH_MAGIC = (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"L119547037146038801333356L\n.")
"""torch's magic number in front of a stream, as pickle writes it from protocol 2 on, and before."""

KINDS = (
    Kind("hdf5", "an HDF5 file (Caffe weights in HDF5 form, if /data is in it)", starts=(b"\x89HDF\r\n\x1a\n",)),
    Kind("keras", "a Keras model (HDF5)", "tf2onnx makes ONNX of it, which is read here"),
    Kind("mxnet-params", "MXNet parameters", starts=(b"\x12\x01\0\0\0\0\0\0",)),
    Kind("torch-stream", "a PyTorch checkpoint (stream of 0.4 to 1.5)", starts=_TORCH_MAGIC),
    Kind("torch-tar", "a PyTorch checkpoint (tar of 0.1 to 0.3)", starts=(b"sys_info\0", b"pickle\0", b"storages\0", b"tensors\0")),
    Kind("torch-zip", "a PyTorch checkpoint (zip)"),
    Kind("torchscript", "a TorchScript archive"),
    Kind("torch-export", "a program of torch.export (.pt2)", "strip-to-weights and load_weights read its weights"),
    Kind("safetensors", "safetensors weights"),
    Kind("t7", "a Lua Torch file (binary)"),
    Kind("t7-ascii", "a Lua Torch file (ASCII)"),
    Kind("onnx", "an ONNX model"),
    Kind("caffemodel", "Caffe weights (binary NetParameter)"),
    Kind("mxnet-symbol", "an MXNet symbol (JSON)"),
    Kind("pickle", "a Python pickle"),
    Kind("tensorflow-graph", "a TensorFlow graph (GraphDef, frozen_graph.pb)"),
    Kind("tensorflow-meta", "a TensorFlow graph (MetaGraphDef, model.ckpt.meta)"),
    Kind(
        "tensorflow-text",
        "a TensorFlow graph in text form (graph.pbtxt)",
        text=r"\A(\s|#[^\n]*\n)*(node\s*\{\s*name\s*:|meta_info_def\s*\{)",
    ),
    Kind("tensorflow-savedmodel", "a TensorFlow SavedModel"),
    Kind("tensorflow-checkpoint", "a TensorFlow checkpoint (its index, or the whole of an old one)"),
    Kind(
        "tensorflow-checkpoint-text",
        "the text file of a TensorFlow checkpoint, which names the newest one",
        text=r"^\s*model_checkpoint_path\s*:",
    ),
    # -- what is commonly mistaken for a model
    Kind("blob", "a single Caffe blob (a mean.binaryproto?), not the weights of a net", "give the net's .caffemodel"),
    Kind("solverstate", "a Caffe solverstate (the optimizer's memory), not weights", "give the .caffemodel saved beside it"),
    Kind("tflite", "a TensorFlow Lite model", "tf2onnx makes ONNX of it, which is read here"),
    Kind("coreml", "a Core ML model", "convert the model that it was made from"),
    Kind("gguf", "a GGUF file (llama.cpp)", "it isn't read here; give the checkpoint that it was made from", starts=(b"GGUF",)),
    Kind(
        "ggml",
        "a GGML file (llama.cpp, whisper.cpp)",
        "it isn't read here; give the checkpoint that it was made from",
        starts=(b"lmgg", b"tjgg", b"fmgg", b"algg"),
    ),
    Kind("matlab", "a MATLAB file (MatConvNet, perhaps)", "it isn't read here", starts=(b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file")),
    Kind("npy", "a numpy array (.npy), not a model", _WEIGHTS, starts=(b"\x93NUMPY",)),
    Kind("npz", "an archive of numpy arrays (.npz), not a model", _WEIGHTS),
    Kind("keras-zip", "a Keras model (zip)", "tf2onnx makes ONNX of it, which is read here"),
    Kind("msgpack", "a msgpack dictionary, as flax writes parameters", _WEIGHTS),
    Kind("zip-of-checkpoint", "a zip archive with a PyTorch checkpoint inside", _UNPACK),
    Kind("zip", "a zip archive that holds no PyTorch checkpoint", _UNPACK),
    Kind("tar", "a tar archive", _UNPACK),
    Kind("gzip", "compressed with gzip", "unpack it first: gunzip", starts=(b"\x1f\x8b",)),
    Kind("bzip2", "compressed with bzip2", "unpack it first: bunzip2", starts=(b"BZh",)),
    Kind("xz", "compressed with xz", "unpack it first: unxz", starts=(b"\xfd7zXZ\0",)),
    Kind("zstd", "compressed with zstd", "unpack it first: unzstd", starts=(b"\x28\xb5\x2f\xfd",)),
    Kind("7z", "a 7z archive", _UNPACK, starts=(b"7z\xbc\xaf\x27\x1c",)),
    Kind("rar", "a RAR archive", _UNPACK, starts=(b"Rar!",)),
    Kind("git-lfs", "a git-lfs pointer, not the file itself", "fetch that with: git lfs pull", starts=(b"version https://git-lfs",)),
    Kind("image", "an image, not a model", starts=(b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")),
    Kind("pdf", "a PDF document, not a model", starts=(b"%PDF",)),
    Kind("darknet-weights", "Darknet weights (YOLO)", "Darknet isn't read here; convert it with a tool for Darknet first"),
    Kind(
        "darknet-cfg",
        "a Darknet net (.cfg, YOLO)",
        "Darknet isn't read here; convert it with a tool for Darknet first",
        text=r"^\s*\[(net|network|convolutional|connected)\]",
    ),
    Kind(
        "openvino",
        "an OpenVINO net (.xml)",
        "it isn't read here; give the model that it was made from",
        text=r"\A\s*(<\?xml[^>]*>\s*)?<net\b",
    ),
    Kind(
        "written-module",
        "a module written by this package (PyTorch source)",
        "give the .pth that it names: this file is read beside that one",
        text=r"\A\"{3}(The net '[^'\"]*'|A net) in PyTorch; [^\"]* has its weights\.",
    ),
    Kind("html", "an HTML page, not a model", _AGAIN, text=r"\A\s*(<\?xml[^>]*>\s*)?(<!doctype|<html|<head|<body)"),
    Kind(
        "xml",
        "an XML file (a server's error page, perhaps), not a model",
        "if it was downloaded, fetch the file again",
        text=r"\A\s*<\?xml",
    ),
    Kind("ncnn", "an ncnn net (.param)", "it isn't read here; give the model that it was made from", text=r"\A7767517\s"),
    Kind(
        "error-text",
        "the error message of a server, not a model",
        _AGAIN,
        text=r"\A\s*([45]\d\d\b[: ]|not found\b|access denied|forbidden|unauthorized|entry not found|repository not found|bad gateway)",
    ),
    Kind(
        "solver",
        "a solver's prototxt",
        "give the prototxt of the net that it names",
        text=r"^(net|train_net|test_net|base_lr|lr_policy|snapshot_prefix)\s*:",
    ),
    Kind("shards", "the index of weights that lie in several files (weight_map)", _WEIGHTS),
    Kind("json", "JSON, but not an MXNet symbol (it has no list of nodes)", text=r"\A\s*[{\[]\s*([\"{\[\]}]|-?\d)"),
    Kind("prototxt", "a Caffe net in text form (prototxt)", text=r"^\s*(layers?\s*:?\s*\{|input\s*:|input_dim\s*:|name\s*:)"),
    Kind("text", "a text file of no kind that is known here"),
    Kind("zeros", "nothing but zero bytes", _AGAIN),
    Kind("unknown", "of no kind that is known here"),
)

_NAMED = {kind.name: kind for kind in KINDS}
_STANDING = ("saved_model.pb", "checkpoint", ".metadata", "model.safetensors.index.json", "pytorch_model.bin.index.json")
"""Files that a folder is known by, and read from: TensorFlow's, torch.distributed.checkpoint's, Hugging Face's."""
_CHECKPOINTS = (".pth", ".pt", ".bin", ".ckpt")
_SAVED_FOLDERS = {"keras_metadata.pb": "a Keras model", "Manifest.json": "a Core ML package"}
_HEAD = 4096
_SEEN = 1 << 20
"""Bytes that are searched for Keras's attributes and a symbol's nodes."""


class RecognizedFile(InputFile):
    """A file that was mapped and recognized, once."""

    def __init__(self, path: StrPath, more: Sequence[Kind] = ()) -> None:
        super().__init__(path if isinstance(path, InputFile) else _stands_for(path))
        self.ranks: tuple[str, ...] = path.ranks if isinstance(path, RecognizedFile) else _ranks(os.fspath(path))
        """The files of a folder that has one for each rank of a sharded model; this is the first of them."""
        self.kind: Kind = path.kind if isinstance(path, RecognizedFile) else _kind_of(self.view, more)

    @property
    def parts(self) -> tuple[InputFile, ...]:
        """The file, and those beside it that hold its numbers: a SavedModel's variables, the shards of a checkpoint, the other ranks."""
        index = self.path
        if self.kind.name == "tensorflow-savedmodel":
            index = os.path.join(os.path.dirname(self.path), "variables", "variables.index")
        first = [index] if index != self.path and os.path.isfile(index) else []
        stem = glob.escape(re.sub(r"(\.index|-\d{5}-of-\d{5})$", "", index))
        data = [f"{stem}.data-?????-of-?????"] if index.endswith(".index") else []
        old = [f"{stem}-?????-of-?????"] if re.search(r"-\d{5}-of-\d{5}$", index) else []
        found = [*first, *sorted(path for pattern in (*data, *old) for path in glob.glob(pattern)), *self.ranks]
        return (
            self,
            *(InputFile(path) for path in dict.fromkeys(found) if path != self.path and os.path.isfile(path) and os.path.getsize(path)),
        )

    def refusal(self, hint: str | None = None) -> FormatError:
        """The error that says what the file is, for whoever can't read it."""
        return FormatError(f"this is {self.kind.words}", path=self.path, hint=hint or self.kind.hint or None)


def identify(path: StrPath) -> Kind:
    """The kind of a file, from its bytes. Raises ConversionError where it can't be read or is empty."""
    return RecognizedFile(path).kind


def _stands_for(path: StrPath) -> StrPath:
    """The file that a path means where it isn't one: that of a SavedModel's or a checkpoint's folder, the index of a checkpoint's prefix.

    Raises FormatError for another folder.
    """
    given = os.fspath(path)
    if os.path.isdir(given):
        for name in _STANDING:
            if os.path.isfile(os.path.join(given, name)):
                return os.path.join(given, name)
        if _is_unpacked(given):
            return os.path.join(given, "data.pkl")
        ranks = _ranks(given)
        if ranks:
            return ranks[0]
        inside = next((words for name, words in _SAVED_FOLDERS.items() if os.path.exists(os.path.join(given, name))), None)
        what = "this is a folder, not a file" + (f" ({inside})" if inside else "")
        raise FormatError(what, path=given, hint="give the file that holds the model")
    data = re.fullmatch(r"(.*)\.data-\d{5}-of-\d{5}", given, re.DOTALL)
    if data is not None and os.path.isfile(f"{data[1]}.index"):
        return f"{data[1]}.index"
    if not os.path.exists(given):
        if os.path.isfile(f"{given}.index"):
            return f"{given}.index"
        given = re.sub(r"-\?{5}-of-\d{5}$", "", given)  # as TensorFlow itself calls an old checkpoint in several files
        return next(iter(sorted(glob.glob(f"{glob.escape(given)}-00000-of-?????"))), path)
    return path


def _is_unpacked(folder: str) -> bool:
    """Whether a folder is a zip checkpoint that somebody has unpacked."""
    has_index = os.path.isfile(os.path.join(folder, "data.pkl"))
    return has_index and any(os.path.isdir(os.path.join(folder, name)) for name in ("data", "tensors"))


def _ranks(path: str) -> tuple[str, ...]:
    """The checkpoints in a folder, where that is all by which it could be known; none of a file."""
    known = any(os.path.isfile(os.path.join(path, name)) for name in _STANDING) if os.path.isdir(path) else True
    if known or _is_unpacked(path):
        return ()
    return tuple(os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(_CHECKPOINTS))


def _kind_of(view: memoryview, more: Sequence[Kind]) -> Kind:
    head = bytes(view[:_HEAD])
    for kind in (*more, *KINDS):
        if head.startswith(kind.starts):  # no starts: nothing begins with them
            return _NAMED["keras"] if kind.name == "hdf5" and _is_keras(view) else kind
    text = _as_text(head)
    name = _by_structure(view, head, text)
    if name is not None:
        return _NAMED[name]
    if text is not None:
        return _text_kind(view, text, more)
    if not any(head) and not any(bytes(view[: 1 << 16])):
        return _NAMED["zeros"]
    first = f"of no kind that is known here (its first bytes are {head[:8].hex(' ')})"
    return dataclasses.replace(_NAMED["unknown"], words=first)


def _by_structure(view: memoryview, head: bytes, text: str | None) -> str | None:
    """The kinds whose first bytes aren't always the same."""
    first = int.from_bytes(head[:8], "little")
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(view)
    if head[257:262] == b"ustar":
        return "torch-tar" if re.match(rb"(\./)?(sys_info|pickle|storages|tensors)\0", head) else "tar"
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image"
    if len(head) > 8 and 2 <= first <= len(view) - 8 and head[8:9] == b"{":
        return "safetensors"
    if re.match(rb"[0-8]\n-?\d", head):
        return "t7-ascii"
    if len(head) >= 8 and head[1:4] == b"\0\0\0" and 1 <= head[0] <= 8 and head[4:8] != b"\n\n\n\n":
        return "t7"
    if len(head) >= 8 and head[:3] == b"\0\0\0" and 1 <= head[3] <= 8:
        return "t7"
    if re.match(rb"\0\0\0\0[\x01\x02]\0\0\0[\0-\x09]\0\0\0", head):
        return "darknet-weights"
    if re.match(rb"\x80[\x02-\x05]|\(?[dl]p\d+\n|c[\w.]+\n\w+\n|[]})]q.\(?", head):  # protocols 0 and 1 have no mark of their own
        return "pickle"
    if text is None and re.match(rb"([\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9][\w.]", head, re.DOTALL):
        return "msgpack"
    if len(view) > 48 and bytes(view[-8:]) == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb":  # the footer of a table of TensorFlow's
        return "tensorflow-checkpoint"
    return _protobuf_kind(view, is_text=text is not None)


def _text_kind(view: memoryview, text: str, more: Sequence[Kind]) -> Kind:
    if re.match(r"\s*\{", text) and re.search(rb'"nodes"\s*:', view):
        return _NAMED["mxnet-symbol"]
    if re.match(r"\s*\{", text) and re.search(rb'"weight_map"\s*:', view):
        return _NAMED["shards"]
    for kind in (*more, *KINDS):
        if kind.text and re.search(kind.text, text, re.IGNORECASE | re.MULTILINE):
            return kind
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return dataclasses.replace(_NAMED["text"], words=f"a text file of no kind that is known here ('{printable(line, 40)}')")


def _as_text(head: bytes) -> str | None:
    """The head as text where it is text (UTF-8, or UTF-16 with its mark), else None."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head[: len(head) // 2 * 2].decode("utf-16", "replace")
    if b"\0" in head:
        return None
    text = head.decode("utf-8-sig", "replace")
    strange = sum(not (c.isprintable() or c.isspace()) or c == "\ufffd" for c in text)
    return text if strange * 20 <= len(text) else None


def _is_keras(view: memoryview) -> bool:
    return re.search(rb"keras_version|model_config|layer_names", view[:_SEEN]) is not None


def _zip_kind(view: memoryview) -> str:
    import zipfile  # with all that it can unpack, for the files that are zips alone

    try:
        with zipfile.ZipFile(_Readable(view)) as archive:
            paths = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return "torch-zip"  # broken or cut: the checkpoint reader says how
    names = {path.rpartition("/")[2] for path in paths}
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return "torch-export"
    if ("constants.pkl" in names and "data.pkl" in names) or ("model.json" in names and "version" in names):
        return "torchscript"
    if "data.pkl" in names or "extern_modules" in names:  # extern_modules: a torch.package
        return "torch-zip"
    if {"metadata.json", "config.json"} <= names and any(name.endswith(".weights.h5") for name in names):
        return "keras-zip"
    if any(name.endswith((".pth", ".pt", ".bin", ".ckpt")) for name in names):
        return "zip-of-checkpoint"
    return "npz" if any(name.endswith(".npy") for name in names) else "zip"


class _Readable(io.RawIOBase):
    """A view as a file, for zipfile, without a copy."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, len(self._view))[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        start = self._at
        self._at = len(self._view) if size is None or size < 0 else min(len(self._view), start + size)
        return bytes(self._view[start : self._at])


# -- protobuf: messages carry no name, but the numbers and kinds of their fields tell them apart ---------------------------

_FIELDS = 200
"""Fields of a message that are looked at."""
_ONNX_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})

_Span = tuple[int, int, int, int]
"""Number, wire type, start and end of a field's payload."""


def _protobuf_kind(view: memoryview, *, is_text: bool) -> str | None:
    """What a protobuf message is, by its fields; text that begins like one has to be one to its end."""
    fields = _fields(view, 0, len(view))
    if not fields or (is_text and fields[-1][3] > len(view)):
        return None
    wires: dict[int, set[int]] = {}
    for number, wire, _, _ in fields:
        wires.setdefault(number, set()).add(wire)
    numbers = set(wires)
    if wires.get(1) == {VARINT}:
        if wires.get(5) in ({BYTES}, {FIXED32}) and numbers <= set(range(1, 13)):
            return "blob"
        if any(200 <= number < 4000 for number in numbers):
            return "coreml"
        if numbers <= {1, 2} and _is_message(view, fields, 2, {1, 2, 3, 4, 5, 6, 7}):
            return "tensorflow-savedmodel"
        if wires.get(3) == {BYTES} and numbers <= {1, 2, 3, 4} and _is_message(view, fields, 3, set(range(1, 13))):
            return "solverstate"
        return "onnx" if numbers <= _ONNX_FIELDS else None
    if numbers <= {5, 7, 8, 9, 10, 12} and 7 in numbers and numbers & {5, 8, 12}:
        return "blob"
    if (
        wires.get(1) == {BYTES}
        and numbers <= {1, 2, 3, 4}
        and _is_message(view, fields, 1, {1, 2, 3, 4, 5, 6, 7}, needed=frozenset({1, 2}))
    ):
        return "tensorflow-graph"
    described = wires.get(1) == wires.get(2) == {BYTES} and numbers <= set(range(1, 8))
    if described and _is_message(view, fields, 2, {1, 2, 3, 4}) and _is_message(view, fields, 1, set(range(1, 8))):
        return "tensorflow-meta"
    if wires.get(7) == {BYTES} and wires.get(8) == {BYTES} and numbers <= _ONNX_FIELDS:
        return "onnx"
    if numbers & {2, 100} and all(wires.get(number, {BYTES}) == {BYTES} for number in (1, 2, 3, 100)):
        return "caffemodel"
    return "caffemodel" if numbers == {1} and wires[1] == {BYTES} else None


def _is_message(view: memoryview, fields: Sequence[_Span], number: int, allowed: set[int], needed: frozenset[int] = frozenset()) -> bool:
    """Whether the first few fields of a number are messages that have the allowed fields alone, and the needed ones."""
    found = [(start, end) for n, wire, start, end in fields if n == number and wire == BYTES][:3]
    for start, end in found:
        inner = {n for n, _, _, _ in _fields(view, start, min(end, len(view)))}
        if not inner or not needed <= inner <= allowed:
            return False
    return bool(found)


def _fields(view: memoryview, at: int, end: int) -> list[_Span]:
    """The first fields of a message; one that reaches behind the end is the last. Empty where it is no message."""
    found: list[_Span] = []
    try:
        for number, wire, _, start, stop in spans(view, at, end, whole=False):
            if number > 1 << 20:
                return []
            found.append((number, wire, start, stop))
            if len(found) == _FIELDS:
                break
    except CutOffError:
        return found
    except FormatError:
        return []
    return found
