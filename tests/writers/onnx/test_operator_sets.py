"""A part of tests/operator_sets.py's table: every eighth conformance case in other operator sets, run by the installed onnxruntime."""

from __future__ import annotations

import onnx
import pytest

from tests.conformance import FILES, cases
from tests.operator_sets import IR_VERSIONS, OPSETS, run, write


@pytest.mark.parametrize("framework", FILES)
def test_cases_in_other_sets(tmp_path, framework):
    """Nothing is wrong, and from set 11 on nothing is refused."""
    chosen = [case for case in cases(framework)[::8] if case.about.get("expect", "convert") == "convert"]
    assert len(chosen) > 20
    for case in chosen:
        folder = tmp_path / case.name
        refused = write(case, folder)
        assert [opset for opset in refused if opset > 10] == [], (case.name, refused)
        for path in folder.glob("*.onnx"):
            assert run(case, path) == "", path
    ninth = next(tmp_path.glob("*/9.onnx"))
    assert [(onnx.load(ninth.with_stem(str(opset))).ir_version) for opset in OPSETS] == [IR_VERSIONS[opset] for opset in OPSETS]
