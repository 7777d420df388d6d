"""Loops and choices, whose steps and branches are graphs that the node holds. Source: mxnet src/operator/control_flow.cc."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.axes import SEQUENCE, Axes, integers
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import truth
from converters.readers.mxnet.parameter import Parameter
from converters.readers.mxnet.signature import Subgraphs, lowers
from converters.readers.mxnet.symbol import Node


def _one_truth(g: OperatorBuilder, value: ir.Value) -> ir.Value:
    """A condition (1,) as one bool."""
    return g.reshape(truth(g, value), [])


def _arguments(locations: Sequence[int], operands: Sequence[Parameter | ir.Value]) -> dict[int, Parameter | ir.Value]:
    return dict(zip(locations, operands, strict=True))


def _data(node: Node) -> dict[int, Axes]:
    """Data are (T, N, ...), states (N, ...); a state's batch is its first axis, as everywhere."""
    return dict.fromkeys(range(len(integers(node, "in_data_locs"))), SEQUENCE)


@lowers("_foreach", ignores="num_args num_outputs", sequences=_data, graphs=(("in_data_locs", "in_state_locs", "remain_locs"),))
def foreach(
    g: OperatorBuilder,
    *data: Parameter,
    subgraphs: Subgraphs,
    in_data_locs: Ints,
    in_state_locs: Ints,
    remain_locs: Ints = (),
    num_out_data: int,
) -> list[ir.Value]:
    """A graph run for each entry of the first axis of its data, (T, N, ...), states carried on; its outputs are joined along a new axis.

    Source: mxnet src/operator/control_flow.cc.
    """
    count, ends = len(in_data_locs), len(in_data_locs) + len(in_state_locs)
    if len(subgraphs) != 1 or count < 1 or len(data) != ends + len(remain_locs):
        raise g.error(f"has {len(subgraphs)} graphs and {len(data)} inputs, which don't fit its locations")
    sequences = [value.use() for value in data[:count]]
    states = [_with_batch(g, value.use(), sequences[0]) for value in data[count:ends]]
    with g.body() as body:
        before = [g.body_input(f"{value.name}_before", value, g.shape(value)) for value in states]
        entries = [g.body_input(f"{value.name}_step", value, g.shape(value)[1:]) for value in sequences]
        arguments = _arguments([*in_data_locs, *in_state_locs, *remain_locs], [*entries, *before, *data[ends:]])
        results = subgraphs[0](arguments)
    if len(results) != num_out_data + len(states):
        raise g.error(f"its graph has {len(results)} outputs; {num_out_data} and {len(states)} states are expected")
    after = results[num_out_data:]
    lasts, joined = g.scan(body, states, sequences, after, results[:num_out_data])
    return [*joined, *lasts]


def _with_batch(g: OperatorBuilder, state: ir.Value, sequence: ir.Value) -> ir.Value:
    """A first state whose batch the file leaves open, grown to that of the data (T, N, ...)."""
    if state not in g.open_values or g.rank(sequence) < 2:
        return state
    lengths: list[int | Extent] = [Extent(sequence, 1), *g.fixed(state, 1)]
    return g.emit("Expand", state, g.sizes(lengths), shape=[g.shape(sequence)[1], *g.shape(state)[1:]])


@lowers("_while_loop", ignores="num_args num_outputs", graphs=(("cond_input_locs",), ("func_input_locs",)))
def while_loop(
    g: OperatorBuilder,
    *data: Parameter,
    subgraphs: Subgraphs,
    max_iterations: int,
    cond_input_locs: Ints,
    func_input_locs: Ints,
    func_var_locs: Ints,
    num_out_data: int,
) -> list[ir.Value]:
    """A graph run as long as another one answers true, at most so often; what each step gives is joined, zeros behind the last step.

    Source: mxnet src/operator/control_flow.cc.
    """
    if len(subgraphs) != 2 or max(max(cond_input_locs, default=-1), max(func_input_locs, default=-1)) >= len(data):
        raise g.error(f"has {len(subgraphs)} graphs and {len(data)} inputs, which don't fit its locations")
    condition, step = subgraphs
    carried = [func_input_locs[argument] for argument in func_var_locs]  # the inputs that the loop's variables start as
    first = [data[position].use() for position in carried]

    def asked(values: Sequence[ir.Value]) -> ir.Value:
        now: dict[int, Parameter | ir.Value] = dict(enumerate(data)) | dict(zip(carried, values, strict=True))
        return _one_truth(g, condition({k: now[position] for k, position in enumerate(cond_input_locs)})[0])

    begins = asked(first)
    with g.body() as body:
        g.body_input("turn", g.const(np.array(0, np.int64)), [])
        g.body_input("goes_on", begins, [])
        before = [g.body_input(f"{value.name}_before", value, g.shape(value)) for value in first]
        now: dict[int, Parameter | ir.Value] = dict(enumerate(data)) | dict(zip(carried, before, strict=True))
        results = step({k: now[position] for k, position in enumerate(func_input_locs)})
        after = results[num_out_data:]
        if len(after) != len(first):
            raise g.error(f"its graph has {len(results)} outputs; {num_out_data} and {len(first)} variables are expected")
        goes_on = asked(after)
    lasts, joined = g.loop(body, max_iterations, begins, first, goes_on, after, results[:num_out_data])
    return [*(_filled_up(g, value, max_iterations) for value in joined), *lasts]


def _filled_up(g: OperatorBuilder, rows: ir.Value, count: int) -> ir.Value:
    """Rows with zeros behind them, as many as `count` together."""
    missing = g.emit("Sub", g.const(np.array([count], np.int64)), g.emit("Shape", rows, end=1))
    rank = g.rank(rows)
    ends = [g.const(np.zeros(rank, np.int64)), missing, *([g.const(np.zeros(rank - 1, np.int64))] if rank > 1 else [])]
    return g.emit("Pad", rows, g.emit("Concat", *ends, axis=0), np.zeros((), g.dtype(rows)), shape=[count, *g.shape(rows)[1:]])


@lowers("_cond", ignores="num_args num_outputs", graphs=(("cond_input_locs",), ("then_input_locs",), ("else_input_locs",)))
def cond(
    g: OperatorBuilder,
    *data: Parameter,
    subgraphs: Subgraphs,
    cond_input_locs: Ints,
    then_input_locs: Ints,
    else_input_locs: Ints,
) -> list[ir.Value]:
    """One graph or another, as a third one answers. Source: mxnet src/operator/control_flow.cc."""
    if len(subgraphs) != 3 or max((*cond_input_locs, *then_input_locs, *else_input_locs), default=-1) >= len(data):
        raise g.error(f"has {len(subgraphs)} graphs and {len(data)} inputs, which don't fit its locations")
    places = [cond_input_locs, then_input_locs, else_input_locs]
    given = [{k: data[position] for k, position in enumerate(where)} for where in places]
    condition = _one_truth(g, subgraphs[0](given[0])[0])
    branches = []
    for graph, arguments in zip(subgraphs[1:], given[1:], strict=True):
        with g.body() as body:
            results = graph(arguments)
        branches.append((body, results))
    return g.choice(condition, *branches)
