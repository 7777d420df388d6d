"""An array's bytes as the writers stream them: row-major and little-endian, whatever its layout."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from converters.tensors.storage import ArrayStorage


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "u1", ">i8", "?", ml_dtypes.bfloat16])
def test_array_bytes_are_row_major_little_endian(dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for view in (array, array.T, array[:, ::2], array[0, 0, 0:1], array[:0]):
        want = np.ascontiguousarray(view).astype(view.dtype.newbyteorder("<")).tobytes()
        assert b"".join(ArrayStorage(view).chunks(0, view.nbytes)) == want
