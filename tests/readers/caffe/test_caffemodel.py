"""Weights files byte by byte: every form of a blob and of a layer, and every way to be wrong."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.errors import ConversionError, FormatError
from converters.readers.caffe.caffemodel import read_caffemodel
from converters.readers.caffe.weights import load_weights, read_weights
from tests.readers.caffe.wire import blob, chunk, layer, legacy_blob, number, text, unpacked_blob, v0_layer, v1_layer, varint

A = np.arange(12, dtype=np.float32).reshape(3, 4) - 5
SHAPE = chunk(7, chunk(1, b"\x03\x04"))


def read(folder: Path, data: bytes):
    path = folder / "net.caffemodel"
    path.write_bytes(data)
    return read_caffemodel(path)


FORMS = {
    "shape": (blob(A), (3, 4)),
    "unpacked": (unpacked_blob(A), (3, 4)),
    "legacy": (legacy_blob(A, (1, 1, 3, 4)), (1, 1, 3, 4)),
    "legacy wins over shape": (chunk(7, chunk(1, b"\x0c")) + legacy_blob(A, (1, 1, 3, 4)), (1, 1, 3, 4)),
    "double": (SHAPE + chunk(8, A.astype("<f8").tobytes()), (3, 4)),
    "double wins over float": (SHAPE + chunk(5, (A * 0).tobytes()) + chunk(8, A.astype("<f8").tobytes()), (3, 4)),
    "diff is no data": (SHAPE + chunk(6, (A * 2).tobytes()) + chunk(5, A.tobytes()), (3, 4)),
    "data before shape": (chunk(5, A.tobytes()) + SHAPE, (3, 4)),
    "two pieces": (SHAPE + chunk(5, A[:1].tobytes()) + chunk(5, A[1:].tobytes()), (3, 4)),
    "C3D": (number(1, 1) + number(2, 1) + number(3, 1) + number(4, 3) + number(5, 4) + chunk(6, A.tobytes()), (1, 1, 1, 3, 4)),
    "NVIDIA float16": (SHAPE + number(10, 2) + chunk(12, A.astype("<f2").tobytes()), (3, 4)),
    "NVIDIA float32": (SHAPE + number(10, 1) + chunk(12, A.tobytes()), (3, 4)),
    "NVIDIA float64": (SHAPE + number(10, 0) + chunk(12, A.astype("<f8").tobytes()), (3, 4)),
    "unknown fields": (blob(A) + number(99, 7) + chunk(98, b"abc"), (3, 4)),
}


@pytest.mark.parametrize("form", FORMS)
def test_blob(form: str, tmp_path: Path) -> None:
    data, shape = FORMS[form]
    (stored,) = read(tmp_path, text(1, "net") + layer("a", "Convolution", [data]))
    (found,) = stored.blobs
    assert (stored.name, stored.type, found.shape) == ("a", "Convolution", shape)
    array = found.array()
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, A.reshape(shape))


def test_blobs_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    (stored,) = read(tmp_path, layer("a", "", [blob(A)]))
    array = stored.blobs[0].array()
    assert not array.flags.owndata and not array.flags.writeable


@pytest.mark.parametrize("make", [lambda b: layer("a", "ReLU", b), lambda b: v1_layer("a", 18, b), lambda b: v0_layer("a", "relu", b)])
def test_layer_of_each_age(make, tmp_path: Path) -> None:
    (stored,) = read(tmp_path, make([blob(A), blob(A[0])]))
    assert stored.name == "a" and stored.type.lower() == "relu"
    assert [b.shape for b in stored.blobs] == [(3, 4), (4,)]


SHAPES = st.lists(st.integers(0, 4), max_size=5)
KINDS = st.sampled_from(["packed", "unpacked", "double"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(st.tuples(st.text(max_size=8), st.lists(st.tuples(SHAPES, KINDS), max_size=3)), min_size=1, max_size=4))
def test_any_weights_are_read_back(layers: list, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    data, wanted = b"", []
    for name, blobs in layers:
        arrays = [rng.normal(size=shape).astype(np.float32) for shape, _ in blobs]
        forms = []
        for array, (_, kind) in zip(arrays, blobs, strict=True):
            dims = chunk(7, chunk(1, bytes(array.shape)))
            doubles = dims + chunk(8, array.astype("<f8").tobytes())
            forms.append({"packed": blob(array), "unpacked": unpacked_blob(array), "double": doubles}[kind])
        data += layer(name, "X", forms)
        wanted.append((name, arrays))
    found = read(tmp_path, data)
    assert [stored.name for stored in found] == [name for name, _ in wanted]
    for stored, (_, arrays) in zip(found, wanted, strict=True):
        for got, want in zip(stored.blobs, arrays, strict=True):
            np.testing.assert_array_equal(got.array(), want)


def test_load_weights(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer("a/b", "", [blob(A), blob(A[0])]) + layer("relu", ""))
    assert {k: v.shape for k, v in load_weights(path).items()} == {"a/b.0": (3, 4), "a/b.1": (4,)}


BROKEN = {
    "empty": (b"", "empty"),
    "no layers": (text(1, "net\x01"), "no layers"),
    "truncated": (layer("a", "", [blob(A)])[:-5], "claims"),
    "length of 2^63": (b"\xa2\x06" + varint(1 << 63), "claims 9223372036854775808 bytes"),
    "endless varint": (b"\xff" * 12, "more than 64 bits"),
    "cut varint": (layer("a", "") + b"\xa2\x86", "ends inside a number"),
    "group": (layer("a", "") + b"\x0b" * 200_000, "wire type 3"),
    "wire type 7": (layer("a", "") + b"\x0f", "wire type 7"),
    "field 0": (layer("a", "") + b"\x02\x01a", "number 0"),
    "cut float": (layer("a", "", [SHAPE + chunk(5, bytes(10))]), "no whole number of 4-byte values"),
    "many dimensions": (layer("a", "", [chunk(7, chunk(1, b"\x01" * 1000))]), "more than 32 dimensions"),
    "a name that is a number": (number(1, 7) + layer("a", ""), "isn't that of a net"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file(kind: str, tmp_path: Path) -> None:
    data, words = BROKEN[kind]
    with pytest.raises(FormatError) as caught:
        read(tmp_path, data)
    assert "net.caffemodel: " in str(caught.value) and words in str(caught.value)


WRONG_BLOBS = {
    "too few": (SHAPE + chunk(5, bytes(40)), "holds 10 values, but its shape (3, 4) needs 12"),
    "no data": (SHAPE, "holds no data, but its shape (3, 4) needs 12"),
    "negative": (chunk(7, chunk(1, varint(-3) + varint(-4))) + chunk(5, bytes(48)), "negative dimension: (-3, -4)"),
    "gigantic": (chunk(7, chunk(1, varint(1 << 31) * 2)) + chunk(5, bytes(48)), "needs 4611686018427387904"),
}


@pytest.mark.parametrize("kind", WRONG_BLOBS)
def test_wrong_blob(kind: str, tmp_path: Path) -> None:
    data, words = WRONG_BLOBS[kind]
    (stored,) = read(tmp_path, layer("conv", "Convolution", [blob(A), data]))
    with pytest.raises(FormatError) as caught:
        stored.blobs[1].array()
    assert str(caught.value).startswith(f"{tmp_path / 'net.caffemodel'}: layer 'conv' (Convolution): blob 1 ")
    assert words in str(caught.value)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_every_truncation_is_an_error_or_fewer_layers(cut: int, tmp_path: Path) -> None:
    whole = text(1, "net") + layer("a", "X", [blob(A)]) + layer("b", "Y", [blob(A)])
    try:
        assert len(read(tmp_path, whole[: len(whole) * cut // 60])) <= 2
    except ConversionError as problem:
        assert "net.caffemodel" in str(problem)


def write_hdf5(path: Path, layers: dict[str, list[np.ndarray]], **options) -> None:
    import h5py

    with h5py.File(path, "w") as archive:
        data = archive.create_group("data")
        for name, arrays in layers.items():
            group = data.create_group(name)
            for i, array in enumerate(arrays):
                group.create_dataset(str(i), data=array, **options)


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 4)}, {"compression": "gzip"}, {"dtype": "<f8"}, {"dtype": ">f4"}])
def test_hdf5(options: dict, tmp_path: Path) -> None:
    path = tmp_path / "named.caffemodel"  # told by content
    write_hdf5(path, {"conv1": [A, A * 2], "a/b": [A], "relu": []}, **options)
    found = {layer.name: [b.array() for b in layer.blobs] for layer in read_weights(path)}
    assert set(found) == {"conv1", "a/b"}
    np.testing.assert_array_equal(found["conv1"][1], A * 2)
    np.testing.assert_array_equal(found["a/b"][0], A)


def test_hdf5_errors(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "net.caffemodel.h5"
    write_hdf5(path, {"conv1": [A]})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match=r"net.caffemodel.h5: .*damaged or truncated"):
        read_weights(path)
    with h5py.File(path, "w") as archive:
        archive["iter"] = 5
    with pytest.raises(FormatError, match=r"no group /data.*solverstate"):
        read_weights(path)
    write_hdf5(path, {"conv1": [A.astype(int)]})
    with pytest.raises(FormatError, match=r"dataset 0 holds int"):
        read_weights(path)
    with h5py.File(path, "w") as archive:
        archive.create_group(b"data/conv\xff").create_dataset("0", data=A)
    with pytest.raises(FormatError, match=r"a name that isn't UTF-8: b'conv\\xff'"):
        read_weights(path)


def outside(folder: Path, kind: str) -> Path:
    """A weights file whose numbers lie in another one, in four ways."""
    import h5py

    other, path = folder / "other.h5", folder / "net.caffemodel.h5"
    write_hdf5(other, {"conv1": [A]})
    with h5py.File(path, "w") as archive:
        if kind == "external storage":
            archive.create_dataset("data/conv1/0", shape=A.shape, dtype="<f4", external=[(str(other), 0, A.nbytes)])
        elif kind == "virtual dataset":
            layout = h5py.VirtualLayout(A.shape, "<f4")
            layout[...] = h5py.VirtualSource(str(other), "data/conv1/0", A.shape)
            archive.create_virtual_dataset("data/conv1/0", layout)
        elif kind == "external link":
            archive.create_group("data")["conv1"] = h5py.ExternalLink(str(other), "data/conv1")
        elif kind == "external root":
            archive["data"] = h5py.ExternalLink(str(other), "data")
        else:  # a link inside the file that leads outside
            archive["away"] = h5py.ExternalLink(str(other), "data/conv1")
            archive.create_group("data")["conv1"] = h5py.SoftLink("/away")
    return path


@pytest.mark.parametrize("kind", ["external storage", "virtual dataset", "external link", "external root", "soft link to an external one"])
def test_hdf5_reads_no_other_file(kind: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"net.caffemodel.h5: .*another file.*which isn't read"):
        read_weights(outside(tmp_path, kind))


def test_hdf5_links_inside_the_file_are_followed(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "net.caffemodel.h5"
    with h5py.File(path, "w") as archive:
        archive["data/conv1/0"] = A
        archive["data/conv2"] = h5py.SoftLink("/data/conv1")
        archive["data/conv3/0"] = archive["data/conv1/0"]
    found = {layer.name: layer.blobs[0].array() for layer in read_weights(path)}
    assert list(found) == ["conv1", "conv2", "conv3"] and all((array == A).all() for array in found.values())
    with h5py.File(path, "a") as archive:
        archive["data/conv1/again"] = archive["data"]
    with pytest.raises(FormatError, match="is a link to a group around it"):
        read_weights(path)


@pytest.mark.parametrize("bias", [127, 126])
def test_hdf5_floats_with_another_bias_than_ieee_s(bias: int, tmp_path: Path) -> None:
    """HDF5's own types say how an exponent is stored: one less means numbers twice as large."""
    import h5py

    kind, path = h5py.h5t.IEEE_F32LE.copy(), tmp_path / "net.caffemodel.h5"
    kind.set_ebias(bias)
    with h5py.File(path, "w") as archive:
        group = archive.create_group("data/conv1")
        dataset = h5py.h5d.create(group.id, b"0", kind, h5py.h5s.create_simple(A.shape))
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, A)
    at = path.read_bytes().find(A.tobytes())
    assert (at >= 0) == (bias == 127)
    np.testing.assert_array_equal(read_weights(path)[0].blobs[0].array(), A)


