"""The class that stretches of a net share: its layers under names of its own, their numbers as arguments where they differ."""

from __future__ import annotations

import itertools
import keyword
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from converters.graph.names import is_name
from converters.writers.source.blocks.constructors import Constructor, Number, constructor
from converters.writers.source.blocks.stretches import REF, Stretch
from converters.writers.source.code import NOTE, TOKEN, Body, Origin, Statement
from converters.writers.source.lines import WIDTH, wrapped
from converters.writers.source.modules import Modules

_SHORT = {"nn.Linear": "fc", "nn.Dropout": "drop", "nn.PReLU": "act"}
_MOST = 12
"""Arguments that a class may have."""


@dataclass
class Argument:
    """An argument of the class: its value for each stretch. layer, role: whose number it is first; default: where it may be left out."""

    layer: int
    role: str
    values: list[Number]
    default: Number | None
    name: str = ""

    @property
    def kind(self) -> str:
        """What it may be equal to: all counts of channels are one kind."""
        return "channels" if re.match(r"in_|out_|num_", self.role) else self.role


@dataclass
class BlockClass:
    """A class and its instances. names: of its layers; calls: the arguments of each instance."""

    name: str
    names: list[str]
    arguments: list[Argument]
    layers: list[Constructor]
    numbers: list[dict[str, str]]
    forward: list[str] = field(default_factory=list)
    about: str = ""

    def lines(self) -> list[str]:
        """The class as text."""
        stated = sorted(self.arguments, key=lambda argument: argument.default is not None)
        typed = ["self", *(f"{a.name}: {_type(a.values)}" + ("" if a.default is None else f" = {a.default!r}") for a in stated)]
        about = textwrap.wrap(f'"""{self.about}', WIDTH - 7, break_on_hyphens=False)
        head = [f"class {self.name}(nn.Module):", *(f"    {line}" for line in about), ""]
        head[-2] += '"""' if len(about) == 1 else ""
        head[-1:] = [""] if len(about) == 1 else ['    """', ""]
        init = [*wrapped(f"def __init__({', '.join(typed)}) -> None:", " " * 4), "        super().__init__()"]
        for name, layer, numbers in zip(self.names, self.layers, self.numbers, strict=True):
            init += wrapped(f"self.{name} = {layer.text(numbers)}", " " * 8)
        forward = ["", "    def forward(self, x: torch.Tensor) -> torch.Tensor:"]
        return [*head, *init, *forward, *(text for line in self.forward for text in wrapped(line, " " * 8)), "", ""]

    def call(self, instance: int) -> str:
        """The expression that makes an instance."""
        return self.made({a.name: repr(a.values[instance]) for a in self.arguments if a.values[instance] != a.default})

    def made(self, texts: dict[str, str]) -> str:
        """The expression that makes an instance of these arguments; those that aren't named have their defaults."""
        parts = [texts[a.name] for a in self.arguments if a.default is None]
        parts += [f"{a.name}={texts[a.name]}" for a in self.arguments if a.default is not None and a.name in texts]
        return f"{self.name}({', '.join(parts)})"


def class_of(group: Sequence[Stretch], body: Body, modules: Modules) -> BlockClass | None:
    """The class of stretches that are alike, named by its form alone; None where it would have too many arguments."""
    made = [[_constructor(modules, path) for path in stretch.paths] for stretch in group]
    names = _layer_names([stretch.paths for stretch in group], made[0])
    first = group[0]
    statements = body.statements[first.start : first.stop]
    arguments: list[Argument] = []
    places: list[list[tuple[str, str, int]]] = []
    for layer, one in enumerate(made[0]):
        places.append([])
        for place in one.numbers:
            values = [instance[layer].numbers[place] for instance in made]
            if any(value != values[0] for value in values):
                places[-1].append((place, *_argument(arguments, Argument(layer, one.role(place), values, _default(one, place, values)))))
    if len(arguments) > _MOST:
        return None
    _name(arguments, names, _answered(made[0], places))
    numbers = [{place: form.replace("@", arguments[index].name) for place, form, index in found} for found in places]
    found = BlockClass(_form_of(statements, first, made[0]), names, arguments, made[0], numbers)
    found.forward = _forward(statements, first, names, body.reserved)
    found.about = f"What {len(group)} places of the net share; the first is {span(statements)}."
    return found


