"""The user's own arrays."""

from __future__ import annotations

import io
import zipfile

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


def test_what_is_no_array_is_named(tmp_path):
    """numpy answers the bytes of such a member."""
    path = tmp_path / "a.npz"
    path.write_bytes(saved("a.npz"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "images of the test set")
    with pytest.raises(FormatError, match=r"'notes\.txt' in it is none"):
        read_arrays(path)
