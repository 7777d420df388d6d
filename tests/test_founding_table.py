"""The founding models of PyTorch, at a small width, through every target; and a table that leaves none out."""

from __future__ import annotations

import pytest

from tests import founding_table


@pytest.mark.parametrize("name", [*founding_table.WHOLE, *founding_table.CHECKPOINTS])
def test_pytorch_row(name, tmp_path):
    row = founding_table.torch_row(name, tmp_path, thin=16)
    assert row.ok, row
    assert row.state_dict == "yes, bit for bit"


def test_the_table_has_a_row_for_each():
    text = founding_table.TABLE.read_text()
    names = [*" ".join(founding_table.ZOO.values()).split(), *founding_table.WHOLE, *founding_table.CHECKPOINTS]
    assert [name for name in names if f"| {name} |" not in text] == []
    assert "NO" not in text
