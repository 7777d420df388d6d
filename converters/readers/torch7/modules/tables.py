"""Modules that rearrange Lua tables, and those that join tensors of a table."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from converters.graph.builder import Dim, GraphBuilder
from converters.readers.torch7.module import Module, Net, lowers
from converters.readers.torch7.modules.arithmetic import count_elements
from converters.readers.torch7.modules.shape import positive_dimension
from converters.readers.torch7.references import Reference, Tensors, Values

MAX_TABLE = 100_000
"""Tensors in one table; tables within tables that hold one another twice can make it any number."""


@lowers("nn.JoinTable", tables=True)
def join_table(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """A table's tensors joined along `dimension`, shifted behind a batch. Source: nn/JoinTable.lua."""
    items = module.tensors(x)
    axis = positive_dimension(g, module, items[0])
    return join(g, items, axis)


def join(g: GraphBuilder, items: list[ir.Value], axis: int) -> ir.Value:
    """The tensors side by side; Torch7 copies each into its part of the result, for which only the number of elements counts."""
    wanted = g.shape(items[0])
    parts = [items[0]]
    for item in items[1:]:
        shape = g.shape(item)
        if len(shape) != len(wanted) and len(shape) > axis:
            part = [*wanted[:axis], shape[axis], *wanted[axis + 1 :]]
            if count_elements(part) == count_elements(shape):
                item = g.reshape(item, part)
        parts.append(item)
    return g.emit("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]


@lowers("nn.SelectTable", on_tensors=True)
def select_table(net: Net, module: Module, x: Tensors) -> Tensors:
    """Entry `index` of a table, counted from the end where negative. Source: nn/SelectTable.lua."""
    items = module.table(x)
    index = module.integer("index")
    at = index - 1 if index > 0 else len(items) + index
    if index == 0 or not 0 <= at < len(items):
        raise module.error(f"index {index} doesn't fit a table of {len(items)}")
    return items[at]


@lowers("nn.NarrowTable", on_tensors=True)
def narrow_table(net: Net, module: Module, x: Tensors) -> Tensors:
    """`length` entries of a table from `offset` on. Source: nn/NarrowTable.lua."""
    items = module.table(x)
    offset, length = module.integer("offset", least=1), module.integer("length", 1, least=1)
    if offset + length - 1 > len(items):
        raise module.error(f"offset {offset} and length {length} don't fit a table of {len(items)}")
    return items[offset - 1 : offset - 1 + length]


@lowers("nn.FlattenTable", on_tensors=True)
def flatten_table(net: Net, module: Module, x: Tensors) -> Tensors:
    """The tensors of nested tables in one. Source: nn/FlattenTable.lua."""
    flat: list[Tensors] = []
    waiting: list[Tensors] = [module.table(x)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Reference):
            flat.append(item)
        else:
            waiting += reversed(item)
        if len(flat) + len(waiting) > MAX_TABLE:
            raise module.error(f"its input holds more than {MAX_TABLE} tensors")
    return flat


@lowers("nn.ZipTable", on_tensors=True)
def zip_table(net: Net, module: Module, x: Tensors) -> Tensors:
    """{{a, b}, {c, d}} -> {{a, c}, {b, d}}. Source: nn/ZipTable.lua."""
    columns = [module.table(item) for item in module.table(x)]
    if len({len(column) for column in columns}) > 1:
        raise module.error("its input must be tables of one length")
    return [list(row) for row in zip(*columns, strict=True)]


@lowers("nn.ZipTableOneToMany", on_tensors=True)
def zip_table_one_to_many(net: Net, module: Module, x: Tensors) -> Tensors:
    """{a, {b, c}} -> {{a, b}, {a, c}}. Source: nn/ZipTableOneToMany.lua."""
    items = module.table(x)
    if len(items) != 2:
        raise module.error("its input must be a table of an element and a table")
    return [[items[0], item] for item in module.table(items[1])]


@lowers("nn.ReverseTable", on_tensors=True)
def reverse_table(net: Net, module: Module, x: Tensors) -> Tensors:
    """A table in reverse order. Source: dpnn/ReverseTable.lua."""
    return module.table(x)[::-1]


@lowers("nngraph.JustElement", on_tensors=True)
def just_element(net: Net, module: Module, x: Tensors) -> Tensors:
    """{a} -> a. Source: nngraph/JustElement.lua."""
    items = module.table(x)
    if len(items) != 1:
        raise module.error(f"its input must be a table of one element, but it has {len(items)}")
    return items[0]


@lowers("nngraph.JustTable", on_tensors=True)
def just_table(net: Net, module: Module, x: Tensors) -> Tensors:
    """a -> {a}. Source: nngraph/JustTable.lua."""
    return [x]


@lowers("nn.MixtureTable", tables=True)
def mixture_table(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{gates, experts}: the sum of the experts, each times its gate. Source: nn/MixtureTable.lua."""
    if not isinstance(x, Sequence) or len(x) != 2 or isinstance(x[0], Sequence):
        raise module.error("its input must be a table of the gates and the experts")
    gates, experts = x[0], x[1]
    gate_rank = g.rank(gates)
    if gate_rank not in (1, 2):
        raise module.error(f"the gates must be a vector or a matrix, but have shape {g.shape(gates)}")
    (count,) = g.fixed(gates, gate_rank - 1)
    if isinstance(experts, Sequence):
        items = module.tensors(experts)
        if len(items) != count:
            raise module.error(f"there are {len(items)} experts for {count} gates")
        lead: list[Dim] = [] if gate_rank == 1 else [g.shape(gates)[0]]
        parts = []
        for gate, expert in zip(_split(g, gates, gate_rank - 1, count), items, strict=True):
            spread = [*lead, *[1] * (g.rank(expert) - len(lead))]
            gate = g.reshape(gate, spread)
            parts.append(g.emit("Mul", expert, gate))
        return parts[0] if len(parts) == 1 else g.emit("Sum", *parts)
    rank = g.rank(experts)
    dim = module.integer("dim", gate_rank, least=1)
    if dim > rank or g.fixed(experts, dim - 1, dim) != (count,) or (gate_rank == 2 and dim == 1):
        raise module.error(f"the experts of shape {g.shape(experts)} don't fit {count} gates along dimension {dim}")
    experts = g.emit("Split", experts, [count], axis=dim - 1)  # one expert more or less is refused, not spread
    shape: list[Dim] = [1] * rank
    shape[dim - 1] = count
    if gate_rank == 2:
        shape[0] = g.shape(gates)[0]
    spread_gates = g.reshape(gates, shape)
    return g.emit("ReduceSum", g.emit("Mul", experts, spread_gates), [dim - 1], keepdims=0)


def _split(g: GraphBuilder, x: ir.Value, axis: int, count: int) -> list[ir.Value]:
    if count == 1:
        return [x]
    return list(g.emit_all("Split", x, outputs=count, axis=axis, num_outputs=count))


@lowers("w2nn.AuxiliaryLossTable", on_tensors=True)
def auxiliary_loss_table(net: Net, module: Module, x: Tensors) -> Tensors:
    """A copy of entry i of a table. Source: waifu2x/lib/AuxiliaryLossTable.lua."""
    items, index = module.table(x), module.integer("i", 1, least=1)
    if index > len(items):
        raise module.error(f"i is {index}, but its input is a table of {len(items)}")
    return Reference(module.one_reference(items[index - 1]).get())
