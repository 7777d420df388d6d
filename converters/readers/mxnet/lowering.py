"""From an MXNet symbol and its parameters to the common graph: the walk over the nodes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import printable
from converters.graph.builder import SymbolicDimensionError, with_open_batch
from converters.graph.names import Names, identifier
from converters.options import LoadOptions
from converters.readers.mxnet.axes import TIME
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.parameter import Label, Parameter
from converters.readers.mxnet.params import TYPES, Params, numpy_type
from converters.readers.mxnet.plan import Plan
from converters.readers.mxnet.signature import Results, Slot, Subgraphs, lowers, read_attributes, signature
from converters.readers.mxnet.symbol import Node, Symbol

Operand = ir.Value | Parameter | None


def lower_symbol(symbol: Symbol, params: Params, options: LoadOptions) -> ir.Model:
    """The graph of a symbol. The options give inputs: shapes by name.

    Raises ConversionError for operators nobody knows (all at once), parameters or shapes that are missing, and whatever doesn't fit.
    """
    plan = Plan(symbol, params, options.shapes, options.outputs, shapes_only=options.problems is not None)
    closed: dict[str, SymbolicDimensionError] = {}
    times = _times(plan)
    while True:
        try:
            return _Walk(plan, None, {**times, **options.dynamic}, closed).model()
        except SymbolicDimensionError as problem:
            labels = set(problem.symbols) - closed.keys()
            if "N" in labels and len({plan.shapes[name][plan.batch_axis(name)] for name in plan.shapes if plan.shapes[name]}) == 1:
                break  # the batch of all inputs
            if not labels and not problem.symbols:
                labels = set(times.values()) - closed.keys()
            if not labels or any("/" in label or "*" in label for label in labels):
                break
            closed.update(dict.fromkeys(labels, problem))
    return with_open_batch(lambda problem: _Walk(plan, problem, {**times, **options.dynamic}, closed).model())


def _times(plan: Plan) -> dict[tuple[str, int], str]:
    """The labels of the inputs' time axes: one for each length."""
    labels: dict[int, str] = {}
    found = {}
    for name, axes in plan.axes.items():
        for axis, kind in axes.items():
            if kind == TIME and axis < len(plan.shapes[name]):
                length = plan.shapes[name][axis]
                found[name, axis] = labels.setdefault(length, TIME if not labels else f"{TIME}_{identifier(name)}")
    return found


