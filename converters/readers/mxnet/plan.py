"""What of a net doesn't depend on its batch: the nodes that inference needs, its parameters and inputs, module paths."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from converters.errors import ConversionError, Source, printable, unsupported
from converters.graph.names import Names, identifier, mend_names
from converters.readers.mxnet.attributes import parse
from converters.readers.mxnet.axes import BATCH, open_axes
from converters.readers.mxnet.pairing import by_structure, other_prefix
from converters.readers.mxnet.parameter import ROLES, Label, Parameter, Place, module_of, spellings
from converters.readers.mxnet.params import Params
from converters.readers.mxnet.signature import Slot, lowers, signature
from converters.readers.mxnet.symbol import Node, Symbol

GLUON_MARKS = ("__lr_mult__", "__wd_mult__", "__storage_type__")
"""Attributes that gluon writes on variables that are parameters, and on no others."""


def live_nodes(symbol: Symbol, ends: Iterable[int]) -> list[Node]:
    """The nodes that inference needs: those that the ends reach other than through labels. Raises UnsupportedError."""
    unknown: list[Source] = []
    needed = set(ends)
    for node in reversed(symbol.order):
        if node.index not in needed or node.is_variable:
            continue
        unknown += [inner.source for inner in reversed(_with_inner(node)) if inner.op not in lowers]
        needed.update(_inputs(node))
    if unknown:
        raise unsupported(reversed(unknown), "mxnet")
    return [node for node in symbol.order if node.index in needed]


def _with_inner(node: Node) -> list[Node]:
    """An operator and those of the graphs that it holds."""
    inner = [found for graph in node.subgraphs for held in graph.order if not held.is_variable for found in _with_inner(held)]
    return [node, *inner]


def _inputs(node: Node) -> Iterator[int]:
    """The nodes that an operator takes, other than as labels."""
    described = signature(node.op) if node.op in lowers else None
    for position, (number, _) in enumerate(node.inputs):
        slot = described.slot(position) if described is not None else None
        if described is None or (slot is not None and slot.role is not Label):
            yield number


def _labels(node: Node) -> Iterator[int]:
    """The nodes that an operator takes as labels."""
    described = signature(node.op) if node.op in lowers else None
    for position, (number, _) in enumerate(node.inputs):
        slot = described.slot(position) if described is not None else None
        if slot is not None and slot.role is Label:
            yield number


def inner_ends(symbol: Symbol, names: Sequence[str]) -> list[tuple[str, Node]]:
    """The operators whose outputs are asked for, by name: `relu1`, `relu1_output`, `rnn_state_output`; [] where one isn't found."""
    by_name = {node.name: node for node in symbol.order if not node.is_variable}
    found = []
    for name in names:
        parts = name.split("_")
        heads = ("_".join(parts[:count]) for count in range(len(parts), 0, -1))
        node = next((by_name[head] for head in heads if head in by_name), None)
        if node is None:
            return []
        found.append((name, node))
    return found


