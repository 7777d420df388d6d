"""Whole image models of Lua Torch by their published definitions, thin ones, against the same written in PyTorch by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.readers.torch7 import published
from tests.readers.torch7.running import named_inputs
from tests.readers.torch7.test_models import runs, same


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape[0]).uniform(-1, 1, shape).astype(np.float32)


def regions(model: published.DenseCap, count: int, positive: int, length: int) -> list[np.ndarray]:
    """densecap's inputs: features and boxes of regions, and what is known of the first of them."""
    rng = np.random.default_rng(count)
    channels = model.base.made.fields["modules"][1].fields["weight"].shape[1] // 49
    boxes = rng.uniform(1, 40, (count + positive, 4)).astype(np.float32)
    return [image(count, channels, 7, 7), boxes[:count], boxes[count:], rng.integers(0, model.words + 1, (positive, length))]


CASES: dict[str, tuple[Callable[[], Any], list[tuple[int, ...]]]] = {
    "openface": (lambda: published.openface(16), [(2, 3, 96, 96), (3, 3, 96, 96)]),
    "sharpmask": (lambda: published.sharp_mask(16, 2, 64, 16), [(2, 3, 96, 96)]),
    "spynet": (lambda: published.spynet(8), [(1, 8, 24, 32), (2, 8, 24, 32), (1, 8, 40, 16)]),
    "enet": (lambda: published.ENet(8, 5), [(1, 3, 32, 48), (2, 3, 32, 48)]),
    "fan": (lambda: published.Fan(16, 2), [(1, 3, 64, 64), (2, 3, 64, 64)]),
    "cyclegan": (lambda: published.CycleGan(4, 2), [(1, 3, 24, 32), (2, 3, 24, 32)]),
}
"""What is built, and the inputs: that of the conversion, then another batch, then another size."""


@pytest.mark.filterwarnings("ignore:.*inputs of the given first size .2. alone")  # SharpMask's views fix it
@pytest.mark.parametrize("name", CASES)
def test_published_model(name: str, tmp_path: Path) -> None:
    make, shapes = CASES[name]
    model = make()
    open_sides = {("input", 2): "H", ("input", 3): "W"} if len(shapes) == 3 else {}
    for x, found in runs(tmp_path, model.made, *(image(*shape) for shape in shapes), dynamic=open_sides):
        with torch.no_grad():
            answer = model.run(torch.from_numpy(x))
        same(found, [a.numpy() for a in (answer if isinstance(answer, list) else [answer])])


def test_densecap(tmp_path: Path) -> None:
    """The recognition net with its language model, for which the image is a word; other numbers of regions, boxes and words."""
    model = published.DenseCap(4, 24, 12, 30)
    feeds = [regions(model, *counts) for counts in ((5, 3, 4), (7, 2, 4), (4, 4, 9))]
    for x, found in runs(tmp_path, model.made, *feeds, dynamic={("input_4", 1): "T"}):
        with torch.no_grad():
            answer = model.run([torch.from_numpy(a) for a in named_inputs(x).values()])
        same(found, [a.numpy() for a in answer])
