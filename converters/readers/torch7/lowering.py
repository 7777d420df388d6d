"""Walks a Torch7 model: runs its modules over symbolic tensors in Torch's order, and so makes the graph."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.errors import ConversionError, Source, UnsupportedError, about, printable, unsupported, warn
from converters.files import StrPath
from converters.graph.builder import GraphBuilder, SymbolicDimensionError, with_open_batch
from converters.graph.names import identifier
from converters.options import DEFAULTS, LoadOptions
from converters.readers.torch7 import t7
from converters.readers.torch7.checkpoint import child_path, fields_of, find_model, inner_modules
from converters.readers.torch7.inputs import InputShape, advice, given_shapes, indices_as_integers, inferred_shape, is_open, open_axes
from converters.readers.torch7.module import OVERWRITES_REPLICATED, Call, Module, ModuleFacts, Parameters, Steps, lowers
from converters.readers.torch7.references import Nested, Reference, Tensors, Values, leaves, references, values
from converters.readers.torch7.steps import Loop, Memory, Shape, leaves_in_order

MAX_AGAIN = 50_000
"""How often modules of one model run that have run before: an unrolled net has some thousands. A file bounds those that run once."""
MAX_OUTPUTS = 10_000


class Walk:
    """Runs module objects, each as Torch's `updateOutput` does: on tensors that may share storages. It is the lowerings' `Net`."""

    def __init__(self, g: GraphBuilder, file: str, options: LoadOptions = DEFAULTS) -> None:
        self.g = g
        self.file = file
        self.states_are_inputs = options.states
        self.last_states: list[tuple[str, ir.Value]] = []
        self.last_inputs: dict[int, ir.Value] = {}
        self._parameters = Parameters(g, options.dtype)
        self._modules: dict[int, Module] = {}
        self._outputs: dict[int, Reference] = {}
        self._running: set[int] = set()
        self._ran: set[int] = set()
        self._again = 0
        self._root: t7.TorchObject | None = None
        self.memory = self._outermost = Memory(self._first_state)

    # -- what recurrent modules carry from step to step ----------------------------------------------------------------

    @property
    def in_sequence(self) -> bool:
        """Whether a module that runs is one step of a sequence."""
        return self.memory is not self._outermost

    def _first_state(self, shape: Shape, like: ir.Value, name: str) -> ir.Value:
        return self.g.state_input(_state_name("state", name), shape, like) if self.states_are_inputs else self.g.zeros(shape, like)

    def first_input(self, module: Module, shape: Shape, like: ir.Value, letter: str) -> ir.Value | None:
        """The input that a first state is (states_are_inputs); None where it is zeros."""
        return self.g.state_input(_state_name(letter, module.path), shape, like) if self.states_are_inputs else None

    def last_output(self, module: Module, state: ir.Value, letter: str, *, squeeze: bool = False) -> None:
        """Makes a last state an output (squeeze: without its first axis, of size 1), where first states are inputs."""
        if self.states_are_inputs:
            state = self.g.emit("Squeeze", state, [0]) if squeeze else state
            self.last_states.append((_state_name(letter, module.path), state))

    def end(self, memory: Memory) -> None:
        """Makes outputs of the last states of a sequence that has ended, where the first ones are inputs."""
        for key, names in memory.names.items() if self.states_are_inputs else ():
            for name, state in zip(names, leaves_in_order(memory.states[key]), strict=True):
                self.last_states.append((_state_name("state", name), state.get()))

    def module(self, made: t7.TorchObject, path: str) -> Module:
        """The checked view of a module object; one that sits in several places keeps the path of the first."""
        found = self._modules.get(id(made))
        if found is None:
            found = self._modules[id(made)] = Module(made, path, self.file, self._parameters)
        return found

    def call(self, owner: Module, made: t7.TorchObject, x: Tensors, name: object) -> Call:
        """The request to run a module that belongs to `owner`, under the owner's path and `name`."""
        return Call(made, x, child_path(owner.path, name))

    @contextlib.contextmanager
    def as_clones(self) -> Iterator[None]:
        """Modules that run inside are clones of those outside: they share parameters, but write outputs of their own."""
        before, self._outputs = self._outputs, {}
        try:
            yield
        finally:
            self._outputs = before

    @contextlib.contextmanager
    def steps(self) -> Iterator[Memory]:
        """Recurrent modules that run inside start anew, as at the first step of a sequence."""
        before, self.memory = self.memory, Memory(self._first_state)
        try:
            yield self.memory
        finally:
            self.memory = before

    @contextlib.contextmanager
    def loop(self, x: Tensors, *, backward: bool = False, states: Mapping[int, Tensors] | None = None) -> Iterator[Loop]:
        """What runs inside is one step of a loop over the first axis of x, whose input is the loop's `items`; `leave` ends it.

        states: those that steps before the loop have left.
        """
        before = self.memory
        loop = self.memory = Loop(self.g, x, self._first_state, backward)
        try:
            with self.as_clones(), self.g.body() as body:
                loop.enter(body)
                for key, state in (states or {}).items():
                    loop.resume(key, state)
                yield loop
        finally:
            self.memory = before

    def run(self, made: t7.TorchObject, x: Tensors) -> Tensors:
        """The model's output for x. Containers wait on a list, not on Python's stack, so that no depth is too deep.

        Raises ConversionError where a module doesn't fit its input or isn't known.
        """
        waiting: list[tuple[Module, Steps]] = []
        self._root = self._root or made
        module, result = self._begin(Call(made, x, ""))
        while True:
            answer: Tensors | None = None
            if isinstance(result, Generator):
                waiting.append((module, result))
            else:
                answer = self._finish(module, result)
                if not waiting:
                    return answer
            module, steps = waiting[-1]
            try:
                with self.g.at(module.source, module.path):
                    call = next(steps) if answer is None else steps.send(answer)
            except StopIteration as stop:
                waiting.pop()
                result = stop.value
            else:
                module, result = self._begin(call)

    def _begin(self, call: Call) -> tuple[Module, Tensors | Steps]:
        """A module and its output, or the steps of a container to it."""
        made = call.made
        self._again += id(made) in self._ran
        self._ran.add(id(made))
        module = self.module(made, call.path)
        if made.typename not in lowers:
            raise _unknown(self._root or made, self.file, module)
        if self._again > MAX_AGAIN:
            raise module.error(f"modules would run more than {MAX_AGAIN} times again (a module that holds another twice runs it twice)")
        if id(made) in self._running:
            raise module.error("it contains itself")
        if isinstance(module.get("updateOutput"), t7.Function) and made.typename != "nn.Copy":
            raise module.error(
                "it has an updateOutput function of its own, bytecode that is never run here; its class's would give other numbers"
            )
        for given in leaves(call.x):
            given.owner = given.owner or 0  # what is passed on is no output that this module may claim
        facts = lowers.facts(made.typename)
        if facts.remembered:
            self.last_inputs[id(made)] = module.one_reference(call.x).get()
        self._running.add(id(made))
        with self.g.at(module.source, module.path):
            return module, self._lower(module, facts, lowers[made.typename], call.x)

    def _lower(self, module: Module, facts: ModuleFacts, function: Callable[..., Any], x: Tensors) -> Tensors | Steps:
        if facts.on_tensors:
            result: Tensors | Steps = function(self, module, x)
            return result
        if not facts.in_place:
            one = not facts.tables and lowers.is_built_in(module.type)  # a user's own takes what there is
            return references(function(self.g, module, module.one_reference(x).get() if one else values(x)))
        given = module.one_reference(x)
        value = function(self.g, module, given.get())
        if not module.flag("inplace"):
            return Reference(value)
        if given.replicated and not facts.idempotent:
            raise module.error(OVERWRITES_REPLICATED)
        given.set(value)
        return given.alias()

    def _finish(self, module: Module, out: Tensors) -> Tensors:
        self._running.discard(id(module.object))
        if not isinstance(out, Reference):
            return out
        out = self._own(module.object, out)
        self.g.bind(out.get(), module.path)
        return out

    def _own(self, made: t7.TorchObject, out: Reference) -> Reference:
        """A module that runs twice writes its second output where its first is, whoever still holds that one."""
        if out.owner is not None:
            return out
        out.owner = id(made)
        before = self._outputs.get(id(made))
        if before is None:
            self._outputs[id(made)] = out
            return out
        if not out.is_view:
            before.set(out.get())
        elif out.sees(before):
            return out
        else:
            before.repoint(out)
        return before