def without_labels(symbol: Symbol, is_label: Callable[[Node], bool]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The heads that can be answered without labels, and those that need some; all are kept where each needs one."""
    tainted: set[int] = set()
    for node in symbol.order:
        if is_label(node) if node.is_variable else any(number in tainted for number in _inputs(node)):
            tainted.add(node.index)
    kept = [head for head in symbol.heads if head[0] not in tainted]
    return (kept, [head for head in symbol.heads if head[0] in tainted]) if kept else (list(symbol.heads), [])


def inner_users(node: Node, position: int) -> list[tuple[Node, Slot]]:
    """The operators of the graphs that a node holds that take one of its inputs, and where."""
    found: list[tuple[Node, Slot]] = []
    for graph, names in zip(node.subgraphs, lowers.facts(node.op).graphs, strict=False):
        numbers: list[int] = []
        for name in names:
            with contextlib.suppress(ValueError):  # which the lowering finds out
                numbers += parse(node.attributes.get(name, "()"), tuple[int, ...])
        # _foreach says which argument its inputs are, the others which input their arguments are
        arguments = numbers[position : position + 1] if node.op == "_foreach" else [k for k, at in enumerate(numbers) if at == position]
        for argument in arguments:
            if 0 <= argument < len(graph.arguments):
                found += _users_of(graph, graph.arguments[argument])
    return found


def _users_of(graph: Symbol, variable: int) -> list[tuple[Node, Slot]]:
    found: list[tuple[Node, Slot]] = []
    for node in graph.order:
        described = signature(node.op) if node.op in lowers and not node.is_variable else None
        for position, (number, _) in enumerate(node.inputs):
            slot = described.slot(position) if described is not None else None
            if number == variable and slot is not None:
                found += inner_users(node, position) if node.subgraphs else [(node, slot)]
    return found


class Plan:
    """The live nodes of a symbol, which arrays of the file are whose, the inputs' shapes, the module of every operator.

    inputs: shapes by name; "" stands for the only input without a shape. outputs: what the net shall end in instead of its heads.
    shapes_only: parameters that no file has are no error, their shapes are those that operators ask for. Raises ConversionError.
    """

    def __init__(
        self,
        symbol: Symbol,
        params: Params,
        inputs: Mapping[str, Sequence[int]] | None = None,
        outputs: Sequence[str] = (),
        *,
        shapes_only: bool = False,
    ) -> None:
        self.symbol, self.params, self.shapes_only = symbol, params, shapes_only
        self.inner = inner_ends(symbol, outputs)
        """The operators that the net shall end in, by the name that was asked for."""
        marked = {number for node in symbol.order for number in _labels(node)}
        self.heads, self.left_out = without_labels(symbol, lambda v: v.index not in marked and self._is_label(v, inputs or {}))
        """The heads that are answered, and those that can't be, for want of labels."""
        self.live = live_nodes(symbol, [node.index for _, node in self.inner] or [number for number, _ in self.heads])
        self.variables = [node for node in self.live if node.is_variable]
        self.in_graphs = {self.symbol.nodes[number].name for node in self.live if node.subgraphs for number, _ in node.inputs}
        """Variables that graphs in nodes use."""
        self.users = self._users()
        self._owners = {(number, user.index) for number, uses in self.users.items() for user, slot in uses if slot.role is Parameter}
        self.notes: list[str] = []
        """What the user should know of how this was found out."""
        self.stored = self._stored()
        """The name in the file of each variable that has an array there."""
        self.training_labels: set[int] = set()
        """Variables that a head takes for labels and the net computes with too (margins that only training adds)."""
        self.shapes = self._input_shapes(dict(inputs or {}))
        self.axes = {
            name: {axis + len(self.shapes[name]) * (axis < 0): kind for axis, kind in axes.items()}
            for name, axes in open_axes(symbol, lambda op: lowers.facts(op).sequences, lambda op: lowers.facts(op).axes).items()
            if name in self.shapes
        }
        """Which axes of the inputs are time and batch, where recurrent operators tell."""
        self.modules: dict[int, str] = {}
        """Module path of each operator, by its number."""
        self.places: dict[str, Place] = {}
        """Where each stored parameter comes from and goes to, by its variable's name."""
        self._name_modules()
        types = {params.records[self.stored[n.name]].dtype for n in self.variables if n.name in self.stored}
        self.type = np.dtype(np.float64 if {dtype.newbyteorder("=") for dtype in types} == {np.dtype(np.float64)} else np.float32)

    def _users(self) -> dict[int, list[tuple[Node, Slot]]]:
        """The operators that take each variable, and where."""
        users: dict[int, list[tuple[Node, Slot]]] = {}
        for node in self.live:
            if node.is_variable:
                continue
            described = signature(node.op)
            for position, (number, _) in enumerate(node.inputs):
                slot = described.slot(position)
                if slot is None or not self.symbol.nodes[number].is_variable:
                    continue
                inner = inner_users(node, position) if node.subgraphs else [(node, slot)]
                users.setdefault(number, []).extend(inner)
        return users

    def _stored(self) -> dict[str, str]:
        """Variables whose array is in the file, under their own name or with the other framework's word (moving_mean, running_mean)."""
        names = {node.name for node in self.variables}
        found: dict[str, str] = {}
        for name in names:
            other = next((spelling for spelling in spellings(name) if spelling in self.params and spelling not in names), None)
            if name in self.params:
                found[name] = name
            elif other is not None:
                found[name] = other
        return found or self._paired()

    def _paired(self) -> dict[str, str]:
        """Names in the file where it has none of the symbol's: another prefix, or gluon's structural names."""
        parameters = list({node.name: node for node in self.variables if self._is_parameter(node)}.values())
        how = "another prefix"
        pairs = other_prefix([node.name for node in parameters], self.params)
        if not pairs:
            how, pairs = "names by structure, which are paired by kind, shape and order", by_structure(parameters, self.params)
        if pairs:
            first = parameters[0].name
            example = f"'{printable(first)}' is '{printable(pairs[first])}'"
            self.notes.append(f"{printable(self.params.path, 400)}: the parameters have {how}: {example}; compare the answers")
        return pairs

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _is_label(self, node: Node, given: Mapping[str, Sequence[int]]) -> bool:
        """Whether a variable is a label that training alone has: by its name, where nothing else is known of it."""
        stored = node.name in self.params or any(name in self.params for name in spellings(node.name))
        return node.name.endswith("label") and not stored and node.name not in given

    def _input_shapes(self, given: dict[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        """Shapes of the net's inputs, in MXNet's order of arguments."""
        every = {node.name for node in self.symbol.order if node.is_variable}
        strange = [name for name in given if name and (name not in every or name in self.stored)]
        shapes: dict[str, tuple[int, ...]] = {}
        missing: list[Node] = []
        unshaped: list[Node] = []
        for node in self.variables:
            if node.name in shapes or node.name in self.stored:
                continue
            if node.name in given:
                shapes[node.name] = _checked(node.name, given[node.name])
            elif any(slot.role is Label for _, slot in self.users.get(node.index, ())):
                self.training_labels.add(node.index)
            elif self._is_parameter(node):
                missing.append(node)
            elif stated := self._stated_shape(node):
                shapes[node.name] = stated
            else:
                unshaped.append(node)
        if missing and not self.shapes_only:
            raise self._missing(missing)
        unshaped = list({node.name: node for node in unshaped}.values())
        if strange:
            known = [*shapes, *(node.name for node in unshaped)]
            name = printable(strange[0])
            raise ConversionError(
                f"'{name}' is a parameter, which {self.params.base} holds" if strange[0] in self.stored else f"there is no input '{name}'",
                path=self.symbol.path,
                hint=f"the inputs are {', '.join(map(printable, known)) or 'none'}",
            )
        if "" in given:
            target = self._only_input(unshaped, shapes)
            shapes[target] = _checked(target, given[""])
            unshaped = [node for node in unshaped if node.name != target]
        if unshaped:
            raise self._unshaped(unshaped, [name for name in given if name in self.stored])
        return {node.name: shapes[node.name] for node in self.variables if node.name in shapes}

    def _only_input(self, unshaped: Sequence[Node], shapes: Mapping[str, tuple[int, ...]]) -> str:
        """The input that a shape without a name belongs to. Raises ConversionError where several could be meant."""
        candidates = [node.name for node in unshaped] or list(shapes)
        if len(candidates) != 1:
            names = ", ".join(map(printable, candidates)) or "none"
            raise ConversionError(
                "a shape without a name is for a net of one input",
                path=self.symbol.path,
                hint=f"say which it is for; the inputs are {names}",
            )
        return candidates[0]

    def _is_parameter(self, node: Node) -> bool:
        """Whether a variable without an array must be a parameter: by its slot, by its name, or by what gluon writes on it."""
        slots = [slot for _, slot in self.users.get(node.index, ())]
        return any(slot.role is Parameter for slot in slots) or bool(module_of(node.name)) or any(m in node.attributes for m in GLUON_MARKS)

    def _missing(self, nodes: Sequence[Node]) -> ConversionError:
        words = []
        for node in {node.name: node for node in nodes}.values():
            slots = [(user, slot) for user, slot in self.users.get(node.index, ()) if slot.role is Parameter]
            role = f" (the {slots[0][1].name} of operator '{printable(slots[0][0].name)}' ({printable(slots[0][0].op)}))" if slots else ""
            words.append(f"'{printable(node.name)}'{role}")
        found = "" if self.params.named else f" ({self.params.base} holds {len(self.params)} arrays without names)"
        return ConversionError(
            f"{len(words)} of the net's parameters are missing{found}: {', '.join(words[:10])}" + (", ..." if len(words) > 10 else ""),
            path=self.params.path,
            hint=f"is it the file that belongs to {self.symbol.base}? (it holds {_names(self.params)})",
        )

    def _unshaped(self, nodes: Sequence[Node], parameters: Sequence[str]) -> ConversionError:
        wanted = [printable(node.name) for node in nodes]
        example = self._example_shape(nodes[0])
        return ConversionError(
            f"an MXNet symbol doesn't say the shapes of its inputs: give them for {', '.join(map(repr, wanted))}: "
            f"inputs={{'{wanted[0]}': {example}}}, or --input {wanted[0]}={'x'.join(map(str, example))}",
            path=self.symbol.path,
            hint=f"'{printable(parameters[0])}', for which one is given, is a parameter in {self.params.base}" if parameters else None,
        )

    def _example_shape(self, node: Node) -> tuple[int, ...]:
        """A shape that the input might have: as many channels as the first layer's weight takes."""
        for user, _ in self.users.get(node.index, ()):
            weight = self.stored.get(self.symbol.nodes[user.inputs[1][0]].name) if len(user.inputs) > 1 else None
            shape = self.params.records[weight].shape if weight is not None else ()
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

    def batch_axis(self, name: str) -> int:
        """The axis of an input that is the batch."""
        axes = self.axes.get(name, {})
        return next((axis for axis, kind in axes.items() if kind == BATCH and axis < len(self.shapes[name])), 0)

    # -- modules -----------------------------------------------------------------------------------------------------

    def _name_modules(self) -> None:
        """Finds the module of each operator and of each stored parameter."""
        prefixes: dict[int, str] = {}
        owners: dict[str, str] = {}
        names = Names()
        for node in self.live:
            if node.is_variable:
                continue
            own = [name for name in map(self._variable, node.inputs) if self._is_owned(name, node)]
            bases = {module_of(name) for name in own}
            prefix = (bases.pop() if len(bases) == 1 and "" not in bases else node.name) or "unnamed"
            if own and all(name in owners for name in own):  # the same module, called again
                prefix = owners[own[0]]
            elif own:
                prefix = names.free(prefix)
            names.add(prefix)
            prefixes[node.index] = prefix
            for name in own:
                owners.setdefault(name, prefix)
        alone = {n.name: n.index for n in self.variables if n.name in self.stored and n.name not in owners}
        mended = mend_names([*prefixes.values(), *alone])
        self.modules = {index: mended[prefix] for index, prefix in prefixes.items()}
        self.places = {name: Place(self.stored.get(name, name), self.params.base, mended[prefix]) for name, prefix in owners.items()}
        roles = Names(mended.values())
        module_names: dict[str, str] = {}
        for name, index in alone.items():
            users = (user for user, _ in self.users.get(index, ()))
            owner = next((user for user in users if user.name and name.startswith(user.name + "_")), None)
            if name in self.in_graphs and module_of(name):  # of a graph that a node holds
                module = module_names.setdefault(module_of(name), roles.free(identifier(module_of(name))))
                role = ROLES[name[len(module_of(name)) + 1 :]]
            elif owner is not None:  # `up_weight` of the operator `up`
                module, role = self.modules[owner.index], identifier(name[len(owner.name) + 1 :])
            else:
                module, role = "", roles.free(mended[name]) if name in names else mended[name]
            self.places[name] = Place(self.stored[name], self.params.base, module, role)

    def place(self, variable: str, module: str = "") -> Place:
        """Where a variable's array comes from and goes to; by default, to a parameter of its own name."""
        own = "" if module else variable
        return self.places.get(variable) or Place(self.stored.get(variable, variable), self.params.base, module, own)

    def _variable(self, entry: tuple[int, int]) -> str:
        return self.symbol.nodes[entry[0]].name

    def _is_owned(self, name: str, node: Node) -> bool:
        """Whether a stored array belongs to an operator: where it is a Parameter of it."""
        if name not in self.stored and not (self.shapes_only and name not in self.shapes):
            return False
        numbers = [number for number, _ in node.inputs if self.symbol.nodes[number].name == name]
        return any((number, node.index) in self._owners for number in numbers)


def _checked(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape that was given. Raises ConversionError for one that is none."""
    sizes = tuple(int(d) for d in shape)
    if min(sizes, default=1) < 1:
        raise ConversionError(f"input '{printable(name)}': shape {sizes} isn't a shape of sizes of at least 1")
    return sizes


def _names(params: Params) -> str:
    names = [printable(name, 60) for name in list(params)[:5]]
    return (", ".join(names) + (", ..." if len(params) > 5 else "")) or "no arrays"
