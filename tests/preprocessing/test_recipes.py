"""Each recipe against the tensors of the original programs (OpenCV, Pillow and torchvision, Torch7's image, scikit-image, MXNet)."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from converters.errors import ConversionError, FormatError
from converters.preprocessing import RECIPES, Preprocess

ARCHIVE = zipfile.ZipFile(Path(__file__).parents[2] / "fixtures" / "preprocessing.zip")
CASES = {name.split("/")[0]: json.loads(ARCHIVE.read(name)) for name in ARCHIVE.namelist() if name.endswith("case.json")}
ROWS = [(recipe, image) for recipe, case in CASES.items() for image in case["images"]]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("use")
    ARCHIVE.extractall(folder, [name for name in ARCHIVE.namelist() if name.startswith("images/")])
    return folder / "images"


def expected(recipe: str) -> Any:
    return np.load(io.BytesIO(ARCHIVE.read(f"{recipe}/expected.npz")))


@pytest.mark.parametrize(("recipe", "image"), ROWS)
def test_recipe(images: Path, recipe: str, image: str) -> None:
    case = CASES[recipe]["images"][image]
    try:
        got = Preprocess.recipe(recipe)(images / image)
    except ConversionError as problem:
        assert case["expect"] in ("refuse", "either"), problem
        return
    assert case["expect"] != "refuse"
    assert got.dtype == np.float32
    limit = CASES[recipe]["tolerance"] + case.get("slack", 0)
    numbers = expected(recipe)
    faults = []
    for values, means, shape in (("values", "mean", "shape"), ("alt", "alt_mean", "alt_shape")):  # a second answer of another version
        if f"{image}/{values}" in numbers.files:
            fits = list(got.shape) == case[shape]
            near = fits and np.abs(got.ravel()[numbers[f"{image}/index"]] - numbers[f"{image}/{values}"]).max() <= limit
            faults.append(not near or np.abs(got.astype(float).mean((2, 3)) - numbers[f"{image}/{means}"]).max() > limit)
    assert not all(faults)


def test_every_name_is_a_recipe() -> None:
    for name in RECIPES:
        made = Preprocess.recipe(name)
        assert Preprocess.from_dict(made.to_dict()) == made
    with pytest.raises(ConversionError, match="there are caffe-inception-299, "):
        Preprocess.recipe("resnet")


FIELDS = {"decode": "pil", "color": "RGB", "mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"decode": "magick"}, "'decode' is 'magick'; it is one of 'opencv'"),
        ({"mean": [0]}, "mean holds 1 numbers; RGB has 3 channels"),
        ({"mean": [True, 0, 0]}, "'mean' must be a list of numbers"),
        ({"std": [1, 0, 1]}, "std holds a 0"),
        ({"std": [1, float("nan"), 1]}, "std holds 3 numbers"),
        ({"resize": "squash", "resize_to": 0, "interpolation": "pil lanczos"}, "'resize_to' is 0"),
        ({"resize": "squash", "resize_to": 1 << 20, "interpolation": "pil lanczos"}, "at most 16384"),
        ({"resize": "short side", "resize_to": 8}, "'interpolation' is None"),
        ({"crops": 10}, "10 crops need the size of a crop"),
        ({"crop": 4}, "'crop_offset' is None"),
        ({"crop": 4, "crop_offset": "floor", "crops": 12}, "12 crops go with the resize"),
        ({"crop": [4]}, "'crop' is "),
        ({"means": [1]}, "unknown preprocessing field 'means'"),
    ],
)
def test_fields_that_make_no_sense(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError) as caught:
        Preprocess.from_dict({**FIELDS, **more})
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("[1]", "no object"), ("{", "is no JSON"), ('{"color": "RGB"}', "'decode' is missing")])
def test_files_of_fields(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "fields.json").write_text(text)
    with pytest.raises(ConversionError, match=f"fields.json: .*{message}"):
        Preprocess.from_json(tmp_path / "fields.json")


def test_what_is_no_image(tmp_path: Path, images: Path) -> None:
    preprocess = Preprocess.from_dict(FIELDS)
    with pytest.raises(ConversionError, match=r"none\.png: no such file"):
        preprocess(tmp_path / "none.png")
    (tmp_path / "cut.png").write_bytes((images / "noise_37x41.png").read_bytes()[:800])
    with pytest.raises(FormatError, match=r"cut\.png: is no image that can be read"):
        preprocess(tmp_path / "cut.png")
    (tmp_path / "text.jpg").write_text("<html>")
    with pytest.raises(FormatError, match="is no image"):
        preprocess(tmp_path / "text.jpg")


def test_an_image_smaller_than_the_crop(images: Path) -> None:
    with pytest.raises(ConversionError, match="37x41 is smaller than the crop of 64x64"):
        Preprocess.from_dict({**FIELDS, "crop": 64, "crop_offset": "floor"})(images / "noise_37x41.png")


def test_the_center_of_the_mirror_image_is_its_own() -> None:
    from converters.preprocessing.crops import windows

    image = np.arange(5 * 5 * 1).reshape(5, 5, 1)
    crops = windows(image, 2, "ceil", 10)
    assert crops[0][0, 0, 0] == 12  # rows and columns from 2 on
    assert crops[5][0, 0, 0] == 12  # of the mirror image, from its own column 2 on, which holds 12, 11
    assert crops[5][0, 1, 0] == 11
    assert [crop[0, 0, 0] for crop in crops[1:5]] == [0, 3, 15, 18]
