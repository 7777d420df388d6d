"""MXNet's parameter files: every record version, sparse arrays, and what is wrong with broken ones."""

import struct

import numpy as np
import pytest

from converters import ConversionWarning, FormatError
from converters.readers.mxnet.params import read_params
from tests.readers.mxnet.wire import GPU, listing, record, sparse

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def read(tmp_path, data: bytes):
    path = tmp_path / "net-0000.params"
    path.write_bytes(data)
    return read_params(path)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"])
def test_every_version_and_type(tmp_path, version, kind):
    array = A.astype(kind)
    read_back = read(tmp_path, listing([record(array, version)], ["arg:w"]))["w"]
    assert read_back.dtype == array.dtype
    assert (read_back == array).all()


def test_versions_and_contexts_may_be_mixed(tmp_path):
    params = read(tmp_path, listing([record(A + v, v, GPU) for v in range(4)], ["arg:a", "aux:b", "c", "arg:d"]))
    assert list(params) == ["a", "b", "c", "d"]
    assert [params[name][0, 0] for name in params] == [0, 1, 2, 3]


def test_arrays_are_views_of_the_file(tmp_path):
    array = read(tmp_path, listing([record(A)], ["w"]))["w"]
    assert not array.flags.owndata and not array.flags.writeable


def test_row_sparse_and_csr_arrays_become_dense(tmp_path):
    rows = sparse(1, (4, 3), A, [np.array([1, 3])])
    cells = sparse(2, (3, 4), np.array([5, 6, 7], np.float32), [np.array([0, 1, 1, 3]), np.array([2, 0, 3])])
    none = sparse(1, (4, 3), np.zeros((0, 3), np.float32), [np.zeros(0, np.int64)])
    params = read(tmp_path, listing([rows, cells, none], ["r", "c", "n"]))
    assert params["r"].tolist() == [[0, 0, 0], [0, 1, 2], [0, 0, 0], [3, 4, 5]]
    assert params["c"].tolist() == [[0, 0, 5, 0], [0, 0, 0, 0], [6, 0, 0, 7]]
    assert params["n"].tolist() == np.zeros((4, 3)).tolist()


def test_lists_without_names_are_numbered(tmp_path):
    params = read(tmp_path, listing([record(A), record(A)], []))
    assert list(params) == ["0", "1"] and not params.named


def test_arrays_that_were_never_filled_are_left_out(tmp_path):
    empty = struct.pack("<Iii", 0xF993FAC9, -1, 0)
    assert list(read(tmp_path, listing([empty, struct.pack("<I", 0), record(A)], ["x", "y", "z"]))) == ["z"]


def test_the_same_array_twice_is_one(tmp_path):
    assert list(read(tmp_path, listing([record(A), record(A)], ["arg:w", "aux:w"]))) == ["w"]


def test_bytes_behind_the_names_are_told(tmp_path):
    with pytest.warns(ConversionWarning, match="3 bytes follow the name table"):
        read(tmp_path, listing([record(A)], ["w"]) + b"abc")


def giant(*dims) -> bytes:
    return struct.pack(f"<Iii{len(dims)}qiii", 0xF993FAC9, 0, len(dims), *dims, 1, 0, 0) + bytes(40)


BROKEN = {
    "empty": (b"", "the file is empty"),
    "header": (listing([], [])[:10], "truncated"),
    "list magic": (listing([record(A)], ["w"], magic=0x113), "starts with 0x113, expected 0x112"),
    "data": (listing([record(A)], None)[:-4], "data of array 0, shape \\(2, 3\\), at byte .* needs 24 bytes, but 20 are left"),
    "no names": (listing([record(A)], None), "the name table at byte"),
    "fewer names": (listing([record(A), record(A)], ["w"]), "2 arrays, but 1 names"),
    "name length": (listing([record(A)], None) + struct.pack("<QQ", 1, 2**60), "name 0 at byte .* needs 1152921504606846976 bytes"),
    "name bytes": (listing([record(A)], [b"\xff\xfe"]), "name 0 isn't UTF-8"),
    "count": (listing([], [], count=2**60), "claims 1152921504606846976 arrays"),
    "giant": (listing([giant(2**40, 2**40)], ["w"]), "needs 4835703278458516698824704 bytes"),
    "overflow": (listing([giant(2**62, 4)], ["w"]), "needs 73786976294838206464 bytes"),
    "giant and empty": (listing([giant(0, 2**62, 2**62)], ["w"]), "an empty array of shape"),
    "negative size": (listing([giant(-2, 4)], ["w"]), "negative size"),
    "rank": (listing([struct.pack("<Iii", 0xF993FAC9, 0, 99) + bytes(900)], ["w"]), "99 axes"),
    "storage": (listing([struct.pack("<Iii", 0xF993FAC9, 7, 1) + bytes(90)], ["w"]), "storage type 7"),
    "type": (listing([struct.pack("<Iiiqiii", 0xF993FAC9, 0, 1, 1, 1, 0, 99) + bytes(90)], ["w"]), "type 99"),
    "record magic": (listing([struct.pack("<I", 0xF993FACB) + bytes(90)], ["w"]), "0xf993facb, which is no array record"),
    "twice": (listing([record(A), record(A + 1)], ["arg:w", "w"]), "'w' is there twice with different values"),
}


@pytest.mark.parametrize("data, message", BROKEN.values(), ids=BROKEN)
def test_broken_files_say_what_is_wrong(tmp_path, data, message):
    with pytest.raises(FormatError, match=message) as problem:
        read(tmp_path, data)
    assert "net-0000.params" in str(problem.value)


SPARSE = {
    "row out of range": (sparse(1, (4, 3), A, [np.array([1, 4])]), "indices reach 4 where the axis has 4"),
    "column out of range": (sparse(2, (2, 2), np.ones(1, "f"), [np.array([0, 1, 1]), np.array([2])]), "indices reach 2"),
    "offsets": (sparse(2, (2, 2), np.ones(1, "f"), [np.array([0, 9, 1]), np.array([0])]), "row offsets"),
    "giant": (sparse(1, (2**50, 3), A, [np.array([1, 3])]), "bytes when dense"),
    "giant and empty": (sparse(1, (2**50, 3), np.zeros((0, 3), "f"), [np.zeros(0, np.int64)]), "bytes when dense"),
}


@pytest.mark.parametrize("data, message", SPARSE.values(), ids=SPARSE)
def test_broken_sparse_arrays_say_what_is_wrong(tmp_path, data, message):
    params = read(tmp_path, listing([data], ["w"]))
    with pytest.raises(FormatError, match=message):
        params["w"]


def test_sparse_data_must_fit_its_indices(tmp_path):
    with pytest.raises(FormatError, match="doesn't fit its indices"):
        read(tmp_path, listing([sparse(1, (4, 3), A, [np.array([1, 2, 3])])], ["w"]))
