"""Which prototxt a file of Caffe weights belongs to: the one that it fits, deploy before train_val, then the one of its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from converters.errors import ConversionError, printable
from converters.files import map_file
from converters.migration.trees.models import Seen

if TYPE_CHECKING:
    from converters.readers.caffe.caffemodel import StoredLayer
    from converters.readers.caffe.prototxt import Net

Value = TypeVar("Value")
_WORDS = re.compile(r"(deploy|train_val|trainval|train_test|train|test|val|net|model|prototxt|caffemodel|h5|iter_\d+|weights)(?![a-z])")


@dataclass(frozen=True)
class Choice:
    """net: the prototxt, None where there is none. is_unclear: several fit. reason: why none was chosen."""

    net: Seen | None = None
    is_unclear: bool = False
    reason: str = ""


class Nets:
    """The nets and the weights that were looked at, each once. file_of: a file of the tree on this machine."""

    def __init__(self, file_of: Callable[[str], str]) -> None:
        self.file_of = file_of
        self._nets: dict[str, Net | ConversionError] = {}
        self._last: tuple[str, list[StoredLayer] | ConversionError] | None = None

    def is_caffe(self, weights: Seen) -> bool:
        """Whether an HDF5 file may hold Caffe's weights: it does, or it is damaged and called so."""
        return not isinstance(self._stored(weights), ConversionError) or weights.name.endswith(".caffemodel.h5")

    def choose(self, weights: Seen, nets: Sequence[Seen]) -> Choice:
        """The net of the weights among some; where one can't be read at all, the only one, or that of its name, which says why."""
        from converters.readers.caffe.outline import fit, is_deployed

        stored = self._stored(weights)
        read = {one: self._net(one) for one in nets}
        if isinstance(stored, ConversionError):
            return Choice(self._likeliest(weights, list(nets)), reason="")
        fits = {one: fit(net, stored) for one, net in read.items() if not isinstance(net, ConversionError)}
        reasons = {one: found.reason for one, found in fits.items()}
        least = min((found.filled for found in fits.values() if not found.reason), default=0)
        fitting = [one for one, found in fits.items() if not found.reason and found.filled == least]
        if not fitting:
            broken = [one for one, net in read.items() if isinstance(net, ConversionError)]
            if len(broken) == 1 and not reasons:
                return Choice(broken[0])
            return Choice(reason=next((f"{printable(one.name)} doesn't fit: {reason}" for one, reason in reasons.items()), ""))
        deployed = [one for one in fitting if is_deployed(_sure(read[one]))] or fitting
        named = [one for one in deployed if _bare(one.name) == _bare(weights.name)] or deployed
        alike = {bytes(map_file(self.file_of(one.path))) for one in named} if len(named) > 1 else set()
        if len(named) == 1 or len(alike) == 1:
            return Choice(named[0])
        return Choice(is_unclear=True, reason=f"several prototxts fit: {', '.join(printable(one.name) for one in named[:6])}")

    def _likeliest(self, weights: Seen, nets: list[Seen]) -> Seen | None:
        """The net that damaged weights were for, as far as that matters."""
        named = [one for one in nets if _bare(one.name) == _bare(weights.name)]
        return next(iter([*named, *(one for one in nets if "deploy" in one.name), *nets]), None)

    def _stored(self, weights: Seen) -> list[StoredLayer] | ConversionError:
        if self._last is None or self._last[0] != weights.path:
            from converters.readers.caffe.weights import read_weights

            self._last = None  # one at a time stays mapped
            self._last = weights.path, _tried(lambda: read_weights(self.file_of(weights.path)))
        return self._last[1]

    def _net(self, one: Seen) -> Net | ConversionError:
        if one.path not in self._nets:
            from converters.readers.caffe.prototxt import read_net

            self._nets[one.path] = _tried(lambda: read_net(self.file_of(one.path)))
        return self._nets[one.path]


def _tried(read: Callable[[], Value]) -> Value | ConversionError:
    try:
        return read()
    except ConversionError as problem:
        return problem


def _sure(net: Net | ConversionError) -> Net:
    assert not isinstance(net, ConversionError)
    return net


def _bare(name: str) -> str:
    """A name without the words that say what kind of file it is."""
    return re.sub(r"[\W_]+", "", _WORDS.sub("", name.lower()))
