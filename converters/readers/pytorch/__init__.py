"""Reads PyTorch checkpoints without running them: any form that torch.save ever wrote, as inert objects, and the weights in it."""

from __future__ import annotations

from converters.errors import ConversionError, printable
from converters.files import StrPath
from converters.readers.pytorch.archives.archive import read_checkpoint
from converters.readers.pytorch.choose import select
from converters.tensors.state_dict import StateDict

__all__ = ["read_weights"]


def read_weights(path: StrPath, key: str | None = None) -> StateDict:
    """The weights that a checkpoint holds, as its state_dict() would give them: lazy tensors in order, metadata, classes.

    key: where they sit, a dotted path. Raises ConversionError where there are none, or several sets of which no key chooses one.
    """
    checkpoint = read_checkpoint(path)
    try:
        return select(checkpoint, key)
    except ConversionError as problem:
        raise type(problem)(f"{printable(checkpoint.name)}: {problem}") from problem
