"""Which part of a checkpoint is the weights: by what it is, then by its usual names; a question where several would do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from converters.errors import ConversionError, printable
from converters.readers.pytorch import contents
from converters.readers.pytorch.archives.archive import Checkpoint
from converters.readers.pytorch.contents import AVERAGE, MAIN, OTHER, Weighing, parts
from converters.readers.pytorch.modules import is_module, key_text, mapping_state, module_state, with_numbers
from converters.readers.pytorch.pickles.stubs import Items, Stub
from converters.readers.pytorch.pickles.suspects import suspects
from converters.readers.pytorch.storages import as_weight
from converters.tensors.state_dict import LeftOut, StateDict
from converters.tensors.tensor import RebuiltTensor, Tensor, Weight

_SHOWN = 20
_ALL = "*"
_NAMED = 1000  # entries without tensors that are named as left out
_FORMS = {"TorchScript": "TorchScript archive", "torch.package": "torch.package archive", "pickle": "plain pickle"}
_FORMS |= {"torch.export": "program of torch.export", "numpy": "file of numpy arrays", "msgpack": "file of flax parameters"}


@dataclass(frozen=True)
class Part:
    """A part of a container that has weights in it. rank: how near it is to being the weights (contents.MAIN ...)."""

    name: str
    value: Any
    rank: int


def select(checkpoint: Checkpoint, key: str | None = None) -> StateDict:
    """The weights of a checkpoint, with the key they sit under and all else that is in it.

    key: a dotted path; "PATH.*" or "*" takes all that is there, under names joined by dots. Raises ConversionError where there are no
    weights, where the key isn't there, or where several sets would do and none was named.
    """
    whole = key is not None and (key == _ALL or key.endswith(f".{_ALL}"))
    place = key[:-1].removesuffix(".") if whole and key is not None else key
    root, steps = resolve(checkpoint.root, place) if place else (checkpoint.root, ())
    chooser = _Chooser(checkpoint)
    state, path = (chooser.join(root), ()) if whole else chooser.choose(root, steps)
    steps = steps + path
    state.key = ".".join(steps)
    inner = [replace(entry, path=".".join((*steps, entry.path))) for entry in state.left_out]
    state.left_out = [*inner, *_rest(checkpoint.root, steps, state)]
    state.form = _FORMS.get(checkpoint.form, f"{checkpoint.form} checkpoint")
    state.suspicious, state.sources = suspects(checkpoint.called), checkpoint.sources
    return state


class _Chooser:
    """Walks down to the one part of a checkpoint that is the weights."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.weigh = Weighing()
        self._above: list[Any] = []  # the containers that the walk is in

    def choose(self, root: Any, steps: tuple[str, ...]) -> tuple[StateDict, tuple[str, ...]]:
        """The weights inside root, and the path from it to them. steps: the path to root, for messages. Raises ConversionError."""
        before = len(self._above)
        try:
            return self._choose(root, steps)
        finally:
            del self._above[before:]

    def _choose(self, root: Any, steps: tuple[str, ...]) -> tuple[StateDict, tuple[str, ...]]:
        value = root
        path: tuple[str, ...] = ()
        while not (is_module(value) or as_weight(value) is not None or contents.is_wrapped(value)):
            if isinstance(value, dict | list | tuple) and contents.is_tree(
                value, arrays_alone=self.checkpoint.form in ("numpy", "msgpack")
            ):
                return self.join(value), path
            if any(value is other for other in self._above):
                raise ConversionError(f"'{printable('.'.join((*steps, *path)))}' contains itself: there is no end to what is in it")
            self._above.append(value)
            own, inside = self._split(value)
            kept = self._kept(own, inside, (*steps, *path))
            if not kept:
                if not own:
                    raise ConversionError(_nothing(root, value))
                if path and isinstance(value, list | tuple):  # positions alone would say nothing of where they are
                    own = {f"{path[-1]}.{key_text(key)}": inner for key, inner in own.items()}
                return _own_state(value, own), path
            if len(kept) > 1 and not self._same(kept):
                raise ConversionError(_ambiguous(own, inside, (*steps, *path)))
            value, path = kept[0].value, (*path, kept[0].name)
        return self._state(value), path

    def _state(self, value: Any) -> StateDict:
        """The weights that a module or a tensor is."""
        if not is_module(value):
            return mapping_state({"tensor": value})
        state = module_state(value, self.checkpoint.script)
        if not state.tensors:
            name = printable(value.class_name)
            raise ConversionError(f"the model ({name}) has no parameters and no buffers: there are no weights to write")
        return state

    def _split(self, value: Any) -> tuple[dict[Any, Any], list[Part]]:
        """A container's own tensors by key, and its parts that have weights in them; an optimizer's aren't."""
        own: dict[Any, Any] = {}
        inside: list[Part] = []
        if contents.is_optimizer(value):
            return own, inside
        for key, inner in parts(value):
            if as_weight(inner) is not None or (contents.is_wrapped(inner) and not is_module(inner)):
                own[key] = inner
            elif isinstance(inner, dict | list | tuple | Stub) and not (isinstance(key, str) and _is_aside(key)):
                found = self.weigh(inner)
                if found is not None:
                    rank = contents.rank(key) if isinstance(key, str) else OTHER
                    inside.append(Part(key_text(key), inner, max(found, rank) if rank != MAIN or found != OTHER else MAIN))
        return own, inside

    def _kept(self, own: dict[Any, Any], inside: list[Part], steps: tuple[str, ...]) -> list[Part]:
        """The parts that may be the weights; none where a container's own tensors are. Raises ConversionError where either could be."""
        if not inside:
            return []
        best = min(part.rank for part in inside)
        figures = [key for key in own if isinstance(key, str) and contents.is_figure(key, as_weight(own[key]))]
        if len(figures) < len(own):
            if best >= AVERAGE:
                return []
            if best != MAIN:
                raise ConversionError(_ambiguous(own, inside, steps))
        # A usual name doesn't outweigh a second network that stands beside it.
        return [part for part in inside if part.rank == best or (best == MAIN and part.rank == OTHER)]

    def _same(self, kept: list[Part]) -> bool:
        """Whether several parts are the same weights, as a model and its own state_dict are."""
        first: StateDict | None = None
        for part in kept[:_SHOWN]:
            try:
                state, _ = self.choose(part.value, ())
            except ConversionError:
                return False
            if first is not None and (list(state.tensors) != list(first.tensors) or _places(state) != _places(first)):
                return False
            first = first or state
        return len(kept) <= _SHOWN

    def join(self, root: Any) -> StateDict:
        """All weights inside an object, under the names of their parts joined by dots; optimizers' aren't."""
        state = StateDict()
        pending: list[tuple[str, Any, int]] = [("", root, 0)]
        while pending:
            path, value, depth = pending.pop()
            weight = as_weight(value)
            if weight is not None:
                _add(state, {path or "tensor": weight})
            elif is_module(value):
                inner = module_state(value, self.checkpoint.script)
                prefix = f"{path}." if path else ""
                _add(state, {prefix + name: tensor for name, tensor in inner.tensors.items()})
                state.metadata |= {(prefix + name).removesuffix("."): entry for name, entry in inner.metadata.items()}
                state.classes |= {(prefix + name).removesuffix("."): cls for name, cls in inner.classes.items()}
                state.spectral_dims |= {prefix + name: dim for name, dim in inner.spectral_dims.items()}
                state.unknown += [words for words in inner.unknown if words not in state.unknown]
            elif isinstance(value, dict | list | tuple | Stub) and depth <= contents.DEEP and self.weigh(value) is not None:
                inside = [(key_text(key), inner) for key, inner in parts(value) if not (isinstance(key, str) and _is_aside(key))]
                pending.extend((f"{path}.{name}" if path else name, inner, depth + 1) for name, inner in reversed(inside))
        if not state.tensors:
            raise ConversionError(_nothing(root, root))
        return state


