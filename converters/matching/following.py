"""Follows the values: each module gets, when it is called, the weights of the source layer that was given the same numbers.

The source runs once. The target runs with hooks: a module that owns weights looks for unused layers whose input is its own, takes the
weights that fit, and goes on with the right numbers. Equal branches are tried in turn; a choice that leads nowhere is taken back.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import itertools
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.graph.provenance import source_of
from converters.matching.fitting import Fit, Placed, fit, own_tensors
from converters.matching.layers import Layer, before_tail, find_layers
from converters.matching.neighbors import Neighbors
from converters.runtimes.compare import random_inputs
from converters.runtimes.torch import call, run_values

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4}
"""How far equal values may be apart, relative to the largest; both sides compute in this type."""
KINDS = (torch.float64, torch.float32)
"""The types that both sides are tried in."""
_SAMPLE = 1024
"""About as many numbers are compared before all of them are."""
SECONDS = 30.0
"""Time for trying equal branches, once the first try has run."""


class _PartedError(Exception):
    """The two sides part here; depth: how many layers agreed before."""

    def __init__(self, message: str, depth: int) -> None:
        super().__init__(message)
        self.depth = depth


def follow(model: ir.Model, module: torch.nn.Module) -> dict[str, Placed]:
    """What each key of the module takes. Raises ConversionError, which names the first layers where the two part."""
    inputs = random_inputs(model, seed=7)
    source = _Source(model, inputs)
    try:
        return _follow(source, module)
    except ConversionError as problem:
        if source.kind is not torch.float64 or not _OF_TYPES.search(str(problem)):
            raise
    return _follow(_Source(model, inputs, (torch.float32,)), module)  # a class that makes numbers of float32 takes no others


_OF_TYPES = re.compile(r"your class fails: .*\b(double|float64)\b", re.IGNORECASE)


def _follow(source: _Source, module: torch.nn.Module) -> dict[str, Placed]:
    model, inputs = source.model, source.inputs
    target = copy.deepcopy(module).to(source.kind).eval()
    names = {inner: name for name, inner in target.named_modules()}
    around = Neighbors(model, source.layers, {name: value.shape for name, value in source.values.items()}, module)
    best: _PartedError | None = None
    end = math.inf
    for order in _orders(inputs, module):
        tensors = [source.values[name] for name in order]
        plan: list[int] = []
        while time.monotonic() < end:
            run = _Run(source, target, names, plan, around, tensors, end)
            try:
                run.go()
                return run.placed
            except _PartedError as problem:
                best = problem if best is None or problem.depth > best.depth else best
            end = min(end, time.monotonic() + SECONDS)
            again = run.next_plan()
            if again is None:
                break
            plan = again
    raise ConversionError(str(best), hint="no weights were placed")


class _Source:
    """The file's side: its layers, and every value of one run."""

    def __init__(self, model: ir.Model, inputs: Mapping[str, NDArray[Any]], kinds: Sequence[torch.dtype] = KINDS) -> None:
        self.model, self.inputs = model, inputs
        self.layers = find_layers(model)
        self.values = run_values(model, inputs, kinds=kinds)
        floats = [value.dtype for value in self.values.values() if value.is_floating_point()]
        given = [self.values[name].dtype for name in inputs if self.values[name].is_floating_point()]
        self.kind = given[0] if given else torch.float64 if torch.float64 in floats else torch.float32
        self._largest: dict[torch.Tensor, float] = {}

    def largest(self, value: torch.Tensor) -> float:
        """The largest number of a value, which is asked for again and again."""
        if value not in self._largest:
            self._largest[value] = float(value.abs().max()) if value.numel() else 0.0
        return self._largest[value]

    def given(self, layer: Layer) -> torch.Tensor | None:
        return self.values.get(str(layer.given.name))

    def between(self, last: Layer | None, following: Layer | None) -> list[str]:
        """What the file runs behind one layer, up to and with another, by its own names."""
        start = -1 if last is None else last.last
        stop = len(self.model.graph) if following is None else following.last + 1
        names = (source_of(node) for node in itertools.islice(self.model.graph, start + 1, stop) if node.op_type != "Constant")
        found = list(dict.fromkeys(name.partition(" ")[2] or name for name in names if name))
        if last is not None and found and source_of(self.model.graph[last.last]).endswith(found[0]):
            found = found[1:]
        return found


