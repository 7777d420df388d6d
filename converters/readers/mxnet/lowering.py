"""From an MXNet symbol and its parameters to the common graph: the walk over the nodes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import ConversionError, ConversionWarning, Source, printable, unsupported
from converters.graph.builder import SymbolicDimensionError, with_open_batch
from converters.graph.names import identifier, mend_names
from converters.readers.mxnet.attributes import parse
from converters.readers.mxnet.graph import Graph, Label, Parameter
from converters.readers.mxnet.params import Params
from converters.readers.mxnet.signature import Lowering, Slot, lowers, read_attributes, signature
from converters.readers.mxnet.symbol import Node, Symbol

SUFFIXES = ("_moving_mean", "_moving_var", "_running_mean", "_running_var", "_weight", "_bias", "_gamma", "_beta", "_alpha", "_parameters")
INDICES = frozenset({"indices", "index", "index_vector", "sequence_length", "length"})
"""Inputs whose type is their own, whatever the data's."""


def lower_symbol(symbol: Symbol, params: Params, inputs: Mapping[str, Sequence[int]] | None) -> ir.Model:
    """The graph of a symbol. inputs: shapes by name.

    Raises ConversionError for operators nobody knows (all at once), parameters or shapes that are missing, and whatever doesn't fit.
    """
    live = _live_nodes(symbol)
    plan = _Plan(symbol, live, params, inputs)
    return with_open_batch(lambda closed: _Walk(plan, closed).model())


def _known(node: Node) -> Lowering:
    return lowers[node.op]


def _live_nodes(symbol: Symbol) -> list[Node]:
    """The nodes that inference needs: those that the heads reach other than through labels. Raises UnsupportedError."""
    unknown: list[Source] = []
    needed = {number for number, _ in symbol.heads}
    for node in reversed(symbol.order):
        if node.index not in needed or node.is_variable:
            continue
        if node.op not in lowers:
            unknown.append(node.source)
            needed.update(number for number, _ in node.inputs)
            continue
        stated = signature(_known(node))
        for position, (number, _) in enumerate(node.inputs):
            slot = stated.slot(position)
            if slot is not None and slot.kind is not Label:
                needed.add(number)
    if unknown:
        raise unsupported(
            reversed(unknown), "register a function for each with @converters.readers.mxnet.lowers(TYPE), or cut the net before them"
        )
    return [node for node in symbol.order if node.index in needed]


