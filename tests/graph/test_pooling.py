"""converters.graph.pooling over a grid of windows, in onnxruntime without and with its optimizations, against the definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import converters
from converters.errors import ConversionError, Source
from converters.graph.builder import GraphBuilder
from converters.graph.passes import explicit_pooling
from converters.graph.pooling import adaptive_pool, max_pool_with_indices, pool
from converters.graph.windows import divisors, output_sizes
from tests.graph.pooling_formula import caffe_size, pool_2d, torch_size


def run(model: ir.Model, x: np.ndarray, *, optimized: bool) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options).run(None, {"x": x})


def grid(x: np.ndarray, explicit: bool):
    """One model with an output for every row of the grid, and the rows' expected values."""
    g = GraphBuilder("grid")
    value = g.input("x", x.shape)
    expected = {}
    for kernel, stride, pad, ceil, mode, clip, divisor in itertools.product(
        (1, 2, 3, 5),
        (1, 2, 3, 5),
        (0, 1, 2, 4),
        (False, True),
        ("max", "average", "sum"),
        ("padded", "never"),
        ("padded", "real", "kernel"),
    ):
        if pad >= kernel or (mode != "average" and divisor != "padded"):
            continue
        window = {"kernel": (kernel, kernel), "strides": (stride, stride), "pads": (pad, pad)}
        out = output_sizes(x.shape[2:], *window.values(), ceil=ceil, clip=clip)
        if min(out) < 1:
            continue
        name = f"k{kernel}_s{stride}_p{pad}_{mode}_{'ceil' if ceil else 'floor'}_{clip}_{divisor}"
        with g.at(Source("test", "layer", name, "Pooling"), name):
            g.output(pool(g, value, mode, out=out, divisor=divisor, **window), name)
        expected[name] = pool_2d(x, mode, *window.values(), out, "none" if mode == "sum" else divisor)
    model = g.finish()
    if explicit:
        explicit_pooling(model)
        assert not any(node.attributes.get_int("ceil_mode") for node in model.graph)
    return model, expected


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (4, 7), (7, 5), (10, 11)], ids=str)
def test_pool_is_the_definition(size, explicit):
    x = np.random.default_rng(0).standard_normal((1, 2, *size)).astype(np.float32)
    model, expected = grid(x, explicit)
    assert len(expected) > 300
    for got, (name, want) in zip(run(model, x, optimized=True), expected.items(), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6, err_msg=name)


def test_pool_with_indices():
    x = np.random.default_rng(1).standard_normal((2, 3, 6, 7)).astype(np.float32)
    for kernel, stride, pad in ((2, 2, 0), (3, 2, 1), (3, 2, 2), (1, 2, 0), (5, 3, 3)):
        out = caffe_size((6, 7), (kernel,) * 2, (stride,) * 2, (pad,) * 2)
        g = GraphBuilder("indices")
        values, indices = max_pool_with_indices(
            g, g.input("x", x.shape), kernel=(kernel,) * 2, strides=(stride,) * 2, pads=(pad,) * 2, out=out
        )
        g.output(values, "values")
        g.output(indices, "indices")
        got, where = run(g.finish(), x, optimized=False)
        np.testing.assert_allclose(got, pool_2d(x, "max", (kernel,) * 2, (stride,) * 2, (pad,) * 2, out))
        found = where >= 0
        assert found.sum() == (got > -1e38).sum()
        np.testing.assert_array_equal(
            np.take_along_axis(x.reshape(2, 3, -1), where.clip(0).reshape(2, 3, -1), 2).reshape(got.shape)[found], got[found]
        )


def test_dilated_max_pool_whose_overhang_exceeds_the_kernel():
    x = np.random.default_rng(2).standard_normal((1, 1, 8, 8)).astype(np.float32)
    g = GraphBuilder("dilated")
    window = {"kernel": (2, 2), "strides": (2, 2), "pads": (1, 1), "dilations": (4, 4)}
    out = output_sizes((8, 8), (2, 2), (2, 2), (1, 1), ceil=True, clip="always", dilations=(4, 4))
    g.output(pool(g, g.input("x", x.shape), "max", out=out, **window), "y")
    model = g.finish()
    explicit_pooling(model)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 6), (1, 6)), constant_values=-np.inf)
    want = np.array(
        [[max(padded[0, 0, 2 * i + a, 2 * j + b] for a in (0, 4) for b in (0, 4)) for j in range(out[1])] for i in range(out[0])]
    )
    np.testing.assert_array_equal(run(model, x, optimized=True)[0][0, 0], want)


@pytest.mark.parametrize("ceil", [False, True])
def test_sizes_are_those_of_the_frameworks(ceil):
    for size, kernel, stride, pad in itertools.product(range(3, 13), range(1, 6), range(1, 6), range(3)):
        if pad >= kernel:
            continue
        window = ((size, size), (kernel, kernel), (stride, stride), (pad, pad))
        assert output_sizes(*window, ceil=ceil, clip="padded") == caffe_size(*window, floor=not ceil)
        assert output_sizes(*window, ceil=ceil, clip="always") == torch_size(*window, ceil=ceil)


