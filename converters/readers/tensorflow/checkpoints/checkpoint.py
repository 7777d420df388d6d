"""TensorFlow's checkpoints: which file a path stands for, and what reads it.

Sources: TensorFlow's core/util/tensor_bundle (version 2), core/util/saved_tensor_slice_util.cc (version 1),
python/training/checkpoint_state.proto (the text file `checkpoint`).
"""

from __future__ import annotations

import glob
import os
import re

from converters.errors import FormatError, about, printable
from converters.files import StrPath, map_file
from converters.options import DEFAULTS, LoadOptions
from converters.readers.tensorflow.checkpoints.bundle import Bundle
from converters.readers.tensorflow.checkpoints.records import read_records
from converters.readers.tensorflow.checkpoints.table import is_table, read_table
from converters.schemas.wire import BYTES, fields
from converters.tensors.state_dict import StateDict


def load_weights(path: StrPath, options: LoadOptions = DEFAULTS) -> StateDict:
    """The variables of a checkpoint by name: an index, an old checkpoint's table, the text file `checkpoint`, or a SavedModel's.

    Each is a view of its mapped file, whose checksum is verified when its numbers are first looked at. Strings and resources are
    named as left out. Raises FormatError.
    """
    options.no_key(path, "a TensorFlow checkpoint")
    place = index_of(path)
    with about(place):
        view = map_file(place)
        entries = dict(read_table(view))
        if b"" not in entries:
            raise FormatError("no TensorFlow checkpoint: its table has no header")
        if place.endswith(".index") or not _is_old(entries[b""]):
            return Bundle(place, entries).read()
        return read_records(place, entries)


def index_of(path: StrPath) -> str:
    """The table that a path stands for. Raises FormatError where there is none."""
    given = os.fspath(path)
    if os.path.basename(given) == "saved_model.pb":
        place = os.path.join(os.path.dirname(given), "variables", "variables.index")
        if not os.path.isfile(place):
            raise FormatError("this SavedModel has no variables beside it (variables/variables.index)", path=given)
        return place
    view = map_file(path)
    if is_table(view) or not re.match(rb"\s*model_checkpoint_path\s*:", bytes(view[:4096])):
        return given
    return _named_by(given, view)


def _named_by(given: str, view: memoryview) -> str:
    """What the text file `checkpoint` names: a file beside it, whatever folder its text speaks of."""
    try:
        text = bytes(view[: 1 << 16]).decode()
    except UnicodeDecodeError as problem:
        raise FormatError("the text of this checkpoint file isn't UTF-8", path=given) from problem
    named = re.search(r'^\s*model_checkpoint_path\s*:\s*"([^"\n]+)"', text, re.MULTILINE)
    if named is None:
        raise FormatError("this checkpoint file names no checkpoint", path=given)
    base = re.sub(r"-\?{5}-of-\d{5}$", "", re.split(r"[/\\]", named[1])[-1])  # an old checkpoint in several files
    prefix = os.path.join(os.path.dirname(given), base)
    for place in (f"{prefix}.index", prefix):
        if base not in ("", ".", "..") and os.path.isfile(place):
            return place
    shards = sorted(glob.glob(f"{glob.escape(prefix)}-?????-of-?????"))
    if shards:
        return shards[0]
    raise FormatError(
        f"this TensorFlow file names the checkpoint '{printable(base)}', which isn't beside it",
        path=given,
        hint="give the checkpoint's prefix",
    )


def _is_old(header: memoryview) -> bool:
    """Whether the value of the empty key is a V1 checkpoint's list of tensors, not a V2 header."""
    return any(number == 1 and wire == BYTES for number, wire, _, _ in fields(header, "the header"))
