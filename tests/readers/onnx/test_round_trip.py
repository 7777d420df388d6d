"""Caffe, Torch7 and MXNet models written as ONNX and read again: the numbers of the direct conversion, and the same keys."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import converters
from tests.conformance import arrange, cases

SHARE = 8


def run(model, arrays):
    with torch.no_grad():
        outputs = converters.to_module(model)(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {str(value.name): output.detach().numpy() for value, output in zip(model.graph.outputs, outputs, strict=True)}


def gives_sizes_alone(value):
    """Whether all that is computed of a value are sizes, which a file of known sizes holds as numbers."""
    return all(
        node.op_type == "Shape" or (all(not v.is_graph_output() for v in node.outputs) and all(map(gives_sizes_alone, node.outputs)))
        for node, _ in value.uses()
    )


def difference(case, folder):
    """What the round trip changes: '' for nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            direct = converters.load(*case.write_model(folder), inputs=case.shapes(), key=case.about.get("model_at") or None)
        except converters.ConversionError:
            return ""
        path = folder / f"{case}.onnx"
        converters.save(direct, path)
        again = converters.load(path)
    if not case.pairs():
        return ""
    names = [str(value.name) for value in direct.graph.inputs]
    if names != [str(value.name) for value in again.graph.inputs]:
        return "the inputs' names differ"
    arrays = arrange(case.pairs()[0][0], names)
    want, got = run(direct, arrays), run(again, arrays)
    if list(want) != list(got):
        return "the outputs' names differ"
    worst = [name for name in want if not np.allclose(got[name], want[name], rtol=1e-5, atol=1e-6, equal_nan=True)]
    floats = {key for key, value in direct.graph.initializers.items() if value.dtype.is_floating_point()}
    lost = {key for key in floats - set(again.graph.initializers) if not gives_sizes_alone(direct.graph.initializers[key])}
    return " ".join([*(f"{name} differs" for name in worst), *(f"{key} is lost" for key in sorted(lost))])


@pytest.mark.parametrize("part", range(SHARE))
@pytest.mark.parametrize("framework", ["caffe", "torch7", "mxnet"])
def test_round_trip(framework, part, tmp_path):
    faults = []
    for case in cases(framework)[part::SHARE]:
        folder = tmp_path / case.name
        folder.mkdir()
        fault = difference(case, folder)
        if fault:
            faults.append(f"{case.name}: {fault}")
    assert not faults
