"""GraphBuilder: how every reader makes the common intermediate graph, an onnx_ir.Model.

The rules that it keeps, so that no lowering has to:

- an initializer's name is its state_dict key (`conv1.weight`), its prefix the module path; a name is given once;
- small constants (shapes, scalars) are Constant nodes and no part of the state_dict; large ones become initializers;
- every node says where it came from (graph/provenance.py) and to which module it belongs;
- every value's type and shape is known as soon as it is emitted, by ONNX's own inference for that operator;
- shapes are integers, the symbolic batch "N" (or another string), or None where ONNX can't tell.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx.checker
import onnx.defs
import onnx.helper
import onnx.shape_inference
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import ConversionError, Source, printable, user_code
from converters.graph.inference import attribute, check_channels, data_type, drop_defaults, infer
from converters.graph.names import Names, identifier
from converters.graph.passes import order_initializers, remove_unused
from converters.graph.provenance import BUFFER, CHANNELS, GIVEN, ORIGINAL_NAME, note_source
from converters.packages import __version__

OPSET = 19
"""The operator set that graphs are written in: the newest that onnxruntime 1.16 reads, the first to define ceil_mode averages."""
IR_VERSION = 9
"""The file format version that goes with it."""
LARGEST_CONSTANT = 1 << 26
"""Elements of the largest constant that a lowering makes of a few numbers of a file."""
INLINE_LIMIT = 64
"""Constants of more elements than this become initializers (buffers of the module), not Constant nodes."""

WARNINGS = "converters.warnings"
"""Key of a model's `meta` (which no file keeps): the warnings of its conversion."""
ALIASES = "converters.aliases"
"""Key of a model's `meta`: further names that the source has for values, by which `--output` finds them."""

Dim = int | str | None
Operand = ir.Value | NDArray[Any] | float | int | Sequence[int] | None
Result = TypeVar("Result")


@dataclass(frozen=True)
class Extent:
    """The length n of a value's axis as it is when the net runs, for `reshape` and `sizes`: another image size has another.

    Or what follows from it: (n + before) // over * times + plus.
    """

    value: ir.Value
    axis: int
    before: int = 0
    over: int = 1
    times: int = 1
    plus: int = 0

    def of(self, length: int) -> int:
        """The number for an axis of this length."""
        return (length + self.before) // self.over * self.times + self.plus

    def beside(self, other: object, steps: int) -> bool:
        """Whether another one is the same of an axis so many steps further on."""
        return other == replace(self, axis=self.axis + steps)


class SymbolicDimensionError(Exception):
    """A lowering needs the number behind a symbolic dimension. source: the layer that does; see `with_open_batch`.

    symbols: the names whose numbers would do, as far as they are known.
    """

    source: Source | None = None
    symbols: tuple[str, ...] = ()
    is_exact: bool = False
    """Whether runtimes would go on with another length, by broadcasting: they have to be told to refuse it."""


def with_open_batch(lower: Callable[[SymbolicDimensionError | None], Result]) -> Result:
    """Calls lower(None), for a graph whose first axis is open; where a layer needs its number, lower(problem), for one where it is closed.

    `lower` hands its argument on as `GraphBuilder(..., closed=...)`, which then warns and names the layer. Raises ConversionError where
    a dimension that stays symbolic even so is needed.
    """
    try:
        return lower(None)
    except SymbolicDimensionError as problem:
        closed = problem  # the number is needed: below, it is known
    try:
        return lower(closed)
    except SymbolicDimensionError as problem:
        message = f"{problem}, which is known only when the net runs; this net needs it before"
        raise (problem.source.error(message) if problem.source else ConversionError(message)) from problem


