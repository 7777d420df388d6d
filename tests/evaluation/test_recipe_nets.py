"""evaluate over a folder in ImageNet's layout, a net for each published recipe: exactly the counts of numpy that knows nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

import converters
from converters.cli import main
from converters.evaluation.orders import DEVKIT_TO_SORTED, SORTED_TO_DEVKIT
from converters.preprocessing import RECIPES
from tests.evaluation import recipe_nets

RANKS = (0, 0, 3, 1, 0, 4, 5, 9, 0, 2, 7, 4)
"""At which place each image's own class is to come: 4 are right at once, 9 among the first five."""


def folders(root: Path, recipe: recipe_nets.Recipe) -> list[str]:
    """A folder for each class, in the order of their names; ImageNet's ids where the net has ImageNet's classes."""
    names = [f"n{1440764 + number:08d}" if recipe.classes == 1000 else f"{number:03d}" for number in range(recipe.classes)]
    for name in names:
        (root / name).mkdir(parents=True)
    return names


def places(rows: list[np.ndarray], classes: list[int]) -> tuple[int, int]:
    """Right at once, and among the first five."""
    found = [int((row > row[own]).sum()) for row, own in zip(rows, classes, strict=True)]
    return sum(place < 1 for place in found), sum(place < 5 for place in found)


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, int, int]:
    assert main(["evaluate", *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    return answer["images"], answer["top1"], answer["top5"]


def _exported(path: Path, shape: tuple[int, ...]) -> Path:
    converters.save(converters.load(path, inputs={"": shape}), path.with_suffix(".onnx"))
    return path.with_suffix(".onnx")


def test_every_recipe_has_a_net():
    assert recipe_nets.RECIPES.keys() == RECIPES.keys()


@pytest.mark.parametrize("name", recipe_nets.RECIPES)
def test_the_counts_are_those_of_numpy(name, tmp_path, capsys):
    recipe = recipe_nets.RECIPES[name]
    net = recipe_nets.Net(recipe)
    images = [recipe_nets.draw_image(recipe, number) for number in range(len(RANKS))]
    rows = [net.row(image) for image in images]
    classes = [int(np.argsort(-row)[rank]) for row, rank in zip(rows, RANKS, strict=True)]
    for row, own in zip(rows, classes, strict=True):
        assert np.abs(np.delete(row, own) - row[own]).min() > 1e-7 * np.abs(row).max(), "two classes that rounding could swap"
    names = folders(tmp_path / "val", recipe)
    to_folder = DEVKIT_TO_SORTED if recipe.order == "devkit" else range(recipe.classes)
    for number, (image, own) in enumerate(zip(images, classes, strict=True)):
        Image.fromarray(image).save(tmp_path / "val" / names[to_folder[own]] / f"{number}.png")
    size = f"1x{len(recipe.mean)}x{recipe.crop}x{recipe.crop}"
    model = net.write(tmp_path)
    if recipe.framework == "pytorch" and name != "torchvision-224":  # one is read as it is; torch's exporter takes its time
        model = [_exported(model[0], (1, len(recipe.mean), recipe.crop, recipe.crop))]
    words = [*map(str, model), str(tmp_path / "val"), "--recipe", name]
    words += [] if recipe.framework == "caffe" or model[0].suffix == ".onnx" else ["--input", size]
    assert places(rows, classes) == (4, 9)
    assert told(words, capsys) == (12, 4, 9)
    if recipe.classes == 1000:  # as if the classes had the other order
        order, table = ("sorted", DEVKIT_TO_SORTED) if recipe.order == "devkit" else ("devkit", SORTED_TO_DEVKIT)
        assert told([*words, "--order", order], capsys) == (12, *places(rows, [table[own] for own in classes]))
        assert told([*words, "--order", recipe.order], capsys) == (12, 4, 9)


def test_a_list_that_counts_in_the_other_order(tmp_path, capsys):
    """soeaver's inception-v3 has the development kit's order, which its recipe's others haven't; lists may count from 1."""
    recipe = recipe_nets.RECIPES["caffe-inception-299"]
    net = recipe_nets.Net(recipe)
    lines = []
    for number, rank in enumerate(RANKS):
        image = recipe_nets.draw_image(recipe, number)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        own = int(np.argsort(-net.row(image))[rank])  # a class of the net, in the development kit's order
        lines.append(f"{number}.png {DEVKIT_TO_SORTED[own] + 1}")
    (tmp_path / "val.txt").write_text("\n".join(lines))
    words = [*map(str, net.write(tmp_path)), "--recipe", "caffe-inception-299", "--list", str(tmp_path / "val.txt"), "--first-label", "1"]
    assert told([*words, "--order", "devkit", "--list-order", "sorted"], capsys) == (12, 4, 9)
