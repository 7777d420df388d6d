"""Where a flat net repeats: stretches of statements that take one tensor, answer one, and are alike up to the numbers of their layers.

A stretch is a run of statements that reads one value from before it, and of whose values only the last is read behind it: a bottleneck
with its shortcut, an inception module, a DenseNet layer. Two are alike when their statements and the constructors of their layers are
the same text once values are counted backwards and numbers of constructors are left out.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from converters.writers.source.blocks.constructors import constructor
from converters.writers.source.code import REF_CLOSE, REF_OPEN, TOKEN, Body, Statement, used
from converters.writers.source.modules import Modules

REF = re.compile(f"{REF_OPEN}[0-9]+{REF_CLOSE}")
_LONGEST = 120
_CHAIN = 5
"""A stretch without branches is worth a class from so many statements on."""
_OVERHEAD = 12
"""Lines of a class besides those of its layers and statements."""


@dataclass(frozen=True)
class Stretch:
    """Statements from start to stop. given: the variable that goes in; paths: of its layers, in the order in which they are called."""

    start: int
    stop: int
    given: int
    paths: tuple[str, ...]

    @property
    def length(self) -> int:
        """How many statements it has."""
        return self.stop - self.start


def find(body: Body, modules: Modules, results: Sequence[str], accept: Callable[[list[Stretch]], bool]) -> list[Stretch]:
    """Stretches that are alike in groups, none overlapping another, in order; what makes the source shortest comes first.

    accept: called with each group; one that it refuses stays as it is.
    """
    search = _Search(body.statements, modules, results)
    groups = search.groups()
    taken: set[int] = set()
    found: list[Stretch] = []
    while True:
        choices = [free for group in groups if len(free := _apart(group, taken)) > 1]
        best = max(choices, key=lambda group: (_saved(group), group[0].length), default=None)
        if best is None or _saved(best) <= 0:
            return sorted(found, key=lambda stretch: stretch.start)
        groups = [group for group in choices if group is not best]
        if accept(best):
            found += best
            taken.update(place for stretch in best for place in range(stretch.start, stretch.stop))


def _apart(group: list[Stretch], taken: set[int]) -> list[Stretch]:
    """The stretches of a group that neither overlap one another nor what is taken."""
    free: list[Stretch] = []
    for stretch in group:
        if (not free or stretch.start >= free[-1].stop) and not taken.intersection(range(stretch.start, stretch.stop)):
            free.append(stretch)
    return free


def _saved(group: list[Stretch]) -> int:
    """Lines that one class saves."""
    lines = group[0].length + len(group[0].paths)
    return len(group) * (lines - 1) - lines - _OVERHEAD


class _Search:
    def __init__(self, statements: Sequence[Statement], modules: Modules, results: Sequence[str]) -> None:
        self.statements, self.modules = statements, modules
        self.made = {variable.number: n for n, statement in enumerate(statements) for variable in statement.targets}
        self.last: dict[int, int] = {}
        for n, statement in enumerate(statements):
            self.last.update(dict.fromkeys(statement.used, n))
        self.last.update(dict.fromkeys(used(" ".join(results)), len(statements)))
        calls = Counter(ref for statement in statements for ref in REF.findall("\n".join((*statement.before, statement.text))))
        self.paths = [self._paths(statement, calls) for statement in statements]
        self.texts = [self._text(n) for n in range(len(statements))]

    def groups(self) -> list[list[Stretch]]:
        """All stretches that have a like, in groups."""
        found: dict[tuple[str, ...], list[Stretch]] = {}
        for start in range(len(self.statements)):
            self._from(start, found)
        worth = [self._worth(group) for group in found.values() if len(group) > 1]
        return [group for group in worth if len(group) > 1]

    def _paths(self, statement: Statement, calls: Counter[str]) -> tuple[str, ...] | None:
        """The layers that a statement calls; None where it has what no class of its own can have."""
        refs = REF.findall(statement.text)
        rest = REF.sub("", statement.text)
        if statement.before or statement.is_loop or not statement.targets or "self." in rest or "self[" in rest:
            return None
        if any(calls[ref] != 1 or f"{ref}(" not in statement.text for ref in refs):
            return None
        layers = [self.modules.layer_of(ref) for ref in refs]
        return tuple(path for path, _ in layers) if all(build and constructor(build) for _, build in layers) else None

    def _text(self, n: int) -> str:
        """A statement's text with distances for values, and constructors without numbers for layers."""
        text = REF.sub(lambda match: f"<{self._shape(match[0])}>", self.statements[n].text)
        count = len(self.statements[n].targets)
        return f"{count}:" + TOKEN.sub(lambda match: f"<{n - self.made.get(int(match[1]), -1)}.{match[1]}>", text)

    def _shape(self, ref: str) -> str:
        made = constructor(self.modules.layer_of(ref)[1])
        return made.shape if made else ""

    def _from(self, start: int, found: dict[tuple[str, ...], list[Stretch]]) -> None:
        """Adds the stretches that begin at a statement."""
        outside: set[int] = set()
        reads = 0
        texts: list[str] = []
        paths: list[str] = []
        reach = 0  # how far the values that are made inside, but the last, are read
        for n in range(start, min(len(self.statements), start + _LONGEST)):
            own = self.paths[n]
            if own is None:
                return
            numbers = self.statements[n].used
            from_outside = [v for v in numbers if self.made.get(v, -1) < start]
            outside.update(from_outside)
            reads += len(from_outside)
            if len(outside) > 1:
                return
            paths += own
            texts.append(self._inside(n, start))
            targets = self.statements[n].targets
            end = max((self.last.get(v.number, -1) for v in targets), default=-1)
            is_closed = len(targets) == 1 and targets[0].kind == "tensor" and reach <= n < end and self._ends(outside, n)
            if is_closed and n > start and paths and (self.paths[start] or reads > 1):
                found.setdefault(tuple(texts), []).append(Stretch(start, n + 1, next(iter(outside)), tuple(paths)))
            reach = max(reach, end)

    def _ends(self, outside: set[int], n: int) -> bool:
        """Whether one value goes in, which nobody reads behind a statement."""
        return len(outside) == 1 and all(self.last.get(number, -1) <= n for number in outside)

    def _inside(self, n: int, start: int) -> str:
        """The text of a statement whose values from before the stretch are all one."""
        return re.sub(r"<(-?[0-9]+)\.([0-9]+)>", lambda m: self._place(n, start, int(m[2])), self.texts[n])

    def _place(self, n: int, start: int, number: int) -> str:
        made = self.made.get(number, -1)
        if made < start:
            return "<in>"
        targets = [variable.number for variable in self.statements[made].targets]
        return f"<{n - made}.{targets.index(number)}>"

    def _worth(self, group: list[Stretch]) -> list[Stretch]:
        """Those that are one thing: a branching with the chain before and behind it, or a chain of some length that is no branch."""
        stretch = group[0]
        waists = [stretch.start, *(n for n in range(stretch.start + 1, stretch.stop) if self._is_waist(stretch, n)), stretch.stop]
        wide = sum(after - before > 1 for before, after in itertools.pairwise(waists))
        if len(stretch.paths) < 2 or wide > 1:
            return []
        if wide == 1:
            return group
        if "BatchNorm" in self.texts[stretch.start]:
            return []  # it belongs to the convolution before it
        return [chain for chain in group if chain.length >= _CHAIN and not self._is_branch(chain)]

    def _is_branch(self, stretch: Stretch) -> bool:
        """Whether other values wait while it runs; what the model answers may."""
        made, last = self.made, self.last
        return any(n < stretch.start <= last.get(v, -1) < len(self.statements) and v != stretch.given for v, n in made.items())

    def _is_waist(self, stretch: Stretch, n: int) -> bool:
        """Whether one value alone goes from what stands before a statement of the stretch to what stands from it on."""
        before = {v.number for statement in self.statements[stretch.start : n] for v in statement.targets} | {stretch.given}
        behind = {v for statement in self.statements[n : stretch.stop] for v in statement.used}
        return len(before & behind) == 1