def span(statements: Sequence[Statement]) -> str:
    """From which to which layer of the source statements go, as text for a docstring or a comment."""
    comments = [re.sub(r" \([^()]*\)$", "", statement.origin.comment) for statement in statements if statement.origin.comment]
    ends = dict.fromkeys((comments[0], comments[-1])) if comments else ()
    return re.sub(r"[^\w .,;:/()+-]", "_", " to ".join(ends), flags=re.ASCII)[:160] or "without names"


def _constructor(modules: Modules, path: str) -> Constructor:
    made = constructor(modules.build_of(path))
    assert made is not None  # what isn't one is in no stretch
    return made


# -- arguments ---------------------------------------------------------------------------------------------------------


def _argument(arguments: list[Argument], wanted: Argument) -> tuple[str, int]:
    """How a number is worked out of an argument (`4 * @`), and of which; a new one where it is worked out of none."""
    for index, known in enumerate(arguments):
        like = {known.kind, wanted.kind} == {"padding", "dilation"} or (known.kind, wanted.kind) == ("channels", "groups")
        if (like or known.kind == wanted.kind) and (form := _form(known.values, wanted.values)):
            return form, index
    arguments.append(wanted)
    return "@", len(arguments) - 1


def _form(known: Sequence[Number], wanted: Sequence[Number]) -> str:
    if list(known) == list(wanted):
        return "@"
    if len(set(wanted)) < 3 or not all(type(n) is int and n > 0 for n in (*known, *wanted)):
        return ""  # two numbers are a multiple of two others too easily
    ours, theirs = [n for n in known if isinstance(n, int)], [n for n in wanted if isinstance(n, int)]
    if all(b % a == 0 and b // a == theirs[0] // ours[0] for a, b in zip(ours, theirs, strict=True)):
        return f"{theirs[0] // ours[0]} * @"
    if all(a % b == 0 and a // b == ours[0] // theirs[0] for a, b in zip(ours, theirs, strict=True)):
        return f"@ // {ours[0] // theirs[0]}"
    return ""


def _default(layer: Constructor, place: str, values: Sequence[Number]) -> Number | None:
    default = layer.default(place)
    return default if default in values else None


def _answered(layers: Sequence[Constructor], places: Sequence[Sequence[tuple[str, str, int]]]) -> int:
    """The argument that is the count of channels of the last convolution; -1 where that is worked out of one, or always the same."""
    last = max((n for n, layer in enumerate(layers) if "1" in layer.numbers and layer.role("1").startswith("out_")), default=-1)
    return next((index for place, form, index in (places[last] if layers else ()) if place == "1" and form == "@"), -1)


def _name(arguments: list[Argument], names: Sequence[str], answered: int) -> None:
    """Names arguments by what they are: in_channels, width, out_channels, stride; by their layer where that would be one name twice."""
    channels = [argument for argument in arguments if argument.kind == "channels"]
    for index, argument in enumerate(arguments):
        argument.name = argument.role
        if argument.kind == "channels":
            inner = "width" if len(channels) <= 3 else f"{names[argument.layer]}_channels"
            is_first = argument is channels[0] and argument.layer == 0 and argument.role.startswith(("in_", "num_"))
            argument.name = "out_channels" if index == answered else inner
            if is_first:
                argument.name = "channels" if index == answered else "in_channels"
    counts = Counter(argument.name for argument in arguments)
    taken: set[str] = set(keyword.kwlist) | {"self", "torch", "nn"}
    for argument in arguments:
        base = argument.name if counts[argument.name] == 1 else f"{names[argument.layer]}_{argument.role}"
        argument.name = next(name for name in (base, *(f"{base}{n}" for n in range(2, 99))) if name not in taken)
        taken.add(argument.name)


def _type(values: Sequence[Number]) -> str:
    kinds = ["tuple[int, ...]" if isinstance(value, tuple) else type(value).__name__ for value in values]
    return " | ".join(dict.fromkeys(sorted(kinds)))


# -- names and text ----------------------------------------------------------------------------------------------------


def common_prefix(paths: Sequence[str]) -> str:
    """What the names of layers begin with, up to and with an underscore or dot."""
    first, last = min(paths), max(paths)
    end = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: max(first.rfind("_", 0, end), first.rfind(".", 0, end)) + 1]


def _layer_names(instances: Sequence[tuple[str, ...]], layers: Sequence[Constructor]) -> list[str]:
    """What is left of the layers' names without what each stretch has in front of them, if that is the same in all; else conv1, bn1, fc."""
    rests = {tuple(path[len(common_prefix(paths)) :].replace(".", "_") for path in paths) for paths in instances}
    if len(rests) == 1:
        names = [f"branch_{name}" if name[:1].isdigit() else name for name in rests.pop()]
        if len(set(names)) == len(names) and all(is_name(name) and not keyword.iskeyword(name) for name in names):
            return names
    shorts = [_short(layer.name) for layer in layers]
    counts, seen = Counter(shorts), Counter[str]()
    names = []
    for short in shorts:
        seen[short] += 1
        names.append(short if counts[short] == 1 else f"{short}{seen[short]}")
    return names


def _short(name: str) -> str:
    if name in _SHORT:
        return _SHORT[name]
    return "conv" if "Conv" in name else "bn" if "BatchNorm" in name else re.sub(r"\W", "", name.removeprefix("nn.")).lower()


def name_classes(classes: Iterable[BlockClass], taken: Iterable[str]) -> None:
    """Gives classes of one form names of their own: Residual, ResidualB, ResidualC. taken: names that none may have."""
    used = set(taken)
    for kind in classes:
        base = kind.name
        letters = itertools.chain([""], "BCDEFGHIJKLMNOPQRSTUVWXYZ", map(str, itertools.count(2)))
        kind.name = next(name for letter in letters if (name := f"{base}{letter}") not in used)
        used.add(kind.name)


def _form_of(statements: Sequence[Statement], stretch: Stretch, layers: Sequence[Constructor]) -> str:
    """What a stretch is called by its form: Bottleneck, Residual, Inception, DenseLayer, else Block."""
    joins = [statement.text for statement in statements if len(TOKEN.findall(statement.text)) > 1]
    last = joins[-1] if joins else ""
    kernels = [layer.numbers.get("2") for layer in layers if "Conv" in layer.name]
    has_given = stretch.given in {int(number) for number in TOKEN.findall(last)}
    if "torch.cat" in last:
        return "DenseLayer" if has_given and len(TOKEN.findall(last)) == 2 else "Inception"
    if re.search(r" \+=? |torch\.add", last):
        base = "Bottleneck" if [1, 3, 1] in (kernels[:3], kernels[-3:]) else "Residual"
        return base if has_given else f"{base}Projection"
    return "Block"


def _forward(statements: Sequence[Statement], stretch: Stretch, names: Sequence[str], reserved: Iterable[str]) -> list[str]:
    """The lines of forward, its values named by the layers that they come from."""
    inner = Body(reserved)
    tokens = {stretch.given: inner.variable("x", "argument")}
    waiting = iter(names)
    name = ""
    for statement in statements:
        text = REF.sub(lambda _: f"self.{next(waiting)}", statement.text)
        called = re.findall(r"self\.(\w+)\(", text)
        name = called[-1] if called else name
        text = TOKEN.sub(lambda match: tokens[int(match[1])], text)
        targets = []
        for variable in statement.targets:
            token = inner.variable("", variable.kind, name)
            tokens[variable.number] = token
            targets.append(inner.variables[int(token[1:-1])])
        inner.statements.append(Statement(targets, text, Origin()))
    result = tokens[statements[-1].targets[0].number]
    return [line.partition(NOTE)[0] for line in inner.lines([result], [tokens[stretch.given]])]
