"""GraphBuilder: how every reader makes the common intermediate graph, an onnx_ir.Model.

The rules that it keeps, so that no lowering has to:

- an initializer's name is its state_dict key (`conv1.weight`), its prefix the module path; a name is given once;
- small constants (shapes, scalars) are Constant nodes and no part of the state_dict; large ones become initializers;
- every node says where it came from (`metadata_props["source"]`) and to which module it belongs (`metadata_props["path"]`);
- every value's type and shape is known as soon as it is emitted, by ONNX's own inference for that operator;
- shapes are integers, the symbolic batch "N" (or another string), or None where ONNX can't tell.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx.checker
import onnx.defs
import onnx.helper
import onnx.shape_inference
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import ConversionError, Source
from converters.graph.inference import attribute, check_channels, data_type, infer
from converters.graph.names import identifier
from converters.graph.passes import order_initializers, remove_unused
from converters.version import __version__

OPSET = 19
"""The operator set that graphs are written in: the newest that onnxruntime 1.16 reads, the first to define ceil_mode averages."""
IR___version__ = 9
"""The file format version that goes with it."""
INLINE_LIMIT = 64
"""Constants of more elements than this become initializers (buffers of the module), not Constant nodes."""

Dim = int | str | None
Operand = ir.Value | NDArray[Any] | float | int | Sequence[int] | None
Result = TypeVar("Result")


class SymbolicDimensionError(Exception):
    """A lowering needs the number behind a symbolic dimension; `with_symbolic_batch` then fixes the batch."""


def with_symbolic_batch(make: Callable[[bool], Result]) -> Result:
    """Calls make(True), for a graph whose first axis is symbolic; where the net needs that number, make(False)."""
    try:
        return make(True)
    except SymbolicDimensionError:
        pass  # the number is needed: below, it is known
    try:
        return make(False)
    except SymbolicDimensionError as problem:
        raise ConversionError(f"{problem}, which is known only when the net runs; this net needs it before") from problem


class GraphBuilder:
    """Builds one graph, node by node.

    symbolic_batch: make the first axis of every input symbolic ("N"); see `with_symbolic_batch`.
    """

    def __init__(self, name: str, *, symbolic_batch: bool = False) -> None:
        self.symbolic_batch = symbolic_batch
        self._graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name=name)
        self._names: set[str] = set()
        self._counts: dict[str, int] = {}
        self._source: Source | None = None
        self._path = ""
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._batch: int | None = None

    # -- where we are ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def at(self, source: Source, path: str = "") -> Iterator[None]:
        """Nodes emitted inside come from `source` and belong to the module `path` (`conv1`, `4.0.1`)."""
        before = self._source, self._path
        self._source, self._path = source, path
        try:
            yield
        finally:
            self._source, self._path = before

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

    # -- values ------------------------------------------------------------------------------------------------------

    def input(self, name: str, shape: Sequence[Dim], dtype: Any = np.float32) -> ir.Value:
        """A graph input. With a symbolic batch its first axis becomes "N", or "N_<name>" where it differs from the first input's."""
        dims = list(shape)
        if self.symbolic_batch and dims and isinstance(dims[0], int):
            self._batch = dims[0] if self._batch is None else self._batch
            dims[0] = "N" if dims[0] == self._batch else f"N_{identifier(name)}"
        value = ir.Value(name=self._unique(name), shape=ir.Shape(dims), type=ir.TensorType(data_type(dtype)))
        self._graph.inputs.append(value)
        return value

    def param(self, role: str, array: Any, *, path: str | None = None, original: str | None = None, buffer: bool = False) -> ir.Value:
        """An initializer `path.role` (path: the module path in force), kept as the view it is.

        role: torch's word (weight, bias, running_mean ...). original: the name in the source file. buffer: no gradient belongs
        to it. Raises ValueError for a key that is taken: a layer that shares parameters reuses the value.
        """
        where = self._path if path is None else path
        key = f"{where}.{role}" if where else role
        if key in self._graph.initializers or key in self._names:
            raise ValueError(f"a parameter or value named {key!r} exists already")
        self._names.add(key)
        if isinstance(array, np.ndarray) and array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        # isinstance of a protocol takes 30 us: an array is told first
        tensor = array if not isinstance(array, np.ndarray) and isinstance(array, ir.TensorProtocol) else ir.Tensor(array, name=key)
        value = ir.Value(name=key, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor)
        if original:
            value.metadata_props["original_name"] = original
        if buffer:
            value.metadata_props["buffer"] = "1"
        self._graph.register_initializer(value)
        return value

    def const(self, array: Any, dtype: Any = None, *, role: str = "constant") -> ir.Value:
        """A constant: a Constant node where it is small, else a buffer `path.role` of the module in force."""
        data = np.ascontiguousarray(array, dtype=dtype)
        data = data.reshape(np.shape(array))
        if data.size > INLINE_LIMIT:
            count, free = 0, role
            while (f"{self._path}.{free}" if self._path else free) in self._names:
                count += 1
                free = f"{role}_{count}"
            return self.param(free, data, buffer=True)
        key = (data.dtype.str, data.shape, data.tobytes())
        if key not in self._constants:
            name = self._unique("constant")
            tensor = ir.Tensor(data, name=name)
            value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
            self._graph.append(ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], outputs=[value], name=name))
            self._constants[key] = value
        return self._constants[key]

    def emit(
        self,
        op_type: str,
        *operands: Operand,
        outputs: int = 1,
        name: str | None = None,
        shape: Sequence[Dim] | None = None,
        **attributes: Any,
    ) -> Any:
        """Appends a node; returns its output Value, or a list of them where `outputs` > 1.

        operands: Values; or numpy arrays, and lists of int (int64), which become constants; or Python numbers, constants of the
        dtype of the first Value that isn't bool; or None for an optional input that is left out. shape: the first output's, where
        the lowering knows more than ONNX's inference. Attributes are ONNX's. Raises ConversionError where ONNX's inference finds the
        inputs unfit.
        """
        # a number is no condition: Where(condition, 1.0, x) takes x's type
        typed = (o for o in operands if isinstance(o, ir.Value) and o.dtype is not None and o.dtype != ir.DataType.BOOL)
        first = next(typed, None)
        inputs = [self._operand(o, first) for o in operands]
        given = {k: v for k, v in attributes.items() if v is not None}
        base = name or (f"{self._path}_{op_type}" if self._path else op_type)
        values = [ir.Value(name=self._unique(base)) for _ in range(outputs)]
        node = ir.Node("", op_type, inputs, [attribute(key, value) for key, value in given.items()], outputs=values, name=values[0].name)
        if self._source:
            node.metadata_props["source"] = str(self._source)
        if self._path:
            node.metadata_props["path"] = self._path
        try:
            check_channels(node)
            infer(node, OPSET)
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError) as problem:
            shapes = ", ".join("-" if v is None else str(self.shape(v)) for v in inputs)
            reason = re.sub(r"^(\[\w+\]\s*|\(op_type:[^)]*\):?\s*)+", "", str(problem)).strip()
            raise self.error(f"{op_type} doesn't fit inputs of shapes {shapes}: {reason}") from problem
        if shape is not None:
            self._refine(values[0], shape)
        self._graph.append(node)
        return values[0] if outputs == 1 else values

    def identity(self, value: ir.Value, name: str | None = None) -> ir.Value:
        result: ir.Value = self.emit("Identity", value, name=name)
        return result

    def output(self, value: ir.Value, name: str) -> ir.Value:
        """Makes the value a graph output of exactly this name (through an Identity where it is an input, parameter or output already)."""
        producer = value.producer()
        if producer is None or value.is_graph_output() or producer.op_type == "Constant":
            value = self.identity(value)
        if value.name != name:
            if name in self._names:
                self._free(name)
            value.name = name
            self._names.add(name)
        self._graph.outputs.append(value)
        return value

    def finish(self) -> ir.Model:
        """The model, its dead nodes and unused initializers removed (every graph input stays), initializers in node order."""
        model = ir.Model(self._graph, ir_version=IR___version__, producer_name="converters", producer_version=__version__)
        remove_unused(model)
        order_initializers(model)
        return model

    # -- shapes ------------------------------------------------------------------------------------------------------

    def shape(self, value: ir.Value) -> tuple[Dim, ...]:
        """Dimensions as far as known: integers, names of symbolic ones, None. Raises SymbolicDimensionError if even the rank is unknown."""
        if value.shape is None:
            raise SymbolicDimensionError(f"rank of {value.name} is unknown")
        return tuple(d if isinstance(d, int) else d.value for d in value.shape)

    def rank(self, value: ir.Value) -> int:
        return len(self.shape(value))

    def fixed(self, value: ir.Value, start: int = 0, stop: int | None = None) -> tuple[int, ...]:
        """Dimensions start..stop as integers; raises SymbolicDimensionError where one is symbolic, so that the batch gets fixed."""
        dims = self.shape(value)[start:stop]
        if not all(isinstance(d, int) for d in dims):
            raise SymbolicDimensionError(f"{value.name} has shape {self.shape(value)}")
        return tuple(d for d in dims if isinstance(d, int))

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

    def _unique(self, name: str) -> str:
        free, count = name, self._counts.get(name, 0)
        while free in self._names:
            count += 1
            free = f"{name}_{count}"
        self._counts[name] = count
        self._names.add(free)
        return free

    def _free(self, name: str) -> None:
        """Renames the inner value that holds a name wanted for an output."""
        for value in self._all_values():
            if value.name == name and not value.is_graph_output() and not value.is_graph_input() and not value.is_initializer():
                value.name = self._unique(name)
                return
        raise self.error(f"the name {name!r} is wanted for an output but belongs to an input, a parameter or another output")

    def _all_values(self) -> Iterator[ir.Value]:
        for node in self._graph:
            yield from node.outputs

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
