"""From a TensorFlow graph to the common one: from the outputs backwards, what they need and nothing else.

Branches are chosen where their condition is a constant (is_training); whatever lies in the other branch isn't looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from converters.errors import ConversionError, FormatError, UnsupportedError, printable
from converters.graph.builder import SymbolicDimensionError, with_open_batch
from converters.graph.names import identifier
from converters.options import LoadOptions
from converters.readers.tensorflow.builder import TensorBuilder
from converters.readers.tensorflow.graph import Graph, Node, Port
from converters.readers.tensorflow.patterns import input_order, without_dropout
from converters.readers.tensorflow.registry import lowers
from converters.readers.tensorflow.tensors import numpy_type, read_tensor
from converters.readers.tensorflow.values import IMAGE, Dead, Flow, Missing, Tensor, constant, identity, sizes
from converters.readers.tensorflow.variables import VARIABLES, Variables

_LOOPS = frozenset({"Enter", "Exit", "NextIteration", "LoopCond", "RefEnter", "RefExit", "While", "StatelessWhile"})

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall", "SymbolicGradient", "RemoteCall"})
"""Operators whose work is a function in the graph's library, as TensorFlow 2 saves its models."""

Work = Generator[Port, Flow, "list[Flow] | Dead | Missing"]
"""Asks for ports, gets what flows out of them, and answers what each of its own gives; or what all of them do."""


def lower_graph(graph: Graph, variables: Variables, options: LoadOptions) -> ir.Model:
    """The common graph of what leads to the outputs. Raises ConversionError; operators that nobody knows are named all at once."""
    walk = _Plan(graph, variables, options)
    return with_open_batch(lambda closed: _Walk(walk, closed).model())


class _Plan:
    """What is asked for, checked against the graph."""

    def __init__(self, graph: Graph, variables: Variables, options: LoadOptions) -> None:
        self.graph, self.variables, self.options = graph, variables, options
        self.shapes = {self._node(name): tuple(shape) for name, shape in options.shapes.items() if name}
        self.dtypes = {self._node(name): dtype for name, dtype in options.dtypes.items() if name}
        self.constants = {self._node(name): value for name, value in options.constants.items()}
        if "" in options.shapes:
            inputs = [node.name for node in graph.nodes.values() if node.op == "Placeholder" and node.name not in self.constants]
            if len(inputs) != 1:
                names = ", ".join(map(printable, inputs[:8])) or "none"
                raise ConversionError(f"the shape is for one input without a name; the graph has {len(inputs)} ({names})", path=graph.path)
            self.shapes[inputs[0]] = options.shapes[""]
        for name in (*self.shapes, *self.constants):
            if name not in graph.nodes:
                what = "input" if name in self.shapes else "constant"
                raise ConversionError(f"the graph has no node '{printable(name)}' to be the {what}", path=graph.path)
        self.readers = graph.readers()
        self.outputs = [self._port(name) for name in self._wanted()]
        self.needed = graph.needed((node for _, (node, _) in self.outputs), until={*self.shapes, *self.constants})

    def _node(self, name: str) -> str:
        return name.removesuffix(":0")

    def _port(self, name: str) -> tuple[str, Port]:
        node, _, number = name.partition(":")
        if node not in self.graph.nodes or (number and not number.isdigit()):
            hint = f"its last nodes are {', '.join(map(printable, self.graph.ends()[-5:]))}" if self.graph.nodes else None
            raise ConversionError(f"the graph has no node '{printable(name)}' to end in", path=self.graph.path, hint=hint)
        return name, (node, int(number or 0))

    def _wanted(self) -> Sequence[str]:
        """The outputs: as asked, as the signature says, or the one node that nothing reads."""
        if self.options.outputs:
            return self.options.outputs
        if self.graph.outputs:
            return [self._node(name) for name in self.graph.outputs]
        ends = self.graph.ends()
        if len(ends) != 1:
            likely = self.graph.proposed()
            shown = ", ".join(map(printable, likely[:12])) + (", ..." if len(ends) > len(likely[:12]) else "")
            raise ConversionError(
                f"the graph doesn't say what its output is: nothing reads {len(ends)} of its nodes ({shown})",
                path=self.graph.path,
                hint="name it with --output (outputs=[...])",
            )
        return ends


