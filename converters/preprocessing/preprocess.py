"""Preprocess: the fields of a recipe, checked, and what they do to an image."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError, FormatError, about, printable
from converters.files import StrPath
from converters.graph.provenance import PREPROCESSING
from converters.preprocessing import decoding, resizing
from converters.preprocessing.crops import CROP_OFFSETS, twelve_crops, windows
from converters.preprocessing.recipes import RECIPES

if TYPE_CHECKING:
    import onnx_ir
    from PIL import Image

Array = NDArray[Any]

COLORS = {"RGB": 3, "BGR": 3, "Lab": 3, "gray": 1}
"""Channel orders, and how many channels each has."""
SQUASH_12 = "short side, then squash to base x base"
CENTER_SQUARE = "centre square of the short side, then squash"
FIRST_SQUASH = {"squash, in the file's own mode, then RGB": "RGB", "squash, in the file's own mode, then gray": "L"}
FIRST_COLOR = {"RGB, then squash": "RGB", "gray, then squash": "L"}
RESIZES = ("none", "short side", "squash", SQUASH_12, CENTER_SQUARE, *FIRST_SQUASH, *FIRST_COLOR)
INTERPOLATIONS = {
    "opencv linear": "opencv",
    "pil bilinear (antialiased)": "bilinear",
    "pil lanczos": "lanczos",
    "torch bicubic (corners aligned, a=-0.5, no antialiasing)": "torch",
    "linear, half-pixel centres, zeros outside then clipped to the square's own range, no antialiasing": "scikit",
}
"""Interpolations by the words of a recipe."""
RANGES = (1, 255, 256, "L 0-100, a and b unscaled")


@dataclass(frozen=True)
class Preprocess:
    """What is done to an image before the first layer: from a file to float32 (crops, C, H, W), channels in the network's order.

    decode: whose rules of reading ("opencv", "pil", "torch", "scikit-image"). color: the channel order, "RGB", "BGR", "gray" or "Lab".
    resize: how ("none", "short side", "squash" ...), resize_to: to how many pixels, interpolation: whose. crop: side of the square that is
    kept, None for all; crop_offset: how half of an odd rest is rounded. crops: 1, 10 or 12. range: the largest value before mean and std
    (1, 255, 256). mean, std: one per channel, in channel order. average: what several crops are averaged over, "logits" or
    "probabilities". labels: which order the classes have ("sorted", "devkit" ...).
    Raises ConversionError for fields that make no sense.
    """

    decode: str
    color: str
    resize: str = "none"
    resize_to: int | None = None
    interpolation: str | None = None
    size_rounding: str | None = None
    crop: int | None = None
    crop_offset: str | None = None
    crops: int = 1
    range: int | str = 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    average: str | None = None
    labels: str | None = None

    def __post_init__(self) -> None:
        _one_of("decode", self.decode, decoding.DECODERS)
        _one_of("color", self.color, COLORS)
        _one_of("resize", self.resize, RESIZES)
        _one_of("range", self.range, RANGES)
        _one_of("crops", self.crops, (1, 10, 12))
        _one_of("average", self.average, (None, "logits", "probabilities"))
        if self.resize != "none":
            _one_of("interpolation", self.interpolation, INTERPOLATIONS)
            _whole("resize_to", self.resize_to)
        if self.crop is not None:
            _whole("crop", self.crop)
            _one_of("crop_offset", self.crop_offset, CROP_OFFSETS)
        elif self.crops > 1:
            raise ConversionError(f"{self.crops} crops need the size of a crop", hint="give crop")
        if (self.crops == 12) != (self.resize == SQUASH_12):
            raise ConversionError(f"12 crops go with the resize {SQUASH_12!r}, and it with them")
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if len(numbers) != COLORS[self.color] or not all(math.isfinite(number) for number in numbers):
                raise ConversionError(f"{name} holds {len(numbers)} numbers; {self.color} has {COLORS[self.color]} channels")
        if not all(self.std):
            raise ConversionError("std holds a 0, by which nothing can be divided")

    @classmethod
    def recipe(cls, name: str) -> Preprocess:
        """The published recipe of that name. Raises ConversionError, which lists the names."""
        if name not in RECIPES:
            raise ConversionError(f"no recipe is called {printable(name)!r}; there are {', '.join(sorted(RECIPES))}")
        return cls.from_dict(RECIPES[name])

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocess:
        """From the fields by name, lists for tuples. Raises ConversionError for one that is unknown, missing or of a wrong type."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        if strange := [name for name in fields if name not in known]:
            raise ConversionError(f"unknown preprocessing field {printable(strange[0])!r}; there are {', '.join(known)}")
        if missing := [name for name in ("decode", "color") if name not in fields]:
            raise ConversionError(f"the preprocessing field {missing[0]!r} is missing")
        given = dict(fields)
        for name in ("mean", "std"):
            if name in given:
                numbers = given[name]
                if not isinstance(numbers, list | tuple) or not all(
                    isinstance(n, int | float) and not isinstance(n, bool) for n in numbers
                ):
                    raise ConversionError(f"the preprocessing field {name!r} must be a list of numbers")
                given[name] = tuple(float(number) for number in numbers)
        return cls(**given)

    @classmethod
    def from_json(cls, path: StrPath) -> Preprocess:
        """From a JSON file with the fields. Raises FormatError for what is no JSON object, ConversionError as `from_dict`."""
        with about(path):
            try:
                with open(path, encoding="utf-8") as file:
                    fields = json.load(file)
            except OSError as problem:
                raise ConversionError(f"can't be read: {problem.strerror}") from problem
            except (ValueError, RecursionError) as problem:
                raise FormatError(f"is no JSON ({printable(problem, 80)})") from problem
            if not isinstance(fields, dict):
                raise FormatError("is JSON, but no object with preprocessing fields")
            return cls.from_dict(fields)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data, for JSON."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def attach(self, model: onnx_ir.Model) -> None:
        """Notes it in a model, so that the files that it is saved as carry it."""
        model.metadata_props[PREPROCESSING] = json.dumps(self.to_dict())

    def linear(self) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, ...]]:
        """What it does to the pixels (0 to 255; R, G, B) as (scale, shift, order): channel c is scale[c] * pixel[order[c]] + shift[c].

        Raises ConversionError for Lab, which is no such thing.
        """
        if self.color == "Lab" or not isinstance(self.range, int):
            raise ConversionError("Lab isn't linear in the pixels: it can't be folded into a net")
        std = np.array(self.std, np.float64)
        order = {"RGB": (0, 1, 2), "BGR": (2, 1, 0), "gray": (0,)}[self.color]
        return self.range / 255 / std, -np.array(self.mean, np.float64) / std, order

    def raw(self) -> Preprocess:
        """The same without what `linear` does: pixels from 0 to 255, R, G, B or gray."""
        channels = COLORS[self.color]
        color = "gray" if self.color == "gray" else "RGB"
        return dataclasses.replace(self, color=color, range=255, mean=(0.0,) * channels, std=(1.0,) * channels)

    def __call__(self, path: StrPath) -> NDArray[np.float32]:
        """The image file as the network's input: float32 (crops, C, H, W). Raises ConversionError for what the original refuses too."""
        with about(path):
            image = self._resized(path)
            if self.crops == 12:
                crops = twelve_crops(self._normalized(image), self.resize_to or 0, self.crop or 0)
            elif self.crop is None:
                crops = [self._normalized(image)]
            elif self.crops == 1:  # the same numbers as cropped afterwards, of fewer pixels
                crops = [self._normalized(windows(image, self.crop, self.crop_offset or "", 1)[0])]
            else:
                crops = windows(self._normalized(image), self.crop, self.crop_offset or "", self.crops)
            result = np.empty((len(crops), crops[0].shape[2], *crops[0].shape[:2]), np.float32)
            for number, crop in enumerate(crops):
                result[number] = crop.transpose(2, 0, 1)
            return result

    # -- the steps, in their order -----------------------------------------------------------------------------------

    def _resized(self, path: StrPath) -> Array:
        """The decoded image in its final size, (H, W, C): bytes, or numbers from 0 to 1, in the order R, G, B or gray."""
        if self.decode == "pil":
            return self._resized_by_pillow(decoding.read_pillow(path))
        if self.decode == "torch":
            image: Array = decoding.read_torch(path)
        elif self.decode == "scikit-image":
            image = decoding.read_scikit(path)
        else:
            image = decoding.read_opencv(path, turn=self.decode == "opencv")
        if self.color == "gray":
            raise ConversionError(f"gray images are read by Pillow's rules here, not {self.decode}'s", hint='use "decode": "pil"')
        if self.resize == CENTER_SQUARE:
            short = min(image.shape[:2])
            y, x = ((side - short) // 2 for side in image.shape[:2])
            image = image[y : y + short, x : x + short]
        return self._scaled(image)

    def _scaled(self, image: Array) -> Array:
        """The image in the size that is asked for."""
        size = self._size(image.shape[0], image.shape[1])
        method = INTERPOLATIONS.get(self.interpolation or "")
        if size == image.shape[:2]:
            return image
        if method == "opencv":
            return resizing.opencv_linear(image, size)
        if method in ("torch", "scikit"):
            values = image / (255 if image.dtype == np.uint8 else 1)
            return resizing.torch_bicubic(values, size) if method == "torch" else resizing.scikit_linear(values, size)
        if image.dtype != np.uint8:  # Torch's and scikit-image's numbers from 0 to 1
            levels = np.rint(image.astype(np.float64) * 255)
            if np.abs(levels / 255 - image).max() > 1e-6:
                raise ConversionError(f"{self.interpolation} resizes bytes; the image has more levels")
            image = levels.astype(np.uint8)
        from PIL import Image

        return np.asarray(_pillow_resize(Image.fromarray(image), size, method or ""))

    def _resized_by_pillow(self, image: Image.Image) -> Array:
        method = INTERPOLATIONS.get(self.interpolation or "", "")
        by_pillow = self.resize == "none" or method in ("bilinear", "lanczos")
        if not by_pillow and self.resize in FIRST_SQUASH:
            raise ConversionError(f"an image in its file's own mode is resized by Pillow, not by {self.interpolation}")
        mode = "L" if self.color == "gray" else "RGB"
        if self.resize in FIRST_SQUASH:
            image = _pillow_resize(image, self._size(image.height, image.width), method).convert(mode)
        else:
            image = image.convert(mode)
            image = _pillow_resize(image, self._size(image.height, image.width), method) if by_pillow else image
        array = np.asarray(image)
        array = array[:, :, None] if array.ndim == 2 else array
        return array if by_pillow else self._scaled(array)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """The size to resize to. The long side is truncated, whichever way round the original divides."""
        if self.resize == "none" or self.resize_to is None:
            return height, width
        base = self.resize_to
        if self.resize in ("short side", SQUASH_12):
            if height < width:
                return base, max(1, base * width // height)
            return max(1, base * height // width), base
        return base, base

    def _normalized(self, image: Array) -> Array:
        """Channels in order, the range, mean and std: float64 after OpenCV and scikit-image, else float32, as the originals compute."""
        if self.color == "BGR":
            image = image[:, :, ::-1]
        if self.color == "Lab":
            return self._scaled_values(decoding.to_lab(image))
        if image.dtype != np.uint8 or image.size < 4096:
            return self._scaled_values(image)
        # of bytes there are few: each is worked out once, and looked up
        channels = image.shape[2]
        table = self._scaled_values(np.arange(256, dtype=np.uint8)[:, None].repeat(channels, axis=1))
        planes = np.empty((channels, *image.shape[:2]), table.dtype)
        for channel in range(channels):
            np.take(table[:, channel], image[:, :, channel], out=planes[channel])
        return planes.transpose(1, 2, 0)

    def _scaled_values(self, values: Array) -> Array:
        """Bytes or numbers from 0 to 1 (Lab as it is), channels last: in the range, less mean, by std."""
        double = (self.decode.startswith(("opencv", "scikit")) and self.range != 1) or self.color == "Lab"
        kind = np.dtype(np.float64 if double else np.float32)
        if self.color != "Lab":
            is_byte = values.dtype == np.uint8
            values = values.astype(kind)
            if is_byte and self.range != 255:
                values = values / kind.type(255) * kind.type(int(self.range))
            elif not is_byte:
                values = values * kind.type(int(self.range))
        normalized: Array = (values - np.array(self.mean, kind)) / np.array(self.std, kind)
        return normalized


def _pillow_resize(image: Image.Image, size: tuple[int, int], method: str) -> Image.Image:
    from PIL import Image

    if (image.height, image.width) == size:
        return image
    return image.resize((size[1], size[0]), {"bilinear": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}[method])


def _one_of(name: str, value: object, known: Any) -> None:
    if isinstance(value, list | dict | bool) or value not in known:
        choices = ", ".join(repr(choice) for choice in known)
        raise ConversionError(f"the preprocessing field {name!r} is {printable(repr(value))}; it is one of {choices}")


def _whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1 << 14:
        raise ConversionError(f"the preprocessing field {name!r} is {printable(repr(value))}; it is a number of pixels, at most {1 << 14}")
