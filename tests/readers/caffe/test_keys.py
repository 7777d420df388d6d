"""Keys of a weights file without its prototxt: those of the graph, where the file tells the layers' types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import converters
from tests.conformance import FIXTURES
from tests.readers.caffe.wire import blob, chunk, legacy_blob, text

V = np.array([1.0, 2.0, 3.0], np.float32)
W = np.arange(18, dtype=np.float32).reshape(3, 2, 3)


def stored(name: str, kind: str, blobs: Sequence[bytes], bottom: str = "x", top: str = "y") -> bytes:
    return chunk(100, text(1, name) + text(2, kind) + text(3, bottom) + text(4, top) + b"".join(chunk(7, b) for b in blobs))


def keys(folder: Path, *layers: bytes) -> dict[str, np.ndarray]:
    path = folder / "net.caffemodel"
    path.write_bytes(text(1, "net") + b"".join(layers))
    return {name: np.asarray(weight) for name, weight in converters.load_weights(path).items()}


TYPES: dict[str, tuple[str, list[np.ndarray], list[str]]] = {
    "convolution": ("Convolution", [W, V], ["a.weight", "a.bias"]),
    "without a bias": ("Deconvolution", [W], ["a.weight"]),
    "bias": ("Bias", [V], ["a.bias"]),
    "the forks' BN": ("BN", [V, V * 2, V * 3, V * 4], ["a.weight", "a.bias", "a.running_mean", "a.running_var"]),
    "SegNet's BN": ("BN", [V, V * 2], ["a.weight", "a.bias"]),
    "lstm": ("LSTM", [W, V, W * 2], ["a.weight_ih", "a.bias_ih", "a.weight_hh"]),
    "lstm with a static input": ("LSTM", [W, V, W * 3, W * 2], ["a.weight_ih", "a.bias_ih", "a.weight_static", "a.weight_hh"]),
    "a BatchNorm of a fork": ("BatchNorm", [V, V, V, V], ["a.0", "a.1", "a.2", "a.3"]),
    "an unknown type": ("Mystery", [V, W], ["a.0", "a.1"]),
    "no type": ("", [W, V], ["a.0", "a.1"]),
}


@pytest.mark.parametrize("name", TYPES)
def test_roles_of_blobs(name: str, tmp_path: Path) -> None:
    kind, arrays, expected = TYPES[name]
    found = keys(tmp_path, stored("a", kind, [blob(array) for array in arrays]))
    assert list(found) == expected
    for got, want in zip(found.values(), arrays, strict=True):
        np.testing.assert_array_equal(got, want)


def test_statistics_are_divided_by_their_factor_and_take_the_scale_behind(tmp_path: Path) -> None:
    norm = stored("n", "BatchNorm", [blob(V), blob(V * 4), blob(np.array([2.0], np.float32))], "x", "y")
    scale = stored("s", "Scale", [legacy_blob(V * 5, (1, 1, 1, 3)), blob(V * 6)], "y", "z")
    found = keys(tmp_path, norm, scale)
    assert list(found) == ["n.weight", "n.bias", "n.running_mean", "n.running_var"]
    for got, want in zip(found.values(), (V * 5, V * 6, V / 2, V * 2), strict=True):
        np.testing.assert_array_equal(got, want)
    apart = ["n.running_mean", "n.running_var", "s.weight", "s.bias"]
    assert list(keys(tmp_path, norm, stored("s", "Scale", [blob(V), blob(V)], "other", "z"))) == apart
    assert list(keys(tmp_path, norm, scale, stored("t", "ReLU", [], "y", "w"))) == apart  # a second layer takes what the first gives


def test_padded_shapes_and_names(tmp_path: Path) -> None:
    fc = stored("fc/1", "InnerProduct", [legacy_blob(W, (1, 1, 3, 6)), legacy_blob(V, (1, 1, 1, 3))])
    conv = stored("fc_1", "Convolution", [legacy_blob(V, (1, 1, 1, 3))])
    twice = stored("fc_1", "Convolution", [blob(W)])
    found = keys(tmp_path, fc, conv, twice)
    shapes = {"fc_1_1.weight": (3, 6), "fc_1_1.bias": (3,), "fc_1.weight": (1, 1, 1, 3), "fc_1_2.weight": (3, 2, 3)}
    assert {name: array.shape for name, array in found.items()} == shapes


def test_keys_and_numbers_are_the_graph_s(tmp_path: Path) -> None:
    folder = FIXTURES / "digits" / "caffe"
    graph = converters.load(folder / "deploy.prototxt", folder / "digits.caffemodel").graph
    weights = converters.load_weights(folder / "digits.caffemodel")
    assert sorted(weights) == sorted(str(name) for name in graph.initializers)
    for name, value in graph.initializers.items():
        assert value.const_value is not None
        np.testing.assert_array_equal(np.asarray(weights[str(name)]), value.const_value.numpy())
