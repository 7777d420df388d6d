"""GraphBuilder for TensorFlow: tensors whose axes lie in another order, and parameters under the names of their variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.graph.builder import LARGEST_CONSTANT, Dim, Extent, GraphBuilder, Operand, SymbolicDimensionError
from converters.graph.names import identifier
from converters.readers.tensorflow.graph import Node, Port
from converters.readers.tensorflow.values import Array, Flow, Length, Tensor, channels_first, identity


class TensorBuilder(GraphBuilder):
    """The graph being built. Sizes and axes in the arguments of its methods are TensorFlow's."""

    def __init__(
        self, name: str, *, closed: SymbolicDimensionError | None = None, dynamic: Mapping[tuple[str, int], str] | None = None
    ) -> None:
        super().__init__(name, symbolic_batch=True, closed=closed, dynamic=dynamic)
        self._used: dict[tuple[object, ...], list[tuple[Array, ir.Value]]] = {}
        self.nodes: Mapping[str, Node] = {}
        self.readers: Mapping[str, Sequence[Node]] = {}
        """Who reads a node."""
        self.flows: Mapping[Port, Flow] = {}
        """What has been lowered so far."""
        self.wanted: set[str] = set()
        """Nodes that the graph ends in."""
        self.needed: set[str] = set()
        """Nodes that these need."""
        self.takes_bias: Callable[[str], bool] = lambda op: False
        """Whether a bias that is added behind an operator becomes part of it."""
        self.asks_sizes: Callable[[str], bool] = lambda op: False
        """Whether an operator looks at a tensor's sizes, not at its numbers."""
        self.variable: Callable[[str], Tensor] = lambda name: self.flows[name, 0]  # type: ignore[return-value,assignment]
        """A variable's numbers, by its node's name."""
        self.is_nchw = False
        """Whether the graph's own operators have channels on axis 1."""
        self.is_sized = False
        """Whether anything followed from lengths that an image or a sequence has here, so that it must have them when the net runs."""
        self.is_covered = False
        """Whether one window covered a whole axis of known length: that its result has one element followed from that length, too."""

    # -- what a tensor is ----------------------------------------------------------------------------------------------

    def dims(self, x: Tensor) -> tuple[Dim, ...]:
        """The shape in TensorFlow's order: integers, symbols, None."""
        if x.array is not None:
            return x.array.shape
        if x.sizes is not None:
            return x.sizes.shape
        assert x.value is not None
        shape = self.shape(x.value)
        return tuple(shape[x.axis(axis)] for axis in range(x.rank))

    def has_sizes(self, x: Tensor) -> bool:
        """Whether an image or a sequence has known lengths."""
        dims = self.dims(x)
        return any(isinstance(dim, int) and (dim > 1 or self.is_covered) for dim in (dims[1:-1] if len(dims) > 3 else dims[1:]))

    def lengths(self, x: Tensor) -> Array:
        """The shape as integers and Lengths."""
        dims = self.dims(x)
        entries = np.empty(len(dims), object)
        self.is_sized |= x.value is not None and self.has_sizes(x)
        for axis, dim in enumerate(dims):
            entries[axis] = dim if isinstance(dim, int) else Length(Extent(self.plain(x) if x.value is None else x.value, x.axis(axis)))
        return entries

    def axis_of(self, axis: int, rank: int, what: str = "axis") -> int:
        """An axis counted from the front. Raises ConversionError where there is none such."""
        if not -rank <= axis < rank:
            raise self.error(f"its {what} is {axis}; the input has {rank} axes")
        return axis % rank

    def result(self, value: ir.Value, order: Sequence[int] | None = None, **more: Any) -> Tensor:
        """A value of the graph as a tensor; order: TensorFlow's, unless given."""
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
        return Tensor(np.dtype(dtype), value=value, order=tuple(order) if order is not None else identity(self.rank(value)), **more)

    # -- into the graph ------------------------------------------------------------------------------------------------

    def array(self, x: Tensor, what: str = "input") -> Array:
        """A constant's numbers. Raises ConversionError for what is computed when the net runs."""
        if x.array is None:
            raise self.error(f"its {what} is computed when the net runs; it has to be a constant here")
        return x.array

    def plain(self, x: Tensor) -> ir.Value:
        """The tensor as a value whose axes are TensorFlow's."""
        return self.ordered(x, identity(x.rank))

    def ordered(self, x: Tensor, order: Sequence[int], *, keep_blocks: bool = False) -> ir.Value:
        """The tensor as a value whose axis i is TensorFlow's axis order[i]: a Transpose where it lies in another order.

        keep_blocks: an image that SpaceToBatchND took apart stays whole.
        """
        order = tuple(order)
        if x.array is not None:
            self._check_repeated(x.array)
            return self._stored(x, np.transpose(x.array, order))
        if x.sizes is not None:
            return self._sizes(x)
        x = self.unrowed(x) if keep_blocks else self.settled(x)
        assert x.value is not None
        if x.order == order:
            return x.value
        return self.emit("Transpose", x.value, perm=[x.order.index(axis) for axis in order])

    def _check_repeated(self, array: Array) -> None:
        if array.size > LARGEST_CONSTANT and any(stride == 0 for stride, n in zip(array.strides, array.shape, strict=True) if n > 1):
            self.check_table(*array.shape)

    def _stored(self, x: Tensor, array: Array) -> ir.Value:
        """A constant that takes part in the arithmetic: named after its variable where it is one."""
        if not x.origin:
            return self.const(array)
        learnt = array.dtype.kind == "f" and array.ndim > 0
        if not learnt or array.size <= 1:
            return self.const(array)
        path, role = self.place(x.origin)
        return self._shared((x.origin,), array, role, path, original=x.origin)

    def _shared(
        self, key: tuple[object, ...], array: Array, role: str, path: str, *, original: str | None, buffer: bool = False
    ) -> ir.Value:
        """A parameter, one for all who need the same numbers of a variable; parts of it and what follows from it are others."""
        known = self._used.setdefault((*key, array.shape, array.dtype.str), [])
        for numbers, value in known:
            if np.array_equal(numbers, array):
                return value
        numbers = np.ascontiguousarray(array)
        value = self.param(self.free_role(role, path), numbers, path=path, original=original, buffer=buffer)
        known.append((numbers, value))
        return value

    def _sizes(self, x: Tensor) -> ir.Value:
        assert x.sizes is not None
        entries = [entry.extent if isinstance(entry, Length) else int(entry) for entry in x.sizes.reshape(-1)]
        joined = self.sizes(entries)
        value = joined if isinstance(joined, ir.Value) else self.const(np.array(joined, np.int64))
        if x.sizes.ndim != 1:
            value = self.emit("Reshape", value, list(x.sizes.shape)) if x.sizes.ndim else self.emit("Squeeze", value, [0])
        return self.cast(value, x.dtype)

    def lying(self, x: Tensor) -> tuple[ir.Value, tuple[int, ...]]:
        """The tensor as a value, however its axes lie, and their order."""
        if x.value is None:
            return self.plain(x), identity(x.rank)
        x = self.settled(x)
        assert x.value is not None
        return x.value, x.order

    def settled(self, x: Tensor) -> Tensor:
        """The tensor with TensorFlow's own sizes and elements, in whatever order of axes."""
        return self.unblocked(self.unrowed(x))

    def unrowed(self, x: Tensor) -> Tensor:
        """A flattened image in TensorFlow's order of elements."""
        if x.rows is None or x.value is None:
            return x
        h, w, c = x.rows
        image = self.reshape(x.value, [self.extents(x.value)[0], c, h, w])
        turned = self.emit("Transpose", image, perm=[0, 2, 3, 1])
        return self.result(self.reshape(turned, [self.extents(turned)[0], h * w * c]))

    def unblocked(self, x: Tensor) -> Tensor:
        """An image that SpaceToBatchND took apart, in as many pieces as TensorFlow has then."""
        if x.blocks is None or x.value is None:
            return x
        order = channels_first(x.rank)
        value = self.ordered(x, order, keep_blocks=True)
        sizes = self.fixed(value, 2)
        n, c = self.extents(value, 0, 2)
        counts = [size // block for size, block in zip(sizes, x.blocks, strict=True)]
        parts = self.reshape(value, [n, c, *(part for pair in zip(counts, x.blocks, strict=True) for part in pair)])
        places = range(len(counts))
        turned = self.emit("Transpose", parts, perm=[*(3 + 2 * i for i in places), 0, 1, *(2 + 2 * i for i in places)])
        return self.result(self.reshape(turned, [None, Extent(turned, len(counts) + 1), *counts]), order)

    def whole(self, x: Tensor, blocks: Sequence[int]) -> Tensor:
        """Images in pieces, those of one place behind those of another, as whole ones."""
        order, count = channels_first(x.rank), math.prod(blocks)
        value = self.ordered(x, order)
        sizes, places = self.fixed(value, 2), range(len(blocks))
        pieces = self.reshape(value, [*blocks, None, Extent(value, 1), *sizes], absolute=True)
        perm = [len(blocks), len(blocks) + 1, *(axis for i in places for axis in (len(blocks) + 2 + i, i))]
        turned = self.emit("Transpose", pieces, perm=perm)
        n = self.shape(value)[0]
        if isinstance(n, int) and n % count:
            raise self.error(f"puts {n} images together, {count} at a time")
        goal = [size * block for size, block in zip(sizes, blocks, strict=True)]
        return self.result(self.reshape(turned, [*self.extents(turned, 0, 2), *goal]), order)

    # -- parameters ----------------------------------------------------------------------------------------------------

    def place(self, origin: str) -> tuple[str, str]:
        """Where a variable's numbers go: the module's path and the role, of `scope/weights`."""
        scope, _, last = origin.rpartition("/")
        return (identifier(scope), identifier(last)) if scope else ("", identifier(last))

    def weight(self, x: Tensor, role: str, array: Array, *, buffer: bool = False) -> ir.Value:
        """A layer's parameter (torch's word for its role), under its variable's scope, shared by whoever uses the same numbers so.

        array: the numbers as the layer needs them.
        """
        self._check_repeated(array)
        path = (self.place(x.origin)[0] if x.origin else "") or self.path
        return self._shared((x.origin or id(x.array), role), array, role, path, original=x.origin or None, buffer=buffer)

    def sole_reader(self, node: Node) -> Node | None:
        """The one node that reads this one's numbers, once, where nobody else sees them; asking for their sizes doesn't count."""
        readers = [reader for reader in self.readers.get(node.name, ()) if reader.name in self.needed and not self.asks_sizes(reader.op)]
        return readers[0] if len(readers) == 1 and node.name not in self.wanted else None

    def reads_alone(self, node: Node, x: Tensor) -> bool:
        """Whether what x holds is seen by this node alone, whichever nodes pass it on."""
        waiting = [node]
        while waiting:
            for name, number in waiting.pop().inputs:
                flow = self.flows.get((name, number))
                if not isinstance(flow, Tensor) or flow.value is not x.value:
                    continue
                if self.sole_reader(self.nodes[name]) is None:
                    return False
                waiting.append(self.nodes[name])
        return True

    def is_absorbed_later(self, node: Node) -> bool:
        """Whether a bias that is added next becomes part of this convolution or product, which then has the name of that sum."""
        reader = self.sole_reader(node) if self.takes_bias(node.op) else None
        return reader is not None and reader.op in ("BiasAdd", "BiasAddV1", "Add", "AddV2")

    def absorb(self, x: Tensor, bias: Tensor, *, axis: int | None = None) -> bool:
        """Makes a constant bias of the channels the third input of the convolution or product that gave x, where it has none.

        axis: the one that a bias of one axis belongs to; else it is broadcast from the last axis on. Nobody else may read x.
        """
        node = x.value.producer() if x.value is not None else None
        if node is None or node.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(node.inputs) != 2 or x.value is None:
            return False
        channels = x.order[1]
        if axis is None:  # the axis of x that the bias' own long axis stands for
            shape = bias.array.shape if bias.array is not None else ()
            axis = next((x.rank - len(shape) + place for place, size in enumerate(shape) if size != 1), channels)
        if x.value.uses() or axis != channels or bias.array is None or bias.rank > x.rank:
            return False
        if bias.array.size != self.dims(x)[channels] or max(bias.array.shape, default=0) != bias.array.size:
            return False
        weight = node.inputs[1]
        path = str(weight.name).rpartition(".")[0] if weight is not None else ""
        if weight is None or not weight.is_initializer() or not path:
            return False
        role = self.free_role("bias", path)
        value = self.param(role, np.ascontiguousarray(bias.array.reshape(-1)), path=path, original=bias.origin or None)
        node.resize_inputs(3)
        node.replace_input_with(2, value)
        return True

    # -- several tensors together --------------------------------------------------------------------------------------

    def aligned(self, *tensors: Tensor) -> tuple[list[Operand], Callable[[ir.Value], Tensor]]:
        """Operands of an element by element operator, broadcast from the last axis on, and what makes its result a tensor."""
        rank = max(x.rank for x in tensors)
        leading = next((x for x in tensors if x.value is not None and x.rank == rank and x.order != identity(rank)), None)
        rows = next((x.rows for x in tensors if x.rows is not None), None)
        if rows is not None and not all(x.rows == rows or (x.is_constant and x.rank <= 2) for x in tensors):
            tensors, rows = tuple(self.unrowed(x) for x in tensors), None
        pieces = {x.blocks for x in tensors if x.value is not None}
        differs = any(x.array is not None and max(x.array.shape[:-1], default=1) != 1 for x in tensors)  # from pixel to pixel
        blocks = pieces.pop() if len(pieces) == 1 and not differs else None
        if blocks is None:
            tensors = tuple(self.unblocked(x) for x in tensors)
        order = leading.order if leading is not None else identity(rank)
        return [self._beside(x, order, rows) for x in tensors], lambda made: self.result(made, order, rows=rows, blocks=blocks)

    def _beside(self, x: Tensor, order: tuple[int, ...], rows: tuple[int, int, int] | None) -> Operand:
        rank = len(order)
        missing = rank - x.rank
        if rows is not None and x.array is not None:
            array = x.array
            if array.ndim and array.shape[-1] == math.prod(rows):
                h, w, c = rows
                turned = array.reshape(*array.shape[:-1], h, w, c)
                array = np.moveaxis(turned, -1, -3).reshape(array.shape)
            return self._stored(x, array)
        if rows is not None:
            return x.value
        if x.array is not None and (x.array.ndim == 0 or x.array.size == 1):
            return self._stored(x, x.array.reshape(()) if missing or x.rank == 0 else np.transpose(x.array, order))
        if missing == 0:
            return self.ordered(x, order, keep_blocks=True)
        if x.array is not None:
            self._check_repeated(x.array)
            array = np.transpose(x.array.reshape((1,) * missing + x.array.shape), order)
            while array.ndim and array.shape[0] == 1 and array.ndim > 1:  # leading axes of 1 say nothing
                array = array[0]
            return self._stored(x, array)
        present = [axis - missing for axis in order if axis >= missing]
        value = self.ordered(x, present)
        wanted = [position for position, axis in enumerate(order) if axis < missing]
        return value if wanted == list(range(missing)) else self.emit("Unsqueeze", value, wanted)

    def same_order(self, tensors: Sequence[Tensor]) -> tuple[list[ir.Value], tuple[int, ...]]:
        """Values of one rank in one order: that of the first that isn't TensorFlow's own."""
        tensors = [self.settled(x) for x in tensors]
        rank = tensors[0].rank
        order = next((x.order for x in tensors if x.value is not None and x.order != identity(rank)), identity(rank))
        return [self.ordered(x, order) for x in tensors], order

    def integers(self, x: Tensor, what: str) -> list[int]:
        """A constant list of integers."""
        array = self.array(x, what)
        if array.dtype.kind not in "iu":
            raise self.error(f"its {what} has the type {array.dtype}")
        if array.size > 64:
            raise self.error(f"its {what} has {array.size} entries")
        return [int(n) for n in array.reshape(-1)]

    def size_entries(self, x: Tensor, what: str) -> list[int | Extent] | None:
        """A list of sizes, integers and what is known when the net runs; None where it is computed in a way that says nothing."""
        if x.array is not None:
            return list(self.integers(x, what))
        if x.sizes is None:
            return None
        return [entry.extent if isinstance(entry, Length) else int(entry) for entry in x.sizes.reshape(-1)]
