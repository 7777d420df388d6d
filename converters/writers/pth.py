"""PyTorch's zip checkpoint, written without PyTorch: streamed from mapped views, aligned, tied tensors tied, CRCs right.

Layout: torch/serialization.py, `_save`, and caffe2/serialize/inline_container.cc. `torch.load` reads the result with
`weights_only=True` and with `mmap=True`.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

from converters.errors import ConversionError
from converters.files import StrPath, crc32, writing
from converters.tensors.dtypes import DTYPES
from converters.tensors.storage import Storage
from converters.tensors.tensor import Quantizer, RebuiltTensor, Tensor, TorchName, Weight, as_tensors, check_repeated

ALIGNMENT = 64  # bytes; where a tensor's data begins, so that it can be mapped and used in place
ROOT = "archive"
_LIMIT = 0xFFFFFFFF  # from here on a zip field needs its 64-bit form
_DATE = (1 << 5) | 1  # 1980-01-01: the same weights give the same file


def write_pth(path: StrPath, tensors: Mapping[str, Any], *, metadata: Mapping[str, Any] | None = None, force: bool = False) -> str:
    """Writes a state_dict: an ordered mapping of names to array-likes (lazy tensors, numpy arrays, onnx_ir tensors).

    Tensors that share memory stay tied; strides are kept. metadata becomes `state_dict._metadata`: each module's path with a
    dict such as {"version": 2}. Nothing is held in memory but the index. Answers the digits that stand in the file for its weights.
    Raises ConversionError for what isn't a tensor, and OutputExistsError where path exists and force is off.
    """
    found = as_tensors(tensors)
    for name, tensor in found.items():
        if isinstance(tensor, Tensor):
            start, stop = tensor.span()
            check_repeated(name, tensor, stop - start, "a checkpoint would hold them all")
    pickler = _StateDictPickler(found)
    index = pickler.state_dict(found, metadata or {})
    with writing(path, force=force, size=sum(block.stop - block.start for block in pickler.blocks)) as file:
        archive = _Archive(file)
        archive.add("data.pkl", index)
        archive.add("byteorder", b"little")
        for number, block in enumerate(pickler.blocks):
            crc = archive.stream(f"data/{number}", block.storage.unchecked(block.start, block.stop), block.stop - block.start)
            if block.stop - block.start == block.storage.nbytes:
                block.storage.compare(crc)
        archive.add("version", b"3\n")
        identity = archive.identity()
        archive.add(".data/serialization_id", identity)
        archive.finish()
    return identity.decode()


def identity_of(path: StrPath) -> str:
    """The digits that stand in a file for its weights; "" where there are none."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.endswith("/.data/serialization_id")), None)
            return "" if name is None else archive.read(name)[:100].decode("ascii", "replace")
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return ""


@dataclass
class _Block:
    """The part of a Storage that is written: from the first to the last byte any tensor looks at."""

    storage: Storage
    start: int
    stop: int
    types: set[str]
    number: int | None = None


