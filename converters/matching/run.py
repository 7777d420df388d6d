"""One run of the user's class, which is given weights as it goes."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from converters.matching.calling import CLASS_ERRORS, answers_of, class_fails, slow_attention
from converters.matching.fitting import Fit, Placed, fits, is_torchs_own, own_tensors
from converters.matching.layers import Layer, Piece, before_tail, is_free, is_used_up
from converters.matching.neighbors import Neighbors
from converters.matching.others import folds, others
from converters.matching.source import Source
from converters.matching.watching import Use, Watch

Option = tuple[Layer, Fit] | None
"""A layer and how it fits; None: the module's weights aren't one layer's, and are placed where it uses them."""


class PartedError(Exception):
    """The two sides part here; depth: how many layers agreed before."""

    def __init__(self, message: str, depth: int) -> None:
        super().__init__(message)
        self.depth = depth


@dataclass(eq=False)
class Run:
    """One run of the target. plan: which of several candidates each choice takes, as far as it is laid down."""

    source: Source
    target: torch.nn.Module
    names: Mapping[torch.nn.Module, str]
    plan: Sequence[int]
    around: Neighbors
    tensors: Sequence[torch.Tensor]
    end: float
    before: Mapping[str, Placed] = field(default_factory=dict)  # what was found with other numbers in the weights
    placed: dict[str, Placed] = field(default_factory=dict)
    chosen: list[tuple[int, int]] = field(default_factory=list)  # which candidate, of how many
    used: list[Piece] = field(default_factory=list)
    of_module: dict[torch.nn.Module, Layer] = field(default_factory=dict)
    rest: list[tuple[Layer, frozenset[str], torch.Tensor]] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)  # modules called since the last layer that agreed
    last: Layer | None = None

    def __post_init__(self) -> None:
        self._weights = {f"{name}.{own}" if name else own: t for inner, name in self.names.items() for own, t in own_tensors(inner).items()}
        parameters = {id(parameter) for parameter in self.target.parameters()}
        self._constants = {name for name, tensor in self._weights.items() if id(tensor) not in parameters}
        self._inside: list[torch.nn.Module] = []  # modules that got their weights and are running
        self._written: dict[str, tuple[torch.Tensor, list[Placed]]] = {}  # what was filled in places, and from what
        self._left: tuple[Layer, frozenset[str]] | None = None
        self.ends: list[str] = []  # where its answers stand before the end of the file's net
        self._watch = Watch(self._weights, self.tensors, self._meets, self._met)

    def go(self) -> None:
        """Runs the target with the weights as they are found. Raises PartedError."""
        hooks = [hook for inner in self.names for hook in self._hooks(inner)]
        try:
            with ExitStack() as around:
                around.enter_context(slow_attention())
                around.enter_context(self._watch)
                answers = answers_of(self.target, self.tensors)
        except PartedError:
            raise
        except CLASS_ERRORS as problem:
            raise self.parted(class_fails(problem)) from problem
        finally:
            for hook in hooks:
                hook.remove()
        self._finish_written()
        self._check_end(answers)
        of_tensor = {id(self._weights[key]): placed for key, placed in self.placed.items()}
        aliases = self.target.state_dict(keep_vars=True).items()  # a module or weight that is registered twice has two keys
        self.placed |= {name: of_tensor[id(tensor)] for name, tensor in aliases if id(tensor) in of_tensor}

    @property
    def computed(self) -> frozenset[str]:
        """Keys of weights that the class computes something of before it uses them."""
        return self._watch.computed & self.placed.keys()

    @property
    def decides(self) -> bool:
        """Whether the class asked for a number, by which it may go one way or another."""
        return self._watch.decides

    def next_plan(self) -> list[int] | None:
        """The plan that takes the last choice back which has another candidate; None where all were tried."""
        for at in range(len(self.chosen) - 1, -1, -1):
            taken, count = self.chosen[at]
            if taken + 1 < count:
                return [choice for choice, _ in self.chosen[:at]] + [taken + 1]
        return None

    # -- modules -----------------------------------------------------------------------------------------------------

    def _hooks(self, inner: torch.nn.Module) -> Iterator[Any]:
        if own_tensors(inner):
            yield inner.register_forward_pre_hook(self._watch.unwatched(self._before), with_kwargs=True)
            yield inner.register_forward_hook(self._watch.unwatched(self._after))
        elif not any(True for _ in inner.children()):
            yield inner.register_forward_pre_hook(lambda module, _: self.trail.append(self.names[module]))

    def _before(self, inner: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        name = self.names[inner]
        self.trail.append(name)
        x = next((value for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor)), None)
        self._check_time(name)
        if inner in self.of_module and x is not None:
            self._again(inner, name, x)
            return
        wanted = {own: tensor for own, tensor in own_tensors(inner).items() if self._key(name, own) not in self.placed}
        if all(self._key(name, own) in self._constants and own not in _NORM for own in wanted):
            return
        is_whole = is_torchs_own(inner) and not any(own_tensors(child) for child in inner.children())
        options: list[Option] = []
        reasons: list[str] = []
        if x is not None:
            options[:], reasons = self._candidates(wanted, name, x, inner)
        if not is_whole:
            later = any(own_tensors(child) for child in inner.modules() if child is not inner)
            options.insert(0 if later else len(options), None)
        if not options:
            raise self._no_layer(name, reasons) if x is not None else self.parted(f"{name} of your class is called without a tensor")
        choice = self._choose(options)
        if choice is not None:
            self.of_module[inner] = choice[0]
            self._inside.append(inner)
            self._place(*choice, {own: (self._key(name, own), tensor) for own, tensor in wanted.items()})

    def _after(self, inner: torch.nn.Module, _: tuple[Any, ...], answer: Any) -> None:
        if inner not in self.of_module:
            return
        if inner in self._inside:
            self._inside.remove(inner)
        if not isinstance(answer, torch.Tensor):
            return
        layer = self.of_module[inner]
        wanted = self.source.answer(layer)
        found = {key.rpartition(".")[2] for key in self.placed if key.rpartition(".")[0] == self.names[inner]}
        left = frozenset(layer.arrays) - found
        if left and "running_mean" in layer.arrays and isinstance(inner, torch.nn.modules.batchnorm._NormBase):
            self.rest.append((layer, left, answer.detach().clone()))  # its scale comes in a module of its own
        elif wanted is not None and _is_compared(inner) and not self.source.equal(answer, wanted):
            shapes = "" if answer.shape == wanted.shape else f" ({_size(wanted)} in the file, {_size(answer)} in your class)"
            raise self.parted(
                f"{layer} and {self.names[inner]} of your class get the same input and weights and answer differently{shapes}"
            )
        self._agreed(layer)

    def _again(self, inner: torch.nn.Module, name: str, x: torch.Tensor) -> None:
        """A module that is called twice stands for a layer that runs twice, or for two of the same weights."""
        first = self.of_module[inner]
        if isinstance(inner, torch.nn.RNNCellBase):
            return  # another step
        for layer in self._free():
            given = self.source.given(layer)
            if given is not None and self.source.equal(x, given) and _same_arrays(layer, first):
                self.used += layer.pieces
                self.of_module[inner] = layer
                self._inside.append(inner)
                return
        following = next(self._free(), None)
        where = f"; the file goes on with {following}, which has other weights" if following else ""
        raise self.parted(f"{name} of your class runs again, behind {self.last}{where}")

    # -- weights that a class uses itself ----------------------------------------------------------------------------

    def _meets(self, use: Use) -> bool:
        """Places the weights that an operation takes; whether it did."""
        if any(key.rpartition(".")[0] == self.names[inner] for inner in self._inside for key in use.names):
            return False
        pending = [key for key in use.names if key not in self.placed]
        if not pending:
            self._used_again(use)
            return False
        self._check_time(pending[0])
        owner = pending[0].rpartition(".")[0]
        options = self._of_use(use, owner)
        if not options:
            if set(pending) <= self._constants:
                return False  # numbers of the class's own, which the file has not as weights
            raise self._no_layer(pending[0], [])
        choice = self._choose(options)
        assert choice is not None
        layer, found, targets = choice[0], choice[1], self._targets(use, owner, choice[1])
        self._place(layer, found, targets)
        if any(key not in self.placed for key in pending):
            return False
        self._left = (layer, found.left)
        return True

    def _of_use(self, use: Use, owner: str) -> list[Option]:
        """Layers for all weights of the module that owns those of an operation, then for these alone."""
        whole = {
            key.rpartition(".")[2]: t for key, t in self._weights.items() if key.rpartition(".")[0] == owner and key not in self.placed
        }
        options, _ = self._candidates(whole, owner, use.given, None)
        if use.roles and not use.made:
            single, _ = self._candidates(use.roles, owner, use.given, None)
            options += [option for option in single if option is not None and (set(whole) != set(use.roles) or not options)]
        return options

    def _targets(self, use: Use, owner: str, found: Fit) -> dict[str, tuple[str, torch.Tensor]]:
        if set(found.placed) <= use.roles.keys() and not use.made:
            return {role: (self._watch.names_of(tensor)[0], tensor) for role, tensor in use.roles.items()}
        return {own: (self._key(owner, own), self._weights[self._key(owner, own)]) for own in found.placed}

    def _met(self, answer: torch.Tensor) -> None:
        """Behind an operation that was given weights."""
        assert self._left is not None
        layer, left = self._left
        if left:
            self.rest.append((layer, left, answer.detach().clone()))
        self._agreed(layer)

    def _used_again(self, use: Use) -> None:
        """Weights that are tied: a layer that runs with the same numbers as one before is used too."""
        for layer in self._free():
            given = self.source.given(layer)
            if given is None or not self.source.equal(use.given, given, items=False):
                continue
            arrays = {role: array for role, (_, array) in layer.arrays.items()}
            if all(any(_same_numbers(array, tensor) for tensor in use.roles.values()) for array in arrays.values()):
                self.used += layer.pieces
                self.last = layer
                return

    # -- choosing and placing ----------------------------------------------------------------------------------------

    def _candidates(
        self, wanted: Mapping[str, torch.Tensor], name: str, x: torch.Tensor, inner: torch.nn.Module | None
    ) -> tuple[list[Option], list[str]]:
        """Layers that were given x and whose arrays fit, likely names first; and why others don't fit. inner: None for an operation."""
        loose = inner is None or not is_torchs_own(inner)
        constants = {own for own, t in wanted.items() if self._constants & {*self._watch.names_of(t)}} - (set() if loose else _NORM)
        options: list[tuple[Layer, Fit]] = []
        reasons: list[str] = []
        for layer, roles, scaled in self.rest:
            if self.source.equal(x, scaled, items=inner is not None):
                found = fits({role: layer.arrays[role] for role in roles}, wanted, transposed=False)
                if not isinstance(found, str):
                    options += [(replace(layer, pieces=()), fit) for fit in found]
        splits_norm = isinstance(inner, torch.nn.modules.batchnorm._NormBase) and not inner.affine

        def add(layer: Layer) -> None:
            given = self.source.given(layer)
            if given is None or not is_free(layer, self.used) or not self.source.equal(x, given, items=inner is not None):
                return
            found = fits(layer.arrays, wanted, transposed=layer.transposed, loose=loose, constants=constants)
            if isinstance(found, str):
                reasons.append(f"{layer}: {found}")
            elif found[0].left and not splits_norm:
                reasons.append(f"{layer}: {name} has no place for its {', '.join(sorted(found[0].left))}")
            else:
                options.extend((layer, fit) for fit in found if not self._is_tied(fit, wanted))

        for layer in self.source.layers:
            add(layer)
        if "bias" in wanted:
            for layer in folds(self.source, x):
                add(layer)
        if all(self._apart(layer, found, name) for layer, found in options):
            epsilon = inner.eps if isinstance(inner, torch.nn.modules.batchnorm._NormBase) else None
            for layer in others(self.source, [tensor.shape for tensor in wanted.values()], x, epsilon):
                add(layer)
        if len(options) > 1:
            options.sort(key=lambda option: self._likeness(option[0], option[1], name))
        return list(options), reasons

    def _likeness(self, layer: Layer, found: Fit, name: str) -> tuple[float, ...]:
        """Lower for what is likelier: what other numbers said, fewer made numbers, the same surroundings, then names that are alike."""
        made = sum(not placed.keys for placed in found.placed.values())
        same_names = difflib.SequenceMatcher(None, layer.path, name).ratio()
        return self._apart(layer, found, name), made, -self.around.alike(layer, name, self.tensors), -same_names

    def _apart(self, layer: Layer, found: Fit, name: str) -> int:
        """How many of the layer's arrays go elsewhere, or otherwise, than with other numbers in the weights."""
        count = 0
        for own, placed in found.placed.items():
            said = self.before.get(self._key(name, own))
            note = _note(layer, placed)
            is_alike = said is None or ({*placed.keys} <= {*said.keys} and (note == said.note or (note and note in said.note)))
            count += not is_alike
        return count

    def _is_tied(self, found: Fit, wanted: Mapping[str, torch.Tensor]) -> bool:
        """Whether a weight that is another's too has other numbers there."""
        for own, placed in found.placed.items():
            keys = [key for key in self._watch.names_of(wanted[own]) if key in self.placed and key not in self._written]
            if any(not _same_numbers(self.placed[key].array, torch.from_numpy(np.asarray(placed.array))) for key in keys):
                return True
        return False

    def _choose(self, options: Sequence[Option]) -> Option:
        at = len(self.chosen)
        choice = self.plan[at] if at < len(self.plan) else 0
        self.chosen.append((choice, len(options)))
        return options[choice]

    def _place(self, layer: Layer, found: Fit, targets: Mapping[str, tuple[str, torch.Tensor]]) -> None:
        """targets: of each name of the fit, the key of the weight and the part of it that is filled."""
        self.used += layer.pieces
        self.rest = [entry for entry in self.rest if entry[0].first != layer.first or layer.pieces]
        touched = []
        for own, placed in found.placed.items():
            key, part = targets[own]
            placed = replace(placed, note=_note(layer, placed))
            with torch.no_grad():
                part.copy_(torch.from_numpy(np.array(placed.array)))
            for tied in self._watch.names_of(part) or [key]:
                whole = self._weights[tied]
                touched.append(tied)
                if part.data_ptr() == whole.data_ptr() and part.shape == whole.shape and part.stride() == whole.stride():
                    self.placed[tied] = placed
                else:
                    self._write_part(tied, whole, part, placed)
        self._watch.remake(touched)

    def _write_part(self, key: str, whole: torch.Tensor, part: torch.Tensor, placed: Placed) -> None:
        if key not in self._written:
            self._written[key] = (torch.zeros_like(whole, dtype=torch.bool, memory_format=torch.preserve_format), [])
        mask, sources = self._written[key]
        offset = part.storage_offset() - whole.storage_offset()
        mask.as_strided(part.shape, part.stride(), offset).fill_(True)
        sources.append(placed)
        if bool(mask.all()):
            keys = tuple(dict.fromkeys(key for source in sources for key in source.keys))
            notes = [f"{len(sources)} parts in one"] if len(sources) > 1 else []
            notes += list(dict.fromkeys(source.note for source in sources if source.note))
            self.placed[key] = Placed(sources[0].array, keys, "; ".join(notes))

    def _finish_written(self) -> None:
        """What was filled in places is read as a whole."""
        for key, (mask, sources) in self._written.items():
            if not bool(mask.all()):
                raise self.parted(f"{key} of your class is filled in part alone")
            array = self._weights[key].detach().numpy().astype(np.result_type(*(source.array.dtype for source in sources)))
            self.placed[key] = replace(self.placed[key], array=array)

    def _agreed(self, layer: Layer) -> None:
        self.last = layer
        self.trail.clear()

    def _free(self) -> Iterator[Layer]:
        return (layer for layer in self.source.layers if is_free(layer, self.used))

    @staticmethod
    def _key(module: str, own: str) -> str:
        return f"{module}.{own}" if module else own

    # -- where they part ---------------------------------------------------------------------------------------------

    def _check_time(self, name: str) -> None:
        if time.monotonic() > self.end:
            raise self.parted(f"equal branches before {name} of your class can be chosen in too many ways")

    def _no_layer(self, name: str, reasons: Sequence[str]) -> PartedError:
        if reasons:
            return self.parted(f"{name} of your class doesn't fit: {'; '.join(list(dict.fromkeys(reasons))[:4])}")
        theirs = ", ".join(self.source.between(self.last, next(self._free(), None))[:8]) or "its end"
        ours = ", ".join(dict.fromkeys([*self.trail[-8:], name]))
        begun = f"behind {self.last}" if self.last else "from the start"
        return self.parted(f"{begun} the two part: the file runs {theirs}; your class {ours}, which is given other numbers")

    def _check_end(self, answers: Sequence[torch.Tensor]) -> None:
        outputs = self.source.model.graph.outputs
        unused = [str(layer) for layer in self.source.layers if not is_used_up(layer, self.used)]
        if unused:
            raise self.parted(
                f"your class ends behind {', '.join(self.trail[-3:]) or self.last}, and has no place for {', '.join(unused[:6])}"
            )
        for key in self._weights:
            if key not in self.placed and key not in self._constants:
                owner = key.rpartition(".")[0] or "your class"
                raise self.parted(f"{owner} is never called with the module's own weights, so nothing says which are its")
        if self.rest:
            raise self.parted(f"your class has no place for the {', '.join(sorted(self.rest[0][1]))} of {self.rest[0][0]}")
        if len(answers) != len(outputs):
            raise self.parted(f"your class answers {len(answers)} tensors, the file {len(outputs)}")
        for answer, output in zip(answers, outputs, strict=True):
            tail = before_tail(output)
            ends = [self.source.values.get(str(value.name)) for value in tail]
            place = next((number for number, end in enumerate(ends) if end is not None and self.source.equal(answer, end)), None)
            if place is None:
                theirs = ", ".join(self.source.between(self.last, None)[:8]) or "nothing"
                ours = ", ".join(self.trail[-8:]) or "nothing that is a module"
                raise self.parted(f"behind {self.last} the answers differ: the file runs {theirs}; your class {ours}")
            left = [str(node.op_type) for value in tail[:place] if (node := value.producer()) is not None and node.op_type != "Identity"]
            if left:
                self.ends.append(f"your class ends before the file's {' and '.join(reversed(left))}: it answers what goes in there")

    def parted(self, message: str) -> PartedError:
        """The error for this place of the run."""
        return PartedError(message, len({position for position, _, _ in self.used}))


_NORM = frozenset({"running_mean", "running_var"})


def _note(layer: Layer, placed: Placed) -> str:
    return "; ".join(filter(None, (layer.note, placed.note)))


def _is_compared(inner: torch.nn.Module) -> bool:
    """Whether a module's answer is known: one of torch's own, which does all that its layer does at once."""
    return is_torchs_own(inner) and not isinstance(inner, torch.nn.RNNCellBase)


def _same_arrays(a: Layer, b: Layer) -> bool:
    return a.arrays.keys() == b.arrays.keys() and all(np.array_equal(a.arrays[role][1], b.arrays[role][1]) for role in a.arrays)


def _same_numbers(array: Any, tensor: torch.Tensor) -> bool:
    """The same numbers, either way round."""
    other = tensor.detach().numpy()
    return any(
        array.size == turned.size and np.array_equal(array.reshape(turned.shape), turned.astype(array.dtype)) for turned in (other, other.T)
    )


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape))
