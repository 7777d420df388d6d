"""Every operator against what MXNet 1.9.1 answered, in onnxruntime and PyTorch (fixtures/mxnet/make_operators.py)."""

import functools
import json
import zipfile

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import converters
from converters.options import LoadOptions
from converters.readers import mxnet
from converters.readers.mxnet import lowers
from tests.conformance import FIXTURES, _difference
from tests.readers.mxnet.wire import params

ARCHIVE = FIXTURES / "mxnet" / "operators.npz"
REFUSED = {"_linspace", "_contrib_boolean_mask", "_npi_boolean_mask"}
"""Operators that are known and refused."""
UNREFERENCED = {
    "WarpCTC",
    "_scatter_set_nd",
    "_npi_scatter_set_nd",
    "amp_multicast",
    "_image_flip_top_bottom",
    "_npx__image_flip_top_bottom",
}
"""Operators that MXNet's packages don't hold (a plugin's) or don't run in a symbol on a CPU; test_lowering has them."""


@functools.cache
def cases() -> dict[str, dict[str, list[str]]]:
    """Member names of each case by kind."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in zipfile.ZipFile(ARCHIVE).namelist():
        case, kind, *rest = name.removesuffix(".npy").split("/", 2)
        found.setdefault(case, {}).setdefault(kind, []).extend(rest)
    return found


@functools.cache
def archive():
    return np.load(ARCHIVE)


def arrays(case: str, kind: str) -> dict[str, np.ndarray]:
    return {name: archive()[f"{case}/{kind}/{name}"] for name in cases()[case].get(kind, [])}


@pytest.mark.parametrize("case", cases())
def test_operator(tmp_path, case):
    symbol = tmp_path / "net-symbol.json"
    symbol.write_text(str(archive()[f"{case}/json"]))
    inputs, expected = arrays(case, "input"), list(arrays(case, "output").values())
    weights = params(tmp_path / "net-0000.params", arrays(case, "param"))
    model = mxnet.load([symbol, weights], LoadOptions(inputs={name: array.shape for name, array in inputs.items()}))
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {v.name: inputs[v.name].astype(np.float32) for v in session.get_inputs()}
    check(case, "onnxruntime", session.run(None, feed), expected)

    import torch

    module = converters.to_module(model).eval()
    with torch.no_grad():
        answer = module(*[torch.from_numpy(feed[v.name]) for v in model.graph.inputs])
    check(case, "PyTorch", [a.numpy() for a in (answer if isinstance(answer, tuple) else (answer,))], expected)


def check(case: str, what: str, outputs, expected) -> None:
    assert len(outputs) == len(expected)
    faults = [_difference(got, want, 1e-3 if "16" in case or "amp" in case else 1e-4) for got, want in zip(outputs, expected, strict=True)]
    assert not any(faults), f"{what}: {faults}"


def test_every_operator_has_a_case():
    used: set[str] = set()
    for case in cases():
        used.update(node["op"] for node in json.loads(str(archive()[f"{case}/json"]))["nodes"])
    with zipfile.ZipFile(FIXTURES / "conformance" / "mxnet.zip") as conformance:
        for name in conformance.namelist():
            if name.endswith("case.json"):
                used.update(json.loads(conformance.read(name)).get("ops", []))
    covered = {lowers[op] for op in used if op in lowers}
    missing = sorted({op for op in lowers if lowers[op] not in covered} - REFUSED - UNREFERENCED)
    assert not missing
