"""Operators of numpy mode, and decompositions, that the archives don't hold, against numpy."""

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from tests.bench import check
from tests.readers.mxnet import wire
from tests.readers.mxnet.operator_case import OperatorCase

PAIR = [(2, 3), (2, 3)]
SPECIAL = np.array([[np.nan, np.inf, -np.inf], [0, 1, -1]], np.float32)
FACTOR = np.array([[[2, 0, 0], [0.5, 1.5, 0], [-0.3, 0.7, 1.2]]] * 2, np.float32)
RIGHT = np.random.RandomState(4).randn(2, 3, 3).astype(np.float32)
MASK = np.array([1, 0], np.float32)


def triangular(a, b):
    return np.linalg.solve(np.tril(a), 2.0 * b)


def triangular_right(a, b):
    """X of X tril(a)^T = b."""
    return np.swapaxes(np.linalg.solve(np.tril(a), np.swapaxes(b, 1, 2)), 1, 2)


def masked(value):
    return lambda x, mask: np.where(mask[:, None, None] != 0, np.float32(value), x)


ROWS = [
    OperatorCase(
        "_npi_tensordot",
        lambda x, b: np.tensordot(x, b, ((1,), (0,))),
        {"a_axes_summed": "(1,)", "b_axes_summed": "(0,)"},
        stored={"b": (3, 6)},
    ),
    OperatorCase(
        "_npi_tensordot",
        lambda x, b: np.tensordot(x, b, ((1,), (1,))),
        {"a_axes_summed": "(1,)", "b_axes_summed": "(1,)"},
        stored={"b": (2, 3, 4)},
        name="tensordot of more axes",
    ),
    OperatorCase("_linalg_potri", lambda a: np.linalg.inv(a @ np.swapaxes(a, 1, 2)), shapes=[FACTOR], tolerance=1e-4),
    OperatorCase("_linalg_trsm", triangular, {"alpha": 2.0}, [FACTOR, RIGHT], tolerance=1e-4),
    OperatorCase("_linalg_trsm", triangular_right, {"rightside": True, "transpose": True}, [FACTOR, RIGHT], tolerance=1e-4),
    OperatorCase("_npi_arccos", np.arccos, span=(-1, 1)),
    OperatorCase("_npi_arcsin", np.arcsin, span=(-1, 1)),
    OperatorCase("_npi_clip", lambda x: np.maximum(x, -0.5), {"a_min": -0.5, "a_max": "None"}),
    OperatorCase("_npi_diag_indices_from", lambda x: np.stack(np.diag_indices_from(x)), shapes=[(3, 3)], fixed=True),
    OperatorCase("_npi_hypot_scalar", lambda x: np.hypot(x, 1.5), {"scalar": 1.5}),
    OperatorCase("_npi_isposinf", np.isposinf, shapes=[SPECIAL]),
    OperatorCase("_npi_isneginf", np.isneginf, shapes=[SPECIAL]),
    OperatorCase("_npi_isfinite", np.isfinite, shapes=[SPECIAL]),
    OperatorCase("_npi_less", np.less, shapes=PAIR),
    OperatorCase("_npi_maximum_scalar", lambda x: np.maximum(x, 0.3), {"scalar": 0.3, "is_int": False}),
    OperatorCase("_npi_minimum_scalar", lambda x: np.minimum(x, 1), {"scalar": 1}),
    OperatorCase("_npx_cast", lambda x: x.astype(np.int32), {"dtype": "int32"}),
    OperatorCase("_npi_boolean_mask_assign_scalar", masked(1.5), {"value": 1.5, "start_axis": 0}, [(2, 3, 4), MASK], fixed=True),
    OperatorCase(
        "_npi_boolean_mask_assign_tensor",
        lambda x, mask, value: np.where(mask[:, None, None] != 0, value, x),
        {"start_axis": 0},
        [(2, 3, 4), MASK],
        {"value": np.array([2.5], np.float32)},
        fixed=True,
    ),
    OperatorCase(
        "_npi_nan_to_num", lambda x: np.nan_to_num(x, nan=2, posinf=3, neginf=-4), {"nan": 2, "posinf": 3, "neginf": -4}, [SPECIAL]
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)


@pytest.mark.parametrize("begin, end, step, index", [(0, 1, 1, 0), (2, 3, 1, 2), (-1, -2, -1, -1), (-2, -3, -1, -2), (-2, -1, 1, -2)])
def test_an_entry_of_an_open_axis(tmp_path, begin, end, step, index):
    """x[i] is stored as a slice and a reshape that drops its axis: of the batch too, whatever its size."""
    cut = wire.node("_npi_slice", "cut", [(0, 0)], begin=f"({begin},)", end=f"({end},)", step=f"({step},)")
    nodes = [wire.node("null", "data"), cut, wire.node("_npx_reshape", "entry", [(1, 0)], newshape="(-3, -4)")]
    symbol = wire.symbol(tmp_path / "net-symbol.json", nodes, [(2, 0)])
    params = wire.params(tmp_path / "net-0000.params", {"unused": np.ones(1, np.float32)})
    model = converters.load(symbol, params, inputs={"data": (4, 3, 2)})
    converters.save(model, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    module = converters.to_module(model)
    for size in (4, 7):
        x = np.arange(size * 6, dtype=np.float32).reshape(size, 3, 2)
        np.testing.assert_array_equal(session.run(None, {"data": x})[0], x[index])
        np.testing.assert_array_equal(module(torch.from_numpy(x)).numpy(), x[index])