def test_hdf5_objects_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    """A damaged dataset looks like a type to HDF5."""
    import h5py

    path = tmp_path / "net.caffemodel.h5"
    write_hdf5(path, {"conv1": [A]})
    with h5py.File(path, "a") as archive:
        archive["data/conv1/1"] = np.dtype("<f4")
    with pytest.raises(FormatError, match="/data/conv1/1 is neither a group nor a dataset"):
        read_weights(path)


def test_hdf5_blob_larger_than_the_file(tmp_path: Path) -> None:
    """A chunked dataset may claim any size; it isn't allocated."""
    import h5py

    path = tmp_path / "net.caffemodel.h5"
    with h5py.File(path, "w") as archive:
        archive.create_dataset("data/conv1/0", shape=(1 << 40,), dtype="<f4", chunks=(1024,))
    with pytest.raises(FormatError, match="more than the file can hold"):
        read_weights(path)


def test_float_bits_are_kept(tmp_path: Path) -> None:
    """NaN payloads, denormals and infinities go through as they are."""
    bits = struct.pack("<4I", 0x7FC00001, 0x00000001, 0xFF800000, 0x80000000)
    (stored,) = read(tmp_path, layer("a", "", [chunk(7, chunk(1, b"\x04")) + chunk(5, bits)]))
    assert stored.blobs[0].array().tobytes() == bits


def test_an_empty_array_of_an_impossible_shape(tmp_path: Path) -> None:
    shape = chunk(7, chunk(1, varint(0) + varint(1 << 62)))
    path = tmp_path / "net.caffemodel"
    path.write_bytes(layer("a", "", [shape]))
    with pytest.raises(FormatError, match="impossible shape"):
        load_weights(path)