class _StateDictPickler:
    """Writes data.pkl in the opcodes of protocol 2, and collects the blocks of data in the order they are first named."""

    def __init__(self, tensors: Mapping[str, Weight]) -> None:
        self.out = bytearray()
        self.blocks: list[_Block] = []
        self._blocks: dict[int, _Block] = {}
        self._memo: dict[Any, int] = {}
        for tensor in tensors.values():
            self._survey(tensor)

    def _survey(self, value: Any) -> None:
        if isinstance(value, Tensor):
            start, stop = value.span()
            block = self._blocks.get(id(value.storage))
            if block is None:
                block = self._blocks[id(value.storage)] = _Block(value.storage, start, stop, set())
            elif start < stop:
                widen = block.start < block.stop
                block.start, block.stop = (min(block.start, start), max(block.stop, stop)) if widen else (start, stop)
            block.types.add(value.torch_dtype)
            size = max(DTYPES[name].itemsize for name in block.types)
            block.start -= block.start % size
            block.stop += -(block.stop - block.start) % size
            if value.quantizer is not None:
                self._survey((value.quantizer.scale, value.quantizer.zero_point))
        elif isinstance(value, RebuiltTensor):
            self._survey(value.arguments)
        elif isinstance(value, tuple | list):
            for item in value:
                self._survey(item)

    def state_dict(self, tensors: Mapping[str, Weight], metadata: Mapping[str, Any]) -> bytes:
        self.out += b"\x80\x02"
        self._ordered_dict()
        if tensors:
            self.out += b"("
            for name, tensor in tensors.items():
                self._value(name)
                self._value(tensor)
            self.out += b"u"
        if metadata:
            self.out += b"}"
            self._value("_metadata")
            self._ordered_dict()
            self.out += b"("
            for path, entry in metadata.items():
                self._value(path)
                self._value(entry)
            self.out += b"usb"
        self.out += b"."
        return bytes(self.out)

    def _ordered_dict(self) -> None:
        self._global("collections", "OrderedDict")
        self.out += b")R"

    def _global(self, module: str, name: str) -> None:
        if not self._recall((module, name)):
            self.out += f"c{module}\n{name}\n".encode()
            self._remember((module, name))

    def _recall(self, key: Any) -> bool:
        number = self._memo.get(key)
        if number is None:
            return False
        self.out += b"h" + bytes([number]) if number < 256 else b"j" + struct.pack("<I", number)
        return True

    def _remember(self, key: Any) -> None:
        number = self._memo[key] = len(self._memo)
        self.out += b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)

    def _value(self, value: Any) -> None:
        """Plain data and tensors; containers nest no deeper than the checks of the reader let them."""
        match value:
            case None:
                self.out += b"N"
            case bool():
                self.out += b"\x88" if value else b"\x89"
            case int():
                self._integer(value)
            case float():
                self.out += b"G" + struct.pack(">d", value)
            case str():
                if not self._recall(value):
                    data = value.encode("utf-8", "surrogatepass")
                    self.out += b"X" + struct.pack("<I", len(data)) + data
                    self._remember(value)
            case Tensor():
                self._tensor(value)
            case RebuiltTensor():
                self._call(*_split(value.function), value.arguments)
            case TorchName():
                if value.arguments is None:
                    self._global(value.module, value.name)
                else:
                    self._call(value.module, value.name, value.arguments)
            case tuple():
                self._tuple(value)
            case list():
                self.out += b"]("
                for item in value:
                    self._value(item)
                self.out += b"e"
            case Mapping():
                self.out += b"}("
                for key, item in value.items():
                    self._value(key)
                    self._value(item)
                self.out += b"u"
            case _:
                raise ConversionError(f"a checkpoint of weights can't hold {type(value).__name__} objects")

    def _integer(self, value: int) -> None:
        if 0 <= value < 256:
            self.out += b"K" + bytes([value])
        elif -(2**31) <= value < 2**31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(data) > 255:
                raise ConversionError("a checkpoint of weights can't hold an integer of more than 255 bytes")
            self.out += b"\x8a" + bytes([len(data)]) + data

    def _tuple(self, value: tuple[Any, ...]) -> None:
        if not value:
            self.out += b")"
            return
        if len(value) > 3:
            self.out += b"("
        for item in value:
            self._value(item)
        self.out += {1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t")

    def _call(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        self._global(module, name)
        self._tuple(arguments)
        self.out += b"R"

    def _tensor(self, tensor: Tensor) -> None:
        block = self._blocks[id(tensor.storage)]
        if block.number is None:
            block.number = len(self.blocks)
            self.blocks.append(block)
        element = tensor.element
        # A storage of one classic type has a class of its own; all others are bytes, and each tensor says its type.
        typed = len(block.types) == 1 and element.storage is not None
        offset = tensor.offset - block.start // element.itemsize if tensor.size else 0
        if element.name.startswith("q"):
            rebuild = "_rebuild_qtensor"
        else:
            rebuild = "_rebuild_tensor_v2" if typed else "_rebuild_tensor_v3"
        self._global("torch._utils", rebuild)
        self.out += b"(("
        self._value("storage")
        if typed:
            self._global("torch", str(element.storage))
        else:
            self._global("torch.storage", "UntypedStorage")
        self._value(str(block.number))
        self._value("cpu")
        self._integer((block.stop - block.start) // (element.itemsize if typed else 1))
        self.out += b"tQ"
        self._integer(offset)
        self._tuple(tensor.shape)
        self._tuple(tensor.stride)
        if tensor.quantizer is not None:
            self._quantizer(tensor.quantizer)
        self._value(False)  # requires_grad: a state_dict's tensors are detached
        self._ordered_dict()  # backward hooks
        if not typed and tensor.quantizer is None:
            self._global("torch", element.name)
        if tensor.conj or tensor.neg:
            self._value({name: True for name in ("conj", "neg") if getattr(tensor, name)})
        self.out += b"tR"

    def _quantizer(self, quantizer: Quantizer) -> None:
        values: tuple[Any, ...] = (TorchName("torch", quantizer.scheme), quantizer.scale, quantizer.zero_point)
        self._tuple(values if quantizer.axis is None else (*values, quantizer.axis))


def _split(function: str) -> tuple[str, str]:
    module, _, name = function.rpartition(".")
    return module, name


@dataclass
class _Entry:
    name: bytes
    crc: int
    size: int
    offset: int


class _Archive:
    """Stored zip entries, one after another, each one's data on a multiple of 64 bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.at = 0
        self.entries: list[_Entry] = []

    def add(self, name: str, data: bytes) -> None:
        self.stream(name, [memoryview(data)], len(data))

    def stream(self, name: str, chunks: Iterable[memoryview], size: int) -> int:
        """One entry; returns its CRC, computed while a chunk is still in the cache. The header is mended at the end if need be."""
        iterator = iter(chunks)
        first = next(iterator, memoryview(b""))
        crc = crc32(first)
        entry = _Entry(f"{ROOT}/{name}".encode(), crc, size, self.at)
        header = self._header(entry)
        self.file.write(header)
        written = 0
        for chunk in chain([first], iterator):
            if written:
                crc = crc32(chunk, crc)
            self.file.write(chunk)
            written += len(chunk)
        if written != size:
            raise ConversionError(f"{name}: {written} bytes of data came where {size} were announced")
        self.at += len(header) + size
        if crc != entry.crc:
            entry.crc = crc
            self.file.seek(entry.offset)
            self.file.write(self._header(entry))
            self.file.seek(self.at)
        self.entries.append(entry)
        return crc

    def _header(self, entry: _Entry) -> bytes:
        large = entry.size >= _LIMIT
        extra = struct.pack("<HHQQ", 1, 16, entry.size, entry.size) if large else b""
        unpadded = entry.offset + 30 + len(entry.name) + len(extra) + 4
        filler = -unpadded % ALIGNMENT
        extra += struct.pack("<HH", 0x4246, filler) + b"Z" * filler
        size = _LIMIT if large else entry.size
        fixed = (b"PK\3\4", 45 if large else 20, 0x800, 0, 0, _DATE, entry.crc, size, size, len(entry.name), len(extra))
        return struct.pack("<4s5H3I2H", *fixed) + entry.name + extra

    def identity(self) -> bytes:
        """Forty digits that are the same for the same weights: a hash of the names, then one of the contents."""
        names = zlib.crc32(b"\0".join(entry.name for entry in self.entries))
        contents = zlib.crc32(b"".join(struct.pack("<IQ", entry.crc, entry.size) for entry in self.entries))
        return f"{names:020d}{contents:020d}".encode()

    def finish(self) -> None:
        start = self.at
        directory = bytearray()
        for entry in self.entries:
            large, far = entry.size >= _LIMIT, entry.offset >= _LIMIT
            extra = struct.pack("<QQ", entry.size, entry.size) if large else b""
            extra += struct.pack("<Q", entry.offset) if far else b""
            extra = struct.pack("<HH", 1, len(extra)) + extra if extra else b""
            version = 45 if extra else 20
            size, offset = _LIMIT if large else entry.size, _LIMIT if far else entry.offset
            fixed = (b"PK\1\2", version, version, 0x800, 0, 0, _DATE, entry.crc, size, size)
            directory += struct.pack("<4s6H3I", *fixed)
            directory += struct.pack("<5H2I", len(entry.name), len(extra), 0, 0, 0, 0, offset) + entry.name + extra
        count = len(self.entries)
        end = b""
        if count >= 0xFFFF or start >= _LIMIT or len(directory) >= _LIMIT:
            end += struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), start)
            end += struct.pack("<4sIQI", b"PK\6\7", 0, start + len(directory), 1)
        short = min(count, 0xFFFF)
        end += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, short, short, min(len(directory), _LIMIT), min(start, _LIMIT), 0)
        self.file.write(bytes(directory) + end)
