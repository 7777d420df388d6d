"""Any file that torch.save wrote, as a tree of inert objects: zip, stream, tar, TorchScript, torch.package, plain pickle."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.errors import FormatError, about, printable, warn
from converters.files import StrPath, map_file
from converters.readers.pytorch.archives.exported import is_exported, read_exported
from converters.readers.pytorch.archives.folder import PlainFolder, join_ranks, read_distributed
from converters.readers.pytorch.archives.msgpack import BEGINS, read_msgpack
from converters.readers.pytorch.archives.npy import NPY, read_npy, read_npz
from converters.readers.pytorch.archives.packed import GZIP, inflate, listing, only_checkpoint
from converters.readers.pytorch.archives.stream import MAGIC, nested_storage, read_stream, read_tar, tar_members
from converters.readers.pytorch.archives.torchscript import read_json_script, script_members
from converters.readers.pytorch.archives.zip import ZipArchive, ZipStorage
from converters.readers.pytorch.modules import Script
from converters.readers.pytorch.pickles.interface import Budget
from converters.readers.pytorch.pickles.machine import Unpickler
from converters.readers.pytorch.pickles.suspects import naming
from converters.readers.pytorch.sizes import count
from converters.readers.pytorch.storages import TypedStorage, storage_dtype
from converters.readers.pytorch.tensors import tensor_rules
from converters.tensors.state_dict import ClassSource
from converters.tensors.storage import Storage, SwappedStorage

_NESTING = 2  # archives in archives
_DAMAGED = "its storages were never written (torch's skip_data): there are no weights in it"


_SEVERAL = "save each in a file of its own"


@dataclass
class Checkpoint:
    """A file read: the object it holds, made of plain values, Tensors and Stubs.

    form: "zip", "stream", "tar", "TorchScript", "torch.package", "torch.export", "numpy", "msgpack", "folder" or "pickle".
    sources: the classes' source text, which old streams embed. called: what the file would have called and we didn't.
    script: the names of TorchScript's parameters and buffers by class (no buffers: a class of before 1.5, which doesn't list them).
    """

    form: str
    root: Any
    sources: list[ClassSource] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    script: Script | None = None


def read_checkpoint(path: StrPath) -> Checkpoint:
    """Reads a checkpoint's structure; its tensors stay views of the mapped file. Nothing in it is imported or called.

    Raises FormatError for a file that is broken, hostile or something else.
    """
    view = map_file(path)
    budget = Budget(len(view))
    place = Path(os.fspath(path))
    collecting = gc.isenabled()
    gc.disable()  # a tree of a million objects is built and nothing is thrown away: looking for garbage takes most of the time
    try:
        with about(path), naming(budget.called):
            if place.name == "data.pkl" and any((place.parent / name).is_dir() for name in ("data", "tensors")):
                checkpoint = _read_unpacked(place.parent, budget)
            else:
                checkpoint = _read(view, budget, os.fspath(path), 0)
            if place.name == ".metadata" and checkpoint.form == "pickle":
                read = lambda piece, name: _read(piece, budget, name, 1).root  # noqa: E731
                checkpoint = Checkpoint("folder", read_distributed(checkpoint.root, place.parent, read))
    except MemoryError as problem:
        raise FormatError("needs more memory than there is: it is broken or hostile", path=os.fspath(path)) from problem
    finally:
        if collecting:
            gc.enable()
    checkpoint.called = list(budget.called)
    return checkpoint


def read_ranks(paths: Sequence[StrPath]) -> Checkpoint:
    """The checkpoint whose parts are in a file for each rank of a sharded model. Raises FormatError where they don't go together."""
    read = [(os.path.basename(os.fspath(path)), read_checkpoint(path)) for path in paths]
    called = [name for _, part in read for name in part.called]
    return Checkpoint("folder", join_ranks([(name, part.root) for name, part in read]), called=called)


def _read(view: memoryview, budget: Budget, name: str, depth: int) -> Checkpoint:
    head = bytes(view[:512])
    if head.startswith(b"PK"):
        return _read_zip(view, budget, name, depth)
    if head.startswith(GZIP) and depth < _NESTING:
        return _read_packed(view, budget, name, depth)
    if head.startswith(NPY):
        return Checkpoint("numpy", read_npy(view, budget))
    if BEGINS.match(head):
        return Checkpoint("msgpack", read_msgpack(view, budget))
    if head[257:262] == b"ustar" or re.match(rb"(\./)?(sys_info|pickle|storages|tensors)\0", head):
        return _read_tar_file(view, budget, name, depth)
    return _read_pickle(view, budget, name, head)


