"""The rnn package's masks: rows of zeros stay rows of zeros, and what reads or turns round sequences."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Array, Module, Net, Steps, lowers
from converters.readers.torch7.modules.indexing import from_one
from converters.readers.torch7.references import Reference, Tensors, first_tensor, mapped
from converters.readers.torch7.steps import leaves_in_order

_END = (1 << 63) - 1


def zero_rows(g: GraphBuilder, x: ir.Value, value: ir.Value, *, batched: bool = True) -> ir.Value:
    """The value with zeros in the rows in which x is all zero; batched: rows are entries of the first axis, else there is one."""
    axes = list(range(1 if batched else 0, g.rank(x)))
    is_zero = g.emit("Equal", g.emit("ReduceMax", g.emit("Abs", x), axes, keepdims=0) if axes else g.emit("Abs", x), 0.0)
    more = list(range(1, g.rank(value))) if batched else []
    return g.emit("Where", g.emit("Unsqueeze", is_zero, more) if more else is_zero, 0.0, value, shape=g.shape(value))


def masks_rows(module: Module) -> bool:
    """Whether rows of zeros in the input are masked: rnn 2.7's second form has a mask of its own, `stored_mask`."""
    return module.get("v2") is not True


def stored_mask(module: Module) -> Array | None:
    """The mask that a call (setZeroMask) has left in the file, ones where zeros are due; None where it says that there is none.

    Raises ConversionError where no call has said so: Torch7 then stops.
    """
    mask = module.get("zeroMask")
    if mask is False:
        return None
    if not isinstance(mask, t7.Tensor) or not mask.elements:
        raise module.source.error("its mask comes from a call, and the file has none", "save it after setZeroMask(false), or with v1")
    marks: Array = mask.array != 0
    return marks


def with_mask(g: GraphBuilder, mask: ir.Value, value: ir.Value) -> ir.Value:
    """The value with zeros in the rows that the mask (N) names."""
    return g.emit("Where", g.emit("Unsqueeze", mask, list(range(1, g.rank(value)))), 0.0, value, shape=g.shape(value))


@lowers("nn.MaskZero", "nn.TrimZero", on_tensors=True)
def mask_zero(net: Net, module: Module, x: Tensors) -> Steps:
    """Its module, with zeros in all outputs where the (first) input's row is all zero, or where its own mask says so.
    Source: rnn/MaskZero.lua, rnn/TrimZero.lua.
    """
    g = net.g
    made = module.modules()
    inner = made[0] if made else module.module("module")
    first = first_tensor(x).get()
    rank = g.rank(first)
    batched = True
    stored: ir.Value | None = None
    if not masks_rows(module):
        mask = stored_mask(module)
        if mask is None:
            return (yield net.call(module, inner, x, 0))
        if g.fixed(first, 0, 1) != mask.shape:
            raise module.error(f"its zeroMask of shape {mask.shape} was set for another batch than {g.shape(first)}")
        stored = g.const(mask, role="zero_mask")
    elif "nInputDim" in module:
        dims = module.integer("nInputDim", least=0)
        if rank not in (dims, dims + 1):
            raise module.error(f"it takes {dims} dimensions and a batch, but its input has shape {g.shape(first)}")
        batched = rank == dims + 1

    def masked(y: Reference) -> ir.Value:
        value = y.get()
        return zero_rows(g, first, value, batched=batched) if stored is None else with_mask(g, stored, value)

    if module.flag("maskinput"):
        for given in leaves_in_order(x):
            given.set(masked(given))
    out = yield net.call(module, inner, x, 0)
    if module.get("maskoutput") is False:
        return out
    answer: Tensors = mapped(out, lambda y: Reference(masked(y)))
    return answer


@lowers("nn.LookupTableMaskZero", newest_version=4, by_sample=True)
def lookup_table_mask_zero(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Rows of weight by indices (n) or (N, n), of which 0 gives zeros. Source: rnn/LookupTableMaskZero.lua."""
    weight = np.array(module.tensor("weight", None, None))
    weight[0] = 0  # as each forward does, whatever the file holds
    if np.isfinite(module.number("maxNorm", np.inf)):
        raise module.error("maxNorm shortens rows in each forward, which isn't done for this class")
    indices = g.emit("Add", from_one(g, x), 1)
    if g.rank(indices) not in (1, 2):
        raise module.error(f"its input must be a vector or a matrix of indices, but has shape {g.shape(x)}")
    return g.emit("Gather", module.param("weight", weight), indices, axis=0)


@lowers("nn.SAdd")
def s_add(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x + addend, its negative where `negate` says so. Source: rnn/SAdd.lua."""
    addend = module.number("addend", 0.0)
    return g.emit("Sub", -addend, x) if module.flag("negate") else g.emit("Add", x, addend)


@lowers("nn.SeqReverseSequence", time_first=True)
def seq_reverse_sequence(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The entries along `dim` in reverse order. Source: rnn/SeqReverseSequence.lua."""
    dim = module.integer("dim", least=1)
    if dim > g.rank(x):
        raise module.error(f"dim {dim} doesn't fit its input of shape {g.shape(x)}")
    return reversed_along(g, x, dim - 1)


def reversed_along(g: GraphBuilder, x: ir.Value, axis: int) -> ir.Value:
    return g.emit("Slice", x, [-1], [-_END], [axis], [-1], shape=g.shape(x))


@lowers("nn.ReverseSequence", on_tensors=True, time_first=True)
def reverse_sequence(net: Net, module: Module, x: Tensors) -> Tensors:
    """A table, or a tensor's first axis, in reverse order. Source: rnn/ReverseSequence.lua."""
    return Reference(reversed_along(net.g, x.get(), 0)) if isinstance(x, Reference) else list(x)[::-1]


@lowers("nn.ReverseUnreverse", on_tensors=True)
def reverse_unreverse(net: Net, module: Module, x: Tensors) -> Steps:
    """A module between two reversals, which it holds as one. Source: rnn/ReverseUnreverse.lua."""
    made = module.modules()
    return (yield net.call(module, made[0] if made else module.module("module"), x, 0))


@lowers("nn.ExpandAs", tables=True)
def expand_as(g: GraphBuilder, module: Module, x: list[ir.Value]) -> list[ir.Value]:
    """{a, b} -> {a, b in a's shape}. Source: rnn/ExpandAs.lua."""
    first, second = module.tensors(x, 2)
    return [first, g.emit("Expand", second, g.sizes(g.extents(first)), shape=g.shape(first))]
