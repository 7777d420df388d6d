"""Chains of layers as nn.Sequential, as the containers of Lua Torch are: `4.0.1` is the layer 1 in the chain 0 in the chain 4.

The paths say which containers there are, the forward whether each is a chain: one value goes through all its layers, in order, and
nobody else sees what lies between them. Then `x = self[4](x)` is all that the forward has to say of it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from converters.writers.source.code import REF_CLOSE, REF_OPEN, TOKEN, Code, Statement, used
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

    position: int
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


def fold(code: Code, modules: Modules, results: Sequence[str]) -> None:
    """Makes every container that is a chain an nn.Sequential, the outermost first, and its statements one."""
    uses = Counter(number for statement in code.statements for number in statement.used)
    uses.update(used(" ".join(results)))
    links = {position: link for position, statement in enumerate(code.statements) if (link := _link(position, statement, modules))}
    paths = {statement.origin.path for statement in code.statements} | {link.path for link in links.values()}
    for container in _containers(paths):
        if any(_is_under(container, folded) for folded in modules.sequences):
            continue
        members = [p for p, s in enumerate(code.statements) if _is_under(links[p].path if p in links else s.origin.path, container)]
        chain = [links[p] for p in members if p in links]
        if len(chain) != len(members) or not _is_chain(chain, container, uses, modules):
            continue
        modules.sequences[container] = {link.path: link.build for link in chain}
        first, last = chain[0].statement, chain[-1].statement
        token = TOKEN.search(first.text)
        assert token is not None
        last.text = f"{modules.ref(container)}({token[0]})" if container else token[0]
        last.is_loop = not container
        dropped = {id(link.statement) for link in chain[:-1]}
        code.statements = [statement for statement in code.statements if id(statement) not in dropped]
        links = {p: link for p, s in enumerate(code.statements) if (link := _link(p, s, modules))}
    for container, numbers in _lists(modules).items():
        _complete(container, numbers, code, links, modules)


def _lists(modules: Modules) -> dict[str, set[int]]:
    """Paths whose children are all numbered layers and that are no chains, with those numbers."""
    children: dict[str, set[str]] = {}
    for path in {key.rpartition(".")[0] for key in modules.used} | set(modules.sequences):
        parts = path.split(".") if path else []
        for n, part in enumerate(parts):
            children.setdefault(".".join(parts[:n]), set()).add(part)
    free = (c for c in children if not any(c == chain or _is_under(c, chain) for chain in modules.sequences))
    return {c: {int(name) for name in children[c]} for c in free if all(map(is_index, children[c]))}


def _complete(container: str, numbers: set[int], code: Code, links: dict[int, Link], modules: Modules) -> None:
    """Gives a list of layers those without parameters too, where each of them is one layer, so that its numbers have no gaps."""
    ends = max(numbers) + 1
    if ends > 2 * len(numbers) + _SPARE:
        return
    found: dict[int, Link | None] = {}
    number = 0
    while True:
        path = f"{container}.{number}" if container else str(number)
        inside = [p for p, s in enumerate(code.statements) if s.origin.path == path or _is_under(s.origin.path, path)]
        only = links.get(inside[0]) if len(inside) == 1 else None
        is_layer = only is not None and only.path == path
        if number >= ends and not is_layer:
            break
        if number not in numbers:
            if inside and not is_layer:
                return
            found[number] = only
        number += 1
    for number, link in found.items():
        path = f"{container}.{number}" if container else str(number)
        modules.others[path] = link.build if link else "nn.Identity()"
        if link:
            token = TOKEN.search(link.statement.text)
            assert token is not None
            link.statement.text = f"{modules.ref(path)}({token[0]})"


def _containers(paths: set[str]) -> Iterator[str]:
    """Paths that have numbered layers, the outermost first."""
    found = {path[:at] for path in paths for at in range(len(path)) if path[at] == "."} | ({""} if any(paths) else set())
    yield from sorted(found, key=lambda path: (path.count(".") if path else -1, path))


def _is_under(path: str, container: str) -> bool:
    return bool(path) if not container else path.startswith(f"{container}.")


def _is_chain(chain: list[Link], container: str, uses: Counter[int], modules: Modules) -> bool:
    if len(chain) < 2:
        return False
    places = [link.numbers(container) for link in chain]
    if not all(places) or any(len(place) > _DEEPEST for place in places):
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
    own = {link.path for link in chain}
    return all(key.rpartition(".")[0] in own for key in modules.used if _is_under(key.rpartition(".")[0], container))


def _link(position: int, statement: Statement, modules: Modules) -> Link | None:
    """The statement as a layer: a call of one, or of a function that is one."""
    if len(statement.targets) != 1 or statement.targets[0].kind != "tensor" or statement.before or statement.is_loop:
        return None
    called = _LAYER_CALL.fullmatch(statement.text)
    if called:
        path, build = modules.layer_of(called[1])
        return Link(position, statement, path, build) if build and statement.origin.path in ("", path) else None
    build = layer_of(statement.text)
    path = statement.origin.path
    if not build or not path or any(key.startswith(f"{path}.") for key in modules.used):
        return None
    return Link(position, statement, path, build)


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
