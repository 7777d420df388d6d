"""Checkpoints in other files: compressed by gzip, or beside other files in a tar (.nemo: a model_config.yaml and a model_weights.ckpt).

Nothing is unpacked under a name that a file gives: what is inflated goes to a temporary file without one, within bounds.
"""

from __future__ import annotations

import mmap
import re
import tempfile
import zlib

from converters.errors import ConversionError, FormatError, printable

GZIP = b"\x1f\x8b"
_LEAST, _RATIO = 1 << 26, 64
"""Bytes that any file may inflate to, and how many times its size a larger one may: weights hardly shrink."""
_PIECE = 1 << 20
_BY_GZIP = "unpack it first: gunzip"
_CHECKPOINT = re.compile(rb"PK\x03\x04|\x80[\x02-\x05]")
_PREFERRED = "model_weights.ckpt"
_NAMES = 8


def inflate(view: memoryview) -> memoryview:
    """The content of a gzip file, all its members, mapped. Raises FormatError where it is broken, cut short, or a bomb."""
    limit = max(_LEAST, _RATIO * len(view))
    total = at = 0
    try:
        with tempfile.TemporaryFile() as file:
            while at < len(view) and bytes(view[at : at + 2]) == GZIP:
                engine = zlib.decompressobj(31)
                while not engine.eof:
                    data = engine.unconsumed_tail or bytes(view[at : at + _PIECE])
                    if not data:
                        raise FormatError("its compressed data ends too early: the file is cut short", hint=_BY_GZIP)
                    at += 0 if engine.unconsumed_tail else len(data)
                    piece = engine.decompress(data, _PIECE)
                    total += len(piece)
                    if total > limit:
                        raise FormatError(f"inflates to more than {limit} bytes, which no weights of its size do: it looks like a bomb")
                    file.write(piece)
                at -= len(engine.unused_data)
            file.flush()
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if total else memoryview(b"")
    except zlib.error as problem:
        raise FormatError(f"its compressed data is broken ({printable(problem, 80)})", hint=_BY_GZIP) from problem
    except OSError as problem:
        raise ConversionError(f"can't be inflated: {problem.strerror or problem}", hint=_BY_GZIP) from problem


def only_checkpoint(members: dict[str, memoryview]) -> str:
    """The member of a tar that is a checkpoint, by its content; raises FormatError where none is, or several are."""
    found = [name for name, content in members.items() if _CHECKPOINT.match(bytes(content[:4]))]
    chosen = [name for name in found if name.rpartition("/")[2] == _PREFERRED] or found
    if len(chosen) == 1:
        return chosen[0]
    raise FormatError(f"is a tar archive of {listing(list(found or members))}", hint="unpack it and give the checkpoint inside")


def listing(names: list[str]) -> str:
    """Names of an archive's members, for a message."""
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(printable(name, 60) for name in names[:_NAMES]) + more if names else "nothing"
