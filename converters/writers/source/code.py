"""The forward being written: statements in single-assignment form, whose variables get their names at the very end.

Expressions are strings in which a variable is a token; when all statements are known, dead ones are dropped and names are given
by liveness, so that a chain of layers reads `x = self.conv1(x)` and memory is let go as early as in code written by hand.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OPEN, _CLOSE = "\ue000", "\ue001"
REF_OPEN, REF_CLOSE = "\ue002", "\ue003"
"""Around the number of a module whose expression is known when all modules are; see Modules.ref."""
NOTE = "\ue004"
"""Between a line and its comment."""
TOKEN = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_NEAR_THE_END = 4
"""So few statements from the end nothing is let go: the end does it."""
_SHORT = (("x", "y", "z"), ("u", "v", "w"), ("p", "q", "r"))
"""Names of tensors in the forward, in functions inside it, and in functions inside those: none hides another."""


def _short(depth: int) -> tuple[str, ...]:
    """Names of tensors in functions so deep inside one another."""
    return _SHORT[depth] if depth < len(_SHORT) else tuple(f"{name}{depth}_" for name in "abc")


@dataclass(frozen=True)
class Origin:
    """Where a statement comes from. comment: its source layer. path: the module that it belongs to (`4.0.1`)."""

    comment: str = ""
    path: str = ""


@dataclass
class Variable:
    """A value of the forward. hint: the name it must have. kind: "tensor", "int" (a Python number), "argument" (never rebound).

    name: what its source calls it, which it gets where it outlives the next statement. shape: numbers and the names of symbols, where
    all are known.
    """

    number: int
    hint: str
    kind: str = "tensor"
    name: str = ""
    shape: tuple[int | str, ...] | None = None


@dataclass
class Statement:
    """`targets = text  # comment`, after the lines of `before` (functions that the text calls).

    is_loop: the text is a value that goes through all layers of `self`, one after another. A text `x += y` is a sum that may be written
    over its first term, and is where the sum can have that one's name.
    """

    targets: list[Variable]
    text: str
    origin: Origin
    before: tuple[str, ...] = ()
    is_loop: bool = False

    @property
    def used(self) -> list[int]:
        """Numbers of the variables that it reads."""
        return used("\n".join((*self.before, self.text)))


class Body:
    """The statements of one forward, or of a function inside it (`outer`), which shares its variables."""

    def __init__(self, reserved: Iterable[str], outer: Body | None = None) -> None:
        self.reserved = set(reserved)
        self.variables: list[Variable] = [] if outer is None else outer.variables
        self.depth: int = 0 if outer is None else outer.depth + 1
        self.statements: list[Statement] = []
        self._said: set[str] = set()
        self.origin: Origin = Origin() if outer is None else outer.origin
        """Of the statements that are written from now on."""

    def variable(self, hint: str = "", kind: str = "tensor", name: str = "") -> str:
        """A new variable's token."""
        self.variables.append(Variable(len(self.variables), hint, kind, name))
        return self.token(len(self.variables) - 1)

    def call(self, before: Sequence[str], text: str, count: int) -> list[str]:
        """Writes the lines `before`, then `a, b = text`; returns the tokens."""
        tokens = [self.variable() for _ in range(count)]
        self.statements.append(Statement([self._of(token) for token in tokens], text, self.origin, tuple(before)))
        return tokens

    def assign(self, text: str, *, hint: str = "", kind: str = "tensor", name: str = "", shape: tuple[int | str, ...] | None = None) -> str:
        """Writes `variable = text`; returns the variable's token."""
        token = self.variable(hint, kind, name)
        self._of(token).shape = shape
        self.statements.append(Statement([self._of(token)], text, self.origin))
        return token

    def once(self, text: str) -> None:
        """Writes a statement that has no result, if it isn't there yet."""
        if text not in self._said:
            self._said.add(text)
            self.statements.append(Statement([], text, Origin()))

    def unpack(self, text: str, names: Sequence[str]) -> list[str]:
        """Writes `a, b = text`, of as many variables as there are names (which may be empty); returns the tokens."""
        tokens = [self.variable(name=name) for name in names]
        self.statements.append(Statement([self._of(token) for token in tokens], text, self.origin))
        return tokens

    def drop_dead(self, results: Sequence[str]) -> None:
        """Drops the statements that the results don't need."""
        needed = set(used(" ".join(results)))
        kept = []
        for statement in reversed(self.statements):
            if not statement.targets or any(v.number in needed for v in statement.targets):
                needed.update(statement.used)
                kept.append(statement)
        self.statements = kept[::-1]

    def lines(self, results: Sequence[str], arguments: Sequence[str], unpack_always: bool = False) -> list[str]:
        """The finished lines, the return statement last; what follows NOTE in a line is its comment.

        arguments: tokens of forward's parameters, whose hints are their names.
        """
        tail = "return " + ", ".join(results) + ("," if unpack_always and len(results) == 1 else "")
        statements = [*self.statements, Statement([], tail, Origin())]
        last: dict[int, int] = {}
        for position, statement in enumerate(statements):
            for number in statement.used:
                last[number] = position
        names: dict[int, str] = {}
        busy = _Busy(self.reserved)
        for token in arguments:
            variable = self._of(token)
            names[variable.number] = variable.hint
            busy.add(variable.hint)
        result: list[str] = []
        before = Origin()
        for position, statement in enumerate(statements):
            if statement.before:
                result += [*([""] if result else []), *(self._named(line, names) for line in statement.before), ""]
            text = self._named(statement.text, names)
            dying = [n for n in dict.fromkeys(statement.used) if n in names and last[n] == position and not self._kept(n)]
            for number in dying:
                busy.discard(names[number])
            dead = [names[n] for n in dying if self.variables[n].kind != "int"]
            if (first := text.partition(" += ")[0]) in dead:  # what the sum is written over
                dead = [first]
            for variable in statement.targets:
                if variable.number not in last:
                    names[variable.number] = "_"
                    continue
                names[variable.number] = self._choose(variable, dead, busy, last[variable.number] > position + 1)
                busy.add(names[variable.number])
            left = ", ".join(names[v.number] for v in statement.targets)
            if statement.is_loop:
                result += [f"{left} = {text}"] if left != text else []
                result += ["for layer in self:", f"    {left} = layer({left})"]
            elif left != text:
                # a line that calls a layer by its name needs no comment, nor does the next one of the same layer
                is_said = statement.origin == before or statement.text.startswith(("self.", REF_OPEN))
                note = "" if is_said or not statement.origin.comment else NOTE + statement.origin.comment
                result.append(_assignment(left, text) + note)
                if position + _NEAR_THE_END < len(statements) and not statement.before:
                    result += self._let_go(dying, names, left)
            before = statement.origin
        return result

    def _let_go(self, dying: Sequence[int], names: Mapping[int, str], left: str) -> Iterator[str]:
        """The line that drops values of names of their own, which no later value takes: their memory would be held to the end."""
        gone = [names[n] for n in dying if self.variables[n].name == names[n] != left]
        if gone:
            yield f"del {', '.join(gone)}"

    def _named(self, text: str, names: dict[int, str]) -> str:
        """With names for tokens; those of the function around stay, until it gets its names."""
        return TOKEN.sub(lambda match: names.get(int(match[1]), match[0]), text)

    def token(self, number: int) -> str:
        """The token of a variable."""
        return f"{_OPEN}{number}{_CLOSE}"

    def _of(self, token: str) -> Variable:
        return self.variables[int(token[1:-1])]

    def _kept(self, number: int) -> bool:
        variable = self.variables[number]
        return variable.kind == "argument" and variable.hint != "x"

    def _choose(self, variable: Variable, dead: list[str], busy: _Busy, lives_on: bool) -> str:
        wanted = variable.hint or ("size" if variable.kind == "int" else variable.name if lives_on and not self.depth else "")
        if wanted:
            return busy.first(("inner_" * self.depth + wanted,))
        short = _short(self.depth)
        free = [name for name in dead if name not in busy and re.fullmatch(rf"({'|'.join(short)})[0-9]*", name)]
        if len(free) == 1:
            return free[0]
        if short[0] not in busy:
            return short[0]
        return free[0] if free else busy.first(short)


