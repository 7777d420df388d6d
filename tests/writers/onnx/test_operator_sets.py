"""A part of tests/operator_sets.py's table: some cases of each archive in other operator sets, run by the installed onnxruntime."""

from __future__ import annotations

import onnx
import pytest

from tests.conformance import ARCHIVES
from tests.operator_sets import IR_VERSIONS, OPSETS, is_explained, nets, run, write


@pytest.mark.parametrize("archive", [*ARCHIVES, "tensorflow"])
def test_cases_in_other_sets(tmp_path, archive):
    """Nothing is wrong, and from set 11 on nothing is refused that ONNX could say."""
    converted = 0
    for case in nets(archive)[:: 8 if archive in ("caffe", "torch7", "mxnet") else 16]:
        folder = tmp_path / case.name
        refused = write(case, folder)
        if refused is not None:
            assert [opset for opset, words in refused.items() if opset > 10 and not is_explained(words)] == [], (case.name, refused)
            converted += 1
        for path in folder.glob("*.onnx"):
            assert run(case, path) == "", path
    assert converted > 4
    ninth = next(tmp_path.glob("*/9.onnx"))
    assert [(onnx.load(ninth.with_stem(str(opset))).ir_version) for opset in OPSETS] == [IR_VERSIONS[opset] for opset in OPSETS]