def test_divisors_of_windows_behind_the_end_can_be_negative():
    assert divisors((7,), (1,), (5,), (0,), (3,), real=False).tolist() == [1, 1, -3]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kernel": (0, 2)}, "at least 1"),
        ({"strides": (0, 1)}, "at least 1"),
        ({"pads": (-1, 0)}, "can't be negative"),
        ({"out": (0, 3)}, "would have size"),
        ({"kernel": (2,), "strides": (1,), "pads": (0,), "out": (3,)}, "needs an input of 3 axes"),
    ],
    ids=lambda v: "",
)
def test_pool_refuses(change, message):
    g = GraphBuilder("bad")
    x = g.input("x", (1, 1, 4, 4))
    with g.at(Source("net.prototxt", "layer", "pool1", "Pooling", 7)), pytest.raises(ConversionError, match=message) as caught:
        pool(g, x, "max", **{"kernel": (2, 2), "strides": (1, 1), "pads": (0, 0), "out": (3, 3)} | change)
    assert str(caught.value).startswith("net.prototxt:7: layer 'pool1' (Pooling): ")


@pytest.mark.parametrize("clip", ["padded", "never"])
@pytest.mark.parametrize("ceil", [False, True])
def test_windows_follow_the_size_that_comes(ceil, clip):
    """One graph, made at one size, at others: windows and divisors are counted when it runs."""
    g = GraphBuilder("any size")
    value, rows = g.input("x", (1, 2, 6, 7)), {}
    for kernel, stride, pad, mode, divisor in itertools.product(
        (1, 2, 3, 5), (1, 2, 3, 5), (0, 1, 2), ("max", "average", "sum"), ("padded", "real", "kernel")
    ):
        out = output_sizes((6, 7), (kernel,) * 2, (stride,) * 2, (pad,) * 2, ceil=ceil, clip=clip)
        if pad < kernel and min(out) > 0 and (mode == "average" or divisor == "padded"):
            name = f"k{kernel}_s{stride}_p{pad}_{mode}_{divisor}"
            window = {"kernel": (kernel, kernel), "strides": (stride, stride), "pads": (pad, pad)}
            with g.at(Source("test", "layer", name, "Pooling"), name):
                g.output(pool(g, value, mode, out=out, divisor=divisor, ceil=ceil, clip=clip, **window), name)
            rows[name] = mode, divisor, window
    module = converters.to_module(g.finish())
    for size in ((6, 7), (7, 6), (9, 12), (5, 5)):
        x = np.random.default_rng(3).standard_normal((1, 2, *size)).astype(np.float32)
        answers = module(torch.from_numpy(x))
        for got, (name, (mode, divisor, window)) in zip(answers, rows.items(), strict=True):
            out = output_sizes(size, *window.values(), ceil=ceil, clip=clip)
            want = pool_2d(x, mode, *window.values(), out, "none" if mode == "sum" else divisor)
            if clip == "never" and mode == "average":  # of nothing, 0
                want = np.where(np.isfinite(want), want, 0)
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6, err_msg=f"{name} at {size}")


def test_adaptive_windows_follow_the_size_that_comes():
    g = GraphBuilder("adaptive")
    value = g.input("x", (1, 2, 6, 7))
    for mode in ("max", "average"):
        g.output(adaptive_pool(g, value, mode, (4, 3)), mode)
    module = converters.to_module(g.finish())
    for size in ((6, 7), (4, 3), (12, 9), (5, 20)):
        x = torch.from_numpy(np.random.default_rng(4).standard_normal((1, 2, *size)).astype(np.float32))
        largest, means = module(x)
        torch.testing.assert_close(largest, torch.nn.functional.adaptive_max_pool2d(x, (4, 3)))
        torch.testing.assert_close(means, torch.nn.functional.adaptive_avg_pool2d(x, (4, 3)))


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize(
    ("kernel", "strides", "pads"), [([3, 3], [1, 1], [1, 0, 1, 0]), ([2, 3], [3, 2], [1, 2, 0, 1]), ([5, 1], [1, 2], [2, 0, 2, 0])]
)
def test_averages_that_count_uneven_padding_are_written_without_it(kernel, strides, pads, ceil, tmp_path):
    """onnxruntime 1.23 divides by too little where the padding isn't the same at all sides; numpy says what is right."""
    size = (7, 6)
    g = GraphBuilder("net", symbolic_batch=True)
    x = g.input("x", (1, 2, *size))
    g.output(g.emit("AveragePool", x, kernel_shape=kernel, strides=strides, pads=pads, ceil_mode=ceil, count_include_pad=1), "y")
    converters.save(g.finish(), tmp_path / "net.onnx")
    (node,) = [node for node in onnx.load(tmp_path / "net.onnx").graph.node if node.op_type == "AveragePool"]
    assert not {"count_include_pad", "ceil_mode"} & {attribute.name for attribute in node.attribute}
    pixels = np.random.default_rng(0).normal(size=(3, 2, *size)).astype(np.float32)
    padded = np.pad(pixels, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    rounded = math.ceil if ceil else math.floor
    counts = [rounded((n - k) / s) + 1 for n, k, s in zip(padded.shape[2:], kernel, strides, strict=True)]
    counts = [c - ((c - 1) * s >= n + p) for c, s, n, p in zip(counts, strides, size, pads, strict=False)]
    wanted = np.empty((3, 2, *counts))
    for i, j in np.ndindex(*counts):
        top, left = i * strides[0], j * strides[1]
        wanted[:, :, i, j] = padded[:, :, top : top + kernel[0], left : left + kernel[1]].mean((2, 3))
    (got,) = onnxruntime.InferenceSession(str(tmp_path / "net.onnx")).run(None, {"x": pixels})
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