def _read_packed(view: memoryview, budget: Budget, name: str, depth: int) -> Checkpoint:
    """What gzip has packed. Raises FormatError where that is no checkpoint."""
    try:
        return _read(inflate(view), budget, name, depth + 1)
    except FormatError as problem:
        problem.hint = problem.hint or "unpack it first (gunzip) and look at what is in it"
        raise


def _read_pickle(view: memoryview, budget: Budget, name: str, head: bytes) -> Checkpoint:
    """The stream of 0.4-1.5, whose first pickle is a magic number, or a plain pickle."""
    certain = re.match(rb"\x80[\x00-\x05]", head) is not None
    strange = f"is no PyTorch checkpoint (its first bytes are {head[:8].hex(' ')})"
    if not certain and not re.match(rb"[(c\]}LI)lda]", head):
        raise FormatError(strange)
    first = Unpickler(view, tensor_rules(None, nested_storage(budget)), budget=budget)
    try:
        value = first.load()
    except FormatError:
        if certain:
            raise
        raise FormatError(strange) from None
    if not isinstance(value, int) or value != MAGIC:
        _check_end(view, first.position, name)
        return Checkpoint("pickle", value)
    legacy = read_stream(view, budget)
    _check_end(view, len(view) - legacy.left, name)
    return Checkpoint("stream", legacy.root, legacy.sources)


def _check_end(view: memoryview, end: int, name: str) -> None:
    """What follows the checkpoint. Raises FormatError where that is another one, warns of anything else."""
    if end < len(view):
        if re.match(rb"\x80[\x00-\x05]|PK\x03\x04", bytes(view[end : end + 4])):
            raise FormatError("holds several checkpoints one after the other, of which one alone would be read", hint=_SEVERAL)
        warn(f"{printable(name)}: {len(view) - end} bytes after its end mean nothing and are left out")


def _read_tar_file(view: memoryview, budget: Budget, name: str, depth: int) -> Checkpoint:
    members = tar_members(view)
    if "storages" in members or "tensors" in members or "sys_info" in members:
        legacy = read_tar(members, budget)
        return Checkpoint("tar", legacy.root, legacy.sources)
    if depth >= _NESTING:
        raise FormatError(
            f"is a tar archive of {listing(list(members))} in another archive", hint="unpack it and give the checkpoint inside"
        )
    return _read(members[only_checkpoint(members)], budget, name, depth + 1)


# -- zip


def _read_zip(view: memoryview, budget: Budget, name: str, depth: int) -> Checkpoint:
    archive = ZipArchive(view)
    root = archive.first.partition("/")[0] + "/" if "/" in archive.first else ""
    if root + "data.pkl" not in archive.entries:
        indices = [entry for entry in archive.entries if entry == "data.pkl" or entry.endswith("/data.pkl")]
        if len(indices) != 1:
            return _read_other_zip(archive, budget, root, name, depth)
        root = indices[0].removesuffix("data.pkl")
    checked = archive.checked(root + "data.pkl")
    if not checked:
        warn(f"{printable(name)}: carries no valid checksums, so that damage can't be told")
    folder = "tensors" if any(entry.startswith(f"{root}tensors/") for entry in archive.entries) else "data"  # torch 1.4 alone has the first
    storages = _zip_storages(archive, root, lambda key: f"{root}{folder}/{key}", checked=checked)
    checkpoint = Checkpoint("zip", _load_index(archive, budget, root + "data.pkl", storages))
    if root + "constants.pkl" in archive.entries:
        checkpoint.form = "TorchScript"
        checkpoint.script = script_members(archive, root)
    return checkpoint


def _read_unpacked(folder: Path, budget: Budget) -> Checkpoint:
    """A zip checkpoint that somebody has unpacked."""
    inside = PlainFolder(folder)
    part = "tensors" if any(name.startswith("tensors/") for name in inside.entries) else "data"
    storages = _storages(inside, "", lambda key: f"{part}/{key}", lambda name: Storage(inside.read(name)))
    return Checkpoint("folder", _load_index(inside, budget, "data.pkl", storages))


def _load_index(archive: ZipArchive | PlainFolder, budget: Budget, index: str, storages: Callable[[Any], Any]) -> Any:
    return Unpickler(archive.read(index), tensor_rules(storages, nested_storage(budget)), budget=budget).load()


