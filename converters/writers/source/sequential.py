"""Chains of layers as nn.Sequential, as the containers of Lua Torch are: `4.0.1` is the layer 1 in the chain 0 in the chain 4.

The paths say which containers there are, the forward whether each is a chain: one value goes through all its layers, in order, and
nobody else sees what lies between them. Then `x = self[4](x)` is all that the forward has to say of it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

from converters.graph.names import paths_above
from converters.writers.source.code import REF_CLOSE, REF_OPEN, TOKEN, Body, Statement, used
from converters.writers.source.modules import Modules, is_index

_DEEPEST = 30
"""Chains in chains: each costs three frames of Python's stack when it is called."""
_SPARE = 8
"""Layers without effect that a chain may have more of than of others."""

# torch's own names of one thing: a function of torch.nn.functional, or a tensor's method, and the layer that has the same arguments.
_LAYERS = {
    "F.avg_pool1d": "nn.AvgPool1d",
    "F.avg_pool2d": "nn.AvgPool2d",
    "F.avg_pool3d": "nn.AvgPool3d",
    "F.celu": "nn.CELU",
    "F.elu": "nn.ELU",
    "F.gelu": "nn.GELU",
    "F.hardswish": "nn.Hardswish",
    "F.interpolate": "nn.Upsample",
    "F.leaky_relu": "nn.LeakyReLU",
    "F.local_response_norm": "nn.LocalResponseNorm",
    "F.log_softmax": "nn.LogSoftmax",
    "F.max_pool1d": "nn.MaxPool1d",
    "F.max_pool2d": "nn.MaxPool2d",
    "F.max_pool3d": "nn.MaxPool3d",
    "F.mish": "nn.Mish",
    "F.pixel_shuffle": "nn.PixelShuffle",
    "F.relu": "nn.ReLU",
    "F.silu": "nn.SiLU",
    "F.softmax": "nn.Softmax",
    "F.softsign": "nn.Softsign",
    "F.threshold": "nn.Threshold",
    "torch.flatten": "nn.Flatten",
    "torch.sigmoid": "nn.Sigmoid",
    "torch.tanh": "nn.Tanh",
    "torch.unflatten": "nn.Unflatten",
}
_CALL = re.compile(rf"([\w.]+)\({TOKEN.pattern}(?:, (.*))?\)", re.DOTALL)
_LAYER_CALL = re.compile(rf"({REF_OPEN}[0-9]+{REF_CLOSE})\({TOKEN.pattern}\)")


@dataclass
class Link:
    """A statement that is one layer. path: where it is in the tree of modules. build: its constructor."""

    statement: Statement
    path: str
    build: str

    @property
    def source(self) -> int:
        """The number of the variable that goes in."""
        return self.statement.used[0]

    @property
    def target(self) -> int:
        """The number of the variable that comes out."""
        return self.statement.targets[0].number

    def numbers(self, container: str) -> tuple[int, ...]:
        """The place in a container above it; empty where a part of the path doesn't count layers."""
        parts = self.path.removeprefix(container).lstrip(".").split(".")
        return tuple(int(part) for part in parts) if all(map(is_index, parts)) else ()


def fold(body: Body, modules: Modules, results: Sequence[str]) -> None:
    """Makes every container that is a chain an nn.Sequential, the outermost first, and its statements one."""
    uses = Counter(number for statement in body.statements for number in statement.used)
    uses.update(used(" ".join(results)))
    held: dict[str, set[str]] = {}
    for path in {key.rpartition(".")[0] for key in modules.used}:
        for above in [*paths_above(path), path]:
            held.setdefault(above, set()).add(path)
    links = {id(statement): link for statement in body.statements if (link := _link(statement, modules, held))}
    inside: dict[str, list[Statement]] = {}
    for statement in body.statements:
        path = links[id(statement)].path if id(statement) in links else statement.origin.path
        for container in paths_above(path):
            inside.setdefault(container, []).append(statement)
    dropped: set[int] = set()
    for container in sorted(inside, key=lambda path: (path.count(".") if path else -1, path)):
        chain = [links[id(statement)] for statement in inside[container] if id(statement) in links]
        if any(above in modules.sequences for above in paths_above(container)) or len(chain) != len(inside[container]):
            continue
        if not _is_chain(chain, container, uses, held.get(container, set())):
            continue
        modules.sequences[container] = {link.path: link.build for link in chain}
        token = TOKEN.search(chain[0].statement.text)
        assert token is not None
        last = chain[-1].statement
        last.text = f"{modules.ref(container)}({token[0]})" if container else token[0]
        last.is_loop = not container
        dropped.update(id(link.statement) for link in chain[:-1])
    body.statements = [statement for statement in body.statements if id(statement) not in dropped]
    single = {path: statements[0] for path, statements in _by_path(body).items() if len(statements) == 1}
    alone = {path: links[id(statement)] for path, statement in single.items() if id(statement) in links}
    for container, numbers in _lists(modules).items():
        _complete(container, numbers, inside, alone, modules)


