"""Source of operators that pick or place elements by index."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.writers.source.code import number
from converters.writers.source.dtypes import torch_dtype
from converters.writers.source.node import Node, writes


@writes("Gather", unsigned="wraps")
def gather(n: Node) -> str:
    """nn.Embedding for rows of a weight; else x[indices] along the axis."""
    axis = n.attr("axis", 0)
    indices = n.static(1)
    rank = n.rank(0)
    before = ":, " * (axis % rank if rank else max(axis, 0))
    if indices is not None and indices.ndim == 0 and rank is not None:
        return f"{n[0]}[{before}{int(indices)}]"
    weight = n.shape(0)
    if axis == 0 and rank == 2 and weight is not None and None not in weight and indices is None and n.rank(1) is not None:
        layer = n.layer(f"nn.Embedding({weight[0]}, {weight[1]}", {"weight": 0})
        if layer:
            return f"{layer}({n.function('wrapped')}({n[1]}, {weight[0]}))"
    if axis < 0 and rank is None:
        raise n.error("the rank of the data is unknown")
    index = n[1]
    return f"{n[0]}[{before}{n.function('wrapped')}({index}, {n[0]}.shape[{axis}])]" if indices is None else f"{n[0]}[{before}{index}]"


@writes("GatherElements")
def gather_elements(n: Node) -> str:
    """torch.gather."""
    axis = n.attr("axis", 0)
    return f"{n[0]}.gather({axis}, {n.function('wrapped')}({n[1]}, {n[0]}.shape[{axis}]))"


@writes("GatherND")
def gather_nd(n: Node) -> str:
    """Elements or slices by tuples of indices."""
    return f"{n.function('gather_nd')}({n[0]}, {n[1]}, {n.attr('batch_dims', 0)})"


@writes("ScatterElements", "Scatter")
def scatter_elements(n: Node) -> str:
    """torch.scatter, or scatter_reduce."""
    axis, reduction = n.attr("axis", 0), n.attr("reduction", "none")
    index = f"{n.function('wrapped')}({n[1]}, {n[0]}.shape[{axis}])"
    if reduction == "none":
        return f"{n[0]}.scatter({axis}, {index}, {n[2]})"
    kinds = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    return f'{n[0]}.scatter_reduce({axis}, {index}, {n[2]}, "{kinds[reduction]}")'


@writes("ScatterND")
def scatter_nd(n: Node) -> str:
    """Elements or slices placed by tuples of indices."""
    return f"{n.function('scatter_nd')}({n[0]}, {n[1]}, {n[2]}, {n.attr('reduction', 'none')!r})"


@writes("OneHot")
def one_hot(n: Node) -> str:
    """off and on values by index; indices out of range give no on value."""
    return f"{n.function('one_hot')}({n[0]}, {n.scalar(1)}, {n[2]}, {n.attr('axis', -1)})"


@writes("NonZero")
def non_zero(n: Node) -> str:
    """x.nonzero().t()."""
    return f"{n[0]}.nonzero().t()"


@writes("Compress")
def compress(n: Node) -> str:
    """The slices whose condition holds."""
    axis = n.attr("axis")
    if axis is None:
        return f"{n.function('compress')}({n[0]}.flatten(), {n[1]}, 0)"
    return f"{n.function('compress')}({n[0]}, {n[1]}, {axis})"


@writes("ConstantOfShape")
def constant_of_shape(n: Node) -> str:
    """torch.full."""
    value = n.attr("value")
    value = np.zeros(1, np.float32) if value is None else value
    dtype = torch_dtype(ir.DataType.from_numpy(value.dtype))
    return f"torch.full({n.size_list(0)}, {number(value.reshape(-1)[0])}, dtype={dtype}, device={n.device})"


@writes("Range")
def ranges(n: Node) -> str:
    """torch.arange."""
    dtype = n.torch_dtype(n.output_dtype())
    return f"torch.arange({n.scalar(0)}, {n.scalar(1)}, {n.scalar(2)}, dtype={dtype}, device={n.device})"


@writes("EyeLike")
def eye_like(n: Node) -> str:
    """Ones on a diagonal."""
    dtype = n.torch_dtype(n.output_dtype())
    offset = n.attr("k", 0)
    ones = f"torch.ones({n[0]}.shape, dtype={dtype}, device={n.device})"
    return f"{ones}.triu({offset}).tril({offset})"


@writes("Trilu")
def trilu(n: Node) -> str:
    """x.triu or x.tril."""
    offset = n.scalar(1) if n.has(1) else "0"
    return f"{n[0]}.{'triu' if n.attr('upper', 1) else 'tril'}({offset})"


@writes("Unique")
def unique(n: Node) -> list[str]:
    """Distinct elements (or slices), where each first stands, which one each element is, and how many there are of each."""
    call = f"{n.function('unique')}({n[0]}, {n.attr('axis')}, {bool(n.attr('sorted', 1))})"
    return n.unpack(call, 4)[: n.outputs]


@writes("TensorScatter")
def tensor_scatter(n: Node) -> str:
    """A cache with new entries written from each batch's position on."""
    options = f"{n.attr('axis', -2)}, {n.attr('mode', 'linear') == 'circular'}"
    return f"{n.function('tensor_scatter')}({n[0]}, {n[1]}, {n.get(2)}, {options})"
