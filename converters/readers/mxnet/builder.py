"""OperatorBuilder: the common graph builder with what MXNet's lowerings ask for besides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx.defs
import onnx_ir as ir

from converters.errors import ConversionError
from converters.graph.builder import OPSET, Dim, Extent, GraphBuilder, Operand, SymbolicDimensionError
from converters.readers.mxnet.sizes import Size, as_dim, number_of, over, read_size, times


class OperatorBuilder(GraphBuilder):
    """The graph being built, and the release that wrote the symbol."""

    def __init__(
        self,
        name: str,
        *,
        version: int,
        closed: SymbolicDimensionError | None = None,
        dynamic: Mapping[tuple[str, int], str] | None = None,
    ) -> None:
        super().__init__(name, symbolic_batch=True, closed=closed, dynamic=dynamic)
        self.version = version
        """The release that wrote the symbol: 10000 major + 100 minor + patch."""
        self.open_values: set[ir.Value] = set()
        """Values whose axes of size 1 stand for sizes that the file leaves open (a begin state of shape (0, 20))."""

    def pin_known(self, x: ir.Value, axes: Iterable[int]) -> ir.Value:
        """x, of whose axes those of a known length are pinned."""
        for axis in axes:
            if isinstance(self.shape(x)[axis], int):
                x = self.pin(x, axis, axis + 1)
        return x

    def dtype(self, value: ir.Value) -> np.dtype[Any]:
        """numpy's type of a value."""
        if value.dtype is None:
            raise self.error(f"the type of {value.name} is unknown")
        return np.dtype(value.dtype.numpy())

    def axis(self, value: ir.Value, axis: int, *, extra: int = 0, attribute: str = "axis") -> int:
        """The axis counted from the front; raises ConversionError where the value has no such axis."""
        rank = self.rank(value) + extra
        if not -rank <= axis < rank:
            raise self.error(f"attribute {attribute} is {axis}, but the input has shape {self.shape(value)}")
        return axis % rank

    def emit_all(
        self,
        op_type: str,
        *operands: Operand,
        outputs: int,
        name: str | None = None,
        shape: Sequence[Dim] | None = None,
        **attributes: Any,
    ) -> tuple[ir.Value, ...]:
        """As GraphBuilder's; a type that onnxruntime has no kernel for is computed in another one, and cast back."""
        values = (
            [o for o in operands[1:] if isinstance(o, ir.Value)] if op_type == "Where" else [o for o in operands if isinstance(o, ir.Value)]
        )
        kind = self.dtype(values[0]) if values and op_type in _KERNELS else None
        wanted = _computed_in(op_type, kind) if kind is not None else None
        if kind is None or wanted is None or wanted == kind:
            return super().emit_all(op_type, *operands, outputs=outputs, name=name, shape=shape, **attributes)
        inputs, variadic, results = _typed_alike(op_type, OPSET)
        given = list(operands)
        for position, operand in enumerate(given):
            if position in inputs or (variadic and position >= len(inputs)):
                given[position] = self._in_type(operand, kind, wanted)
        made = super().emit_all(op_type, *given, outputs=outputs, shape=shape, **attributes)
        return tuple(self.cast(value, kind) if position in results else value for position, value in enumerate(made))

    def _in_type(self, operand: Operand, kind: np.dtype[Any], wanted: np.dtype[Any]) -> Operand:
        """An operand of one type in another; numbers take the type of the values beside them by themselves."""
        if isinstance(operand, ir.Value):
            return self.cast(operand, wanted) if self.dtype(operand) == kind else operand
        return operand.astype(wanted) if isinstance(operand, np.ndarray | np.generic) and operand.dtype == kind else operand

    # -- loops and choices ---------------------------------------------------------------------------------------------

    def loop(
        self,
        body: ir.Graph,
        most: int,
        begins: ir.Value,
        states: Sequence[ir.Value],
        goes_on: ir.Value,
        after: Sequence[ir.Value],
        answers: Sequence[ir.Value],
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """Runs a body, at most so often, while it says so. Answers the last states, and each turn's answers along a new first axis."""
        self.end_body(body, (goes_on, *after, *answers))
        outputs = [ir.Value(name=None, shape=state.shape, type=state.type) for state in states]
        outputs += [ir.Value(name=None, shape=ir.Shape([None, *self.shape(value)]), type=value.type) for value in answers]
        self.holding("Loop", [self.const(np.array(most, np.int64)), begins, *states], outputs, body=body)
        return outputs[: len(states)], outputs[len(states) :]

    def choice(
        self, condition: ir.Value, then: tuple[ir.Graph, Sequence[ir.Value]], otherwise: tuple[ir.Graph, Sequence[ir.Value]]
    ) -> list[ir.Value]:
        """The results of one of two bodies."""
        outputs = []
        for a, b in zip(then[1], otherwise[1], strict=True):
            if a.dtype != b.dtype or self.rank(a) != self.rank(b):
                raise self.error(f"its branches give {a.dtype} of shape {self.shape(a)} and {b.dtype} of shape {self.shape(b)}")
            shape = [p if p == q else None for p, q in zip(self.shape(a), self.shape(b), strict=True)]
            outputs.append(ir.Value(name=None, shape=ir.Shape(shape), type=a.type))
        for graph, results in (then, otherwise):
            self.end_body(graph, results)
        self.holding("If", [condition], outputs, then_branch=then[0], else_branch=otherwise[0])
        return outputs

    # -- sizes -------------------------------------------------------------------------------------------------------

    def size(self, value: ir.Value, axis: int) -> Size:
        """The size of an axis as a product."""
        return read_size(self.shape(value)[axis], f"{value.name}.{axis}")

    def size_list(self, value: ir.Value) -> list[Size]:
        """The sizes of all axes."""
        return [self.size(value, axis) for axis in range(self.rank(value))]

    def divided(self, whole: Size, part: Size) -> Size:
        """whole / part. Raises ConversionError where it doesn't divide at the sizes that were given."""
        try:
            result = over(whole, part)
        except ConversionError as problem:
            raise self.error(problem.what) from problem
        numbers = [number_of(size, self.given) for size in (whole, part)]
        if numbers[0] is not None and numbers[1] and numbers[0] % numbers[1]:
            raise self.error(f"{numbers[0]} elements don't divide into {as_dim(part)}")
        return result

    def reshape(self, x: ir.Value, dims: Sequence[Dim | Extent], *, absolute: bool = False) -> ir.Value:
        """As GraphBuilder's; what is left may be a product of names. Raises ConversionError where the elements aren't as many."""
        before = self.size_list(x)
        sizes = [self._size_of(dim) for dim in dims]
        whole, part = times(before), times(size for size in sizes if size is not None)
        if None in sizes:
            sizes = [self.divided(whole, part) if size is None else size for size in sizes]
        elif whole != part and not any("." in name for name in whole[1] + part[1]):  # a size that nothing is known of may be any
            if whole[1] != part[1]:
                raise self.needs_number(f"needs {as_dim(whole)} to be {as_dim(part)}", whole[1] + part[1])
            raise self.error(f"an input of shape {self.shape(x)} doesn't reshape to ({', '.join(str(as_dim(s)) for s in sizes if s)})")
        result = super().reshape(x, dims, absolute=absolute)
        if result is not x:
            result.shape = ir.Shape([as_dim(size) for size in sizes if size is not None])
        if x in self.open_values:
            self.open_values.add(result)
        return result

    def _size_of(self, dim: Dim | Extent) -> Size | None:
        if not isinstance(dim, Extent):
            return None if dim is None else read_size(dim)
        size = self.size(dim.value, dim.axis)
        if not size[1]:
            return dim.of(size[0]), ()
        return times([self.divided(size, (dim.over, ())), (dim.times, ())])

    def reshape_to(self, x: ir.Value, sizes: Sequence[Size]) -> ir.Value:
        """x in a shape of products, each of which is found among its axes, or is what is left."""
        before = self.size_list(x)
        dims: list[Dim | Extent] = []
        for position, size in enumerate(sizes):
            if not size[1]:
                dims.append(size[0])
            elif before[position : position + 1] == [size]:
                dims.append(Extent(x, position))
            else:
                dims.append(None)
        for position, size in enumerate(sizes):
            if dims[position] is None and dims.count(None) > 1:
                dims[position] = self.multiple(x, size)
        return self.reshape(x, dims, absolute=True)

    def multiple(self, x: ir.Value, size: Size) -> int | Extent:
        """A product as a multiple or a part of the length of one of x's axes."""
        if not size[1]:
            return size[0]
        for axis, (number, names) in enumerate(self.size_list(x)):
            if names == size[1] and number and size[0] % number == 0:
                return Extent(x, axis, times=size[0] // number)
            if names == size[1] and size[0] and number % size[0] == 0:
                return Extent(x, axis, over=number // size[0])
        raise self.needs_number(f"needs {as_dim(size)} as a number", size[1])

    def length(self, x: ir.Value, axis: int) -> ir.Value:
        """The length of an axis when the net runs, as an int64 number."""
        return self.emit("Squeeze", self.sizes([Extent(x, axis)]), [0])

    def positions(self, x: ir.Value, axis: int) -> ir.Value:
        """0, 1, ... along an axis of x, as long as it is when the net runs; int64."""
        zero, one = np.array(0, np.int64), np.array(1, np.int64)
        return self.emit("Range", zero, self.length(x, axis), one, shape=[as_dim(self.size(x, axis))])

    def along(self, row: ir.Value, axis: int, rank: int) -> ir.Value:
        """A row of numbers laid along one of `rank` axes."""
        others = [i for i in range(rank) if i != axis]
        return self.emit("Unsqueeze", row, others) if others else row

    def tile(self, x: ir.Value, counts: Sequence[int]) -> ir.Value:
        """x repeated along its axes."""
        shape = [as_dim(times([size, (count, ())])) for size, count in zip(self.size_list(x), counts, strict=True)]
        return self.emit("Tile", x, list(counts), shape=shape)


# Types that onnxruntime's CPU kernels take, where they are fewer than ONNX's: other types are computed in one of these, and cast back.
# MXNet computes in any type. Source: onnxruntime docs/OperatorKernels.md, releases 1.16 to 1.24 (what all of them have).

_FLOATS = "float32 float64"
_WHOLE = f"{_FLOATS} int32 int64"

_KERNELS: Mapping[str, frozenset[str]] = {
    op_type: frozenset(kinds.split())
    for ops, kinds in {
        "Add Sub Mul Div Pow ReduceSum CumSum MatMul Einsum Greater Less GreaterOrEqual LessOrEqual TopK": _WHOLE,
        "ReduceMean": f"{_FLOATS} int32",
        "ReduceProd": "float32 int32 int64",
        "Max Min": f"{_WHOLE} uint32 uint64",
        "ReduceMax ReduceMin": f"{_WHOLE} int8 uint8",
        "Clip": f"{_WHOLE} int8 uint8",
        "Neg": f"{_WHOLE} int8",
        "Equal": f"{_WHOLE} bool",
        "ArgMax ArgMin": f"{_FLOATS} int8 int32 uint8",
        "Where": f"{_WHOLE} uint8",
        "Floor Ceil Round Sqrt Exp Log Tanh Sigmoid Reciprocal Softmax LogSoftmax Sin Gemm Relu IsNaN IsInf": _FLOATS,
        "Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Erf Elu Selu HardSigmoid Softsign Softplus Det LpNormalization": "float32",
        "Trilu": f"{_FLOATS} int64 bool",
        "Range": f"{_WHOLE} int16",
        "Mod Sign Abs": f"{_WHOLE} int8 uint8 int16 uint16 uint32 uint64",
        "Tile Pad": f"{_WHOLE} int8 uint8 uint32 uint64 bool",
    }.items()
    for op_type in ops.split()
}
"""By operator; one that isn't here takes what ONNX allows."""


def _computed_in(op_type: str, dtype: np.dtype) -> np.dtype:
    """The type in which an operator is computed for inputs of a type; that type itself where there is a kernel for it."""
    kinds = _KERNELS.get(op_type)
    if kinds is None or dtype.name in kinds or dtype.name in ("float16", "bfloat16"):  # of which onnxruntime makes float32 itself
        return dtype
    narrow = dtype.kind in "iu" and (dtype.itemsize < 4 or dtype == np.int32)
    order = ("int32", "int64") if narrow or dtype.kind == "b" else ("int64", "float64") if dtype.kind in "iu" else ()
    return np.dtype(next((kind for kind in (*order, "float64", "float32") if kind in kinds), dtype.name))


@cache
def _typed_alike(op_type: str, opset: int) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
    """The positions of inputs and outputs that have the type of the first input that has one, and whether the last input goes on."""
    schema = onnx.defs.get_schema(op_type, opset, "")
    of = 1 if op_type == "Where" else 0
    letter = schema.inputs[of].type_str
    inputs = tuple(i for i, given in enumerate(schema.inputs) if given.type_str == letter or op_type == "Pow")  # an exponent's own type
    variadic = bool(schema.inputs) and schema.inputs[-1].option == onnx.defs.OpSchema.FormalParameterOption.Variadic
    return inputs, variadic, tuple(i for i, made in enumerate(schema.outputs) if made.type_str == letter)