class _Plan:
    """What doesn't depend on the batch: inputs and their shapes, module paths."""

    def __init__(self, symbol: Symbol, live: list[Node], params: Params, inputs: Mapping[str, Sequence[int]] | None) -> None:
        self.symbol, self.live, self.params = symbol, live, params
        self.users: dict[int, list[tuple[Node, Slot]]] = {}
        for node in live:
            if node.is_variable:
                continue
            stated = signature(_known(node))
            for position, (number, _) in enumerate(node.inputs):
                slot = stated.slot(position)
                if slot is not None and symbol.nodes[number].is_variable:
                    self.users.setdefault(number, []).append((node, slot))
        self.training_labels: set[int] = set()
        """Variables that a head takes for labels and the net computes with too (margins that only training adds)."""
        self.shapes = self._input_shapes(inputs or {})
        self.paths = self._paths()
        kinds = {params.records[n.name].dtype for n in live if n.is_variable and n.name in params}
        self.type = np.dtype(np.float64 if {kind.newbyteorder("=") for kind in kinds} == {np.dtype(np.float64)} else np.float32)

    def _input_shapes(self, given: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        """Shapes of the net's inputs, in MXNet's order of arguments."""
        variables = [node for node in self.live if node.is_variable]
        names = {node.name for node in variables}
        every = {node.name for node in self.symbol.order if node.is_variable}
        shapes: dict[str, tuple[int, ...]] = {}
        missing: list[str] = []
        unshaped: list[Node] = []
        for node in variables:
            if node.name in shapes:
                continue
            if node.name in given:
                shapes[node.name] = tuple(int(d) for d in given[node.name])
                if not shapes[node.name] or min(shapes[node.name]) < 1:
                    raise ConversionError(f"input '{printable(node.name)}': shape {shapes[node.name]} isn't a shape of sizes of at least 1")
                continue
            if node.name in self.params:
                continue
            users = self.users.get(node.index, [])
            if any(slot.kind is Label for _, slot in users):
                self.training_labels.add(node.index)
                continue
            stated = self._stated_shape(node)
            weights = [(user, slot) for user, slot in users if slot.kind is Parameter]
            if weights:
                user, slot = weights[0]
                missing.append(f"'{printable(node.name)}' (the {slot.name} of operator '{printable(user.name)}' ({printable(user.op)}))")
            elif stated:
                shapes[node.name] = stated
            else:
                unshaped.append(node)
        if missing:
            found = "" if self.params.named else f" ({self.params.base} holds {len(self.params)} arrays without names)"
            raise ConversionError(
                f"{self.params.base}: {len(missing)} of the net's parameters are missing{found}: {', '.join(missing[:10])}"
                + (", ..." if len(missing) > 10 else "")
                + f"; is it the file that belongs to {self.symbol.base}? (it holds {_names(self.params)})"
            )
        if unshaped:
            wanted = [printable(node.name) for node in unshaped]
            example = self._example_shape(unshaped[0])
            raise ConversionError(
                f"{self.symbol.base}: an MXNet symbol doesn't say the shapes of its inputs: give them for {', '.join(map(repr, wanted))}: "
                f"inputs={{'{wanted[0]}': {example}}}, or --input {wanted[0]}={'x'.join(map(str, example))}"
            )
        strange = [name for name in given if name not in every]
        if strange:
            raise ConversionError(
                f"{self.symbol.base}: there is no input '{printable(strange[0])}'; "
                f"the inputs are {', '.join(map(printable, shapes)) or 'none'}"
            )
        return {node.name: shapes[node.name] for node in variables if node.name in shapes and node.name in names}

    def _example_shape(self, node: Node) -> tuple[int, ...]:
        """A shape that the input might have: as many channels as the first layer's weight takes."""
        for user, _ in self.users.get(node.index, ()):
            weight = self.symbol.nodes[user.inputs[1][0]].name if len(user.inputs) > 1 else ""
            shape = self.params.records[weight].shape if weight in self.params else ()
            if user.op == "Convolution" and len(shape) >= 3 and user.attributes.get("num_group", "1") == "1":
                return (1, shape[1], *[224] * (len(shape) - 2))
            if user.op == "FullyConnected" and len(shape) == 2:
                return (1, shape[1])
        return (1, 3, 224, 224)

    def _stated_shape(self, node: Node) -> tuple[int, ...] | None:
        """The variable's own `__shape__`; a first size of 0, an open batch, becomes 1."""
        text = node.attributes.get("__shape__")
        if text is None:
            return None
        try:
            shape = parse(text, tuple[int, ...])
        except ValueError as problem:
            raise node.source.error(f"attribute __shape__ {problem}") from problem
        shape = (shape[0] or 1, *shape[1:]) if shape else shape
        return tuple(shape) if shape and min(shape) > 0 else None

    def _paths(self) -> dict[str, str]:
        """Module path of each operator (by `#index`), and of each stored parameter (`path|role`, the role empty where its slot says it)."""
        prefixes: dict[int, str] = {}
        owners: dict[str, str] = {}
        names = _Names()
        for node in self.live:
            if node.is_variable:
                continue
            own = [
                self.symbol.nodes[number].name
                for number, _ in node.inputs
                if any(user is node and slot.kind is Parameter for user, slot in self.users.get(number, ()))
                and self.symbol.nodes[number].name in self.params
            ]
            bases = {_base(name) for name in own}
            prefix = (bases.pop() if len(bases) == 1 and "" not in bases else node.name) or "unnamed"
            if own and all(name in owners for name in own):  # the same module, called again
                prefix = owners[own[0]]
            elif own:
                prefix = names.free(prefix)
            names.taken.add(prefix)
            prefixes[node.index] = prefix
            for name in own:
                owners.setdefault(name, prefix)
        variables = {n.name: n.index for n in self.live if n.is_variable and n.name in self.params and n.name not in owners}
        mended = mend_names([*prefixes.values(), *variables])
        result = {f"#{index}": mended[prefix] for index, prefix in prefixes.items()}
        for name, prefix in owners.items():
            result[name] = mended[prefix] + "|"
        roles = _Names(set(mended.values()))
        for name, index in variables.items():
            users = (user for user, _ in self.users.get(index, ()))
            owner = next((user for user in users if user.name and name.startswith(user.name + "_")), None)
            if owner is not None:  # `up_weight` of the operator `up`
                result[name] = result[f"#{owner.index}"] + "|" + identifier(name[len(owner.name) + 1 :])
            else:
                result[name] = "|" + (roles.free(mended[name]) if name in names.taken else mended[name])
        return result


class _Names:
    """Names that are taken, and the next free one of a base."""

    def __init__(self, taken: set[str] | None = None) -> None:
        self.taken: set[str] = taken if taken is not None else set()
        self._counts: dict[str, int] = {}

    def free(self, name: str) -> str:
        """The name, or with the first number behind it that makes it new; it is taken from now on."""
        free = name
        while free in self.taken:
            self._counts[name] = self._counts.get(name, 0) + 1
            free = f"{name}_{self._counts[name]}"
        self.taken.add(free)
        return free


def _base(name: str) -> str:
    """`conv0` of `conv0_weight`; empty where the name ends in no parameter's word."""
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.endswith(suffix)), "")