@dataclass(eq=False)
class _Run:
    """One run of the target. plan: which of several candidates each choice takes, as far as it is laid down."""

    source: _Source
    target: torch.nn.Module
    names: Mapping[torch.nn.Module, str]
    plan: Sequence[int]
    around: Neighbors
    tensors: Sequence[torch.Tensor]
    end: float
    placed: dict[str, Placed] = field(default_factory=dict)
    chosen: list[tuple[int, int]] = field(default_factory=list)  # which candidate, of how many
    used: set[Layer] = field(default_factory=set)
    of_module: dict[torch.nn.Module, Layer] = field(default_factory=dict)
    rest: list[tuple[Layer, frozenset[str], torch.Tensor]] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)  # modules called since the last layer that agreed
    last: Layer | None = None

    def go(self) -> None:
        """Runs the target with the weights as they are found. Raises _PartedError."""
        hooks = [hook for inner in self.names for hook in self._hooks(inner)]
        try:
            answers = call(self.target, self.tensors)
        except _PartedError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as problem:
            raise self._parted(f"your class fails: {(str(problem).splitlines() or [type(problem).__name__])[0]}") from problem
        finally:
            for hook in hooks:
                hook.remove()
        self._check_end(answers)

    def next_plan(self) -> list[int] | None:
        """The plan that takes the last choice back which has another candidate; None where all were tried."""
        for at in range(len(self.chosen) - 1, -1, -1):
            taken, count = self.chosen[at]
            if taken + 1 < count:
                return [choice for choice, _ in self.chosen[:at]] + [taken + 1]
        return None

    # -- while it runs -----------------------------------------------------------------------------------------------

    def _hooks(self, inner: torch.nn.Module) -> Iterator[Any]:
        if own_tensors(inner):
            yield inner.register_forward_pre_hook(self._before)
            yield inner.register_forward_hook(self._after)
        elif not any(True for _ in inner.children()):
            yield inner.register_forward_pre_hook(lambda module, _: self.trail.append(self.names[module]))

    def _before(self, inner: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        name = self.names[inner]
        self.trail.append(name)
        x = next((argument for argument in arguments if isinstance(argument, torch.Tensor)), None)
        if time.monotonic() > self.end:
            raise self._parted(f"equal branches before {name} of your class can be chosen in too many ways")
        if x is None:
            raise self._parted(f"{name} of your class is called without a tensor")
        if inner in self.of_module:
            self._again(inner, name, x)
            return
        options, reasons = self._candidates(inner, name, x)
        if not options:
            raise self._no_layer(name, reasons)
        at = len(self.chosen)
        choice = self.plan[at] if at < len(self.plan) else 0
        self.chosen.append((choice, len(options)))
        layer, found = options[choice]
        self._place(inner, name, layer, found)

    def _candidates(self, inner: torch.nn.Module, name: str, x: torch.Tensor) -> tuple[list[tuple[Layer, Fit]], list[str]]:
        """Layers that were given x and whose arrays fit, likely names first; and why others don't fit."""
        wanted, options, reasons = own_tensors(inner), [], []
        for layer, roles, scaled in self.rest:
            if self._equal(x, scaled):
                found = fit({role: layer.arrays[role] for role in roles}, wanted, transposed=False)
                if isinstance(found, Fit):
                    options.append((layer, found))
        for layer in self.source.layers:
            given = self.source.given(layer)
            if layer in self.used or given is None or not self._equal(x, given):
                continue
            found = fit(layer.arrays, wanted, transposed=layer.transposed)
            if isinstance(found, str):
                reasons.append(f"{layer}: {found}")
            elif found.left and not (isinstance(inner, torch.nn.modules.batchnorm._NormBase) and not inner.affine):
                reasons.append(f"{layer}: {name} has no place for its {', '.join(sorted(found.left))}")
            else:
                options.append((layer, found))
        return (sorted(options, key=lambda option: self._likeness(option[0], name)) if len(options) > 1 else options), reasons

    def _likeness(self, layer: Layer, name: str) -> tuple[float, ...]:
        """Lower for what is likelier: the same surroundings, then names that are alike."""
        return -self.around.alike(layer, name, self.tensors), -difflib.SequenceMatcher(None, layer.path, name).ratio()

    def _place(self, inner: torch.nn.Module, name: str, layer: Layer, found: Fit) -> None:
        self.of_module[inner] = layer
        self.used.add(layer)
        self.rest = [entry for entry in self.rest if entry[0] is not layer]
        for own, placed in found.placed.items():
            self.placed[f"{name}.{own}" if name else own] = placed
            with torch.no_grad():
                getattr(inner, own).copy_(torch.from_numpy(np.array(placed.array)))

    def _again(self, inner: torch.nn.Module, name: str, x: torch.Tensor) -> None:
        """A module that is called twice stands for a layer that runs twice, or for two of the same weights."""
        first = self.of_module[inner]
        for layer in self.source.layers:
            given = self.source.given(layer)
            if layer not in self.used and given is not None and self._equal(x, given) and _same_arrays(layer, first):
                self.used.add(layer)
                self.of_module[inner] = layer
                return
        following = next((layer for layer in self.source.layers if layer not in self.used), None)
        where = f"; the file goes on with {following}, which has other weights" if following else ""
        raise self._parted(f"{name} of your class runs again, behind {self.last}{where}")

    def _after(self, inner: torch.nn.Module, _: tuple[Any, ...], answer: Any) -> None:
        layer = self.of_module[inner]
        if not isinstance(answer, torch.Tensor):
            return
        wanted = self.source.values.get(str(layer.answer.name))
        found = {name.rpartition(".")[2] for name in self.placed if name.rpartition(".")[0] == self.names[inner]}
        left = frozenset(layer.arrays) - found
        if left and "running_mean" in layer.arrays and isinstance(inner, torch.nn.modules.batchnorm._NormBase):
            self.rest.append((layer, left, answer.detach().clone()))  # its scale comes in a module of its own
        elif wanted is not None and type(inner).__module__.startswith("torch.nn.") and not self._equal(answer, wanted):
            shapes = "" if answer.shape == wanted.shape else f" ({_size(wanted)} in the file, {_size(answer)} in your class)"
            raise self._parted(
                f"{layer} and {self.names[inner]} of your class get the same input and weights and answer differently{shapes}"
            )
        self.last = layer
        self.trail.clear()

    # -- where they part ---------------------------------------------------------------------------------------------

    def _no_layer(self, name: str, reasons: Sequence[str]) -> _PartedError:
        if reasons:
            return self._parted(f"{name} of your class doesn't fit: {'; '.join(reasons[:4])}")
        following = next((layer for layer in self.source.layers if layer not in self.used), None)
        theirs = ", ".join(self.source.between(self.last, following)[:8]) or "its end"
        ours = ", ".join(self.trail[-8:])
        begun = f"behind {self.last}" if self.last else "from the start"
        return self._parted(f"{begun} the two part: the file runs {theirs}; your class {ours}, which is given other numbers")

    def _check_end(self, answers: Sequence[torch.Tensor]) -> None:
        outputs = self.source.model.graph.outputs
        unused = [str(layer) for layer in self.source.layers if layer not in self.used]
        if unused:
            raise self._parted(
                f"your class ends behind {', '.join(self.trail[-3:]) or self.last}, and has no place for {', '.join(unused[:6])}"
            )
        for inner, name in self.names.items():
            if own_tensors(inner) and inner not in self.of_module:
                raise self._parted(f"{name or 'your class'} is never called with the module's own weights, so nothing says which are its")
        if self.rest:
            raise self._parted(f"your class has no place for the {', '.join(sorted(self.rest[0][1]))} of {self.rest[0][0]}")
        if len(answers) != len(outputs):
            raise self._parted(f"your class answers {len(answers)} tensors, the file {len(outputs)}")
        for answer, output in zip(answers, outputs, strict=True):
            ends = [self.source.values.get(str(value.name)) for value in before_tail(output)]
            if not any(end is not None and self._equal(answer, end) for end in ends):
                theirs = ", ".join(self.source.between(self.last, None)[:8]) or "nothing"
                ours = ", ".join(self.trail[-8:]) or "nothing that is a module"
                raise self._parted(f"behind {self.last} the answers differ: the file runs {theirs}; your class {ours}")

    def _parted(self, message: str) -> _PartedError:
        return _PartedError(message, len(self.used))

    def _equal(self, a: torch.Tensor, b: torch.Tensor) -> bool:
        """The same numbers in the same order, whatever axes of size 1 there are. b: the file's."""
        if a.numel() != b.numel() or (a.shape[:1] != b.shape[:1] and a.ndim and b.ndim):
            return False
        near = TOLERANCE.get(self.source.kind, 1e-4) * max(self.source.largest(b), 1e-6)
        a, b = a.detach().reshape(-1), b.reshape(-1)
        step = max(1, a.numel() // _SAMPLE)
        return _near(a[::step], b[::step], near) and (step == 1 or _near(a, b, near))


def _near(a: torch.Tensor, b: torch.Tensor, near: float) -> bool:
    return bool(torch.allclose(a.to(torch.float64), b.to(torch.float64), rtol=0.0, atol=near, equal_nan=True))


def _same_arrays(a: Layer, b: Layer) -> bool:
    return a.arrays.keys() == b.arrays.keys() and all(np.array_equal(a.arrays[role][1], b.arrays[role][1]) for role in a.arrays)


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _orders(inputs: Mapping[str, NDArray[Any]], module: torch.nn.Module) -> Iterator[tuple[str, ...]]:
    """Orders in which the class may take the file's inputs: by the names of forward's arguments, else all, the file's own first."""
    names = tuple(inputs)
    arguments = [
        p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if set(names) <= set(arguments):
        yield tuple(name for name in arguments if name in names)
        return
    yield from itertools.islice(itertools.permutations(names), 24)