def _is_aside(key: str) -> bool:
    """What torch itself keeps beside tensors in one dictionary; and an optimizer's part."""
    return contents.is_optimizer_name(key) or key.endswith(("_packed_params", "_extra_state"))


def _own_state(value: Any, own: dict[Any, Any]) -> StateDict:
    """A container's own tensors as weights, without an optimizer's moments of them."""
    mapping: dict[Any, Any] = dict(parts(value)) if isinstance(value, dict) else own
    state = mapping_state(mapping, value.attributes if isinstance(value, Items) else {})
    moments = contents.moments(state.tensors)
    if len(moments) == len(state.tensors):
        raise ConversionError(f"there are no weights in it: it holds an optimizer's moments ({', '.join(map(printable, moments[:5]))})")
    for name in moments:
        weight = state.tensors.pop(name)
        state.left_out.append(LeftOut(name, "moment", weight.torch_dtype, weight.shape))
    return state


def _add(state: StateDict, tensors: dict[str, Weight]) -> None:
    for name, weight in tensors.items():
        if name in state.tensors:
            raise ConversionError(f"two tensors would both be called '{printable(name)}'")
        state.tensors[name] = with_numbers(name, weight)


def _places(state: StateDict) -> list[Any]:
    return [weight.place if isinstance(weight, Tensor) else id(weight) for weight in state.tensors.values()]


# -- what is left out