def _assignment(left: str, text: str) -> str:
    """`left = text`; a sum that may be written over its first term is, where that has the name of the sum."""
    first, adds, second = text.partition(" += ")
    if adds and left == first:
        return text
    if adds:
        text = f"{first} + {second}"
    return f"{left} = {text}" if left else text


class _Busy:
    """Names that are in use, and the first of a row that isn't, which is found without going through those that are."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._ends: Counter[tuple[str, ...]] = Counter()
        """How many of a row's names have been in use."""
        self._places: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        """The places that a name has among those."""
        self._left: dict[tuple[str, ...], list[int]] = {}
        """Heaps: places among those whose names were let go, and may be in use again."""

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        self._names.add(name)

    def discard(self, name: str) -> None:
        self._names.discard(name)
        for row, place in self._places.get(name, ()):
            heapq.heappush(self._left.setdefault(row, []), place)

    def first(self, row: tuple[str, ...]) -> str:
        """The first free name of a row, which starts with these, and goes on with the first of them and a number."""
        left = self._left.get(row, [])
        while left:
            name = _in_row(row, left[0])
            if name not in self._names:
                return name
            heapq.heappop(left)
        while (name := _in_row(row, self._ends[row])) in self._names:
            self._places.setdefault(name, []).append((row, self._ends[row]))
            self._ends[row] += 1
        return name