class GraphBuilder:
    """Builds one graph, node by node.

    symbolic_batch: make the first axis of every input symbolic ("N"). closed: why an attempt with a symbolic one was given up; the
    first axis then stays a number, and a warning names the layer that needs it. dynamic: labels of further axes that stay open.
    """

    def __init__(
        self,
        name: str,
        *,
        symbolic_batch: bool = False,
        closed: SymbolicDimensionError | None = None,
        dynamic: Mapping[tuple[str, int], str] | None = None,
    ) -> None:
        self.symbolic_batch = symbolic_batch and closed is None
        self.closed_symbols: frozenset[str] = frozenset()
        """Symbols that inputs may not have: their axes stay numbers."""
        self.given: dict[str, int] = {}
        """Numbers that were given for symbolic dimensions."""
        self.warnings: dict[str, None] = {}
        """What the user should know of this conversion, in order; `load` issues it once, for the attempt that succeeds."""
        self._root = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name)
        self._graph = self._root
        """Where nodes go: the root, or the body of a loop that is being made."""
        self._outer: list[tuple[ir.Graph, dict[tuple[str, tuple[int, ...], bytes], ir.Value]]] = []
        self._names = Names()
        self._roles: dict[str, int] = {}  # the number behind a parameter's role that was free last
        self._bound: dict[str, ir.Value] = {}
        self._aliases: dict[str, ir.Value] = {}
        self._source: Source | None = None
        self._path = ""
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._batch: int | None = None
        self._closed = closed
        self._dynamic = dict(dynamic or {})

    # -- where we are ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def at(self, source: Source, path: str = "") -> Iterator[None]:
        """Nodes emitted inside come from `source` and belong to the module `path` (`conv1`, `4.0.1`)."""
        before = self._source, self._path
        self._source, self._path = source, path
        try:
            yield
        except SymbolicDimensionError:
            raise
        except ConversionError as problem:
            if problem.counts is not None and not problem.images:
                problem.images = self._given_shapes()
            raise
        except Exception as problem:
            place = user_code(problem)
            if place is None:  # a mistake of this package
                raise
            raise self.error(f"its lowering fails in {place}: {type(problem).__name__}: {printable(problem, 300)}") from problem
        finally:
            self._source, self._path = before

    def _given_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the inputs so far, in numbers; those of which one isn't known are left out."""
        shapes = {str(v.name): [self.given.get(d, d) if isinstance(d, str) else d for d in self.shape(v)] for v in self._graph.inputs}
        known = {name: tuple(d for d in dims if isinstance(d, int)) for name, dims in shapes.items()}
        return {name: dims for name, dims in known.items() if len(dims) == len(shapes[name])}

    @property
    def path(self) -> str:
        """The module path in force, the prefix of the keys of its parameters."""
        return self._path

    @property
    def source(self) -> Source | None:
        return self._source

    def error(self, message: str) -> ConversionError:
        """A ConversionError that says where we are."""
        return self._source.error(message) if self._source else ConversionError(message)

    def warn(self, message: str) -> None:
        """Keeps a warning about where we are."""
        self.warnings.setdefault(self._source.describe(message) if self._source else message)

    # -- values ------------------------------------------------------------------------------------------------------

    def input(self, name: str, shape: Sequence[Dim], dtype: Any = np.float32, *, batch_axis: int = 0) -> ir.Value:
        """A graph input, its open axes symbolic: that of the batch "N", or "N_<name>" where its length differs from the others'."""
        dims = list(shape)
        size = dims[batch_axis] if batch_axis < len(dims) else None
        if isinstance(size, int):
            self._batch = size if self._batch is None else self._batch
            if self.symbolic_batch:
                dims[batch_axis] = "N" if size == self._batch else f"N_{identifier(name)}"
        for axis, size in enumerate(shape):
            dims[axis] = self._dynamic.get((name, axis), self._dynamic.get(("", axis), dims[axis]))
            symbol = dims[axis] = size if dims[axis] in self.closed_symbols else dims[axis]
            if isinstance(symbol, str) and isinstance(size, int):
                self.given[symbol] = size
        value = ir.Value(name=self._names.free(name), shape=ir.Shape(dims), type=ir.TensorType(data_type(dtype)))
        self._root.inputs.append(value)
        return value

    def state_input(self, name: str, shape: Sequence[Dim], like: ir.Value) -> ir.Value:
        """A graph input of just this shape and another value's type: what a net carries from one call to the next."""
        if self._graph is not self._root:
            raise self.error("its state can't be an input: it starts anew in each step of an outer sequence")
        value = ir.Value(name=self._names.free(name), shape=ir.Shape(list(shape)), type=like.type)
        self._root.inputs.append(value)
        return value

    def param(self, role: str, array: Any, *, path: str | None = None, original: str | None = None, buffer: bool = False) -> ir.Value:
        """An initializer `path.role` (path: the module path in force), kept as the view it is.

        role: torch's word (weight, bias, running_mean ...). original: the name in the source file. buffer: no gradient belongs
        to it. Raises ValueError for a key that is taken: a layer that shares parameters reuses the value.
        """
        where = self._path if path is None else path
        key = f"{where}.{role}" if where else role
        if key in self._root.initializers or key in self._names:
            raise ValueError(f"a parameter or value named {key!r} exists already")
        self._names.add(key)
        if isinstance(array, np.ndarray) and array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        # isinstance of a protocol takes 30 us: an array is told first
        tensor = array if not isinstance(array, np.ndarray) and isinstance(array, ir.TensorProtocol) else ir.Tensor(array, name=key)
        value = ir.Value(name=key, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
        if original:
            value.metadata_props[ORIGINAL_NAME] = original
        if buffer:
            value.metadata_props[BUFFER] = "1"
        self._root.register_initializer(value)
        return value

    def free_role(self, role: str, path: str | None = None) -> str:
        """The role, or with a number behind it where the module (path: the one in force) has such a parameter already."""
        where = self._path if path is None else path
        start = f"{where}.{role}" if where else role
        count = self._roles.get(start, 0)
        while (f"{start}_{count}" if count else start) in self._names:
            count += 1
        self._roles[start] = count
        return f"{role}_{count}" if count else role

    def const(self, array: Any, dtype: Any = None, *, role: str = "constant") -> ir.Value:
        """A constant: a Constant node where it is small, else a buffer `path.role` of the module in force."""
        data = np.ascontiguousarray(array, dtype=dtype)
        data = data.reshape(np.shape(array))
        if data.size > INLINE_LIMIT:
            return self.param(self.free_role(role), data, buffer=True)
        key = (data.dtype.str, data.shape, data.tobytes())
        if key not in self._constants:
            name = self._names.free("constant")
            tensor = ir.Tensor(data, name=name)
            value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
            self._graph.append(ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], outputs=[value], name=name))
            self._constants[key] = value
        return self._constants[key]

    def emit(
        self, op_type: str, *operands: Operand, name: str | None = None, shape: Sequence[Dim] | None = None, **attributes: Any
    ) -> ir.Value:
        """Appends a node with one output and returns it.

        operands: Values; or numpy arrays, and lists of int (int64), which become constants; or Python numbers, constants of the
        dtype of the first Value that isn't bool; or None for an optional input that is left out. shape: the output's, where
        the lowering knows more than ONNX's inference. Attributes are ONNX's; those that say what ONNX assumes anyway aren't written.
        Raises ConversionError where ONNX's inference finds the inputs unfit, or for an operator or attribute that ONNX doesn't have.
        """
        (value,) = self.emit_all(op_type, *operands, outputs=1, name=name, shape=shape, **attributes)
        return value

    def emit_all(
        self,
        op_type: str,
        *operands: Operand,
        outputs: int,
        name: str | None = None,
        shape: Sequence[Dim] | None = None,
        **attributes: Any,
    ) -> tuple[ir.Value, ...]:
        """As `emit`, for a node with several outputs. shape: the first one's."""
        # a number is no condition: Where(condition, 1.0, x) takes x's type
        typed = (o for o in operands if isinstance(o, ir.Value) and o.dtype is not None and o.dtype != ir.DataType.BOOL)
        first = next(typed, None)
        inputs = [self._operand(o, first) for o in operands]
        while inputs and inputs[-1] is None:
            inputs.pop()  # readers of ONNX, and onnxruntime's fusions, stumble over empty inputs at the end
        base = name or (f"{self._path}_{op_type}" if self._path else op_type)
        values = tuple(ir.Value(name=self._names.free(base)) for _ in range(outputs))
        given = [attribute(key, value) for key, value in attributes.items() if value is not None]
        node = ir.Node("", op_type, inputs, given, outputs=values, name=values[0].name)
        note_source(node, self._source, self._path)
        try:
            drop_defaults(node, OPSET)
            check_channels(node)
            infer(node, OPSET)
        except onnx.defs.SchemaError as problem:
            raise self.error(f"ONNX {OPSET} has no operator {op_type!r}") from problem
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError) as problem:
            shapes = ", ".join("-" if v is None else str(self.shape(v)) for v in inputs)
            reason = re.sub(r"^(\[\w+\]\s*|\(op_type:[^)]*\):?\s*)+", "", str(problem)).strip()
            raise self.error(f"{op_type} doesn't fit inputs of shapes {shapes}: {reason}") from problem
        if shape is not None:
            self._refine(values[0], shape)
        self._graph.append(node)
        return values

    def reshape(self, x: ir.Value, dims: Sequence[Dim | Extent], *, absolute: bool = False) -> ir.Value:
        """x in another shape: numbers, extents, symbols of x's shape, and None for one dimension that is whatever is left.

        What stays where it is is copied, and what flattens all but the first axis is a Flatten, so that another batch or size gives the
        right answer or the runtime's own error, never another batch. absolute: numbers mean just these, whatever the size of x will be.
        Raises SymbolicDimensionError where that can't be said without numbers.
        """
        before = self.shape(x)
        shape = _with_rest(before, [self._length(d) for d in dims])
        if shape == before and None not in shape and not absolute:
            return x
        entries: list[int | Extent] = []
        for axis, (dim, length) in enumerate(zip(dims, shape, strict=True)):
            stays = dim == Extent(x, axis) if isinstance(dim, Extent) else isinstance(length, str) and before[axis : axis + 1] == (length,)
            entries.append(0 if stays else dim if isinstance(dim, int | Extent) else -1)
        if (
            len(entries) == 2
            and len(before) > 2
            and entries[0] == 0
            and (entries[1] == -1 or (shape[1] == _count(before[1:]) and not absolute))
        ):
            return self.emit("Flatten", x, axis=1, shape=shape)
        if entries.count(-1) > 1:
            self.fixed(x)
        return self.emit("Reshape", x, self.sizes(entries), shape=shape)

    def flatten(self, x: ir.Value, axis: int) -> ir.Value:
        """x as a matrix: the axes before `axis` by those from it on, whatever their lengths."""
        before = self.shape(x)
        if len(before) == 2 and axis == 1:
            return x
        rows: Dim = before[0] if axis == 1 else _count(before[:axis])
        return self.emit("Flatten", x, axis=axis, shape=[rows, _count(before[axis:])])

    def extents(self, x: ir.Value, start: int = 0, stop: int | None = None) -> list[Extent]:
        """The lengths of x's axes start..stop, as they are when the net runs."""
        return [Extent(x, axis) for axis in range(self.rank(x))[start:stop]]

    def sizes(self, dims: Sequence[int | Extent]) -> ir.Value | list[int]:
        """Numbers and extents as one int64 operand: a constant, or joined from the shapes that they are part of."""
        numbers = [d for d in dims if isinstance(d, int)]
        if len(numbers) == len(dims):
            return numbers
        parts: list[ir.Value] = []
        at = 0
        while at < len(dims):
            first, end = dims[at], at + 1
            if isinstance(first, Extent):
                while end < len(dims) and first.beside(dims[end], end - at):
                    end += 1
                parts.append(self._lengths(first, end - at))
            else:
                while end < len(dims) and not isinstance(dims[end], Extent):
                    end += 1
                parts.append(self.const(np.array(dims[at:end], np.int64)))
            at = end
        return parts[0] if len(parts) == 1 else self.emit("Concat", *parts, axis=0)

    def _lengths(self, extent: Extent, count: int) -> ir.Value:
        """An extent and those of the next axes, as one int64 value."""
        y = self.emit("Shape", extent.value, start=extent.axis, end=extent.axis + count)
        for op_type, number, nothing in (
            ("Add", extent.before, 0),
            ("Div", extent.over, 1),
            ("Mul", extent.times, 1),
            ("Add", extent.plus, 0),
        ):
            y = self.emit(op_type, y, number) if number != nothing else y
        return y

    def pin(self, x: ir.Value, start: int = 2, stop: int | None = None) -> ir.Value:
        """x, whose axes start..stop must be as long as they are here when the net runs: runtimes refuse others. Costs a copy."""
        for axis, size in enumerate(self.fixed(x, start, stop), start):
            x = self.emit("Split", x, [size], axis=axis)
        return x

    def _length(self, dim: Dim | Extent) -> Dim:
        if not isinstance(dim, Extent):
            return dim
        length = self.shape(dim.value)[dim.axis]
        return dim.of(length) if isinstance(length, int) else length if dim == Extent(dim.value, dim.axis) else None

    def bind(self, value: ir.Value, name: str) -> None:
        """Gives a value its source's name (Caffe: the blob's). The last value of a name has it; a value that has one keeps that."""
        producer = value.producer()
        if not name or producer is None or producer.op_type == "Constant" or value.is_graph_output():
            return
        if self._bound.get(str(value.name)) is value:
            self.alias(value, name)
            return
        if name in self._names:
            older = self._bound.pop(name, None)
            if older is None:  # an input's, a parameter's or an unbound value's name
                name = self._names.free(name)
            else:
                older.name = self._names.free(f"{name}_{older.producer().op_type}" if older.producer() else name)  # type: ignore[union-attr]
        self._names.add(name)
        value.name = name
        self._bound[name] = value

    def alias(self, value: ir.Value, name: str) -> None:
        """Another name of the source's for a value: `--output` finds it by this one too. The last value of a name has it."""
        self._aliases[name] = value

    def check_table(self, *sizes: int) -> None:
        """Raises ConversionError where a constant of these sizes would be larger than any net's: the file decides them."""
        if math.prod(sizes) > LARGEST_CONSTANT:
            raise self.error(f"a table of {' x '.join(map(str, sizes))} numbers would be needed; at most {LARGEST_CONSTANT} are made")

    def cast(self, value: ir.Value, dtype: Any) -> ir.Value:
        """The value in another type; itself where it has that type."""
        wanted = ir.DataType.from_numpy(np.dtype(dtype))
        if value.dtype == wanted:
            return value
        return self.emit("Cast", value, to=wanted.value)

    def identity(self, value: ir.Value, name: str | None = None) -> ir.Value:
        return self.emit("Identity", value, name=name)

    def output(self, value: ir.Value, name: str) -> ir.Value:
        """Makes the value a graph output of exactly this name (through an Identity where it is an input, parameter or output already)."""
        producer = value.producer()
        if producer is None or value.is_graph_output() or producer.op_type == "Constant":
            value = self.identity(value)
        if value.name != name:
            if name in self._names:
                self._release(name)
            value.name = name
            self._names.add(name)
        self._root.outputs.append(value)
        return value

    def finish(self) -> ir.Model:
        """The model, its dead nodes and unused initializers removed (every graph input stays), initializers in node order."""
        if self._closed is not None and self._batch is not None:
            message = f"{self._closed}, so the converted net takes inputs of the given first size ({self._batch}) alone"
            self.warnings.setdefault(self._closed.source.describe(message) if self._closed.source else message)
        model = ir.Model(self._root, ir_version=IR_VERSION, producer_name="converters", producer_version=__version__)
        model.meta[WARNINGS] = tuple(self.warnings)
        model.meta[ALIASES] = self._aliases
        model.meta[GIVEN] = dict(self.given)
        remove_unused(model)
        order_initializers(model)
        return model

    def dropout(self, x: ir.Value, ratio: float, *, channels: bool = False) -> ir.Value:
        """A Dropout, which training has; evaluation, and an ONNX file, have x. channels: it drops whole channels of (N, C, ...)."""
        if not 0 < ratio <= 1:
            return x
        y = self.emit("Dropout", x, np.array(ratio, np.float32))
        producer = y.producer()
        if channels and producer is not None:
            producer.metadata_props[CHANNELS] = "1"
        return y

    # -- loops -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def body(self) -> Iterator[ir.Graph]:
        """Nodes emitted inside go into the body of a loop, for `scan`; parameters stay the model's, and outer values can be read."""
        self._outer.append((self._graph, self._constants))
        self._graph, self._constants = ir.Graph([], [], nodes=[], name=self._names.free("body")), {}
        try:
            yield self._graph
        finally:
            self._graph, self._constants = self._outer.pop()

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Nodes emitted inside go before the loop whose body is being made."""
        inner, constants = self._graph, self._constants
        self._graph, self._constants = self._outer.pop()
        try:
            yield
        finally:
            self._outer.append((self._graph, self._constants))
            self._graph, self._constants = inner, constants

    def extent_of(self, symbol: str) -> Extent | None:
        """Where an input of the model has a symbolic dimension of this name."""
        for value in self._root.inputs:
            if symbol in (dims := self.shape(value)):
                return Extent(value, dims.index(symbol))
        return None

    def zeros(self, shape: Sequence[Dim], like: ir.Value) -> ir.Value:
        """Zeros of another value's type. Raises SymbolicDimensionError for a dimension that isn't one of an input either."""
        dims: list[int | Extent] = []
        for dim in shape:
            found = dim if isinstance(dim, int) else None if dim is None else self.extent_of(dim)
            if found is None:
                raise self.needs_number(f"needs a size that is {'unknown' if dim is None else dim}")
            dims.append(found)
        nothing = np.zeros([], like.dtype.numpy() if like.dtype is not None else np.float32)
        return self.emit("Expand", nothing, self.sizes(dims), shape=shape)

    def body_input(self, name: str, like: ir.Value, shape: Sequence[Dim]) -> ir.Value:
        """An input of the body that is being made, of the type of another value."""
        value = ir.Value(name=self._names.free(name), shape=ir.Shape(list(shape)), type=like.type)
        self._graph.inputs.append(value)
        return value

    def scan(
        self,
        body: ir.Graph,
        states: Sequence[ir.Value],
        sequences: Sequence[ir.Value],
        after: Sequence[ir.Value],
        answers: Sequence[ir.Value],
        *,
        backward: bool = False,
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """Runs a body for each entry of the sequences' first axis (the last one first where `backward`).

        body: its inputs are the states and then an entry of each sequence. states: those of the first turn. after, answers: values of
        the body, or outer ones: the next states, and what each turn gives. Answers the last states, and the answers of all turns,
        joined along a new first axis in the order of the sequences.
        """
        self.end_body(body, (*after, *answers))
        name = f"{self._path}_Scan" if self._path else "Scan"
        length = self.shape(sequences[0])[0]
        outputs = [ir.Value(name=self._names.free(name), shape=state.shape, type=state.type) for state in states]
        outputs += [
            ir.Value(name=self._names.free(name), shape=ir.Shape([length, *self.shape(value)]), type=value.type) for value in answers
        ]
        attributes = [ir.AttrGraph("body", body), ir.AttrInt64("num_scan_inputs", len(sequences))]
        if backward:
            attributes.append(ir.AttrInt64s("scan_input_directions", [1] * len(sequences)))
            attributes.append(ir.AttrInt64s("scan_output_directions", [1] * len(answers)))
        node = ir.Node("", "Scan", [*states, *sequences], attributes, outputs=outputs, name=outputs[0].name)
        note_source(node, self._source, self._path)
        self._graph.append(node)
        return outputs[: len(states)], outputs[len(states) :]

    def end_body(self, body: ir.Graph, values: Sequence[ir.Value]) -> None:
        """Makes values, the body's own or outer ones, the outputs of a body."""
        with self._within(body):
            for value in values:
                producer = value.producer()
                inner = producer is not None and producer.graph is body and producer.op_type != "Constant"
                body.outputs.append(value if inner and value not in body.outputs else self.identity(value))
            for node in reversed(list(body)):
                if all(not value.uses() and not value.is_graph_output() for value in node.outputs):
                    body.remove(node, safe=True)

    def holding(self, op_type: str, inputs: Sequence[ir.Value | None], outputs: Sequence[ir.Value], **bodies: ir.Graph) -> None:
        """Appends a node that holds bodies. outputs: values that have their types and shapes."""
        for value in outputs:
            value.name = self._names.free(f"{self._path}_{op_type}" if self._path else op_type)
        attributes = [ir.AttrGraph(name, body) for name, body in bodies.items()]
        node = ir.Node("", op_type, list(inputs), attributes, outputs=list(outputs), name=outputs[0].name)
        note_source(node, self._source, self._path)
        self._graph.append(node)

    @contextlib.contextmanager
    def _within(self, graph: ir.Graph) -> Iterator[None]:
        outer, self._graph = self._graph, graph
        try:
            yield
        finally:
            self._graph = outer

    # -- shapes ------------------------------------------------------------------------------------------------------

    def shape(self, value: ir.Value) -> tuple[Dim, ...]:
        """Dimensions as far as known: integers, names of symbolic ones, None. Raises SymbolicDimensionError if even the rank is unknown."""
        if value.shape is None:
            raise self.needs_number(f"the rank of {value.name} is unknown")
        return tuple(d if isinstance(d, int) else d.value for d in value.shape)

    def rank(self, value: ir.Value) -> int:
        return len(self.shape(value))

    def fixed(self, value: ir.Value, start: int = 0, stop: int | None = None) -> tuple[int, ...]:
        """Dimensions start..stop as integers; raises SymbolicDimensionError where one is symbolic, so that the batch gets fixed."""
        dims = self.shape(value)[start:stop]
        if not all(isinstance(d, int) for d in dims):
            symbols = tuple(d for d in dims if isinstance(d, str))
            raise self.needs_number(f"needs the size of {value.name}, which is {_dims(self.shape(value))}", symbols)
        return tuple(d for d in dims if isinstance(d, int))

    def needs_number(self, message: str, symbols: Iterable[str] = ()) -> SymbolicDimensionError:
        """A SymbolicDimensionError that says where we are. symbols: the names whose numbers would do."""
        problem = SymbolicDimensionError(message)
        problem.source, problem.symbols = self._source, tuple(symbols)
        return problem

    # -- inside ------------------------------------------------------------------------------------------------------

    def _operand(self, operand: Operand, first: ir.Value | None) -> ir.Value | None:
        if operand is None or isinstance(operand, ir.Value):
            return operand
        if isinstance(operand, np.ndarray | np.generic):
            return self.const(operand)
        if isinstance(operand, bool | int | float):
            dtype = first.dtype.numpy() if first is not None and first.dtype is not None else np.float32
            return self.const(np.array(operand, dtype=dtype))
        return self.const(np.array(operand, dtype=np.int64))

    def _release(self, name: str) -> None:
        """Renames the inner value that holds a name wanted for an output."""
        holder = self._bound.pop(name, None) or next((v for node in self._root.all_nodes() for v in node.outputs if v.name == name), None)
        if holder is None or holder.is_graph_output():
            raise self.error(f"the name {name!r} is wanted for an output but belongs to an input, a parameter or another output")
        holder.name = self._names.free(name)

    def _refine(self, value: ir.Value, shape: Sequence[Dim]) -> None:
        """Fills dimensions that inference left open; contradicting it is a mistake of the lowering."""
        known = self.shape(value) if value.shape is not None else (None,) * len(shape)
        agree = len(known) == len(shape) and all(
            not (isinstance(a, int) and isinstance(b, int)) or a == b for a, b in zip(known, shape, strict=True)
        )
        if not agree:
            raise self.error(f"expected shape {tuple(shape)}, but ONNX infers {known}")
        value.shape = ir.Shape([a if isinstance(a, int) or b is None else b for a, b in zip(known, shape, strict=True)])


# -- inference of one node --------------------------------------------------------------------------------------------


def _dims(shape: Sequence[Dim]) -> str:
    return "x".join("?" if d is None else str(d) for d in shape)


def _count(dims: Sequence[Dim]) -> Dim:
    """Elements of a shape; None where a dimension is symbolic."""
    return math.prod(d for d in dims if isinstance(d, int)) if all(isinstance(d, int) for d in dims) else None


def _with_rest(before: Sequence[Dim], shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """A shape whose one None is what is left of `before`, where that is a number or a symbol."""
    if list(shape).count(None) != 1 or None in before:
        return tuple(shape)
    symbols = [d for d in before if isinstance(d, str)]
    for kept in (d for d in shape if isinstance(d, str)):
        if kept not in symbols:
            return tuple(shape)
        symbols.remove(kept)
    total, part = (math.prod(d for d in dims if isinstance(d, int)) for dims in (before, shape))
    rest: Dim = None
    if not symbols and part > 0 and total % part == 0:
        rest = total // part
    elif len(symbols) == 1 and total == part:
        rest = symbols[0]
    return tuple(rest if d is None else d for d in shape)
