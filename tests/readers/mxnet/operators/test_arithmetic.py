"""Arithmetic and functions of one number against numpy."""

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from tests.bench import check
from tests.readers.mxnet import wire
from tests.readers.mxnet.operator_case import OperatorCase

ROWS = [
    OperatorCase("_contrib_div_sqrt_dim", lambda x: x / np.sqrt(x.shape[-1])),
    OperatorCase("amp_multicast", lambda a, b: (a, b), {"num_outputs": 2}, [(2, 3), (2, 4)], outputs=2),
    OperatorCase("_mod_scalar", lambda x: np.mod(x, -1.5), {"scalar": -1.5}),
    OperatorCase("_hypot", np.hypot, shapes=[(2, 3), (2, 3)]),
    OperatorCase("cbrt", np.cbrt),
    OperatorCase("expm1", np.expm1, span=(-1e-3, 1e-3), tolerance=1e-6),
    OperatorCase("clip", lambda x: np.clip(x, -0.5, 1), {"a_min": -0.5, "a_max": 1}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)


NARROW = [
    ("_lesser_scalar", "uint8", -2.0, [1, 1, 1, 1]),
    ("_maximum_scalar", "uint8", -1.5, [255, 255, 255, 255]),
    ("_minimum_scalar", "int8", 300.0, [0, 3, 44, 44]),
    ("_rminus_scalar", "uint8", -2.0, [254, 251, 154, 134]),
    ("_div_scalar", "uint8", 300.0, [0, 0, 2, 2]),
    ("_hypot_scalar", "int8", 2.5, [2, 3, 100, 120]),
    ("_hypot_scalar", "uint8", -2.0, [254, 254, 16, 24]),
]
"""What MXNet 1.9.1 answers for 0, 3, 100 and 120: the number takes the data's type first, of which it keeps the low bits."""


@pytest.mark.parametrize(("op", "dtype", "number", "wanted"), NARROW)
def test_number_beside_a_narrow_integer(tmp_path, op, dtype, number, wanted):
    nodes = [wire.node("null", "data"), wire.node("Cast", "narrow", [(0, 0)], dtype=dtype), wire.node(op, "op", [(1, 0)], scalar=number)]
    nodes.append(wire.node("Cast", "wide", [(2, 0)], dtype="float32"))
    symbol = wire.symbol(tmp_path / "net-symbol.json", nodes, [(3, 0)])
    params = wire.params(tmp_path / "net-0000.params", {"unused": np.ones(1, np.float32)})
    model = converters.load(symbol, params, inputs={"data": (1, 4)})
    x = np.array([[0, 3, 100, 120]], np.float32)
    converters.save(model, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert session.run(None, {"data": x})[0].tolist() == [wanted]
    assert converters.to_module(model)(torch.from_numpy(x)).tolist() == [wanted]
