"""Sizes that may be symbolic: a product of a number and of names, which a value's shape shows as "12*N" or "N/2"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from converters.errors import ConversionError
from converters.graph.builder import Dim, SymbolicDimensionError

Size = tuple[int, tuple[str, ...]]
"""A number and the names that it is multiplied with."""


def read_size(dim: Dim, unknown: str = "?") -> Size:
    """A dimension as a product; `unknown` names one that nothing is known of."""
    if isinstance(dim, int):
        return dim, ()
    if dim is None:
        return 1, (unknown,)
    numbers = [int(part) for part in dim.split("*") if part.isdigit()]
    return math.prod(numbers), tuple(sorted(part for part in dim.split("*") if not part.isdigit()))


def times(sizes: Iterable[Size]) -> Size:
    factors = list(sizes)
    return _reduced(math.prod(size[0] for size in factors), [name for size in factors for name in size[1]])


def _reduced(number: int, names: Iterable[str]) -> Size:
    """Names that are parts ("N/2") made whole, where the number has the factor."""
    whole = []
    for name in names:
        base, _, divisor = name.rpartition("/")
        if base and number % int(divisor) == 0:
            number, name = number // int(divisor), base
        whole.append(name)
    return number, tuple(sorted(whole))


def over(whole: Size, part: Size) -> Size:
    """whole / part; "N/2" where only a batch that divides will do, which the runtime looks at.

    Raises ConversionError where it doesn't divide, SymbolicDimensionError where that depends on other names.
    """
    names = list(whole[1])
    for name in part[1]:
        if name not in names:
            raise SymbolicDimensionError(f"{as_dim(whole)} / {as_dim(part)}")
        names.remove(name)
    if part[0] and whole[0] % part[0] and len(names) == 1 and "/" not in names[0]:
        common = math.gcd(whole[0], part[0])
        return whole[0] // common, (f"{names[0]}/{part[0] // common}",)
    if part[0] and whole[0] % part[0] and names:
        raise SymbolicDimensionError(f"{as_dim(whole)} / {as_dim(part)}")
    if part[0] == 0 or whole[0] % part[0]:
        raise ConversionError(f"{as_dim(whole)} elements don't divide into {as_dim(part)}")
    return whole[0] // part[0], tuple(names)


def number_of(size: Size, given: Mapping[str, int]) -> int | None:
    """A product with numbers in the place of its names; None where one isn't known, or where a part of one isn't whole."""
    number = size[0]
    for name in size[1]:
        base, slash, divisor = name.rpartition("/")
        base, over_what = (base, int(divisor)) if slash else (name, 1)
        if base not in given or given[base] % over_what:
            return None
        number *= given[base] // over_what
    return number


def as_dim(size: Size) -> int | str:
    number, names = size
    if not names:
        return number
    return "*".join([str(number), *names] if number != 1 else names)
