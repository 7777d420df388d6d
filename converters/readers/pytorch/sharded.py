"""Tensors that are one rank's part of a larger one: DTensor and ShardedTensor.

Sources: torch/distributed/tensor/_api.py; torch/distributed/_shard/sharded_tensor/api.py.
"""

from __future__ import annotations

from typing import Any

from converters.errors import FormatError, UnsupportedError
from converters.readers.pytorch.pickles.interface import Machine
from converters.readers.pytorch.pickles.stubs import Global, Stub
from converters.readers.pytorch.sizes import counts
from converters.readers.pytorch.storages import as_weight
from converters.tensors.tensor import Tensor


class ShardTensor(Tensor):
    """One rank's part of a tensor that is split along an axis.

    whole: the shape of all parts together. start: where along the axis this one begins; None where only the ranks' order says it.
    """

    __slots__ = ("axis", "kind", "start", "whole")

    def __init__(self, part: Tensor, whole: tuple[int, ...], axis: int, kind: str = "DTensor", start: int | None = None) -> None:
        super().__init__(part.storage, part.torch_dtype, part.shape, part.stride, part.offset, conj=part.conj, neg=part.neg)
        self.whole, self.axis, self.kind, self.start = whole, axis, kind, start

    @property
    def words(self) -> str:
        """What it is, as "'fc.weight' is ..." goes on."""
        return f"one rank's {self.shape[self.axis]} of {self.whole[self.axis]} slices of a {self.kind} along axis {self.axis}"


SHARDED = Global("torch.distributed._shard.sharded_tensor.api", "ShardedTensor")


def sharded(cls: Global, state: Any, args: tuple[Any, ...]) -> Any:
    """(local shards, metadata, ranks, specification, ...): torch's ShardedTensor, of which FSDP's sharded state_dicts are made."""
    if not isinstance(state, tuple) or len(state) < 4 or not isinstance(state[0], list):
        return Stub(cls, args)
    shards, described, spec = state[0], _fields(state[1]), _fields(state[3])
    whole = counts(described.get("size"), "a ShardedTensor's size")
    if len(shards) != 1:
        raise UnsupportedError(f"a ShardedTensor of which this file has {len(shards)} parts; only one for each rank is read")
    local, place = as_weight(_fields(shards[0]).get("tensor")), _fields(_fields(shards[0]).get("metadata"))
    at, sizes = (counts(place.get(f"shard_{what}"), f"a shard's {what}") for what in ("offsets", "sizes"))
    if not isinstance(local, Tensor) or local.shape != sizes or not len(at) == len(sizes) == len(whole):
        raise FormatError("a ShardedTensor whose part isn't the one that it speaks of")
    if sizes == whole:
        return local
    split = [axis for axis, size in enumerate(sizes) if size != whole[axis]]
    axis = spec.get("dim", split[0])
    if split != [axis]:
        raise UnsupportedError("a ShardedTensor that is split along several axes; save the full state_dict with torch")
    return ShardTensor(local, whole, axis, "ShardedTensor", at[axis])


def _fields(value: Any) -> dict[str, Any]:
    """What an object holds, in its dictionary or in slots."""
    return {**value.attributes, **(value.slots or {})} if isinstance(value, Stub) else {}


def build_sharded(machine: Machine, stub: Stub, state: Any) -> None:
    """A ShardedTensor of before 1.13, which was no tensor: an object that is given its state."""
    made = sharded(SHARDED, state, stub.args)
    stub.data = made if isinstance(made, Tensor) else None


def distributed(cls: Global, inner: Any, state: Any, args: tuple[Any, ...]) -> Any:
    """A DTensor: the tensor itself where one rank has all of it, else a part of it."""
    states = state if isinstance(state, tuple) else (state,)
    said = {str(k): v for part in states if isinstance(part, dict) for k, v in part.items()}
    local, spec = as_weight(said.get("_local_tensor")), said.get("_spec")
    if not isinstance(local, Tensor) or not isinstance(inner, tuple) or len(inner) < 3:
        return Stub(cls, args)
    whole = counts(inner[2], "a DTensor's size")
    placements = spec.attributes.get("placements") if isinstance(spec, Stub) else None
    kinds = [p for p in placements if isinstance(p, Stub) and p.cls.name != "Replicate"] if isinstance(placements, tuple) else []
    if any(kind.cls.name == "Partial" for kind in kinds):
        raise UnsupportedError("a DTensor is one rank's summand of a sum (Partial), which no file of weights holds whole")
    if local.shape == whole:
        return local
    axis = kinds[0].attributes.get("dim") if len(kinds) == 1 and kinds[0].cls.name == "Shard" else None
    if not isinstance(axis, int) or not 0 <= axis < len(whole) or len(local.shape) != len(whole):
        raise UnsupportedError("a DTensor is split in a way that isn't joined here; save the full state_dict with torch")
    return ShardTensor(local, whole, axis)
