"""The ONNX writer: what the checker and onnxruntime say of it, pinned versions, external data, other operator sets."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from converters.errors import ConversionError, OutputExistsError
from converters.graph.builder import GraphBuilder
from converters.graph.pooling import pool
from converters.graph.windows import output_sizes
from converters.writers.onnx.writer import write_onnx


def linear(dtype=np.float32, weight=None) -> tuple[ir.Model, np.ndarray]:
    weight = np.arange(15, dtype=dtype).reshape(3, 5) if weight is None else weight
    g = GraphBuilder("linear", symbolic_batch=True)
    x = g.input("x", (1, 5), dtype)
    with g.at(None, "fc"):
        g.output(g.emit("Gemm", x, g.param("weight", weight), transB=1), "y")
    return g.finish(), weight


def run(path, x):
    return onnxruntime.InferenceSession(path).run(None, {"x": x})[0]


@pytest.mark.parametrize("layout", ["row-major", "transposed", "strided", "big-endian", "unaligned"])
def test_weights_arrive_whatever_their_layout(tmp_path, layout):
    plain = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    weight = {
        "row-major": plain,
        "transposed": np.ascontiguousarray(plain.T).T,
        "strided": np.repeat(plain, 2, axis=1)[:, ::2],
        "big-endian": plain.astype(">f4"),
        "unaligned": np.frombuffer(b"\0" + plain.tobytes(), np.dtype("<f4"), offset=1).reshape(3, 5),
    }[layout]
    model, _ = linear(weight=weight)
    write_onnx(model, tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    x = np.ones((4, 5), np.float32)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), x @ plain.T, rtol=1e-6)


def test_the_stamp_is_the_oldest_that_holds_the_graph(tmp_path):
    write_onnx(linear()[0], tmp_path / "m.onnx")
    read = onnx.load(tmp_path / "m.onnx")
    assert (read.ir_version, [(o.domain, o.version) for o in read.opset_import]) == (9, [("", 19)])
    assert read.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_above_the_limit_tensors_go_beside(tmp_path):
    model, weight = linear()
    write_onnx(model, tmp_path / "m.onnx", limit=100)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    np.testing.assert_array_equal(run(tmp_path / "m.onnx", np.eye(5, dtype=np.float32)), weight.T)


def test_external_data_that_exists_stays(tmp_path):
    (tmp_path / "m.onnx.data").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        write_onnx(linear()[0], tmp_path / "m.onnx", limit=100)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx.data"]


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 21, onnx.defs.onnx_opset_version()])
def test_another_opset(tmp_path, opset):
    model, weight = linear()
    write_onnx(model, tmp_path / "m.onnx", opset=opset)
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == opset
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    if opset <= 21:
        np.testing.assert_array_equal(run(tmp_path / "m.onnx", np.eye(5, dtype=np.float32)), weight.T)


@pytest.mark.parametrize("opset", [8, 1000])
def test_an_opset_that_does_not_exist(tmp_path, opset):
    with pytest.raises(ConversionError, match=f"opset {opset} can't be written; choose one from 9"):
        write_onnx(linear()[0], tmp_path / "m.onnx", opset=opset)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["max", "average"])
def test_ceil_mode_is_written_explicitly_and_the_model_stays_as_it_was(tmp_path, mode):
    g = GraphBuilder("pool")
    window = {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1)}
    out = output_sizes((6, 6), *window.values(), ceil=True, clip="padded")
    g.output(pool(g, g.input("x", (1, 1, 6, 6)), mode, out=out, **window), "y")
    model = g.finish()
    write_onnx(model, tmp_path / "m.onnx")
    assert [n.attributes.get_int("ceil_mode") for n in model.graph] == [1]
    written = onnx.load(tmp_path / "m.onnx").graph
    assert written.output[0].name == "y"
    assert not [a for n in written.node for a in n.attribute if a.name == "ceil_mode"]


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        write_onnx(linear()[0], tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == b"mine"


@pytest.mark.parametrize("opset", [None, 17])
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("kernel", [2, 4])
def test_zeros_before_a_pool_are_pixels(tmp_path, op_type, kernel, opset):
    """onnxruntime makes pads of a MaxPool out of a Pad, and they lose against negative numbers; or refuses them as too large."""
    image = -1 - np.random.default_rng(0).random((2, 1, 5, 6)).astype(np.float32)
    g = GraphBuilder("padded", symbolic_batch=True)
    padded = g.emit("Pad", g.input("x", image.shape), [0, 0, 1, 2, 0, 0, 2, 1], 0.0)
    g.output(g.emit(op_type, padded, kernel_shape=[kernel, kernel], strides=[2, 2]), "y")
    write_onnx(g.finish(), tmp_path / "m.onnx", opset=opset)
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    whole = np.pad(image, [(0, 0), (0, 0), (1, 2), (2, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(whole, (kernel, kernel), axis=(2, 3))[:, :, ::2, ::2]
    expected = windows.max((4, 5)) if op_type == "MaxPool" else windows.mean((4, 5))
    np.testing.assert_allclose(run(tmp_path / "m.onnx", image), expected, rtol=1e-6)


@pytest.mark.parametrize("shapes", [((2, 5), (2, 12, 1, 1)), ((2, 5), (1, 12, 2)), ((2, 3, 5), (6, 12)), ((2, 3, 5), None)], ids=str)
def test_batch_norms_behind_products_keep_their_channels(tmp_path, shapes):
    """onnxruntime folds the statistics into the MatMul's columns, through Reshape and Transpose, whether or not they are the channels."""
    shape, dims = shapes
    random = np.random.default_rng(0)
    weight, x = random.standard_normal((5, 12)).astype(np.float32), random.standard_normal(shape).astype(np.float32)
    statistics = {k: (random.random(12) + 0.5).astype(np.float32) for k in ("weight", "bias", "running_mean", "running_var")}
    g = GraphBuilder("product")
    product = g.emit("MatMul", g.input("x", shape), g.param("weight", weight))
    moved = g.emit("Reshape", product, list(dims)) if dims else g.emit("Transpose", product, perm=[0, 2, 1])
    with g.at(None, "norm"):
        g.output(g.emit("BatchNormalization", moved, *(g.param(k, v) for k, v in statistics.items())), "y")
    write_onnx(g.finish(), tmp_path / "m.onnx")
    plain = (x @ weight).reshape(dims) if dims else (x @ weight).transpose(0, 2, 1)
    scale, bias, mean, variance = (v.reshape(-1, *[1] * (plain.ndim - 2)) for v in statistics.values())
    expected = (plain - mean) / np.sqrt(variance + 1e-5) * scale + bias
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), expected, rtol=1e-4, atol=1e-5)


