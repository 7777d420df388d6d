"""Modules that overwrite their input, share a storage or run twice: what Torch7's tensors would hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import Object, module, sizes
from tests.readers.torch7.module_case import ModuleCase, rand

X = rand(3, 4)
W, B = rand(4, 4), rand(4)
SHARED = module("nn.Linear", weight=W, bias=B)


SELECT = module("nn.SelectTable", index=1)
SPLIT = module("nn.SplitTable", dimension=2)


def seq(*modules: Any) -> Object:
    return module("nn.Sequential", *modules)


def relu(inplace: bool = True) -> Object:
    return module("nn.ReLU", threshold=0, val=0, inplace=inplace)


RELU = relu()


def times(factor: float, inplace: bool = True) -> Object:
    return module("nn.MulConstant", constant_scalar=factor, inplace=inplace)


def table(*modules: Any) -> Object:
    return module("nn.ConcatTable", *modules)


def identity() -> Object:
    return module("nn.Identity")


def linear(x: np.ndarray) -> np.ndarray:
    return x @ W.T + B


CASES = [
    ModuleCase("first_branch_overwrites", table(times(2), identity(), times(3, False)), (3, 4), lambda x: [2 * x, 2 * x, 6 * x]),
    ModuleCase("last_branch_overwrites", table(identity(), times(3, False), times(2)), (3, 4), lambda x: [2 * x, 3 * x, 2 * x]),
    ModuleCase("evaluated_before", table(SHARED, relu()), (3, 4), lambda x: [linear(x), np.maximum(x, 0)]),
    ModuleCase("evaluated_behind", table(relu(), SHARED), (3, 4), lambda x: [np.maximum(x, 0), linear(np.maximum(x, 0))]),
    ModuleCase(
        "concat_reads_at_the_end",
        module("nn.Concat", identity(), seq(times(2)), dimension=2),
        (3, 4),
        lambda x: np.concatenate([2 * x, 2 * x], 1),
    ),
    ModuleCase(
        "through_a_view",
        table(seq(module("nn.View", size=sizes(12)), times(2)), identity()),
        (3, 4),
        lambda x: [2 * x.reshape(12), 2 * x],
        fixed=True,
    ),
    ModuleCase(
        "base_of_a_view", table(module("nn.View", size=sizes(12)), times(2)), (3, 4), lambda x: [2 * x.reshape(12), 2 * x], fixed=True
    ),
    ModuleCase(
        "slice_of_a_split",
        seq(table(seq(module("nn.SplitTable", dimension=2), module("nn.SelectTable", index=2), times(5)), identity())),
        (3, 4),
        lambda x: [5 * x[:, 1], np.concatenate([x[:, :1], 5 * x[:, 1:2], x[:, 2:]], 1)],
    ),
    ModuleCase(
        "split_of_a_view",
        seq(
            table(
                seq(
                    module("nn.Reshape", size=sizes(2, 6)),
                    module("nn.SplitTable", dimension=1),
                    module("nn.SelectTable", index=-1),
                    times(5),
                ),
                identity(),
            )
        ),
        (3, 4),
        lambda x: [5 * x.reshape(2, 6)[1], np.concatenate([x.reshape(12)[:6], 5 * x.reshape(12)[6:]]).reshape(3, 4)],
        fixed=True,
    ),
    ModuleCase(
        "reshape_copies_a_column",
        seq(
            table(
                seq(
                    module("nn.SplitTable", dimension=2),
                    module("nn.SelectTable", index=1),
                    module("nn.Reshape", size=sizes(3, 1)),
                    times(5),
                ),
                identity(),
            )
        ),
        (3, 4),
        lambda x: [5 * x[:, :1], x],
        fixed=True,
    ),
    ModuleCase("dropout_copies", table(seq(module("nn.Dropout", p=0.5, v2=True), times(2)), identity()), (3, 4), lambda x: [2 * x, x]),
    ModuleCase("dropout_inplace", table(module("nn.Dropout", p=0.5, inplace=True), identity()), (3, 4), lambda x: [x / 2, x / 2]),
    ModuleCase(
        "copy",
        table(seq(module("nn.Copy", intype="torch.FloatTensor", outtype="torch.FloatTensor"), times(2)), identity()),
        (3, 4),
        lambda x: [2 * x, x],
    ),
    ModuleCase(
        "convert_to_the_same",
        table(seq(module("nn.Convert", inputShape="bf", outputShape="bf"), times(2)), identity()),
        (3, 4),
        lambda x: [2 * x, 2 * x],
    ),
    ModuleCase("clip_always_overwrites", table(module("w2nn.InplaceClip01"), identity()), (3, 4), lambda x: [np.clip(x, 0, 1)] * 2),
    ModuleCase(
        "narrow_copies",
        table(seq(module("nn.Narrow", dimension=2, index=1, length=2), times(2)), identity()),
        (3, 4),
        lambda x: [2 * x[:, :2], x],
    ),
    ModuleCase("add_into_the_first", seq(table(identity(), SHARED), module("nn.CAddTable", inplace=True)), (3, 4), lambda x: x + linear(x)),
    ModuleCase(
        "add_into_the_input",
        table(seq(table(identity(), SHARED), module("nn.CAddTable", inplace=True)), identity()),
        (3, 4),
        lambda x: [x + linear(x)] * 2,
    ),
    ModuleCase(
        "add_to_itself", seq(table(identity(), identity(), identity()), module("nn.CAddTable", inplace=True)), (3, 4), lambda x: 4 * x
    ),
    ModuleCase("add_to_itself_apart", seq(table(identity(), identity(), identity()), module("nn.CAddTable")), (3, 4), lambda x: 3 * x),
    ModuleCase("module_in_a_row", seq(SHARED, SHARED), (3, 4), lambda x: linear(linear(x))),
    ModuleCase("module_for_two_inputs", module("nn.ParallelTable", SHARED, SHARED), [X, 2 * X], lambda x: [linear(x[1])] * 2),
    ModuleCase(
        "clones_for_two_inputs",
        module("nn.ParallelTable", SHARED, module("nn.Linear", weight=W, bias=B)),
        [X, 2 * X],
        lambda x: [linear(v) for v in x],
    ),
    ModuleCase(
        "output_overwritten_later", seq(table(seq(SHARED, identity()), seq(SHARED, times(2)))), (3, 4), lambda x: [2 * linear(x)] * 2
    ),
    ModuleCase(
        "selects_twice",
        seq(module("nn.SplitTable", dimension=1), table(*[seq(module("nn.NarrowTable", offset=n, length=2), SELECT) for n in (1, 2)])),
        (3, 4),
        lambda x: [x[0], x[1]],
        fixed=True,
    ),
    ModuleCase("splits_twice", module("nn.ParallelTable", *[seq(SPLIT, SELECT)] * 2), [X, 2 * X], lambda x: [x[0][:, 0], x[1][:, 0]]),
    ModuleCase(
        "inplace_module_for_two_inputs",
        seq(table(SHARED, times(3, False)), module("nn.ParallelTable", *[relu()] * 2)),
        (3, 4),
        lambda x: [np.maximum(3 * x, 0)] * 2,
    ),
    ModuleCase(
        "inplace_module_in_a_row",
        seq(*[times(2)] * 1, SHARED, *[RELU, RELU, SHARED, RELU]),
        (3, 4),
        lambda x: np.maximum(linear(np.maximum(linear(2 * x), 0)), 0),
    ),
    ModuleCase("long_inplace_chain", table(seq(*[relu() for _ in range(400)]), identity()), (3, 4), lambda x: [np.maximum(x, 0)] * 2),
    ModuleCase(
        "view_module_twice", seq(SHARED, *[module("nn.View", size=sizes(12))] * 2), (3, 4), lambda x: linear(x).reshape(12), fixed=True
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_aliasing(case: ModuleCase, tmp_path: Any) -> None:
    check(case, tmp_path)