def _zip_storages(archive: ZipArchive, root: str, place: Callable[[str], str], *, checked: bool) -> Callable[[Any], Any]:
    """The reader of a zip's storages, whose checksums count where they are `checked`."""

    def opened(name: str) -> Storage:
        entry = archive.entry(name)
        if checked and entry.crc == 0 and entry.size and _all_zero(ZipStorage(archive, entry, check=False)):
            raise FormatError(_DAMAGED)
        return ZipStorage(archive, entry, check=checked)

    return _storages(archive, root, place, opened)


def _storages(
    archive: ZipArchive | PlainFolder, root: str, place: Callable[[str], str], opened: Callable[[str], Storage]
) -> Callable[[Any], Any]:
    """The reader of ('storage', class, key, location, count): one storage for each key, whatever comes later.

    place: the name of a key's file; opened: its bytes.
    """
    storages: dict[str, TypedStorage] = {}
    order = bytes(archive.read(root + "byteorder")) if root + "byteorder" in archive.entries else b"little"
    if order not in (b"little", b"big"):
        raise FormatError(f"its byte order is '{printable(order[:20].decode('latin-1'))}'; it must be little or big")
    big = order == b"big"

    def persistent(identity: Any) -> TypedStorage:
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage" or identity[5:] not in ((), (None,)):
            raise FormatError("an outside object isn't a storage of five fields, the only kind a zip checkpoint has")
        _, cls, key, _location, numel = identity[:5]  # 1.3 and 1.4 write a sixth for TorchScript: no view, None
        if isinstance(key, int):
            key = str(count(key, "a storage's key"))
        if not isinstance(key, str):
            raise FormatError(f"a storage's key is a {type(key).__name__}")
        element, untyped = storage_dtype(cls)
        total = count(numel, "a storage's length")
        if key in storages:
            if element is not storages[key].element and not untyped and not storages[key].untyped:
                raise FormatError(f"the storage '{printable(key)}' is used as {storages[key].element.name} and as {element.name}")
            return storages[key]
        storage = opened(place(key))
        if storage.nbytes != total * element.itemsize:
            words = f"has {storage.nbytes} bytes; {total} elements of {element.name} have {total * element.itemsize}"
            raise FormatError(f"{printable(place(key))}: {words}")
        if big and not untyped and element.swapsize > 1:
            storage = SwappedStorage(storage, element.swapsize)
        storages[key] = TypedStorage(storage, element, total, untyped=untyped, big_endian=big and untyped)
        return storages[key]

    return persistent


def _all_zero(storage: Storage) -> bool:
    """Whether a storage is all zeros, though its checksum of 0 says otherwise (that of a run of zeros isn't 0)."""
    return not any(any(piece) if len(piece) < 4096 else bytes(piece).count(0) != len(piece) for piece in storage.chunks(0, storage.nbytes))


def _read_other_zip(archive: ZipArchive, budget: Budget, root: str, name: str, depth: int) -> Checkpoint:
    """A torch.package, or a zip that only looks like a checkpoint."""
    names = list(archive.entries)
    if is_exported(names, root):
        return Checkpoint("torch.export", read_exported(archive, root, lambda piece, entry: _read(piece, budget, entry, depth + 1).root))
    if any(entry.startswith(f"{root}.data/") for entry in names):
        indices = [entry for entry in names if entry.endswith(".pkl") and not entry.startswith((f"{root}.data/", f"{root}code/"))]
        if len(indices) != 1:
            raise FormatError(f"is a torch.package with {len(indices)} pickles ({listing(indices)}); only a package of one is read")
        storages = _zip_storages(archive, root, lambda key: f"{root}.data/{key}.storage", checked=True)
        return Checkpoint("torch.package", _load_index(archive, budget, indices[0], storages))
    if f"{root}model.json" in names:
        return Checkpoint("TorchScript", read_json_script(archive, f"{root}model.json"))
    if names and all(entry.endswith(".npy") for entry in names):
        return Checkpoint("numpy", read_npz(archive, budget))
    inside = [entry for entry in names if entry.endswith((".pth", ".pt", ".bin", ".ckpt"))]
    if len(inside) == 1 and depth < _NESTING and archive.entry(inside[0]).method == 0 and archive.entry(inside[0]).size:
        return _read(archive.read(inside[0]), budget, name, depth + 1)
    raise FormatError(f"is a zip archive without one data.pkl, so no PyTorch checkpoint; it holds {listing(names)}")