def test_doubles_are_not_fused(tmp_path):
    """onnxruntime 1.16 and 1.20 have no fused kernels for doubles and refuse the file: no node that they would fuse reads the other."""
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((4, 4)), random.standard_normal((4, 4))
    g = GraphBuilder("doubles")
    value = g.input("x", (4, 4), ir.DataType.DOUBLE)
    square = g.emit("MatMul", value, g.emit("Transpose", value, perm=[1, 0]))
    narrow = g.emit("Transpose", g.emit("Cast", square, to=int(ir.DataType.FLOAT)), perm=[1, 0])
    again = g.emit("MatMul", g.emit("Cast", narrow, to=int(ir.DataType.DOUBLE)), value)
    g.output(g.emit("Relu", g.emit("Gemm", again, g.param("weight", weight), transB=1)), "y")
    write_onnx(g.finish(), tmp_path / "m.onnx")
    expected = np.maximum((x @ x.T).astype("f4").T.astype("f8") @ x @ weight.T, 0)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x), expected, rtol=1e-5)
    nodes = {name: node for node in onnx.load(tmp_path / "m.onnx").graph.node for name in node.output}
    for node in nodes.values():
        before = [nodes[name].op_type for name in node.input if name in nodes]
        assert node.op_type != "MatMul" or {"Transpose", "Cast"}.isdisjoint(before), before
        assert node.op_type != "Relu" or before == ["Max"]


def test_names_that_passes_add_are_free(tmp_path):
    """Blobs may be called what the writer's own values would be."""
    image = np.random.default_rng(0).standard_normal((1, 1, 5, 6)).astype(np.float32)
    g = GraphBuilder("names")
    taken = g.emit("Relu", g.input("x", image.shape), name="p_kept")
    padded = g.emit("Pad", g.emit("Neg", taken, name="p_axes"), [0, 0, 1, 1, 0, 0, 1, 1], 0.0, name="p")
    g.output(g.emit("MaxPool", padded, kernel_shape=[2, 2]), "y")
    for opset in (17, 19):
        write_onnx(g.finish(), tmp_path / "m.onnx", opset=opset, force=True)
        whole = np.pad(-np.maximum(image, 0), [(0, 0), (0, 0), (1, 1), (1, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(whole, (2, 2), axis=(2, 3))
        np.testing.assert_array_equal(run(tmp_path / "m.onnx", image), windows.max((4, 5)))
