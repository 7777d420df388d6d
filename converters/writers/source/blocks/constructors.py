"""Constructors of layers taken apart: `nn.Conv2d(64, 256, 1, bias=False)` is its shape, and the numbers in it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from dataclasses import dataclass

Number = int | float | tuple[int, ...]

_CONV: dict[str, Number] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_NORM: dict[str, Number] = {"eps": 1e-05}
_DEFAULTS: dict[str, dict[str, Number]] = {
    **dict.fromkeys(("nn.Conv1d", "nn.Conv2d", "nn.Conv3d"), _CONV),
    **dict.fromkeys(("nn.BatchNorm1d", "nn.BatchNorm2d", "nn.BatchNorm3d"), _NORM),
}
"""Numbers that a constructor may leave out, and then has: they don't make two layers different kinds."""
_ROLES = {
    **dict.fromkeys(("nn.Conv1d", "nn.Conv2d", "nn.Conv3d"), ("in_channels", "out_channels", "kernel_size")),
    **dict.fromkeys(("nn.ConvTranspose1d", "nn.ConvTranspose2d", "nn.ConvTranspose3d"), ("in_channels", "out_channels", "kernel_size")),
    **dict.fromkeys(("nn.BatchNorm1d", "nn.BatchNorm2d", "nn.BatchNorm3d"), ("num_features",)),
    "nn.Linear": ("in_features", "out_features"),
    "nn.Dropout": ("p",),
    "nn.PReLU": ("num_parameters",),
}


@dataclass(frozen=True)
class Constructor:
    """A call by its parts. numbers: by place ("0", "1") or keyword, also what is left out; rest: keywords of other values, as text."""

    name: str
    numbers: Mapping[str, Number]
    rest: Mapping[str, str]

    @property
    def shape(self) -> str:
        """All but the numbers, sizes of kernels aside: layers of one shape can be made by one line with arguments."""
        kinds = [f"{place}={self.numbers[place]}" if self.role(place) == "kernel_size" else place for place in self.numbers]
        return f"{self.name}({', '.join(kinds)}; {', '.join(f'{key}={text}' for key, text in self.rest.items())})"

    def role(self, place: str) -> str:
        """What a number is: `out_channels` for the second of a convolution."""
        roles = _ROLES.get(self.name, ())
        return (roles[int(place)] if int(place) < len(roles) else f"size{place}") if place.isdigit() else place

    def default(self, place: str) -> Number | None:
        """The number that stands there where it is left out."""
        return _DEFAULTS.get(self.name, {}).get(place)

    def text(self, numbers: Mapping[str, str]) -> str:
        """The call with these texts for its numbers; one that is its default is left out."""
        parts = []
        for place, number in self.numbers.items():
            said = numbers.get(place, repr(number))
            if said != repr(self.default(place)):
                parts.append(said if place.isdigit() else f"{place}={said}")
        return f"{self.name}({', '.join([*parts, *(f'{key}={text}' for key, text in self.rest.items())])})"


@functools.cache
def constructor(text: str) -> Constructor | None:
    """A constructor's parts; None for what isn't one call of plain values."""
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
    if not isinstance(call, ast.Call) or any(keyword.arg is None for keyword in call.keywords):
        return None
    name = ast.unparse(call.func)
    numbers: dict[str, Number] = {}
    rest: dict[str, str] = {}
    for place, node in enumerate(call.args):
        number = _number(node)
        if number is None:
            return None
        numbers[str(place)] = number
    stated = {str(keyword.arg): keyword.value for keyword in call.keywords}
    numbers |= {key: default for key, default in _DEFAULTS.get(name, {}).items() if key not in stated}
    for key, node in stated.items():
        number = _number(node)
        if number is None:
            rest[key] = ast.unparse(node)
        else:
            numbers[key] = number
    order = [place for place in numbers if place.isdigit()]
    order += [key for key in _DEFAULTS.get(name, {}) if key in numbers]
    return Constructor(name, {place: numbers[place] for place in dict.fromkeys([*order, *sorted(numbers)])}, rest)


def _number(node: ast.expr) -> Number | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, SyntaxError):
        return None
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float) or (isinstance(value, tuple) and value and all(type(part) is int for part in value)):
        return value
    return None
