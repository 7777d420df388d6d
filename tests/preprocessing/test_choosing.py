"""A preprocessing of single options: alone it says what a published recipe says, on top of one it changes just that."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

from converters.errors import ConversionError
from converters.preprocessing import Preprocess
from converters.preprocessing.choosing import Choices, chosen

IMAGENET: dict[str, Any] = {
    "channels": "rgb",
    "scale": 1,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "resize": "256",
    "crop": 224,
}
CAFFE: dict[str, Any] = {
    "channels": "bgr",
    "scale": 255,
    "mean": (102.9801, 115.9465, 122.7717),
    "std": (1.0,),
    "resize": "256",
    "crop": 224,
}
ALONE: dict[str, dict[str, Any]] = {
    "caffe-resnet-v2-224": {**CAFFE, "interpolation": "opencv-linear"},
    "caffe-resnet-v2-224-12crop": {**CAFFE, "interpolation": "opencv-linear", "crops": 12},
    "torchvision-224": {**IMAGENET, "interpolation": "pil-bilinear"},
    "torchvision-224-10crop": {**IMAGENET, "interpolation": "pil-bilinear", "crops": 10},
    "fb-resnet-224": {**IMAGENET, "interpolation": "torch-bicubic"},
    "fb-resnet-224-10crop": {**IMAGENET, "interpolation": "torch-bicubic", "crops": 10},
    "cifar10": {"channels": "rgb", "scale": 1, "mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)},
    "rgb-half-224": {"channels": "rgb", "scale": 1, "mean": (0.5,), "std": (0.5,), "resize": "224x224", "interpolation": "pil-lanczos"},
    "gray-vgg16-224-train": {
        "channels": "gray",
        "scale": 1,
        "mean": (0.5,),
        "std": (0.5,),
        "resize": "224x224",
        "interpolation": "pil-lanczos",
    },
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (311, 402, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("recipe", ALONE)
def test_options_alone_say_what_a_recipe_says(image: Path, recipe: str) -> None:
    got, want = chosen(Choices(**ALONE[recipe])), Preprocess.recipe(recipe)
    np.testing.assert_array_equal(got(image), want(image))
    assert (got.crops, got.crops > 1 and got.average) == (want.crops, want.crops > 1 and want.average)


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"resize": "320"}, "resize_to", 320),
        ({"resize": "64x64"}, "resize", "squash"),
        ({"resize": "none", "crop": 0}, "resize", "none"),
        ({"interpolation": "pil-bilinear"}, "interpolation", "pil bilinear (antialiased)"),
        ({"crop": 192}, "crop", 192),
        ({"crop": 0}, "crop", None),
        ({"crops": 10}, "crops", 10),
        ({"scale": 1}, "range", 1),
        ({"mean": (1.0, 2.0, 3.0)}, "mean", (1.0, 2.0, 3.0)),
        ({"std": (2.0,)}, "std", (2.0, 2.0, 2.0)),
        ({"channels": "rgb"}, "color", "RGB"),
    ],
)
def test_one_option_on_top_of_a_recipe(given: dict[str, Any], field: str, value: object) -> None:
    base = Preprocess.recipe("caffe-resnet-v2-224")
    got = chosen(Choices(**given), base)
    assert getattr(got, field) == value
    related = {"resize": {"resize_to", "interpolation", "crop"}, "crops": {"average", "crop_offset"}}
    others = {f.name for f in dataclasses.fields(base)} - {field} - related.get(next(iter(given)), set())
    assert {name: getattr(got, name) for name in others} == {name: getattr(base, name) for name in others} or "resize" in given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": "rgb", "mean": (0.0,)}, "isn't said in full: --scale --std is missing"),
        ({**IMAGENET, "interpolation": None}, "--resize needs --interpolation: programs differ"),
        ({**IMAGENET, "interpolation": "cubic"}, "--interpolation cubic: it is one of opencv-linear, pil-bilinear"),
        ({**IMAGENET, "interpolation": "opencv-linear", "resize": "256x128"}, "--resize 256x128: write 256"),
        ({**IMAGENET, "interpolation": "opencv-linear", "channels": "yuv"}, "--channels yuv: it is one of rgb, bgr, gray, lab"),
        ({**IMAGENET, "interpolation": "opencv-linear", "mean": (1.0, 2.0)}, "mean holds 2 numbers; RGB has 3 channels"),
        ({**IMAGENET, "interpolation": "opencv-linear", "crop": None, "crops": 10}, "10 crops need the size of a crop"),
    ],
)
def test_options_that_say_too_little(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError) as caught:
        chosen(Choices(**given))
    assert message in str(caught.value)


@pytest.mark.parametrize("decode", ["pil", "torch", "opencv", "scikit-image"])
def test_any_reader_with_any_interpolation(image: Path, decode: str) -> None:
    """Of an RGB file of 8 bits all readers have the same pixels, so that the interpolation alone decides."""
    fields = {"color": "RGB", "resize": "squash", "resize_to": 100, "range": 255, "mean": [0] * 3, "std": [1] * 3}
    for words in ("opencv linear", "pil lanczos", "torch bicubic (corners aligned, a=-0.5, no antialiasing)"):
        own = {"opencv linear": "opencv", "pil lanczos": "pil"}.get(words, "torch")
        got = Preprocess.from_dict({**fields, "decode": decode, "interpolation": words})(image)
        want = Preprocess.from_dict({**fields, "decode": own, "interpolation": words})(image)
        np.testing.assert_allclose(got, want, atol=1.0 if words == "opencv linear" else 1e-3)  # bytes are rounded, floats aren't