def _by_path(body: Body) -> dict[str, list[Statement]]:
    found: dict[str, list[Statement]] = {}
    for statement in body.statements:
        found.setdefault(statement.origin.path, []).append(statement)
    return found


def _lists(modules: Modules) -> dict[str, set[int]]:
    """Paths whose children are all numbered layers and that are no chains, with those numbers."""
    children: dict[str, set[str]] = {}
    for path in {key.rpartition(".")[0] for key in modules.used} | set(modules.sequences) | set(modules.others):
        parts = path.split(".") if path else []
        for n, part in enumerate(parts):
            children.setdefault(".".join(parts[:n]), set()).add(part)
    free = (c for c in children if not any(above in modules.sequences for above in [*paths_above(c), c]))
    return {c: {int(name) for name in children[c]} for c in free if all(map(is_index, children[c]))}


def _complete(container: str, numbers: set[int], inside: dict[str, list[Statement]], alone: dict[str, Link], modules: Modules) -> None:
    """Gives a list of layers those without parameters too, where each of them is one layer, so that its numbers have no gaps."""
    if max(numbers) + 1 > 2 * len(numbers) + _SPARE:
        return
    written = {_child(statement.origin.path, container) for statement in inside.get(container, ())}
    found: dict[str, Link | None] = {}
    number = 0
    while True:
        path = f"{container}.{number}" if container else str(number)
        link = alone.get(path) if path not in inside else None
        if number not in numbers:
            if link is None and (number > max(numbers) or path in written):
                break
            found[path] = link
        number += 1
    if number <= max(numbers):
        return  # a gap that no layer fills
    for path, link in found.items():
        modules.others[path] = link.build if link else "nn.Identity()"
        if link:
            token = TOKEN.search(link.statement.text)
            assert token is not None
            link.statement.text = f"{modules.ref(path)}({token[0]})"


def _child(path: str, container: str) -> str:
    """The path of the layer of a container that a path is, or is in."""
    start = len(container) + 1 if container else 0
    end = path.find(".", start)
    return path if end < 0 else path[:end]


def _is_chain(chain: list[Link], container: str, uses: Counter[int], held: set[str]) -> bool:
    """held: the paths of modules with tensors that the container is, or has in it."""
    if len(chain) < 2 or any(link.path.count(".") - container.count(".") > _DEEPEST for link in chain):
        return False
    places = [link.numbers(container) for link in chain]
    if not all(places):
        return False
    for before, after in itertools.pairwise(places):
        if not before < after or after[: len(before)] == before:
            return False
    if any(link.source != before.target or uses[before.target] != 1 for before, link in itertools.pairwise(chain)):
        return False
    heights = {place[:n]: 0 for place in places for n in range(len(place))}
    for place in places:
        for n in range(len(place)):
            heights[place[:n]] = max(heights[place[:n]], place[n] + 1)
    if sum(heights.values()) > 2 * len(places) + _SPARE + len(heights):
        return False
    return held - {container} <= {link.path for link in chain}


def _link(statement: Statement, modules: Modules, held: Container[str]) -> Link | None:
    """The statement as a layer: a call of one, or of a function that is one. held: the paths that have tensors in or below them."""
    if len(statement.targets) != 1 or statement.targets[0].kind != "tensor" or statement.before or statement.is_loop:
        return None
    called = _LAYER_CALL.fullmatch(statement.text)
    if called:
        path, build = modules.layer_of(called[1])
        return Link(statement, path, build) if build and statement.origin.path in ("", path) else None
    build = layer_of(statement.text)
    path = statement.origin.path
    if not build or not path or path in held:
        return None
    return Link(statement, path, build)


def layer_of(text: str) -> str:
    """The constructor of the torch.nn layer that does what a call does; empty where there is none."""
    call = _CALL.fullmatch(text)
    if call is None or call[1] not in _LAYERS or len(used(text)) != 1 or REF_OPEN in text:
        return ""
    rest = call[3] or ""
    depth = 0
    for character in rest:  # the call's own bracket is the last
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return ""
    if "self." in rest:
        return ""
    return f"{_LAYERS[call[1]]}({rest})".replace("nn.Flatten(1)", "nn.Flatten()")
