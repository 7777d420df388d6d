"""ImageNet's two orders of classes, list files, and recipes that are proposed and never taken."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("PIL")

from converters.errors import ConversionError
from converters.evaluation.images import find_labeled
from converters.evaluation.orders import DEVKIT_TO_SORTED, SORTED_TO_DEVKIT, translated
from converters.evaluation.published import PUBLISHED, Published
from converters.preprocessing import RECIPES


def test_the_two_orders() -> None:
    """Class 0 of the development kit is the kit fox, n02119789, which is 278 in the sorted order; no class has one number in both."""
    assert sorted(DEVKIT_TO_SORTED) == list(range(1000)) and DEVKIT_TO_SORTED[0] == 278
    assert not [number for number, other in enumerate(DEVKIT_TO_SORTED) if number == other]
    assert all(SORTED_TO_DEVKIT[other] == number for number, other in enumerate(DEVKIT_TO_SORTED))
    assert (translated(0, "devkit", "sorted"), translated(278, "sorted", "devkit"), translated(5, "sorted", "sorted")) == (278, 0, 5)
    with pytest.raises(ConversionError, match="class 1000 is none of ImageNet's"):
        translated(1000, "sorted", "devkit")


def val(root: Path, count: int) -> Path:
    """One file a class; their ids are in order, as ImageNet's are."""
    for number in range(count):
        folder = root / "val" / f"n{1440764 + number:08d}"
        folder.mkdir(parents=True)
        (folder / "a.jpeg").touch()
    return root / "val"


def test_folders_of_ids(tmp_path: Path) -> None:
    folder = val(tmp_path, 1000)
    assert [image.label for image in find_labeled(folder, orders=("sorted", None))] == list(range(1000))
    assert [image.label for image in find_labeled(folder, orders=("devkit", None))] == list(SORTED_TO_DEVKIT)
    named = {f"n{1440764 + number:08d}": 999 - number for number in range(1000)}  # a labels file is the model's own
    assert [image.label for image in find_labeled(folder, classes=named, orders=("devkit", None))] == list(range(999, -1, -1))


def test_some_of_the_folders_don_t_tell_the_order(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"holds 3 of ImageNet's classes; .*--labels"):
        find_labeled(val(tmp_path, 3), orders=("devkit", None))


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("a.png 1\nb c.png 279\n")
    read = lambda **more: [image.label for image in find_labeled(tmp_path / "val.txt", **more)]  # noqa: E731
    assert read(orders=("devkit", None)) == [1, 279]
    assert read(orders=("devkit", "sorted"), first=1) == [SORTED_TO_DEVKIT[0], 0]
    assert read(orders=("sorted", "devkit"), first=1)[0] == 278
    with pytest.raises(ConversionError, match="is of class 1, but they count from 2"):
        read(first=2)
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ConversionError, match="can't be read as a list of images"):
        read()
    with pytest.raises(ConversionError, match="absent: there is no such file or folder"):
        find_labeled(tmp_path / "absent")


def test_proposals_name_recipes_that_there_are() -> None:
    models = [model for models in PUBLISHED.values() for model in models]
    assert {model.recipe for model in models} <= RECIPES.keys()
    assert len({model.name for model in models}) == len(models)
    assert str(Published("x", "y", "devkit")) == "x (its page used --recipe y, for which evaluate needs --order devkit)"