def _state_name(letter: str, path: str) -> str:
    """`h_0_1` for the state h of the module 0.1."""
    return identifier(f"{letter}_{path}" if path else letter)


_REASONS = {
    "nn.SpatialFractionalMaxPooling": "its windows are drawn at random each time",
    "nn.VolumetricFractionalMaxPooling": "its windows are drawn at random each time",
    "nn.DeepMask": "its parts are models of their own: --key model.trunk, then model.maskBranch and model.scoreBranch",
}
"""Why some classes have no lowering."""


# -- from the file to the graph ----------------------------------------------------------------------------------------


def load_network(paths: Sequence[StrPath], options: LoadOptions) -> ir.Model:
    """See converters.readers.torch7.load."""
    if len(paths) != 1:
        raise ConversionError(f"a Torch7 model is one .t7 file, but {len(paths)} files are given")
    file = os.fspath(paths[0])
    with about(file):
        if options.dtype not in (None, "float32", "float64"):
            raise ConversionError(f"a Torch7 model becomes float32 or float64, not {printable(options.dtype)}")
        made = find_model(t7.read(paths[0]), options.key)
        _check_types(made, file)
        shapes = given_shapes(options.shapes) if options.inputs else inferred_shape(made, file)
        try:
            if is_open(shapes):
                return _lower_model(made, file, shapes, None, options)
            return _with_open_axes(made, file, shapes, options)
        except SymbolicDimensionError as problem:
            place = f"{problem.source.noun} '{printable(problem.source.name)}' {problem}; " if problem.source else ""
            raise ConversionError(f"{place}the input's whole shape must be known here", hint=advice(shapes)) from problem
        except RecursionError as problem:
            raise ConversionError("its tables are nested too deeply") from problem


