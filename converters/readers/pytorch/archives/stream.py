"""The forms before the zip: the stream of 0.4-1.5, the tar of 0.1-0.3, and a storage pickled on its own.

Source: torch/serialization.py, `_legacy_save`, `_legacy_load`, `legacy_load`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from converters.errors import FormatError, printable
from converters.readers.pytorch.pickles.interface import Budget, Machine
from converters.readers.pytorch.pickles.machine import Unpickler
from converters.readers.pytorch.pickles.stubs import Global, Stub
from converters.readers.pytorch.sizes import count
from converters.readers.pytorch.storages import TypedStorage, make_old_tensor, storage_dtype
from converters.readers.pytorch.tensors import tensor_rules
from converters.tensors.state_dict import ClassSource
from converters.tensors.storage import Storage
from converters.tensors.tensor import Tensor

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
_NESTING = 3
_BLOCK = 512  # bytes of a tar's unit
_LOOKED_AFTER = 1 << 20  # bytes after a tar's end that are searched for another one


@dataclass
class Legacy:
    """What a legacy file holds."""

    root: Any = None
    sources: list[ClassSource] = field(default_factory=list)
    left: int = 0  # bytes after the last storage


class _Later(Storage):
    """A storage whose bytes come after the pickle that refers to it."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.filled = False

    def fill(self, view: memoryview) -> None:
        self._view, self.filled = view, True


def nested_storage(budget: Budget, depth: int = 0) -> Callable[[Machine, Any], Any]:
    """The reader for torch.storage._load_from_bytes: a whole checkpoint of one storage inside a pickle."""

    def load(machine: Machine, raw: Any) -> Any:
        if depth >= _NESTING:
            raise FormatError("checkpoints are nested in checkpoints, too deep")
        if not isinstance(raw, bytes | memoryview):
            return Stub(Global("torch.storage", "_load_from_bytes"), (raw,))
        return read_stream(memoryview(raw), budget, depth + 1).root

    return load


def read_stream(view: memoryview, budget: Budget, depth: int = 0) -> Legacy:
    """Five pickles (magic, protocol, system, object, storage keys), then each storage: an int64 count and its elements."""
    storages: dict[str, TypedStorage] = {}
    views: dict[str, TypedStorage] = {}
    result = Legacy()

    def persistent(identity: Any) -> Any:
        if not isinstance(identity, tuple) or not identity or not isinstance(identity[0], str):
            raise FormatError("an outside object has no kind")
        kind, *fields = identity
        if kind == "module" and len(fields) == 3:
            _note_source(result, fields)
            return fields[0]
        if kind != "storage" or len(fields) not in (4, 5):
            raise FormatError(f"an outside object is of the kind '{printable(kind)}', which isn't known")
        cls, key, _location, numel, *more = fields
        if not isinstance(key, str):
            raise FormatError(f"a storage's key is a {type(key).__name__}")
        if key not in storages:
            element, untyped = storage_dtype(cls)
            total = count(numel, "a storage's length")
            storages[key] = TypedStorage(_Later(total * element.itemsize), element, total, untyped=untyped)
        else:
            element, untyped = storage_dtype(cls)
            if element is not storages[key].element and not untyped and not storages[key].untyped:
                raise FormatError(f"the storage '{printable(key)}' is used as {storages[key].element.name} and as {element.name}")
        window = more[0] if more else None
        return storages[key] if window is None else _window(views, storages[key], window)

    rules = tensor_rules(persistent, nested_storage(budget, depth))
    at = 0
    for expected in (MAGIC, PROTOCOL, None):
        machine = Unpickler(view, rules, position=at, budget=budget)
        value = machine.load()
        at = machine.position
        if expected is not None and (value != expected or isinstance(value, Stub)):
            raise FormatError("the file begins like a legacy checkpoint and isn't one of a version that is known")
    machine = Unpickler(view, rules, position=at, budget=budget)
    result.root = machine.load()
    keys_machine = Unpickler(view, rules, position=machine.position, budget=budget)
    keys = keys_machine.load()
    result.left = len(view) - _fill(view, keys_machine.position, keys, storages)
    return result


