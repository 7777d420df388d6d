"""Walks a Torch7 model: finds it in the file, runs its modules over symbolic tensors in Torch's order, makes the graph."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.errors import ConversionError, ConversionWarning, Source, printable, unsupported
from converters.files import StrPath
from converters.graph.builder import Dim, GraphBuilder, SymbolicDimensionError
from converters.graph.names import identifier
from converters.options import LoadOptions
from converters.readers.torch7 import t7
from converters.readers.torch7.indices import IntegerInputError
from converters.readers.torch7.module import Module, Parameters, lowers
from converters.readers.torch7.modules.pooling import remember_indices
from converters.readers.torch7.modules.shape import BatchOfOneError
from converters.readers.torch7.references import Nest, Reference, leaves, references, values
from converters.readers.torch7.state import find_model, first_shape, inner_modules

MAX_DEPTH = 150
"""Containers within containers; real nets have about ten."""


MAX_RUNS = 50_000
"""Modules that run in one model, each as often as it is reached: a deep residual net has a thousand, an unrolled one some ten."""
MAX_OUTPUTS = 10_000


class TooLargeError(ConversionError):
    """A model beyond a limit of this package, whatever its batch."""


class TorchGraph(GraphBuilder):
    """A graph that also knows what was given: the numbers behind its symbols, and whether inputs of indices may become int64."""

    def __init__(self, name: str, *, symbolic_batch: bool, integer_inputs: bool) -> None:
        super().__init__(name, symbolic_batch=symbolic_batch)
        self.integer_inputs = integer_inputs


class Net:
    """Runs module objects, each as Torch's `updateOutput` does: on tensors that may share storages."""

    def __init__(self, g: TorchGraph, file: str) -> None:
        self.g = g
        self.file = file
        self.parameters = Parameters(g)
        self._modules: dict[int, Module] = {}
        self._outputs: dict[int, Reference] = {}
        self._running: set[int] = set()
        self._runs = 0
        self.held_poolings: set[int] = set()
        """Pooling modules, by id, whose indices an unpooling module asks for."""
        self.pooled_by: dict[int, tuple[ir.Value, tuple[int, ...]]] = {}
        """What they answered last: indices, and the sizes of their input."""

    def module(self, made: t7.TorchObject, path: str) -> Module:
        """The checked view of a module object; one that sits in several places keeps the path of the first."""
        found = self._modules.get(id(made))
        if found is None:
            found = self._modules[id(made)] = Module(made, path, self.file, self.parameters)
        return found

    def run(self, made: t7.TorchObject, x: Nest, path: str) -> Nest:
        """The module's output for x. Raises ConversionError where a module doesn't fit its input or isn't known."""
        module = self.module(made, path)
        if made.typename not in lowers:
            raise unsupported([module.source], _ADVICE)
        self._runs += 1
        if self._runs > MAX_RUNS:
            message = f"more than {MAX_RUNS} modules would run (a module that holds another twice runs it twice)"
            raise TooLargeError(module.source.describe(message))
        if id(made) in self._running:
            raise module.error("it contains itself")
        if len(self._running) >= MAX_DEPTH:
            raise module.error(f"containers are nested deeper than {MAX_DEPTH}")
        if isinstance(module.get("updateOutput"), t7.Function) and made.typename != "nn.Copy":
            raise module.error(
                "it has an updateOutput function of its own, bytecode that is never run here; its class's would give other numbers"
            )
        for given in leaves(x):
            given.owner = given.owner or 0  # what is passed on is no output that this module may claim
        function = lowers[made.typename]
        self._running.add(id(made))
        try:
            with self.g.at(module.source, module.path):
                if id(made) in self.held_poolings and isinstance(x, Reference):
                    remember_indices(self, module, x)
                if getattr(function, "on_tensors", False):
                    out = function(self, module, x)
                else:
                    out = references(function(self.g, module, values(x)))
        finally:
            self._running.discard(id(made))
        return self._own(made, out) if isinstance(out, Reference) else out

    def run_inner(self, owner: Module, made: t7.TorchObject, x: Nest, name: object) -> Nest:
        """Runs a module that belongs to `owner`, under the owner's path and `name`."""
        return self.run(made, x, f"{owner.path}.{name}" if owner.path else str(name))

    def apply(self, owner: Module, made: t7.TorchObject, x: ir.Value, name: object) -> ir.Value:
        """As run_inner, from a value to a value."""
        out = self.run_inner(owner, made, Reference(x), name)
        if not isinstance(out, Reference):
            raise owner.error(f"module '{name}' answers a table where a tensor is due")
        return out.get()

    @contextlib.contextmanager
    def as_clones(self) -> Iterator[None]:
        """Modules that run inside are clones of those outside: they share parameters, but write outputs of their own."""
        before, self._outputs = self._outputs, {}
        try:
            yield
        finally:
            self._outputs = before

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


