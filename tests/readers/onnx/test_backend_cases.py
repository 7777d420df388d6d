"""The node tests that ONNX itself ships: what is converted gives the stated numbers, what isn't is refused by name."""

from __future__ import annotations

import collections
import functools
import os
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from converters.errors import ConversionError
from converters.readers.onnx import load
from converters.readers.onnx.reader import from_proto
from converters.writers.source.writer import known_operators, to_module

DATA = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
SHARE = 16


@functools.cache
def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return collect_testcases()


def array_of(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def tensor_of(value):
    if value is None or isinstance(value, list):
        return None if value is None else [tensor_of(part) for part in value]
    array = np.array(array_of(value))
    if array.dtype.name in SMALL:
        return torch.from_numpy(array.astype(SMALL[array.dtype.name]))
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if array.dtype.name in FLOAT8:
        return torch.from_numpy(array.view(np.uint8)).view(FLOAT8[array.dtype.name])
    return torch.from_numpy(array)


# one number an element, in the smallest type that torch computes with
SMALL = {"int4": np.int8, "uint4": np.uint8, "int2": np.int8, "uint2": np.uint8, "float4_e2m1fn": np.float32}
FLOAT8 = {
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e4m3fnuz": torch.float8_e4m3fnuz,
    "float8_e5m2": torch.float8_e5m2,
    "float8_e5m2fnuz": torch.float8_e5m2fnuz,
}


def compare(got, want, rtol, atol):
    if isinstance(want, list):
        assert isinstance(got, list)
        for ours, theirs in zip(got, want, strict=True):
            compare(ours, theirs, rtol, atol)
        return
    want = np.asarray(array_of(want))
    want = want.astype(SMALL.get(want.dtype.name, want.dtype))
    if want.dtype.name in FLOAT8:
        assert (got.dtype, got.shape) == (FLOAT8[want.dtype.name], want.shape)
        np.testing.assert_array_equal(got.float().numpy(), want.astype(np.float32))
        return
    coarse = {"bfloat16": 1.6e-2, "float16": 2e-3}.get(want.dtype.name, 1e-3)
    if got.dtype == torch.bfloat16:
        got, want = got.float(), want.astype(np.float32)
    got = got.numpy()
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    if want.dtype.kind in "fc":
        np.testing.assert_allclose(got, want, rtol=max(rtol, coarse), atol=max(atol, 1e-5))
    else:
        np.testing.assert_array_equal(got, want)


def outcome(case):
    """passed, refused (with the operator), or what is wrong."""
    try:
        module = to_module(from_proto(case.model, case.name))
    except ConversionError as problem:
        return "refused", str(problem)
    try:
        for inputs, outputs in case.data_sets:
            with torch.no_grad():
                got = module(*map(tensor_of, inputs))
            got = got if isinstance(got, tuple) else (got,)
            assert len(got) == len(outputs)
            for ours, theirs in zip(got, outputs, strict=True):
                compare(ours, theirs, case.rtol, case.atol)
    except Exception as problem:
        return "wrong", f"{type(problem).__name__}: {problem}"
    return "passed", ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(SHARE))
def test_node_cases(part, record_property):
    """None is silently wrong; of those whose operators have PyTorch source at least 85 % pass."""
    wrong, counts = [], collections.Counter()
    for case in cases()[part::SHARE]:
        result, words = outcome(case)
        written = {node.op_type for node in case.model.graph.node} <= known_operators()
        counts[result, written] += 1
        if result == "wrong":
            wrong.append(f"{case.name}: {words}")
        if result == "refused":
            assert case.name in words or "ONNX operator" in words, words
    record_property("counts", str(dict(counts)))
    assert not wrong
    known = counts["passed", True] + counts["refused", True]
    assert counts["passed", True] >= 0.7 * known and sum(counts.values()) > 100


def test_at_least_85_percent_of_the_cases_of_known_operators_pass():
    """The figure, without running them all again: refusals come before anything runs."""
    known = [case for case in cases() if {node.op_type for node in case.model.graph.node} <= known_operators()]
    refused = 0
    for case in known:
        try:
            from_proto(case.model, case.name)
            to_module(from_proto(case.model, case.name))
        except ConversionError:
            refused += 1
    assert len(known) > 1000 and refused <= 0.15 * len(known), (len(known), refused)


def files(kind):
    folder = os.path.join(DATA, kind)
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, "model.onnx")))


def stored(path):
    with open(path, "rb") as file:
        return onnx.TensorProto.FromString(file.read())


@pytest.mark.parametrize("kind", ["pytorch-converted", "pytorch-operator"])
def test_models_that_pytorch_exported(kind):
    """Opset 6, real exports of torch.nn layers and of operators."""
    assert len(files(kind)) > 30
    for folder in files(kind):
        module = to_module(load([os.path.join(folder, "model.onnx")]))
        for data in sorted(name for name in os.listdir(folder) if name.startswith("test_data_set")):
            at = os.path.join(folder, data)
            inputs = [stored(os.path.join(at, f"input_{i}.pb")) for i in range(len(module_inputs(at)))]
            outputs = [stored(os.path.join(at, f"output_{i}.pb")) for i in range(len(os.listdir(at)) - len(inputs))]
            with torch.no_grad():
                got = module(*map(tensor_of, inputs))
            for ours, theirs in zip(got if isinstance(got, tuple) else (got,), outputs, strict=True):
                compare(ours, theirs, 1e-3, 1e-5)


def module_inputs(folder):
    return [name for name in os.listdir(folder) if name.startswith("input_")]


def light():
    folder = os.path.join(DATA, "light")
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".onnx"))


@pytest.mark.parametrize("path", light(), ids=os.path.basename)
def test_whole_networks(path):
    """The zoo's networks with the weights filled in by the graph."""
    model = load([path])
    shape = [d if isinstance(d, int) else 1 for d in model.graph.inputs[0].shape]
    count = int(np.prod(shape))
    x = torch.arange(count, dtype=torch.float32).reshape(shape) / count
    with torch.no_grad():
        got = to_module(model)(x)
    compare(got, stored(path[: -len(".onnx")] + "_output_0.pb"), 1e-3, 1e-5)
