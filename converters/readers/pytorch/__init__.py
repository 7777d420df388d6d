"""Reads PyTorch checkpoints without running them: any form that torch.save ever wrote, as inert objects, and the weights in it."""

from __future__ import annotations

from converters.errors import about
from converters.files import StrPath
from converters.options import DEFAULTS, LoadOptions
from converters.readers.pytorch.archives.archive import read_checkpoint, read_ranks
from converters.readers.pytorch.choose import select
from converters.readers.pytorch.pickles.suspects import naming
from converters.recognition import RecognizedFile
from converters.tensors.state_dict import StateDict

__all__ = ["read_weights"]


def read_weights(path: StrPath, options: LoadOptions = DEFAULTS) -> StateDict:
    """The weights that a checkpoint holds, as its state_dict() would give them: lazy tensors in order, metadata, classes.

    The options give the key, a dotted path. Raises ConversionError where there are none, or several sets of which no key chooses one.
    """
    ranks = path.ranks if isinstance(path, RecognizedFile) else ()
    checkpoint = read_ranks(ranks) if len(ranks) > 1 else read_checkpoint(path)
    with about(path), naming(checkpoint.called):
        return select(checkpoint, options.key)