def _note_source(result: Legacy, fields: list[Any]) -> None:
    cls, file, text = fields
    if isinstance(cls, Global) and isinstance(file, str) and isinstance(text, str):
        result.sources.append(ClassSource(str(cls), str(file), str(text)))


def _window(views: dict[str, TypedStorage], root: TypedStorage, window: Any) -> TypedStorage:
    """A view of a storage: (key, offset, length) in elements."""
    if not isinstance(window, tuple) or len(window) != 3 or not isinstance(window[0], str):
        raise FormatError("a storage's view isn't described as torch does")
    if window[0] not in views:
        views[window[0]] = part_of(root, window[1], window[2])
    return views[window[0]]


def part_of(root: TypedStorage, offset: Any, length: Any) -> TypedStorage:
    start, size = count(offset, "a storage view's offset"), count(length, "a storage view's length")
    if start + size > root.count:
        raise FormatError(f"a storage's view of {size} elements at {start} lies outside its storage of {root.count}")
    return TypedStorage(root.storage, root.element, size, root.start + start, root.untyped)


def _fill(view: memoryview, at: int, keys: Any, storages: dict[str, TypedStorage]) -> int:
    """Gives each storage its bytes; returns where the last one ends."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise FormatError("the list of storages isn't a list of names")
    for key in keys:
        storage = storages.get(key)
        if storage is None:
            raise FormatError(f"the file holds a storage '{printable(key)}' that nothing refers to")
        later = storage.storage
        if not isinstance(later, _Later) or later.filled:
            raise FormatError(f"the file holds the storage '{printable(key)}' twice")
        at = _record(view, at, later, storage, key)
    missing = [key for key, storage in storages.items() if not storage.storage.filled]  # type: ignore[attr-defined]
    if missing:
        raise FormatError(f"the storage '{printable(missing[0])}' isn't in the file ({len(missing)} are missing)")
    return at


def _record(view: memoryview, at: int, later: _Later, storage: TypedStorage, key: str) -> int:
    if len(view) - at < 8:
        raise FormatError(f"the file ends before the storage '{printable(key)}': it is cut short")
    length = int.from_bytes(view[at : at + 8], "little", signed=True)
    at += 8
    if length != storage.count:
        raise FormatError(f"the storage '{printable(key)}' has {length} elements; its tensors expect {storage.count}")
    if len(view) - at < later.nbytes:
        raise FormatError(f"the storage '{printable(key)}' needs {later.nbytes} bytes; {len(view) - at} are left: the file is cut short")
    later.fill(view[at : at + later.nbytes])
    return at + later.nbytes


# -- tar


def tar_members(view: memoryview) -> dict[str, memoryview]:
    """The plain files of an uncompressed tar, by name. Raises FormatError for a broken one."""
    members: dict[str, memoryview] = {}
    at = 0
    while at + _BLOCK <= len(view):
        header = bytes(view[at : at + _BLOCK])
        if not any(header):
            break
        stated = _octal(header[148:156])
        if stated != sum(header[:148]) + 32 * 8 + sum(header[156:]):
            raise FormatError("a header of the tar archive has a wrong checksum: the file is broken")
        size = _octal(header[124:136])
        at += _BLOCK
        if size > len(view) - at:
            raise FormatError(f"the tar archive announces a member of {size} bytes; {len(view) - at} are left: the file is cut short")
        if header[156:157] in (b"0", b"\0"):
            name = header[:100].rstrip(b"\0").decode("utf-8", "replace").removeprefix("./")
            if name in members:
                raise FormatError(f"the tar archive has '{printable(name)}' twice")
            members[name] = view[at : at + size]
        at += size + -size % _BLOCK
        if len(members) > 100_000:
            raise FormatError("the tar archive has more than 100000 members")
    if any(bytes(view[at + 257 : at + 262]) == b"ustar" for at in range(at, min(len(view), at + _LOOKED_AFTER), _BLOCK)):
        raise FormatError("holds several tar archives one after the other, and programs differ on which ones count")
    return members


def _octal(field_: bytes) -> int:
    if field_[:1] == b"\x80":
        return int.from_bytes(field_[1:], "big")
    text = field_.strip(b" \0")
    if not text or any(digit not in b"01234567" for digit in text):
        raise FormatError("a header of the tar archive holds no octal number: the file is broken")
    return int(text, 8)


def read_tar(members: dict[str, memoryview], budget: Budget) -> Legacy:
    """`storages`, `tensors` and `pickle`: tensors are outside objects, named by integers."""
    for name in ("storages", "tensors", "pickle"):
        if name not in members:
            raise FormatError(f"the tar archive has no '{name}'; a checkpoint of torch 0.1-0.3 has sys_info, pickle, tensors and storages")
    result = Legacy()
    objects: dict[int, TypedStorage | Tensor] = {}
    plain = tensor_rules(None, nested_storage(budget))

    def load(view: memoryview, at: int) -> tuple[Any, int]:
        machine = Unpickler(view, plain, position=at, budget=budget)
        value = machine.load()
        return value, machine.position

    _read_storages(members["storages"], load, objects)
    _read_tensors(members["tensors"], load, objects)

    def persistent(identity: Any) -> Any:
        if isinstance(identity, tuple):
            if len(identity) != 3:
                raise FormatError("a class's source isn't described as torch does")
            _note_source(result, list(identity))
            return identity[0]
        found = objects.get(_identity(identity))
        if found is None:
            raise FormatError("the pickle refers to a tensor that isn't in the file")
        return found

    machine = Unpickler(members["pickle"], tensor_rules(persistent, nested_storage(budget)), budget=budget)
    result.root = machine.load()
    return result


_Load = Callable[[memoryview, int], tuple[Any, int]]


def _identity(value: Any) -> int:
    """An identity: an integer, or its decimal digits."""
    if isinstance(value, str) and len(value) < 30 and value.removeprefix("-").isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise FormatError("an object's identity is no integer")


def _fields(value: Any, length: int, what: str) -> tuple[Any, ...]:
    if not isinstance(value, tuple) or len(value) != length:
        raise FormatError(f"{what} isn't described by {length} fields")
    return value


def _read_storages(view: memoryview, load: _Load, objects: dict[int, Any]) -> None:
    total, at = load(view, 0)
    for _ in range(min(count(total, "the number of storages"), len(view) + 1)):
        described, at = load(view, at)
        key, _location, cls = _fields(described, 3, "a storage")
        element, untyped = storage_dtype(cls)
        if len(view) - at < 8:
            raise FormatError("the storages end too early: the file is cut short")
        length = count(int.from_bytes(view[at : at + 8], "little", signed=True), "a storage's length")
        later = _Later(length * element.itemsize)
        storage = TypedStorage(later, element, length, untyped=untyped)
        at = _record(view, at, later, storage, str(_identity(key)))
        objects[_identity(key)] = storage
    parts, at = load(view, at)
    if not isinstance(parts, list | tuple):
        raise FormatError("the views of storages are no list")
    for part in parts:
        target, root, offset, length = _fields(part, 4, "a storage's view")
        owner = objects.get(_identity(root))
        if not isinstance(owner, TypedStorage):
            raise FormatError("a storage's view is of a storage that isn't in the file")
        objects[_identity(target)] = part_of(owner, offset, length)


def _read_tensors(view: memoryview, load: _Load, objects: dict[int, Any]) -> None:
    total, at = load(view, 0)
    for _ in range(min(count(total, "the number of tensors"), len(view) + 1)):
        described, at = load(view, at)
        key, storage_key, _cls = _fields(described, 3, "a tensor")
        if len(view) - at < 8:
            raise FormatError("the tensors end too early: the file is cut short")
        dimensions = int.from_bytes(view[at : at + 4], "little", signed=True)  # four bytes that say nothing follow
        at += 8
        if not 0 <= dimensions <= 64 or len(view) - at < 16 * dimensions + 8:
            raise FormatError(f"a tensor of {dimensions} dimensions doesn't fit into the file")
        numbers = [int.from_bytes(view[at + 8 * i : at + 8 * i + 8], "little", signed=True) for i in range(2 * dimensions + 1)]
        at += 8 * len(numbers)
        storage = objects.get(_identity(storage_key))
        objects[_identity(key)] = make_old_tensor(storage, numbers[-1], tuple(numbers[:dimensions]), tuple(numbers[dimensions:-1]))