def _with_open_axes(made: t7.TorchObject, file: str, shapes: Nested[InputShape], options: LoadOptions) -> ir.Model:
    """The model with as many open axes as it allows: time and batch of a recurrent one, the batch alone, or none."""
    warning: SymbolicDimensionError | None = None
    for axes in open_axes(made, shapes):
        try:
            return _lower_model(made, file, shapes, None, options, axes, warning)
        except SymbolicDimensionError as problem:
            warning = warning or (problem if "T" in axes.values() else None)
    return with_open_batch(lambda closed: _lower_model(made, file, shapes, closed, options))


def _lower_model(
    made: t7.TorchObject,
    file: str,
    shapes: Nested[InputShape],
    closed: SymbolicDimensionError | None,
    options: LoadOptions,
    axes: Mapping[tuple[str, int], str] | None = None,
    warning: SymbolicDimensionError | None = None,
) -> ir.Model:
    """axes: the only ones that are open, by their labels. warning: why others aren't."""
    dynamic = {**(axes or {}), **options.dynamic}
    g = GraphBuilder(identifier(Path(file).stem), symbolic_batch=axes is None, closed=closed, dynamic=dynamic)
    if warning is not None and warning.source is not None:
        g.warnings.setdefault(warning.source.describe(f"{warning}, so the converted net takes sequences of the given length alone"))
    walk = Walk(g, file, options)
    out = walk.run(made, _inputs(g, shapes, options.dtype))
    for count, (label, value) in enumerate(_outputs(values(out), "output")):
        if count == MAX_OUTPUTS:
            raise ConversionError(f"the model answers more than {MAX_OUTPUTS} tensors")
        g.output(value, label)
    if options.states and not walk.last_states:
        raise ConversionError("no module of this model carries a state from call to call, so that there is none to make an input (states)")
    for name, value in walk.last_states:
        g.output(value, f"{name}_out")
    model = g.finish()
    indices_as_integers(model)
    return model


def _inputs(g: GraphBuilder, shapes: Nested[InputShape], dtype: str | None) -> Tensors:
    if isinstance(shapes, InputShape):
        return Reference(g.input(shapes.name, shapes.dims, np.dtype(dtype or np.float32)))
    return [_inputs(g, item, dtype) for item in shapes]


def _outputs(answer: Values, label: str) -> Iterator[tuple[str, ir.Value]]:
    if isinstance(answer, ir.Value):
        yield label, answer
        return
    for position, item in enumerate(answer, 1):
        yield from _outputs(item, f"{label}_{position}")


def _check_types(root: t7.TorchObject, file: str) -> None:
    """Refuses all classes that nobody knows at once; warns of versions from the future."""
    newer: dict[str, float] = {}
    for made, _ in inner_modules(root, fields=False):
        if made.typename not in lowers:
            raise _unknown(root, file)
        if made.version > lowers.facts(made.typename).newest_version:
            newer[made.typename] = made.version
    for typename, version in newer.items():
        warn(f"{file}: {printable(typename)} has version {version:g}, newer than any that is known; it is read as the newest known one")


def _unknown(root: t7.TorchObject, file: str, found: Module | None = None) -> UnsupportedError:
    """The refusal of all classes that nobody knows, also of those that modules keep in fields, each with its own fields.

    found: one that isn't reached so.
    """
    sources: dict[str, Source] = {}
    made_by_name: dict[str, t7.TorchObject] = {}
    if found is not None:
        sources[found.type], made_by_name[found.type] = found.source, found.object
    for made, path in inner_modules(root):
        if made.typename not in lowers and made.typename not in sources:
            sources[made.typename] = Source(file, "module", path or "(the model)", made.typename)
            made_by_name[made.typename] = made
    reasons = [f"{name}: {_REASONS[name]}." for name in sources if name in _REASONS]
    fields = [f"{printable(name, 60)} has {fields_of(made)}" for name, made in list(made_by_name.items())[:20]]
    return unsupported(sources.values(), "torch7", *reasons, *fields)