_ADVICE = (
    "Register a lowering of your own with @converters.readers.torch7.lowers('nn.Name') on a function (g, module, x), "
    "or convert the part of the model around it."
)


# -- from the file to the graph ----------------------------------------------------------------------------------------


def load_network(paths: Sequence[StrPath], options: LoadOptions) -> ir.Model:
    """See converters.readers.torch7.load."""
    if len(paths) != 1:
        raise ConversionError(f"a Torch7 model is one .t7 file, but {len(paths)} files are given")
    file = os.path.basename(os.fspath(paths[0]))
    root = t7.read(paths[0])
    made = find_model(root, file, options.key)
    _check_types(made, file)
    shapes = _input_nest(options.shapes, file) if options.inputs else _inferred(made, file)
    name = identifier(Path(file).stem)
    try:
        return _convert(made, file, name, shapes)
    except SymbolicDimensionError as problem:
        raise ConversionError(f"{file}: the input's whole shape must be known here; {_give(shapes)}") from problem
    except RecursionError as problem:
        raise ConversionError(f"{file}: the modules are nested too deeply") from problem


def _convert(made: t7.TorchObject, file: str, name: str, shapes: Any) -> ir.Model:
    """Lowers with a symbolic first axis; where the net needs its number, or doesn't fit, with the given one."""
    if not _all_fixed(shapes):
        return _attempt(made, file, name, shapes, symbolic=False)
    try:
        return _attempt(made, file, name, shapes, symbolic=True)
    except BatchOfOneError as problem:
        _warn(f"{problem}, as Torch7 does, so the result takes no other batch; give a first size of 2 or more for one that takes any")
        return _attempt(made, file, name, shapes, symbolic=False)
    except TooLargeError:
        raise
    except (SymbolicDimensionError, ConversionError):
        return _attempt(made, file, name, shapes, symbolic=False)


def _attempt(made: t7.TorchObject, file: str, name: str, shapes: Any, *, symbolic: bool) -> ir.Model:
    """Tries inputs as float32; those that turn out to be Lua indices as int64; where that doesn't fit, indices are cast."""
    integers: set[str] = set()
    while True:
        try:
            return _lower(made, file, name, shapes, symbolic=symbolic, integers=integers, integer_inputs=True)
        except IntegerInputError as found:
            if found.name in integers:
                raise ConversionError(f"{file}: input {found.name!r} can't be both indices and numbers") from found
            integers.add(found.name)
        except ConversionError:
            if not integers:
                raise
            return _lower(made, file, name, shapes, symbolic=symbolic, integers=set(), integer_inputs=False)


def _lower(
    made: t7.TorchObject, file: str, name: str, shapes: Any, *, symbolic: bool, integers: set[str], integer_inputs: bool
) -> ir.Model:
    g = TorchGraph(name, symbolic_batch=symbolic, integer_inputs=integer_inputs)
    net = Net(g, file)
    held = (inner.get("pooling") for inner, _ in inner_modules(made) if "MaxUnpooling" in inner.typename)
    net.held_poolings = {id(pooling) for pooling in held if pooling is not None}

    def inputs_of(nest: Any) -> Nest:
        if isinstance(nest, list):
            return [inputs_of(item) for item in nest]
        label, shape = nest
        return Reference(g.input(label, shape, np.int64 if label in integers else np.float32))

    out = net.run(made, inputs_of(shapes), "")
    results = list(itertools.islice(_outputs(values(out), "output"), MAX_OUTPUTS + 1))
    if len(results) > MAX_OUTPUTS:
        raise TooLargeError(f"{file}: the model answers more than {MAX_OUTPUTS} tensors")
    for label, value in results:
        g.output(value, label)
    return g.finish()


def _outputs(nest: Any, label: str) -> Iterator[tuple[str, ir.Value]]:
    if not isinstance(nest, list):
        yield label, nest
        return
    for position, item in enumerate(nest, 1):
        yield from _outputs(item, f"{label}_{position}")


# -- inputs ------------------------------------------------------------------------------------------------------------


def _first(nest: Any) -> tuple[Dim, ...]:
    while isinstance(nest, list):
        if not nest:
            return ()
        nest = nest[0]
    shape: tuple[Dim, ...] = nest[1]
    return shape


def _all_fixed(nest: Any) -> bool:
    if isinstance(nest, list):
        return all(_all_fixed(item) for item in nest)
    return all(isinstance(dim, int) for dim in nest[1])


