"""The nets of fixtures/mxnet/operators.npz: what MXNet 1.9.1 answered, and what it answered at another batch and other image sizes."""

import functools
import json
import zipfile
from collections.abc import Mapping

import numpy as np
import pytest
import torch

import converters
from converters.readers.mxnet import lowers
from tests.bench import REFUSALS, check
from tests.conformance import FIXTURES, _difference
from tests.readers.mxnet.operator_case import ArchivedCase, archive, members
from tests.readers.mxnet.operators import rows_of_all_topics

SIZES = FIXTURES / "mxnet" / "other_sizes.npz"
REFUSED = {"_contrib_boolean_mask", "_npi_boolean_mask"}
"""Operators that are known and refused."""


@pytest.mark.parametrize("case", members())
def test_operator(tmp_path, case):
    check(ArchivedCase(case), tmp_path)


@functools.cache
def other_sizes() -> Mapping[str, dict[str, list[str]]]:
    """Keys of the archive of other sizes: net -> trial -> keys."""
    found: dict[str, dict[str, list[str]]] = {}
    for key in np.load(SIZES):
        case, trial, _ = key.split("/", 2)
        found.setdefault(case, {}).setdefault(trial, []).append(key)
    return found


@pytest.mark.parametrize("case", other_sizes())
def test_other_sizes_are_right_or_refused(tmp_path, case):
    stored = np.load(SIZES)
    model = ArchivedCase(case).load(tmp_path)
    module = converters.to_module(model).eval()
    for trial, keys in other_sizes()[case].items():
        inputs = [torch.from_numpy(stored[f"{case}/{trial}/input/{v.name}"].astype(v.dtype.numpy())) for v in model.graph.inputs]
        wanted = [stored[key] for key in keys if "/output/" in key]
        try:
            with torch.no_grad():
                answer = module(*inputs)
        except REFUSALS:
            continue
        found = [a.numpy() for a in (answer if isinstance(answer, tuple) else (answer,))]
        assert [a.shape for a in found] == [a.shape for a in wanted], trial
        faults = [_difference(got, want, 1e-3) for got, want in zip(found, wanted, strict=True)]
        assert not any(faults), f"{trial}: {faults}"


def test_every_operator_has_a_row():
    used = {row.op for row in rows_of_all_topics()}
    for case in members():
        used.update(node["op"] for node in json.loads(str(archive()[f"{case}/json"]))["nodes"])
    with zipfile.ZipFile(FIXTURES / "conformance" / "mxnet.zip") as conformance:
        for name in conformance.namelist():
            if name.endswith("case.json"):
                used.update(json.loads(conformance.read(name)).get("ops", []))
    covered = {lowers[op] for op in used if op in lowers}
    missing = sorted({op for op in lowers if lowers.is_built_in(op) and lowers[op] not in covered} - REFUSED)
    assert not missing
