"""Modules that rearrange Lua tables, and those that join tensors of a table."""

from __future__ import annotations

from typing import Any

from converters.graph.builder import Dim, GraphBuilder
from converters.readers.torch7.module import Module, Value, lowers, on_tensors
from converters.readers.torch7.modules.arithmetic import count_elements, tensors
from converters.readers.torch7.modules.shape import positive_dimension
from converters.readers.torch7.references import Nest

MAX_TABLE = 100_000
"""Tensors in one table; tables within tables that hold one another twice can make it any number."""


def table(module: Module, x: Nest) -> list[Any]:
    if not isinstance(x, list):
        raise module.error("its input must be a table, but it is a tensor")
    return x


@lowers("nn.JoinTable")
def join_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """A table's tensors joined along `dimension`, shifted behind a batch. Source: nn/JoinTable.lua."""
    items = tensors(module, x)
    axis = positive_dimension(g, module, items[0])
    return join(g, items, axis)


def join(g: GraphBuilder, items: list[Any], axis: int) -> Value:
    """The tensors side by side; Torch7 copies each into its part of the result, for which only the number of elements counts."""
    wanted = g.shape(items[0])
    parts = [items[0]]
    for item in items[1:]:
        shape = g.shape(item)
        if len(shape) != len(wanted) and len(shape) > axis:
            part = [*wanted[:axis], shape[axis], *wanted[axis + 1 :]]
            if count_elements(part) == count_elements(shape):
                item = g.emit("Reshape", item, [d if isinstance(d, int) else -1 for d in part], shape=part)
        parts.append(item)
    return g.emit("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]


@lowers("nn.SelectTable")
@on_tensors
def select_table(net: Any, module: Module, x: Nest) -> Nest:
    """Entry `index` of a table, counted from the end where negative. Source: nn/SelectTable.lua."""
    items = table(module, x)
    index = module.integer("index")
    at = index - 1 if index > 0 else len(items) + index
    if index == 0 or not 0 <= at < len(items):
        raise module.error(f"index {index} doesn't fit a table of {len(items)}")
    return items[at]


@lowers("nn.NarrowTable")
@on_tensors
def narrow_table(net: Any, module: Module, x: Nest) -> Nest:
    """`length` entries of a table from `offset` on. Source: nn/NarrowTable.lua."""
    items = table(module, x)
    offset, length = module.integer("offset", least=1), module.integer("length", 1, least=1)
    if offset + length - 1 > len(items):
        raise module.error(f"offset {offset} and length {length} don't fit a table of {len(items)}")
    return items[offset - 1 : offset - 1 + length]


@lowers("nn.FlattenTable")
@on_tensors
def flatten_table(net: Any, module: Module, x: Nest) -> Nest:
    """The tensors of nested tables in one. Source: nn/FlattenTable.lua."""
    flat: list[Any] = []
    waiting = [table(module, x)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += reversed(item)
        else:
            flat.append(item)
        if len(flat) + len(waiting) > MAX_TABLE:
            raise module.error(f"its input holds more than {MAX_TABLE} tensors")
    return flat


@lowers("nn.ZipTable")
@on_tensors
def zip_table(net: Any, module: Module, x: Nest) -> Nest:
    """{{a, b}, {c, d}} -> {{a, c}, {b, d}}. Source: nn/ZipTable.lua."""
    columns = [table(module, item) for item in table(module, x)]
    if len({len(column) for column in columns}) > 1:
        raise module.error("its input must be tables of one length")
    return [list(row) for row in zip(*columns, strict=True)]


@lowers("nn.ZipTableOneToMany")
@on_tensors
def zip_table_one_to_many(net: Any, module: Module, x: Nest) -> Nest:
    """{a, {b, c}} -> {{a, b}, {a, c}}. Source: nn/ZipTableOneToMany.lua."""
    items = table(module, x)
    if len(items) != 2:
        raise module.error("its input must be a table of an element and a table")
    return [[items[0], item] for item in table(module, items[1])]


@lowers("nn.ReverseTable")
@on_tensors
def reverse_table(net: Any, module: Module, x: Nest) -> Nest:
    """A table in reverse order. Source: dpnn/ReverseTable.lua."""
    return table(module, x)[::-1]


@lowers("nngraph.JustElement")
@on_tensors
def just_element(net: Any, module: Module, x: Nest) -> Nest:
    """{a} -> a. Source: nngraph/JustElement.lua."""
    items = table(module, x)
    if len(items) != 1:
        raise module.error(f"its input must be a table of one element, but it has {len(items)}")
    return items[0]


@lowers("nngraph.JustTable")
@on_tensors
def just_table(net: Any, module: Module, x: Nest) -> Nest:
    """a -> {a}. Source: nngraph/JustTable.lua."""
    return [x]


@lowers("nn.MixtureTable")
def mixture_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """{gates, experts}: the sum of the experts, each times its gate. Source: nn/MixtureTable.lua."""
    if not isinstance(x, list) or len(x) != 2 or isinstance(x[0], list):
        raise module.error("its input must be a table of the gates and the experts")
    gates, experts = x
    gate_rank = g.rank(gates)
    if gate_rank not in (1, 2):
        raise module.error(f"the gates must be a vector or a matrix, but have shape {g.shape(gates)}")
    (count,) = g.fixed(gates, gate_rank - 1)
    if isinstance(experts, list):
        items = tensors(module, experts)
        if len(items) != count:
            raise module.error(f"there are {len(items)} experts for {count} gates")
        lead: list[Dim] = [] if gate_rank == 1 else [g.shape(gates)[0]]
        parts = []
        for gate, expert in zip(_split(g, gates, gate_rank - 1, count), items, strict=True):
            spread = [*lead, *[1] * (g.rank(expert) - len(lead))]
            gate = g.emit("Reshape", gate, [d if isinstance(d, int) else -1 for d in spread], shape=spread)
            parts.append(g.emit("Mul", expert, gate))
        return parts[0] if len(parts) == 1 else g.emit("Sum", *parts)
    rank = g.rank(experts)
    dim = module.integer("dim", gate_rank, least=1)
    if dim > rank or g.fixed(experts, dim - 1, dim) != (count,) or (gate_rank == 2 and dim == 1):
        raise module.error(f"the experts of shape {g.shape(experts)} don't fit {count} gates along dimension {dim}")
    shape: list[Dim] = [1] * rank
    shape[dim - 1] = count
    if gate_rank == 2:
        shape[0] = g.shape(gates)[0]
    spread_gates = g.emit("Reshape", gates, [d if isinstance(d, int) else -1 for d in shape], shape=shape)
    return g.emit("ReduceSum", g.emit("Mul", experts, spread_gates), [dim - 1], keepdims=0)


def _split(g: GraphBuilder, x: Value, axis: int, count: int) -> list[Value]:
    if count == 1:
        return [x]
    return list(g.emit_all("Split", x, outputs=count, axis=axis, num_outputs=count))