def _input_nest(inputs: Mapping[str, Sequence[int]], file: str) -> Any:
    """{"input": s} -> ("input", s); {"input_1": s, "input_2_1": t} -> [("input_1", s), [("input_2_1", t)]]; "" is the only input."""
    if "" in inputs:
        if len(inputs) > 1:
            raise ConversionError(f"{file}: a shape without a name is that of the only input; name all: input_1=..., input_2=...")
        inputs = {"input": inputs[""]}
    for label, shape in inputs.items():
        if not shape or any(not isinstance(d, int) or d < 1 for d in map(_whole, shape)):
            raise ConversionError(f"{file}: input {printable(label)!r} has shape {tuple(shape)}; give at least one size, all of at least 1")
    if "input" in inputs:
        for label in inputs:
            if label != "input":
                _warn(f"{file}: the model's one tensor is 'input'; the shape given for {printable(label)!r} isn't used")
        return "input", tuple(map(_whole, inputs["input"]))
    if all(re.fullmatch(r"input(_[1-9]\d{0,3})+", label) for label in inputs):
        return _nest([([int(n) for n in label.split("_")[1:]], label, shape) for label, shape in inputs.items()], "input", file)
    found = [(label, tuple(map(_whole, shape))) for label, shape in inputs.items()]
    return found[0] if len(found) == 1 else found


def _whole(dim: Any) -> Any:
    return dim if isinstance(dim, str | float) else int(dim)


def _nest(entries: list[tuple[list[int], str, Any]], label: str, file: str) -> Any:
    if len(entries) == 1 and not entries[0][0]:
        return entries[0][1], tuple(map(_whole, entries[0][2]))
    if any(not positions for positions, _, _ in entries):
        raise ConversionError(f"{file}: '{label}' is given as a tensor and as a table")
    count = max(positions[0] for positions, _, _ in entries)
    nest = []
    for position in range(1, count + 1):
        inside = [(rest, name, shape) for (first, *rest), name, shape in entries if first == position]
        if not inside:
            raise ConversionError(f"{file}: the shape of '{label}_{position}' is missing")
        nest.append(_nest(inside, f"{label}_{position}", file))
    return nest


def _inferred(made: t7.TorchObject, file: str) -> Any:
    """The input's shape as far as the first module says it: (N, C, H, W) or (N, features)."""
    shape, telling = first_shape(made)
    if shape is not None:
        return "input", shape
    if telling is not None:  # a module whose weight should have told: say what is wrong with it
        module = Module(telling[0], telling[1], file, Parameters(GraphBuilder("input")))
        module.tensor("weight", None, None)
    raise ConversionError(f"{file}: the file doesn't say what shape the model's input has; {_give(None)}")


def _give(shapes: Any) -> str:
    """How to give the input's shape, with what is known of it."""
    dims = [d if isinstance(d, int) else s for d, s in zip(_first(shapes), (2, 3, 224, 224), strict=False)] if shapes else [2, 3, 224, 224]
    option = "x".join(map(str, dims))
    return f"give it: inputs={{'input': {tuple(dims)}}} or --input input={option}, for a table of tensors input_1, input_2 ..."


_NEWEST = {"nn.LookupTable": 4}
"""Newest versions of the classes of nn that went beyond 2 (GradientReversal, the normalizations, VolumetricMaxPooling)."""

_REASONS = {
    "nn.SpatialFractionalMaxPooling": "its windows are drawn at random each time",
    "nn.VolumetricFractionalMaxPooling": "its windows are drawn at random each time",
}

# -- before anything is lowered ----------------------------------------------------------------------------------------


def _check_types(root: t7.TorchObject, file: str) -> None:
    """Refuses all classes that nobody knows at once; warns of versions from the future."""
    unknown: dict[str, Source] = {}
    newer: dict[str, float] = {}
    for made, path in inner_modules(root):
        if made.typename not in lowers:
            unknown.setdefault(made.typename, Source(file, "module", path or "(the model)", made.typename))
        if made.version > _NEWEST.get(made.typename, 2):
            newer[made.typename] = made.version
    if unknown:
        reasons = [f"{name}: {_REASONS[name]}." for name in unknown if name in _REASONS]
        raise unsupported(unknown.values(), "\n".join([*reasons, _ADVICE]))
    for typename, version in newer.items():
        _warn(f"{file}: {printable(typename)} has version {version:g}, newer than any that is known; it is read as the newest known one")


def _warn(message: str) -> None:
    warnings.warn(message, ConversionWarning, stacklevel=3)
