"""The nets of fixtures/mxnet/operators.npz: what MXNet 1.9.1 answered."""

import json
import zipfile

import pytest

from converters.readers.mxnet import lowers
from tests.bench import check
from tests.conformance import FIXTURES
from tests.readers.mxnet.operator_case import ArchivedCase, archive, members
from tests.readers.mxnet.operators import rows_of_all_topics


def is_refused(op):
    """Whether an operator is known, and refused whatever its attributes are."""
    return lowers.summary(op).startswith("Refused: ")


@pytest.mark.parametrize("case", members())
def test_operator(tmp_path, case):
    check(ArchivedCase(case), tmp_path)


def test_every_operator_has_a_row():
    used = {row.op for row in rows_of_all_topics()}
    for case in members():
        used.update(node["op"] for node in json.loads(str(archive()[f"{case}/json"]))["nodes"])
    for path in (FIXTURES / "conformance").glob("mxnet*.zip"):
        with zipfile.ZipFile(path) as conformance:
            for name in conformance.namelist():
                if name.endswith("-symbol.json"):
                    used.update(node["op"] for node in json.loads(conformance.read(name))["nodes"])
    covered = {lowers[op] for op in used if op in lowers}
    missing = sorted({op for op in lowers if lowers.is_built_in(op) and lowers[op] not in covered and not is_refused(op)})
    assert not missing, " ".join(missing)
