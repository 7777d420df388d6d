"""Images whose sizes are known only when the net runs: TensorFlow's own pixels at each of them, in PyTorch and in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from tests.bench import REFUSALS
from tests.readers.tensorflow import formulas
from tests.readers.tensorflow.archive import Case
from tests.readers.tensorflow.test_lowering import Net, image, nchw


def nearest(size: int, out: int, *, align: bool = False, half: bool = False) -> np.ndarray:
    """Which pixel each of the result is."""
    scale = (size - 1) / (out - 1) if align and out > 1 else size / out
    at = np.floor((np.arange(out) + 0.5) * scale) if half else np.floor(np.arange(out) * scale + (0.5 if align else 0))
    return np.minimum(at, size - 1).astype(int)


def cubic_rows(size: int, out: int) -> np.ndarray:
    """Weights of a bicubic resize with half_pixel_centers, a = -0.5: pixels outside don't count."""
    a, table = -0.5, np.zeros((out, size))
    for i in range(out):
        at = (i + 0.5) * size / out - 0.5
        low = int(np.floor(at))
        fraction = np.rint((at - low) * 1024) / 1024
        for step in range(-1, 3):
            d = abs(step - fraction)
            if 0 <= low + step < size:
                table[i, low + step] += (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return table / table.sum(1, keepdims=True)


def of_rows(x: np.ndarray, height: np.ndarray, width: np.ndarray) -> np.ndarray:
    return np.einsum("rh,nhwc,sw->nrsc", height, x.astype(np.float64), width)


def picked(x: np.ndarray, out: tuple[int, int], **mode: bool) -> np.ndarray:
    rows, columns = (nearest(n, m, **mode) for n, m in zip(x.shape[1:3], out, strict=True))
    return x[:, rows][:, :, columns]


CASES: dict[str, tuple[str, dict[str, bool], Callable[[np.ndarray, tuple[int, int]], np.ndarray]]] = {
    "nearest": ("ResizeNearestNeighbor", {}, lambda x, out: picked(x, out)),
    "nearest_corners": ("ResizeNearestNeighbor", {"align_corners": True}, lambda x, out: picked(x, out, align=True)),
    "nearest_half": ("ResizeNearestNeighbor", {"half_pixel_centers": True}, lambda x, out: picked(x, out, half=True)),
    "bicubic": ("ResizeBicubic", {}, formulas.bicubic),
    "bicubic_half": (
        "ResizeBicubic",
        {"half_pixel_centers": True},
        lambda x, out: of_rows(x, *(cubic_rows(n, m) for n, m in zip(x.shape[1:3], out, strict=True))),
    ),
}


def runs(folder: Path, net: Net, *images: np.ndarray) -> list[list[np.ndarray]]:
    """For each image what PyTorch and onnxruntime answer, (N, H, W, C)."""
    model = net.load(folder)
    module = converters.to_module(model)
    converters.save(model, folder / "out.onnx")
    session = onnxruntime.InferenceSession(folder / "out.onnx", providers=["CPUExecutionProvider"])
    found = []
    for x in images:
        given = nchw(x).astype(np.float32)
        with torch.no_grad():
            answers = [module(torch.from_numpy(given)).numpy(), session.run(None, {"x": given})[0]]
        found.append([answer.transpose(0, 2, 3, 1) for answer in answers])
    return found


@pytest.mark.parametrize("twice", [True, False], ids=["twice", "to_5x7"])
@pytest.mark.parametrize("name", CASES)
def test_resize(name: str, twice: bool, tmp_path: Path) -> None:
    """To twice the image's size, and to a given one."""
    op, attributes, formula = CASES[name]
    net = Net((None, None, None, 3))
    size = net.const("size", np.array([5, 7], np.int32))
    if twice:
        ends = [net.const(text, np.array([n], np.int32)) for text, n in (("one", 1), ("three", 3), ("step", 1))]
        net.add("sides", "StridedSlice", net.add("shape", "Shape", "x"), *ends)
        size = net.add("size2", "Mul", "sides", net.const("two", np.array(2, np.int32)))
    net.add("y", op, "x", size, **attributes)
    images = [image(shape=(2, height, width, 3)) for height, width in ((4, 9), (7, 3), (1, 5))]
    for x, found in zip(images, runs(tmp_path, net, *images), strict=True):
        wanted = formula(x, (2 * x.shape[1], 2 * x.shape[2]) if twice else (5, 7))
        for answer in found:
            np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-4)


