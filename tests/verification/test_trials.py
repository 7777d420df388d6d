"""The user's own arrays."""

from __future__ import annotations

import io

import numpy as np
import pytest

from converters.errors import FormatError
from converters.verification.trials import read_arrays
from tests.test_mutated_files import changes


def saved(name: str) -> bytes:
    stream = io.BytesIO()
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    if name == "a.npy":
        np.save(stream, rows)
    else:
        (np.savez if name == "a.npz" else np.savez_compressed)(stream, data=rows, other=np.ones(2))
    return stream.getvalue()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "packed.npz"])
def test_arrays_of_a_damaged_file_are_read_or_refused(name, tmp_path):
    path, refused = tmp_path / name, 0
    for data in changes(saved(name), 3):
        path.write_bytes(data)
        try:
            read_arrays(path)
        except FormatError:
            refused += 1
    assert refused