def _in_row(row: tuple[str, ...], place: int) -> str:
    if place < len(row):
        return row[place]
    return f"{row[0]}{'_' if row[0][-1].isdigit() else ''}{place - len(row) + 1}"


def used(text: str) -> list[int]:
    """Numbers of the variables in a text."""
    return [int(number) for number in TOKEN.findall(text)]


# -- Python numbers known only at run time ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Size:
    """An int that the forward computes, `x.shape[0] * 2`; never negative, so that // divides as ONNX does."""

    text: str
    atom: bool = True

    def __str__(self) -> str:
        return self.text

    def _with(self, sign: str, other: Any, swap: bool = False) -> Size:
        if not isinstance(other, Size) and (isinstance(other, bool) or not isinstance(other, int | np.integer) or other < 0):
            raise NotImplementedError
        if sign == "*" and not isinstance(other, Size) and other == 1:
            return self
        if sign in "+" and not isinstance(other, Size) and other == 0:
            return self
        if sign == "//" and not isinstance(other, Size):
            if swap or other == 0:
                raise NotImplementedError
            if other == 1:
                return self
        mine, theirs = _inner(self), _inner(other)
        return Size(f"{theirs} {sign} {mine}" if swap else f"{mine} {sign} {theirs}", atom=False)

    def __add__(self, other: Any) -> Size:
        return self._with("+", other)

    def __radd__(self, other: Any) -> Size:
        return self._with("+", other, swap=True)

    def __mul__(self, other: Any) -> Size:
        return self._with("*", other)

    def __rmul__(self, other: Any) -> Size:
        return self._with("*", other, swap=True)

    def __floordiv__(self, other: Any) -> Size:
        return self._with("//", other)

    def __rfloordiv__(self, other: Any) -> Size:
        raise NotImplementedError


def _inner(value: Any) -> str:
    if isinstance(value, Size):
        return value.text if value.atom else f"({value.text})"
    return str(int(value))


# -- literals --------------------------------------------------------------------------------------------------------


def number(value: Any) -> str:
    """A Python literal that gives exactly this number in its dtype: the shortest one for float32."""
    if isinstance(value, Size):
        return value.text
    scalar = np.asarray(value)
    if scalar.dtype.kind == "b":
        return repr(bool(scalar))
    if scalar.dtype.kind in "iu":
        return repr(int(scalar))
    if scalar.dtype.kind == "c":
        return f"complex({number(scalar.real)}, {number(scalar.imag)})"
    as_float = float(scalar)
    if math.isnan(as_float):
        return 'float("nan")'
    if math.isinf(as_float):
        return 'float("inf")' if as_float > 0 else '-float("inf")'
    if scalar.dtype == np.float32 and abs(as_float) < 3.4e38:  # near the largest, the shortest digits would overflow in float64
        return repr(float(np.format_float_scientific(np.float32(scalar), unique=True, trim="0")))
    return repr(as_float)


def literal(array: NDArray[Any]) -> str:
    """Nested lists of literals."""
    if array.ndim == 0:
        return number(array[()])
    return "[" + ", ".join(literal(part) if isinstance(part, np.ndarray) else number(part) for part in array) + "]"


def comment(text: str, limit: int = 100) -> str:
    """Text from a file as one line of a comment: printable ASCII alone, bounded."""
    kept = "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:limit])
    return kept.strip()