class _Walk:
    """One lowering of the net, with a symbolic batch or a fixed one."""

    def __init__(
        self,
        plan: Plan,
        closed: SymbolicDimensionError | None,
        dynamic: Mapping[tuple[str, int], str],
        closed_symbols: Mapping[str, SymbolicDimensionError],
    ) -> None:
        self.plan, self.closed_symbols, self.symbol = plan, closed_symbols, plan.symbol
        self.is_exact = any(problem.is_exact for problem in (closed, *closed_symbols.values()) if problem is not None)
        """Whether an open axis was closed because runtimes would broadcast another length."""
        self.bound: Mapping[int, Parameter | ir.Value] = {}
        """What variables stand for: of a graph that a node holds, its arguments."""
        name = printable(plan.symbol.base.removesuffix(".json").removesuffix("-symbol"))
        self.g = OperatorBuilder(name, version=plan.symbol.version, closed=closed, dynamic=dynamic)
        self.g.closed_symbols = frozenset(closed_symbols)
        self.values: dict[int, list[ir.Value]] = {}
        """The outputs of each node, and of each variable that is an input of the net."""
        self.names: dict[int, list[str]] = {}
        """What list_outputs() calls them."""
        self.used: dict[str, ir.Value] = {}
        """Parameters that are in the graph already, by their names in the file."""

    def model(self) -> ir.Model:
        plan, g = self.plan, self.g
        variables = {node.name: node for node in reversed(plan.variables)}
        inputs = {
            name: g.input(name, shape, self._stated_type(variables[name]), batch_axis=plan.batch_axis(name))
            for name, shape in plan.shapes.items()
        }
        for note in plan.notes:
            g.warn(note)
        for symbol, problem in self.closed_symbols.items():
            message = f"{problem}, so the converted net takes {printable(symbol)} of the given size alone"
            g.warn(problem.source.describe(message) if problem.source else message)
        for node in plan.live:
            if not node.is_variable:
                with g.at(node.source, plan.modules[node.index]):
                    self._lower(node)
            elif node.index in plan.training_labels:
                self._zero_label(node, inputs)
            elif node.name in inputs:
                self.values[node.index], self.names[node.index] = [self._exact(node.name, inputs[node.name])], [node.name]
        self._inner_outputs() if plan.inner else self._outputs()
        return g.finish()

    def _exact(self, name: str, value: ir.Value) -> ir.Value:
        """An input whose batch and time, where they were closed, runtimes refuse to take otherwise."""
        axes = {self.plan.batch_axis(name), *self.plan.axes.get(name, {})} if self.is_exact else set()
        return self.g.pin_known(value, sorted(axis for axis in axes if axis < self.g.rank(value)))

    def _zero_label(self, node: Node, inputs: Mapping[str, ir.Value]) -> None:
        """A label that the net itself computes with: zeros, one per sample."""
        g, first = self.g, next(iter(inputs.values()), None)
        if first is None:
            raise node.source.error("a label without any input of the net; give its shape")
        with g.at(node.source):
            g.warn("this label takes part in the computation, as in training graphs; it is set to 0 (to make it an input, give its shape)")
            zeros = g.emit("Expand", np.zeros((), np.float32), g.emit("Shape", first, end=1), shape=[g.shape(first)[0]])
        self.values[node.index], self.names[node.index] = [zeros], [node.name]

    def _stated_type(self, variable: Node) -> np.dtype[np.generic]:
        """A variable's `__dtype__`; else the net's: float64 where all its weights are, or float32, into which MXNet converts others."""
        stated = variable.attributes.get("__dtype__", "")
        if not stated.isdigit():
            return self.plan.type
        if int(stated) not in TYPES:
            raise variable.source.error(f"attribute __dtype__ is {printable(stated)}, which is no type of MXNet's")
        return numpy_type(TYPES[int(stated)]).newbyteorder("=")

    # -- one operator ------------------------------------------------------------------------------------------------

    def _lower(self, node: Node) -> None:
        g, described = self.g, signature(node.op)
        if len(node.inputs) > len(described.slots) and described.variadic is None:
            raise g.error(f"has {len(node.inputs)} inputs, but the operator takes at most {len(described.slots)}")
        attributes = read_attributes(g, node)
        operands: list[Operand] = []
        for position, (number, output) in enumerate(node.inputs):
            slot = described.slot(position)
            operands.append(self._operand(node, slot, number, output) if slot is not None else None)
        operands += [self._absent(node, slot) for slot in described.slots[len(node.inputs) :]]
        if described.holds_graphs:
            attributes["subgraphs"] = Subgraphs(tuple(partial(self._body, graph) for graph in node.subgraphs))
        try:
            result = lowers[node.op](g, *operands, **attributes)
        except (ArithmeticError, LookupError, TypeError, ValueError) as problem:
            raise g.error(f"its attributes and inputs don't fit together ({type(problem).__name__}: {printable(problem)})") from problem
        self.values[node.index], self.names[node.index] = _named(node.name, result)
        values = [operand for operand in operands if isinstance(operand, ir.Value)]
        if values and g.open_values.issuperset(values):  # what is made of open sizes alone has open sizes
            g.open_values.update(self.values[node.index])
        for value, name in zip(self.values[node.index], self.names[node.index], strict=True):
            g.bind(value, name)
        g.alias(self.values[node.index][0], node.name)

    def _body(self, graph: Symbol, arguments: Mapping[int, Parameter | ir.Value]) -> list[ir.Value]:
        """The outputs of a graph that a node holds, for its arguments."""
        inner = copy.copy(self)
        inner.symbol, inner.values, inner.names = graph, {}, {}
        inner.bound = {graph.arguments[position]: operand for position, operand in arguments.items()}
        path = self.g.path
        for node in graph.order:
            if not node.is_variable:
                with self.g.at(node.source, path):
                    inner._lower(node)
        return [inner._result(number, output) for number, output in graph.heads]

    def _result(self, number: int, output: int) -> ir.Value:
        """A head of a graph that a node holds."""
        node = self.symbol.nodes[number]
        if not node.is_variable:
            return self._output(node, number, output)
        operand = self._bound(node)
        return operand.use() if isinstance(operand, Parameter) else operand

    def _bound(self, variable: Node) -> Parameter | ir.Value:
        if variable.index not in self.bound:
            raise self.g.error(f"its graph has a variable '{printable(variable.name)}' that is no input of it")
        return self.bound[variable.index]

    def _operand(self, node: Node, slot: Slot, number: int, output: int) -> Operand:
        variable = self.symbol.nodes[number]
        if slot.role is Label:
            return None
        if variable.is_variable and self.symbol is not self.plan.symbol:
            operand = self._bound(variable)
            if isinstance(operand, Parameter):
                array = operand.array
                if slot.role is Parameter:
                    return operand.under(slot.name)
                return operand.use(dtype=self._loose_type(node, slot, variable, array) if array is not None else None)
            place = self.plan.place(variable.name)
            return Parameter(self.g, place, slot.name, operand, self.used) if slot.role is Parameter else operand
        if variable.is_variable and number not in self.values:
            if output:
                raise self.g.error(f"refers to output {output} of '{printable(variable.name)}'")
            parameter = self._parameter(variable, slot.name)
            if slot.role is Parameter or parameter.array is None:
                return parameter
            return parameter.use(dtype=self._loose_type(node, slot, variable, parameter.array))
        value = self._output(variable, number, output)
        return Parameter(self.g, self.plan.place(variable.name), slot.name, value, self.used) if slot.role is Parameter else value

    def _parameter(self, variable: Node, slot: str) -> Parameter:
        place = self.plan.place(variable.name)
        array = None if self.plan.shapes_only and place.name not in self.plan.params else self.plan.params[place.name]
        return Parameter(self.g, place, slot, array, self.used)

    def _output(self, node: Node, number: int, output: int) -> ir.Value:
        values = self.values[number]
        if not 0 <= output < len(values):
            raise self.g.error(
                f"refers to output {output} of operator '{printable(node.name)}' ({printable(node.op)}), "
                f"which has {len(values)} output{'s' * (len(values) > 1)}"
            )
        return values[output]

    def _loose_type(self, node: Node, slot: Slot, variable: Node, array: NDArray[np.generic]) -> np.dtype[np.generic]:
        """The type of a stored array that meets data directly: that of the operator's other inputs, as MXNet infers it."""
        if array.dtype.kind in slot.keeps:
            return array.dtype.newbyteorder("=")
        for number, output in node.inputs:
            if number in self.values and output < len(self.values[number]):
                return self.g.dtype(self.values[number][output])
        return self._stated_type(variable)

    def _absent(self, node: Node, slot: Slot) -> Operand:
        """An input that the file doesn't list: before 0.9, the moving statistics; optional ones; else a mistake."""
        name, old = f"{node.name}_{slot.name}", self.plan.symbol.version < 900 and self.symbol is self.plan.symbol
        if slot.role is Parameter and old and name in self.plan.params:
            return Parameter(self.g, self.plan.place(name, self.plan.modules[node.index]), slot.name, self.plan.params[name], self.used)
        if slot.role is Label or not slot.required:
            return None
        where = f"; '{printable(name)}' isn't in {self.plan.params.base} either" if old else ""
        raise self.g.error(f"the input '{slot.name}' is missing (it has {len(node.inputs)} inputs){where}")

    def _inner_outputs(self) -> None:
        """Ends the net in the values that were asked for; `graph.outputs` puts them in order."""
        for name, node in self.plan.inner:
            names = self.names[node.index]
            if name not in (node.name, *names):
                raise node.source.error(f"it has no output '{printable(name)}'", hint=f"it has {', '.join(map(printable, names))}")
            position = names.index(name) if name in names else 0
            value = self.values[node.index][position]
            if not value.is_graph_output():
                value = self.g.output(value, names[position])
            self.g.alias(value, name)

    def _outputs(self) -> None:
        g, free = self.g, Names(self.plan.shapes)
        for number, _ in self.plan.left_out:
            node = self.plan.symbol.nodes[number]
            g.warn(node.source.describe("this output needs labels, which training alone has; it is left out"))
        for number, output in self.plan.heads:
            node = self.plan.symbol.nodes[number]
            if number not in self.values:
                values, names = [self._parameter(node, node.name).use()], [node.name]
            else:
                values, names = self.values[number], self.names[number]
            if not 0 <= output < len(values):
                raise node.source.error(f"'heads' refers to output {output}, but the operator has {len(values)}")
            g.output(values[output], free.free(f"{names[output]}_output" if node.is_variable else names[output]))


def _named(name: str, result: Results) -> tuple[list[ir.Value], list[str]]:
    """The outputs of an operator, and their names as list_outputs() gives them."""
    if isinstance(result, ir.Value):
        return [result], [f"{name}_output"]
    if isinstance(result, Mapping):
        return list(result.values()), [f"{name}_{key}" for key in result]
    return list(result), [f"{name}_output{i}" for i in range(len(result))]
