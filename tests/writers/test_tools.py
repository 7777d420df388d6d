"""torch.fx, TorchScript, torch.export, torch.compile, copy and pickle take what is written.

A few nets of each framework by default; all of them with CONVERTERS_SWEEP=1, which takes some ten minutes.
"""

from __future__ import annotations

import os
import warnings

import pytest

from tests.conformance import cases
from tests.writers.tools import TOOLS, try_tool, written

EVERY = 1 if os.environ.get("CONVERTERS_SWEEP") else 50

BOXES = "how many boxes are left is seen in the data"
REGIONS = "where a region begins and ends is seen in the data"
SIZE = "it crops to a size that is computed as a tensor"
REFUSED = {
    "export": {"mxnet-box_nms": BOXES, "mxnet-multibox_detection": BOXES, "mxnet-roipooling_scale": REGIONS, "torch7-fullconv_table": SIZE},
    "compile": {
        "mxnet-box_nms": BOXES,
        "mxnet-multibox_detection": BOXES,
        "mxnet-roipooling_scale": REGIONS,
        "torch7-fullconv_table": SIZE,
    },
}
"""Nets that a tool can't take, with the reason."""


@pytest.mark.parametrize("framework", ["caffe", "torch7", "mxnet"])
def test_tools_take_the_written_module(framework, tmp_path):
    listed = {name for nets in REFUSED.values() for name in nets}
    chosen = [case for number, case in enumerate(cases(framework)) if number % EVERY == 0 or str(case) in listed]
    found: dict[str, set[str]] = {tool: set() for tool in TOOLS}
    words = []
    tried = set()
    for case in chosen:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = written(case, tmp_path / case.name)
        if made is None:
            continue
        tried.add(str(case))
        for tool in TOOLS:
            problem = try_tool(tool, *made[:2])
            if problem:
                found[tool].add(str(case))
                words.append(f"{tool}: {case}: {problem}")
    assert len(tried) >= len(chosen) * 0.8
    assert found == {tool: set(REFUSED.get(tool, {})) & tried for tool in TOOLS}, "\n".join(words)