def test_mirrored_edges(tmp_path: Path) -> None:
    """A pad longer than the image is refused when the net runs, and never cut short."""
    pads = [(0, 0), (1, 2), (3, 0), (0, 0)]
    net = Net((None, None, None, 3))
    net.add("y", "MirrorPad", "x", net.const("pads", np.array(pads, np.int32)), mode="SYMMETRIC")
    images = [image(shape=(2, height, width, 3)) for height, width in ((4, 9), (7, 3))]
    for x, found in zip(images, runs(tmp_path, net, *images), strict=True):
        for answer in found:
            np.testing.assert_array_equal(answer, np.pad(x.astype(np.float32), pads, "symmetric"))
    for shape in ((1, 1, 9, 3), (1, 4, 2, 3)):
        with pytest.raises(REFUSALS):
            converters.to_module(net.load(tmp_path))(torch.from_numpy(nchw(image(shape=shape)).astype(np.float32)))


def side(net: Net, axis: int) -> str:
    """Adds the length of an image's axis, a number."""
    ends = [net.const(f"from{axis}", np.array([axis], np.int32)), net.const(f"to{axis}", np.array([axis + 1], np.int32))]
    if "shape" not in {n.name for n in net.graph.node}:
        net.add("shape", "Shape", "x")
    return net.add(f"side{axis}", "StridedSlice", "shape", *ends, net.const(f"by{axis}", np.array([1], np.int32)), shrink_axis_mask=1)


def vector(net: Net, name: str, *parts: int | str) -> str:
    """Adds a list of numbers, some of which are nodes'."""
    nodes = [part if isinstance(part, str) else net.const(f"{name}{i}", np.int32(part)) for i, part in enumerate(parts)]
    return net.add(name, "Pack", *nodes, N=len(nodes), axis=0)


def half(net: Net, number: str) -> str:
    return net.add(f"half_{number}", "FloorDiv", number, net.const(f"two_{number}", np.int32(2)))


def strided(net: Net) -> None:
    """From the middle row on, and all columns but the last."""
    last = net.add("last", "Sub", side(net, 2), net.const("uno", np.int32(1)))
    ends = vector(net, "begin", 0, half(net, side(net, 1)), 0), vector(net, "end", 0, 0, last)
    net.add("y", "StridedSlice", "x", *ends, net.const("step", np.array([1, 1, 1], np.int32)), begin_mask=1, end_mask=3)


def computed(net: Net) -> None:
    """As many rows as half the image has, but for those that a negative number counts from the end."""
    less = net.add("less", "Neg", half(net, side(net, 1)))
    ends = vector(net, "begin", 0, 0), vector(net, "end", 0, less)
    net.add("y", "StridedSlice", "x", *ends, net.const("step", np.array([1, 1], np.int32)), begin_mask=3, end_mask=1)


def cropped(net: Net) -> None:
    """The middle of an image, as large as half of it, offsets and sizes computed of its shape."""
    height, width = (side(net, axis) for axis in (1, 2))
    rows, columns = half(net, height), half(net, width)
    offsets = [half(net, net.add(f"left{axis}", "Sub", one, other)) for axis, (one, other) in enumerate(((height, rows), (width, columns)))]
    net.add("y", "Slice", "x", vector(net, "begin", 0, *offsets, 0), vector(net, "size", -1, rows, columns, -1))