def _rest(root: Any, steps: tuple[str, ...], state: StateDict) -> Iterator[LeftOut]:
    """Every tensor of the file that isn't among the weights, and what else stands beside them."""
    written: set[Any] = {entry.path for entry in state.left_out}
    for weight in state.tensors.values():
        written |= set(_pieces(weight))
    seen: set[int] = set()
    named = 0
    prefix = ""
    for step in (*steps, None):
        chosen = None
        for key, inner in parts(root) if isinstance(root, dict | list | tuple | Stub) else ():
            name = contents.text(key)
            if name == step and chosen is None:
                chosen = inner
                continue
            found = False
            for path, weight in contents.tensors_inside(inner, prefix + name, seen):
                found = True
                if not written & set(_pieces(weight)) and path not in written:
                    yield LeftOut(path, "tensor", weight.torch_dtype, weight.shape)
            if step is not None and not found and as_weight(inner) is None and named < _NAMED:
                named += 1
                yield LeftOut(prefix + name, inner.class_name if isinstance(inner, Stub) else type(inner).__name__)
        if step is None or chosen is None:
            return
        root, prefix = chosen, f"{prefix}{step}."


def _pieces(weight: Weight) -> Iterator[Any]:
    """What a tensor is made of, as something that can be compared."""
    if isinstance(weight, Tensor):
        yield weight.place
        if weight.quantizer is not None:
            for number in (weight.quantizer.scale, weight.quantizer.zero_point):
                if isinstance(number, Tensor):
                    yield number.place
    elif isinstance(weight, RebuiltTensor):
        yield id(weight)
        yield from (piece.place for piece in weight.pieces())


# -- --key


def resolve(root: Any, key: str) -> tuple[Any, tuple[str, ...]]:
    """The value at a dotted path, and its steps: dictionary keys (which may hold dots), list indices, attributes, submodules.

    Raises ConversionError that lists what there is.
    """
    words = key.split(".")
    value, at = root, 0
    steps: list[str] = []
    while at < len(words):
        for end in range(len(words), at, -1):
            found = _step(value, ".".join(words[at:end]))
            if found is not None:
                steps.append(".".join(words[at:end]))
                value, at = found[0], end
                break
        else:
            there = ", ".join(printable(name, 60) for name in _names(value)[:_SHOWN]) or "nothing that has a name"
            where = f" in '{printable('.'.join(words[:at]))}'" if at else ""
            raise ConversionError(f"there is no '{printable('.'.join(words[at:]))}'{where}; there is: {there}")
    return value, tuple(steps)


def _step(value: Any, name: str) -> tuple[Any] | None:
    if isinstance(value, Stub):
        for table in (value.attributes, value.attributes.get("_modules"), value.attributes.get("_parameters"), value.entries, value.slots):
            if isinstance(table, dict) and name in table:
                return (table[name],)
        value = value.state if isinstance(value.state, list | tuple) else value.args if value.items is None else value.items
    if isinstance(value, dict):
        if name in value:
            return (value[name],)
        if name.isdecimal() and len(name) < 18 and int(name) in value:
            return (value[int(name)],)
    if isinstance(value, list | tuple) and name.isdecimal() and len(name) < 18 and int(name) < len(value):
        return (value[int(name)],)
    return None


def _names(value: Any) -> list[str]:
    if isinstance(value, Stub):
        modules = value.attributes.get("_modules")
        return [str(name) for name in (modules if isinstance(modules, dict) and modules else value.attributes)]
    if isinstance(value, dict):
        return [key_text(name) for name in value if isinstance(name, str | int)]
    if isinstance(value, list | tuple):
        return [str(i) for i in range(len(value))]
    return []


# -- messages


def _ambiguous(own: dict[Any, Any], inside: list[Part], steps: tuple[str, ...]) -> str:
    prefix = "".join(f"{step}." for step in steps)
    shown = sorted(inside, key=lambda part: part.rank)[:_SHOWN]
    lines = [f"  --key {printable(prefix + part.name)}   ({_words(part.value)})" for part in shown]
    if len(inside) > _SHOWN:
        lines.append(f"  ... and {len(inside) - _SHOWN} more")
    tensors = f", {len(own)} tensor{'s' if len(own) > 1 else ''} beside them ({', '.join(_some(own))}) included" if own else ""
    lines.append(f"  --key '{printable(prefix)}{_ALL}'   (all of them{tensors}, under names joined by dots)")
    return "holds several sets of weights; choose one:\n" + "\n".join(lines)


def _some(own: dict[Any, Any]) -> list[str]:
    return [printable(contents.text(key), 40) for key in own][:4] + (["..."] if len(own) > 4 else [])


def _words(value: Any) -> str:
    if is_module(value):
        return printable(value.class_name)
    total = sum(1 for _ in contents.tensors_inside(value, "", set()))
    return f"{total} tensor{'s' if total != 1 else ''}"


def _nothing(root: Any, value: Any) -> str:
    if contents.is_optimizer(value):
        return "there are no weights in it: it holds an optimizer's state (param_groups)"
    what = root.class_name if isinstance(root, Stub) else type(root).__name__
    names = ", ".join(printable(name, 40) for name in _names(root)[:10])
    return f"there are no weights in it: it holds a {printable(what)}" + (f" with {names}" if names else "")