class _Walk:
    """One lowering of the net, with a symbolic batch or a fixed one."""

    def __init__(self, plan: _Plan, closed: SymbolicDimensionError | None) -> None:
        self.plan, self.graph = plan, plan.graph
        name = printable(plan.graph.base.rpartition(".")[0] or plan.graph.base)
        self.g = TensorBuilder(name, closed=closed, dynamic=plan.options.dynamic)
        self.flows: dict[Port, Flow] = {}
        self.g.nodes, self.g.readers, self.g.flows = plan.graph.nodes, plan.readers, self.flows
        self.g.variable = lambda name: self._variable(plan.graph.nodes[name])
        self.g.wanted = {port[0] for _, port in plan.outputs}
        self.g.needed = plan.needed
        self.g.takes_bias = lambda op: lowers.facts(op).takes_bias
        self.g.asks_sizes = lambda op: lowers.facts(op).asks_sizes
        self._whole: dict[str, Dead | Missing] = {}
        """What flows out of every port of a node that gives nothing."""
        self._done: set[str] = set()
        self._inputs: dict[str, ir.Value] = {}
        self._pins: dict[ir.Value | None, ir.Value] = {}

    def model(self) -> ir.Model:
        problems: dict[str, Missing] = {}
        results = []
        for name, port in self.plan.outputs:
            flow = self._evaluate(port)
            if isinstance(flow, Missing):
                problems[name] = flow
            results.append((name, flow))
        if problems:
            raise _joined([problem.problem for problem in problems.values()])
        free = {} if self.g.is_sized else self._unpinned()
        for name, flow in results:
            if isinstance(flow, Dead):
                raise ConversionError(f"'{printable(name)}' lies in a branch that isn't taken", path=self.graph.path)
            assert isinstance(flow, Tensor)
            whole = replace(flow, value=free[flow.value]) if flow.value in free else flow
            self.g.output(self._outward(whole), name)
        model = self.g.finish()
        if not model.graph.inputs:
            raise ConversionError("the outputs depend on no input", path=self.graph.path, hint="name other outputs with --output")
        places = {name: i for i, name in enumerate(self.graph.nodes)}
        found = sorted(((places[name], value) for name, value in self._inputs.items()), key=lambda entry: entry[0])
        model.graph.inputs.clear()
        model.graph.inputs.extend(value for _, value in found)
        return model

    def _outward(self, x: Tensor) -> ir.Value:
        """An output: 4-D images as (N, C, H, W), all else in TensorFlow's order."""
        if x.rank == 4 and not (x.order == identity(4) and self.g.is_nchw):
            return self.g.ordered(x, IMAGE)
        return self.g.plain(x)

    # -- the walk ------------------------------------------------------------------------------------------------------

    def _evaluate(self, port: Port) -> Flow:
        """What flows out of a port, with everything before it; no recursion, however deep the graph is."""
        stack: list[tuple[Node, Work, Port | None]] = []
        running: set[str] = set()
        self._begin(port, None, stack, running)
        while stack:
            node, work, asked = stack[-1]
            try:
                wanted = next(work) if asked is None else work.send(self._flow(asked, node))
            except StopIteration as end:
                stack.pop()
                running.discard(node.name)
                self._done.add(node.name)
                if isinstance(end.value, list):
                    self.flows.update({(node.name, number): flow for number, flow in enumerate(end.value)})
                else:
                    self._whole[node.name] = end.value
                continue
            stack[-1] = node, work, wanted
            self._begin(wanted, node, stack, running)
        return self._flow(port, None)

    def _begin(self, port: Port, reader: Node | None, stack: list[tuple[Node, Work, Port | None]], running: set[str]) -> None:
        name = port[0]
        if name in self._done:
            return
        node = self.graph.nodes.get(name)
        if node is None:
            message = f"takes '{printable(name)}', which isn't in the graph"
            raise reader.source.error(message) if reader else FormatError(message, path=self.graph.path)
        if name in running:
            raise node.source.error("the graph goes in a circle here (a loop?), which has no form", hint="end before it: --output")
        running.add(name)
        stack.append((node, self._work(node), None))

    def _flow(self, port: Port, reader: Node | None) -> Flow:
        if port[0] in self._whole:
            return self._whole[port[0]]
        if port not in self.flows:
            error = f"'{printable(port[0])}' has no output {port[1]}"
            raise reader.source.error(error) if reader else ConversionError(error, path=self.graph.path)
        return self.flows[port]

    def _work(self, node: Node) -> Work:
        """Asks for what the node needs, and answers what it gives."""
        plan = self.plan
        if node.name in plan.constants:
            return [self._given(node)]
        if node.name in plan.shapes or node.op == "Placeholder":
            return [self._input(node)]
        if node.op in ("Switch", "RefSwitch"):
            return (yield from self._switch(node))
        if node.op in ("Merge", "RefMerge"):
            return (yield from self._merge(node))
        if node.op in _LOOPS:
            return Missing(node.source.error("a loop, which has no form here", hint="end before it: --output"))
        if node.op in _CALLS:
            problem = node.source.error(
                "calls a function of the graph's library, as TensorFlow 2 saves its models, which has no form here",
                hint="freeze the model (convert_variables_to_constants_v2) and give the graph that this makes",
            )
            return Missing(problem)
        if node.op in VARIABLES:
            return Missing(node.source.error("a reference to a variable")) if node.op == "VarHandleOp" else [self._variable(node)]
        if node.op in ("ReadVariableOp", "Const"):
            return [self._stored(node)]
        flows = []
        for port in node.inputs:
            flows.append((yield port))
        with self.g.at(node.source, identifier(node.name)):
            return self._lower(node, flows)

    # -- where numbers come from ---------------------------------------------------------------------------------------

    def _stored(self, node: Node) -> Flow:
        if node.op == "ReadVariableOp":
            variable = self.graph.nodes.get(node.inputs[0][0]) if node.inputs else None
            while variable is not None and variable.op in ("Identity", "Enter") and variable.inputs:
                variable = self.graph.nodes.get(variable.inputs[0][0])
            if variable is None or variable.op not in VARIABLES:
                raise node.source.error("reads a variable that isn't one of the graph's")
            return self._variable(variable)
        value = node.attributes.get("value")
        if value is None or value.WhichOneof("value") != "tensor":
            raise node.source.error("a constant without a value")
        try:
            return constant(read_tensor(value.tensor, node.stored, "the constant"), node.name)
        except FormatError as problem:  # strings and broken ones: an error for whoever needs it
            return Missing(node.source.error(problem.what))

    def _variable(self, node: Node) -> Tensor:
        return constant(self.plan.variables.numbers(node), node.name)

    def _given(self, node: Node) -> Tensor:
        """A placeholder that is a number from now on."""
        number = node.type_number("dtype", node.type_number("T"))
        try:
            array = np.asarray(self.plan.constants[node.name])
            return constant(array.astype(numpy_type(number, "it"), casting="unsafe") if number else array)
        except (TypeError, ValueError) as problem:
            raise node.source.error(f"its constant makes no sense: {printable(problem)}") from problem

    def _input(self, node: Node) -> Flow:
        """A graph input: 4-D images become (N, C, H, W)."""
        number = node.type_number("dtype", node.type_number("T", 1))
        try:
            dtype = numpy_type(number, "this input")
        except FormatError as problem:
            return Missing(node.source.error(problem.what, hint="cut the graph behind it: --input NAME=SHAPE of a later node"))
        stated = node.shape("shape") if node.op == "Placeholder" else None
        given = self.plan.shapes.get(node.name)
        shape = self._input_shape(node, stated, given)
        if dtype == np.bool_ and not shape:
            return Missing(
                node.source.error(
                    "a switch that the caller sets (is_training, say)",
                    hint=f"say which it is: --constant {printable(node.name)}=false (constants={{...}})",
                )
            )
        order = input_order(self.g, node, len(shape))
        dims = [shape[axis] for axis in order]
        if not self._inputs and shape and stated is not None and stated[:1] and stated[0] is not None:
            self.g.symbolic_batch = False  # the file fixes it
        value = self.g.input(node.name, dims, dtype)
        self._inputs[node.name] = value
        with self.g.at(node.source):
            return Tensor(dtype, value=self._pinned(value, order), order=order)

    def _pinned(self, value: ir.Value, order: Sequence[int]) -> ir.Value:
        """An input whose known lengths are those that it must have when the net runs; batch and an image's channels aside."""
        pinned = value
        channels = len(order) - 1 if tuple(order) != identity(len(order)) else 0
        for axis, place in enumerate(order):
            if place not in (0, channels) and isinstance(self.g.shape(value)[axis], int):
                pinned = self.g.pin(pinned, axis, axis + 1)
        self._pins[pinned] = value
        return pinned

    def _unpinned(self) -> dict[ir.Value | None, ir.Value]:
        """Nothing followed from the inputs' lengths: they take any. The inputs by the values that stood for them."""
        for pinned, value in self._pins.items():
            if pinned is not None and pinned is not value:
                pinned.replace_all_uses_with(value)
        return self._pins

    def _input_shape(self, node: Node, stated: tuple[int | None, ...] | None, given: tuple[int, ...] | None) -> list[int | str | None]:
        if stated is None and given is None:
            raise node.source.error(
                "the graph doesn't say the shape of this input",
                hint=f"give it as TensorFlow has it: --input {printable(node.name)}=1x224x224x3",
            )
        if given is not None and stated is not None:
            fits = len(given) == len(stated) and all(b in (None, a) for a, b in zip(given, stated, strict=True))
            if not fits:
                raise node.source.error(f"the graph says that its shape is {_shown(stated)}, not {_shown(given)}")
        if given is not None:
            return list(given)
        names = ("N", "H", "W", "C") if len(stated or ()) == 4 else ("N", *(f"{node.name}_{axis}" for axis in range(1, 16)))
        return [names[axis] if size is None else size for axis, size in enumerate((stated or ())[:16])]

    # -- branches ------------------------------------------------------------------------------------------------------

    def _switch(self, node: Node) -> Work:
        if len(node.inputs) != 2:
            raise node.source.error("a switch with other than 2 inputs")
        chosen = yield node.inputs[1]
        if isinstance(chosen, Dead | Missing):
            return chosen
        if not chosen.is_constant or chosen.array is None or chosen.array.size != 1:
            return Missing(node.source.error("which branch is taken depends on the input", hint="end before it: --output"))
        data = yield node.inputs[0]
        return [Dead(), data] if bool(chosen.array) else [data, Dead()]

    def _merge(self, node: Node) -> Work:
        if any(source is not None and source.op in _LOOPS for source in (self.graph.nodes.get(name) for name, _ in node.inputs)):
            return Missing(node.source.error("a loop, which has no form here", hint="end before it: --output"))
        flows = []
        for port in node.inputs:
            flows.append((yield port))
        alive = [(i, flow) for i, flow in enumerate(flows) if not isinstance(flow, Dead)]
        if not alive:
            return Dead()
        missing = next((flow for _, flow in alive if isinstance(flow, Missing)), None)
        if missing is not None:
            return missing
        if len(alive) > 1:
            raise node.source.error("two branches meet here, and both are taken")
        return [alive[0][1], constant(np.array(alive[0][0], np.int32))]

    # -- one operator --------------------------------------------------------------------------------------------------

    def _lower(self, node: Node, flows: Sequence[Flow]) -> list[Flow] | Dead | Missing:
        if any(isinstance(flow, Dead) for flow in flows):
            return Dead()
        missing = [flow for flow in flows if isinstance(flow, Missing)]
        kept = without_dropout(self.g, node) if any(flow.random for flow in missing) else None
        if kept is not None:
            return [self._flow(kept, node)]
        if missing:
            worst = next((flow for flow in missing if not flow.random), missing[0])
            return Missing(_joined([flow.problem for flow in missing]) if len(missing) > 1 else worst.problem, worst.random)
        facts = lowers.facts(node.op)
        if facts.random:
            return Missing(node.source.error("draws random numbers: no two runs are the same"), random=True)
        if node.op not in lowers:
            problem = UnsupportedError(f"{node.source.describe('no lowering for this operator')}")
            problem.sources = (node.source,)
            return Missing(problem)
        tensors = [flow for flow in flows if isinstance(flow, Tensor)]
        try:
            folded = self._fold(node, tensors)
            results = lowers[node.op](self.g, node, *tensors) if folded is None else folded
        except (ArithmeticError, LookupError, TypeError, ValueError) as problem:
            words = f"its attributes and inputs don't fit together ({type(problem).__name__}: {printable(problem)})"
            raise node.source.error(words) from problem
        found = [results] if isinstance(results, Tensor) else list(results)
        for number, x in enumerate(found):
            if x.value is not None and not self.g.is_absorbed_later(node):
                self.g.bind(x.value, node.name if number == 0 else f"{node.name}:{number}")
        return list(found)

    def _fold(self, node: Node, tensors: Sequence[Tensor]) -> list[Tensor] | None:
        """The operator worked out before the net runs, where its inputs are constants, or sizes."""
        facts = lowers.facts(node.op)
        if facts.fold is None or not tensors:
            return None
        if all(x.is_constant for x in tensors):
            total = sum(x.array.size for x in tensors if x.array is not None)
            if total > 1 << 28:
                return None
            with np.errstate(all="ignore"):
                made = facts.fold(self.g, node, *(x.array for x in tensors))
            arrays = made if isinstance(made, tuple) else (made,)
            origin = tensors[0].origin if facts.structural and len(arrays) == 1 else ""
            return [constant(np.asarray(array), origin) for array in arrays]
        if not facts.structural or any(x.value is not None for x in tensors):
            return None
        entries = [np.asarray(x.sizes, object) if x.sizes is not None else x.array for x in tensors]
        dtype = next(x.dtype for x in tensors if x.sizes is not None)
        try:
            made = facts.fold(self.g, node, *entries)
        except TypeError:
            return None  # an operation that has no form for sizes: it is done when the net runs
        arrays = made if isinstance(made, tuple) else (made,)
        return [sizes(np.asarray(array, object), dtype) for array in arrays]


def _shown(shape: Sequence[int | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "()"


def _joined(problems: Sequence[ConversionError]) -> ConversionError:
    """One error of several; operators that nobody knows are named together."""
    unknown = {source: None for problem in problems if isinstance(problem, UnsupportedError) for source in problem.sources}
    if not unknown:
        return problems[0]
    if len(unknown) == 1:
        return next(problem for problem in problems if isinstance(problem, UnsupportedError))
    kinds = Counter(source.type for source in unknown)
    listed = ", ".join(f"{printable(kind)} ({count})" if count > 1 else printable(kind) for kind, count in kinds.most_common())
    first = next(iter(unknown))
    joined = UnsupportedError(
        f"{first.describe(f'no lowering for {len(kinds)} types of operators: {listed}')}",
        hint="register one with @lowers(type), or end the graph before them with --output",
    )
    joined.sources = tuple(unknown)
    return joined