def filled(net: Net) -> None:
    """Zeros behind the rows and columns up to a multiple of 4."""
    rows = []
    for axis in (1, 2):
        minus = net.add(f"minus{axis}", "Neg", side(net, axis))
        rows.append(vector(net, f"row{axis}", 0, net.add(f"rest{axis}", "FloorMod", minus, net.const(f"four{axis}", np.int32(4)))))
    none = [net.const(f"none{n}", np.array([0, 0], np.int32)) for n in range(2)]
    net.add("y", "Pad", "x", net.add("pads", "Pack", none[0], *rows, none[1], N=4, axis=0))


def middle(x: np.ndarray) -> np.ndarray:
    rows, columns = (n // 2 for n in x.shape[1:3])
    top, left = ((n - n // 2) // 2 for n in x.shape[1:3])
    return x[:, top : top + rows, left : left + columns]


PARTS: dict[str, tuple[Callable[[Net], None], Callable[[np.ndarray], np.ndarray]]] = {
    "strided": (strided, lambda x: x[:, x.shape[1] // 2 :, :-1]),
    "computed": (computed, lambda x: x[:, : -(x.shape[1] // 2)]),
    "cropped": (cropped, middle),
    "filled": (filled, lambda x: np.pad(x, [(0, 0), (0, -x.shape[1] % 4), (0, -x.shape[2] % 4), (0, 0)])),
}


@pytest.mark.parametrize("name", PARTS)
def test_bounds_and_paddings_that_are_computed_of_the_size(name: str, tmp_path: Path) -> None:
    write, formula = PARTS[name]
    net = Net((None, None, None, 3))
    write(net)
    images = [image(shape=(2, height, width, 3)) for height, width in ((4, 9), (7, 6), (5, 13))]
    for x, found in zip(images, runs(tmp_path, net, *images), strict=True):
        for answer in found:
            np.testing.assert_array_equal(answer, formula(x.astype(np.float32)))


SIZED = [("conv1d_valid_rows", (13, 6)), ("conv_same_s2_odd", (3, 10, 12)), ("extract_patches", (3, 9, 9)), ("fill_zeros_like", (9,))]
"""Nets, and sizes that they aren't for."""


@pytest.mark.parametrize("name, other", SIZED)
def test_an_image_of_another_size_than_the_one_that_was_known_is_an_error(name, other, tmp_path):
    """SAME pads by the image's size, which TensorFlow's placeholder states too: it takes no other."""
    model = Case(name).load(tmp_path)
    net, shape = converters.to_module(model), [d if isinstance(d, int) else 2 for d in model.graph.inputs[0].shape]
    net(torch.zeros(shape))
    with pytest.raises(RuntimeError, match="split"):
        net(torch.zeros(shape[0], *other))


def test_an_image_whose_size_decides_nothing_may_have_another(tmp_path):
    net = converters.to_module(Case("elu").load(tmp_path))
    x = torch.ones(5, *[d + 1 for d in Case("elu").about["inputs"]["x"]["shape"][1:]])
    assert torch.equal(net(x), x)


@pytest.mark.parametrize("flat", [[-1, 126], [-1, 3]], ids=["image", "average"])
def test_an_image_flattened_to_a_known_length_has_no_other_size(flat, tmp_path):
    """TensorFlow's Reshape makes 4 rows of 4 times as many numbers; nothing behind it would stop a row that is longer."""
    net = Net()
    before = "x" if flat[1] == 126 else net.add("mean", "AvgPool", "x", ksize=[1, 7, 6, 1], strides=[1, 1, 1, 1], padding="VALID")
    net.add("flat", "Reshape", before, net.const("shape", np.array(flat)))
    net.add("y", "Softmax", "flat")
    module = converters.to_module(net.load(tmp_path))
    assert module(torch.ones(5, 3, 7, 6)).shape == (5, flat[1])
    with pytest.raises(RuntimeError, match="split"):
        module(torch.ones(1, 3, 14, 12))