def _names(params: Params) -> str:
    names = [printable(name, 60) for name in list(params)[:5]]
    return (", ".join(names) + (", ..." if len(params) > 5 else "")) or "no arrays"


class _Walk:
    """One lowering of the net, with a symbolic batch or a fixed one."""

    def __init__(self, plan: _Plan, closed: SymbolicDimensionError | None) -> None:
        self.plan = plan
        self.g = Graph(printable(plan.symbol.base.removesuffix(".json").removesuffix("-symbol")), closed=closed)
        self.g.version = plan.symbol.version
        self.values: dict[int, list[ir.Value]] = {}
        self.labels: dict[int, list[str]] = {}
        self.made: dict[str, ir.Value] = {}

    def model(self) -> ir.Model:
        plan, g = self.plan, self.g
        types = self._input_types()
        inputs = {name: g.input(name, shape, types[name]) for name, shape in plan.shapes.items()}
        for node in plan.live:
            if node.is_variable:
                if node.index in plan.training_labels:
                    self._zero_label(node, inputs)
                elif node.name in inputs:
                    self.values[node.index], self.labels[node.index] = [inputs[node.name]], [node.name]
            else:
                with g.at(node.source, plan.paths[f"#{node.index}"]):
                    self._lower(node)
        self._outputs()
        return g.finish()

    def _zero_label(self, node: Node, inputs: Mapping[str, ir.Value]) -> None:
        """A label that the net itself computes with: zeros, one per sample."""
        g, first = self.g, next(iter(inputs.values()), None)
        if first is None:
            raise node.source.error("a label without any input of the net; give its shape")
        warnings.warn(
            f"{self.plan.symbol.base}: the label '{printable(node.name)}' takes part in the computation, as in training graphs; "
            "it is set to 0 (to make it an input, give its shape)",
            ConversionWarning,
            stacklevel=2,
        )
        with g.at(node.source):
            batch = g.emit("Slice", g.emit("Shape", first), [0], [1])
            zeros = g.emit("Expand", np.zeros((), np.float32), batch, shape=[g.shape(first)[0]])
        self.values[node.index], self.labels[node.index] = [zeros], [node.name]

    def _input_types(self) -> dict[str, Any]:
        """Types of the inputs."""
        result: dict[str, Any] = {}
        for node in self.plan.live:
            if node.is_variable and node.name in self.plan.shapes:
                result.setdefault(node.name, self._stated_type(node))
        return result

    def _stated_type(self, variable: Node) -> Any:
        """A variable's `__dtype__`; else the net's: float64 where all its weights are, or float32, into which MXNet converts others."""
        from converters.readers.mxnet.params import TYPES, numpy_type

        stated = variable.attributes.get("__dtype__", "")
        if not stated.isdigit():
            return self.plan.type
        if int(stated) not in TYPES:
            raise variable.source.error(f"attribute __dtype__ is {printable(stated)}, which is no type of MXNet's")
        return numpy_type(TYPES[int(stated)]).newbyteorder("=")

    def _lower(self, node: Node) -> None:
        g, function = self.g, _known(node)
        stated = signature(function)
        attributes = read_attributes(node, stated)
        operands: list[Any] = []
        if len(node.inputs) > len(stated.slots) and stated.variadic is None:
            raise g.error(f"has {len(node.inputs)} inputs, but the operator takes at most {len(stated.slots)}")
        for position, (number, output) in enumerate(node.inputs):
            slot = stated.slot(position)
            operands.append(self._operand(node, slot, number, output) if slot is not None else None)
        for slot in stated.slots[len(node.inputs) :]:
            operands.append(self._absent(node, slot))
        try:
            result = function(g, *operands, **attributes)
        except (ArithmeticError, LookupError, TypeError, ValueError) as problem:
            raise g.error(f"its attributes and inputs don't fit together ({type(problem).__name__}: {printable(problem)})") from problem
        if isinstance(result, ir.Value):
            self.values[node.index], self.labels[node.index] = [result], [f"{node.name}_output"]
        elif isinstance(result, Mapping):
            self.values[node.index], self.labels[node.index] = list(result.values()), [f"{node.name}_{k}" for k in result]
        else:
            self.values[node.index] = list(result)
            self.labels[node.index] = [f"{node.name}_output{i}" for i in range(len(result))]

    def _operand(self, node: Node, slot: Slot, number: int, output: int) -> Any:
        given = self.plan.symbol.nodes[number]
        if slot.kind is Label:
            return None
        if given.is_variable and number not in self.values:
            array = self.plan.params[given.name]
            parameter = Parameter(
                self.g, given.name, slot.name, array, self.made, self.plan.paths.get(given.name, "|" + given.name), self.plan.params.base
            )
            return parameter if slot.kind is Parameter else parameter.use(dtype=self._loose_type(node, slot, given, array))
        values = self.values[number]
        if output < 0 or (given.is_variable and output > 0 and given.index not in self.values):
            raise self.g.error(f"refers to output {output} of '{printable(given.name)}'")
        if output >= len(values):
            raise self.g.error(
                f"refers to output {output} of operator '{printable(given.name)}' ({printable(given.op)}), "
                f"which has {len(values)} output{'s' * (len(values) > 1)}"
            )
        value = values[output]
        if slot.kind is Parameter:
            return Parameter(self.g, given.name, slot.name, value, self.made, "", self.plan.params.base)
        return value

    def _loose_type(self, node: Node, slot: Slot, variable: Node, array: NDArray[Any]) -> Any:
        """The type of a stored array that meets data directly: that of the operator's other inputs, as MXNet infers it."""
        if array.dtype.kind in "iu" and slot.name in INDICES:
            return array.dtype.newbyteorder("=")
        for number, output in node.inputs:
            if number in self.values and output < len(self.values[number]):
                return self.g.dtype(self.values[number][output])
        return self._stated_type(variable)

    def _absent(self, node: Node, slot: Slot) -> Any:
        """An input that the file doesn't list: before 0.9, the moving statistics; optional ones; else a mistake."""
        name = f"{node.name}_{slot.name}"
        if slot.kind is Parameter and self.plan.symbol.version < 900 and name in self.plan.params:
            path = self.plan.paths[f"#{node.index}"] + "|"
            return Parameter(self.g, name, slot.name, self.plan.params[name], self.made, path, self.plan.params.base)
        if slot.kind is Label or not slot.required:
            return None
        where = f"; '{printable(name)}' isn't in {self.plan.params.base} either" if self.plan.symbol.version < 900 else ""
        raise self.g.error(f"the input '{slot.name}' is missing (it has {len(node.inputs)} inputs){where}")

    def _outputs(self) -> None:
        g, names = self.g, _Names(set(self.plan.shapes))
        for number, output in self.plan.symbol.heads:
            node = self.plan.symbol.nodes[number]
            if number not in self.values:
                value = Parameter(
                    g, node.name, node.name, self.plan.params[node.name], self.made, "|" + node.name, self.plan.params.base
                ).use()
                values, labels = [value], [node.name]
            else:
                values, labels = self.values[number], self.labels[number]
            if not 0 <= output < len(values):
                raise node.source.error(f"'heads' refers to output {output}, but the operator has {len(values)}")
            g.output(values[output], names.free(f"{labels[output]}_output" if node.is_variable else labels[output]))
