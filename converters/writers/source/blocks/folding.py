"""Repeated stretches of a flat net as classes: `x = self.layer1(x)` instead of a bottleneck's twelve lines, again and again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from converters.graph.names import is_name
from converters.writers.source.blocks.classes import BlockClass, class_of, common_prefix, name_classes, span
from converters.writers.source.blocks.stretches import Stretch, find
from converters.writers.source.code import NOTE, Body, Origin, Statement, used
from converters.writers.source.modules import Modules, is_index

_RUN = 3
"""So many equal blocks in a row, or more, are written as a loop."""


@dataclass
class _Block:
    stretch: Stretch
    kind: BlockClass
    instance: int

    @property
    def text(self) -> str:
        return self.kind.call(self.instance)


def fold(body: Body, modules: Modules, results: Sequence[str], taken: Iterable[str]) -> list[str]:
    """Makes what repeats blocks of a class, in place; answers the lines of the classes. taken: names that no class may have.

    Layers of blocks have other keys then, which `modules.moved` tells. A net whose own layers are numbered, as those of Lua Torch are,
    has its containers already, and stays as it is.
    """
    if modules.top_names and all(map(is_index, modules.top_names)):
        return []
    blocks: dict[Stretch, _Block] = {}

    def accept(group: list[Stretch]) -> bool:
        kind = class_of(group, body, modules)
        if kind is not None:
            blocks.update({stretch: _Block(stretch, kind, n) for n, stretch in enumerate(group)})
        return kind is not None

    found = [blocks[stretch] for stretch in find(body, modules, results, accept)]
    classes = {id(block.kind): block.kind for block in found}
    name_classes(classes.values(), taken)
    _replace(body, modules, found, results)
    return [line for kind in classes.values() for line in kind.lines()]


def _replace(body: Body, modules: Modules, blocks: Sequence[_Block], results: Sequence[str]) -> None:
    """Puts one call in the place of each stage."""
    stages = [stage for chain in _chains(body, blocks, results) for stage in _stages(chain)]
    nested = {path for block in blocks for path in block.stretch.paths}
    free = modules.names_without(nested)
    count = 0
    statements: list[Statement] = []
    place = 0
    for stage in stages:
        name = _own_name(stage[0], free) if len(stage) == 1 else ""
        if not name:
            count, name = next((n, f"layer{n}") for n in itertools.count(count + 1) if f"layer{n}" not in free)
        free.add(name)
        first, last = stage[0].stretch, stage[-1].stretch
        inside = body.statements[first.start : last.stop]
        where = [f"{name}.{n}" for n in range(len(stage))] if len(stage) > 1 else [name]
        paths = {
            path: f"{at}.{own}"
            for at, block in zip(where, stage, strict=True)
            for path, own in zip(block.stretch.paths, block.kind.names, strict=True)
        }
        modules.nest(paths, name, f"{_built(stage)}{NOTE}{span(inside)}")
        statements += body.statements[place : first.start]
        token = body.token(first.given)
        statements.append(Statement(inside[-1].targets, f"{modules.ref(name)}({token})", Origin()))
        place = last.stop
    body.statements = [*statements, *body.statements[place:]]


def _own_name(block: _Block, free: set[str]) -> str:
    """What the names of the block's layers begin with, if it can be an attribute's."""
    name = common_prefix(block.stretch.paths).rstrip("._")
    return name if is_name(name) and name not in free else ""


def _chains(body: Body, blocks: Sequence[_Block], results: Sequence[str]) -> list[list[_Block]]:
    """Blocks of which each takes what the one before answers, and nobody else does."""
    uses = [number for statement in body.statements for number in statement.used] + used(" ".join(results))
    chains: list[list[_Block]] = []
    for block in blocks:
        before = chains[-1][-1].stretch if chains else None
        own = body.statements[block.stretch.start : block.stretch.stop]
        reads = sum(number == block.stretch.given for statement in own for number in statement.used)
        follows = (
            before is not None
            and before.stop == block.stretch.start
            and body.statements[before.stop - 1].targets[0].number == block.stretch.given
            and uses.count(block.stretch.given) == reads
        )
        if follows:
            chains[-1].append(block)
        else:
            chains.append([block])
    return chains


def _stages(chain: Sequence[_Block]) -> list[list[_Block]]:
    """A chain cut behind each row of equal blocks: a ResNet's stages, which begin with another block."""
    stages: list[list[_Block]] = [[]]
    for _, row in itertools.groupby(chain, key=lambda block: block.text):
        equal = list(row)
        stages[-1] += equal
        if len(equal) > 1:
            stages.append([])
    return [stage for stage in stages if stage]


def _built(stage: Sequence[_Block]) -> str:
    """The expression of a stage: a block, or an nn.Sequential of several."""
    if len(stage) == 1:
        return stage[0].text
    parts: list[str] = []
    at = 0
    while at < len(stage):
        row = _row(stage[at:])
        if len(row) < _RUN:
            parts.append(stage[at].text)
            at += 1
        else:
            parts.append(_loop(row))
            at += len(row)
    return f"nn.Sequential({', '.join(parts)})"


def _row(stage: Sequence[_Block]) -> list[_Block]:
    """The blocks at the head whose arguments are equal, or grow by equal steps."""
    row = list(stage[:2])
    if len(row) < 2 or _step(*row) is None:
        return row[:1]
    for block in stage[2:]:
        if _step(row[-1], block) != _step(row[0], row[1]):
            break
        row.append(block)
    return row


def _step(a: _Block, b: _Block) -> list[int] | None:
    """By how much each argument grows from one block to the next; None where that is no step."""
    if a.kind is not b.kind:
        return None
    steps = []
    for argument in a.kind.arguments:
        before, after = argument.values[a.instance], argument.values[b.instance]
        if before != after and (type(before) is not int or type(after) is not int or argument.default is not None):
            return None
        steps.append(after - before if isinstance(before, int) and isinstance(after, int) else 0)
    return steps


def _loop(row: Sequence[_Block]) -> str:
    """A row as `*(Block(64 + 32 * n) for n in range(6))`."""
    first = row[0]
    steps = _step(row[0], row[1]) or []
    texts = {}
    for argument, step in zip(first.kind.arguments, steps, strict=True):
        value = argument.values[first.instance]
        if value != argument.default:
            texts[argument.name] = f"{value!r} {'+' if step > 0 else '-'} {abs(step)} * n" if step else repr(value)
    return f"*({first.kind.made(texts)} for {'n' if any(steps) else '_'} in range({len(row)}))"
