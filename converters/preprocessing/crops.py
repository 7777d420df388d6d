"""Which squares of an image are looked at: one in the center, ten, or twelve, in the order of the original programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.preprocessing.resizing import opencv_linear

Image = NDArray[Any]

TORCHVISION_TEN = "round half to even; order TL TR BL BR centre, then mirrored"
CROP_OFFSETS: dict[str, Callable[[int], int]] = {
    "floor": lambda excess: excess // 2,
    "ceil": lambda excess: -(-excess // 2),
    "round half to even": lambda excess: round(excess / 2),
    TORCHVISION_TEN: lambda excess: round(excess / 2),
}
"""How half of what a crop leaves over is rounded: Caffe's programs, fb.resnet.torch, torchvision."""


def windows(image: Image, size: int, offset: str, crops: int) -> list[Image]:
    """The center of an image (H, W, C), or ten crops: center and corners of the image and of its mirror image, squares of `size`.

    The mirror image has a center of its own: with an odd rest it isn't the mirror of the image's. Raises ConversionError where the image
    is smaller. Sources: fb.resnet.torch datasets/transforms.lua (TenCrop), torchvision.transforms.functional (ten_crop).
    """
    height, width = image.shape[:2]
    if height < size or width < size:
        raise ConversionError(f"the image of {height}x{width} is smaller than the crop of {size}x{size}")
    y, x = (CROP_OFFSETS[offset](side - size) for side in (height, width))

    def at(picture: Image, top: int, left: int) -> Image:
        return picture[top : top + size, left : left + size]

    if crops == 1:
        return [at(image, y, x)]
    found = []
    for picture in (image, image[:, ::-1]):
        center = at(picture, y, x)
        corners = [at(picture, top, left) for top in (0, height - size) for left in (0, width - size)]
        found += [*corners, center] if offset == TORCHVISION_TEN else [center, *corners]
    return found


def twelve_crops(image: Image, base: int, size: int) -> list[Image]:
    """Twelve crops of a normalized image (H, W, C) squashed to base x base: four corners, the center, the whole made small; mirrored too.

    Source: the evaluation program of the Caffe ResNet and Inception models (evaluation_cls.py of caffe-model).
    """
    if base < size:
        raise ConversionError(f"the base of {base} is smaller than the crop of {size}")
    square = opencv_linear(image.astype(np.float64), (base, base))
    end, middle = base - size, (base - size) // 2
    found = []
    for picture in (square, square[:, ::-1]):
        for top, left in ((0, 0), (end, end), (0, end), (end, 0), (middle, middle)):
            found.append(picture[top : top + size, left : left + size])
        found.append(opencv_linear(picture, (size, size)))
    return found
