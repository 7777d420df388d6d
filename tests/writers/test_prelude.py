"""Functions that written sources carry, where they take another way than the plain one."""

from __future__ import annotations

import itertools

import pytest
import torch

from converters.writers.source.prelude.detection import covers
from converters.writers.source.prelude.indexing import top_k

INFINITE = float("inf")


def numbers(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(len(kind)))
    other = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return {
        "plain": drawn,
        "equal": drawn.round(decimals=0),
        "zeros": torch.where(drawn < 0, torch.tensor(-0.0), torch.tensor(0.0)),
        "infinite": torch.where(drawn > 0.5, torch.tensor(INFINITE), torch.where(drawn < 0, torch.tensor(-INFINITE), drawn)),
        "NaN": torch.where(other < 0, torch.copysign(torch.tensor(float("nan")), drawn), drawn.round(decimals=0)),
        "integers": (drawn * 3).long(),
    }[kind]


@pytest.mark.parametrize("kind", ["plain", "equal", "zeros", "infinite", "NaN", "integers"])
def test_the_best_of_many_are_those_of_a_stable_sort(kind):
    scripted = torch.jit.script(top_k)
    for shape, largest in itertools.product([(50,), (4, 50), (3, 20, 5)], [True, False]):
        x = numbers(kind, shape)
        for axis in range(-x.dim(), x.dim()):
            values, places = x.sort(dim=axis, descending=largest, stable=True)
            for k in (0, 1, x.shape[axis] // 2, x.shape[axis]):
                for found in (top_k(x, k, axis, largest), scripted(x, k, axis, largest)):
                    torch.testing.assert_close(found[0], values.narrow(axis, 0, k), rtol=0, atol=0, equal_nan=True)
                    assert torch.equal(found[1], places.narrow(axis, 0, k))


def test_boxes_without_an_area_and_without_end_cover_none():
    corners = [[0.0, 0, 2, 2], [0, 0, 2, 1], [1, 1, 1, 1], [0, 0, INFINITE, 2], [float("nan")] * 4]
    boxes = torch.tensor(corners)
    table = torch.cat([boxes, (boxes[:, 2:] - boxes[:, :2]).prod(-1, keepdim=True)], 1).t()
    found = covers(table, table, 0.4)
    assert found.tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [0] * 5, [0] * 5]
