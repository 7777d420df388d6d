"""A preprocessing put together of single words: `--resize 256 --crop 224 --mean 104,117,123`, alone or on top of a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from converters.errors import ConversionError, printable
from converters.preprocessing.crops import TORCHVISION_TEN
from converters.preprocessing.preprocess import COLORS, INTERPOLATIONS, SQUASH_12, Preprocess

METHODS = {
    "opencv-linear": "opencv linear",
    "pil-bilinear": "pil bilinear (antialiased)",
    "pil-lanczos": "pil lanczos",
    "torch-bicubic": "torch bicubic (corners aligned, a=-0.5, no antialiasing)",
    "skimage-linear": "linear, half-pixel centres, zeros outside then clipped to the square's own range, no antialiasing",
}
"""Interpolations by short words."""
CHANNELS = {"rgb": "RGB", "bgr": "BGR", "gray": "gray", "lab": "Lab"}
SCALES = {"1": 1, "255": 255, "256": 256}
_READERS = {"opencv": "opencv", "bilinear": "pil", "lanczos": "pil", "torch": "torch", "scikit": "scikit-image"}
_OFFSETS = {"opencv": "floor", "pil": "round half to even", "torch": "ceil", "scikit-image": "floor"}


@dataclasses.dataclass(frozen=True)
class Choices:
    """Single words about a preprocessing; None where nothing is said.

    resize: "256" for the short side, "256x256" to squash, "none". interpolation: a word of METHODS. crop: the side of the square that is
    kept, 0 for none. crops: 1, 10 or 12. scale: the largest value before mean and std, 1, 255 or 256. mean, std: a number for each
    channel in the net's order, or one for all. channels: a word of CHANNELS.
    """

    resize: str | None = None
    interpolation: str | None = None
    crop: int | None = None
    crops: int | None = None
    scale: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    channels: str | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in dataclasses.astuple(self))


def chosen(choices: Choices, base: Preprocess | None = None) -> Preprocess:
    """What the words say; the rest is the base's. Raises ConversionError where they don't say enough, or make no sense.

    Without a base the interpolation says whose program reads the image (else Pillow), which rounds crops as that program does.
    """
    if base is None:
        missing = [name for name in ("channels", "scale", "mean", "std") if getattr(choices, name) is None]
        if missing:
            words = " ".join(f"--{name}" for name in missing)
            raise ConversionError(f"the preprocessing isn't said in full: {words} is missing", hint="or name a --recipe to start from")
    fields = _first(choices) if base is None else base.to_dict()
    _size(fields, choices)
    if choices.channels is not None:
        fields["color"] = _word("channels", choices.channels, CHANNELS)
    if choices.scale is not None:
        fields["range"] = _word("scale", str(choices.scale), SCALES)
    count = COLORS[fields["color"]]
    for name in ("mean", "std"):
        numbers = list(getattr(choices, name) or fields[name])
        fields[name] = numbers * count if len(numbers) == 1 else numbers
    _crops(fields, choices)
    return Preprocess.from_dict(fields)


def _first(choices: Choices) -> dict[str, Any]:
    method = INTERPOLATIONS[_word("interpolation", choices.interpolation, METHODS)] if choices.interpolation else "bilinear"
    decode = "pil" if choices.channels == "gray" else _READERS[method]
    fields = {"decode": decode, "color": _word("channels", choices.channels or "", CHANNELS), "resize": "none"}
    return {**fields, "crop": None, "crops": 1, "average": None, "labels": None}


def _word(name: str, word: str, known: dict[str, Any]) -> Any:
    if word not in known:
        raise ConversionError(f"--{name} {printable(word)}: it is one of {', '.join(known)}")
    return known[word]


def _size(fields: dict[str, Any], choices: Choices) -> None:
    if choices.interpolation is not None:
        fields["interpolation"] = _word("interpolation", choices.interpolation, METHODS)
    if choices.resize is None:
        return
    height, _, width = choices.resize.partition("x")
    if choices.resize == "none":
        fields.update(resize="none", resize_to=None, interpolation=None)
    elif not height.isdecimal() or width not in ("", height) or len(height) > 6:
        raise ConversionError(f"--resize {printable(choices.resize)}: write 256 (the short side), 256x256 (squashed), or none")
    else:
        fields.update(resize="squash" if width else "short side", resize_to=int(height))
        if not fields.get("interpolation"):
            raise ConversionError("--resize needs --interpolation: programs differ", hint=", ".join(METHODS))


def _crops(fields: dict[str, Any], choices: Choices) -> None:
    """The crop, how its rest is rounded, how many there are and what they are averaged over: as whoever reads the image does."""
    reader = fields["decode"].partition(",")[0]
    if choices.crop is not None:
        fields["crop"] = choices.crop or None
    if choices.crops is not None:
        fields["crops"] = choices.crops
        fields["average"] = None if choices.crops == 1 else "probabilities" if choices.crops == 12 or reader == "opencv" else "logits"
        if choices.crops == 12:
            fields["resize"] = SQUASH_12
        elif fields["resize"] == SQUASH_12:
            fields["resize"] = "short side"
        fields["crop_offset"] = None
    if fields["crop"] and not fields.get("crop_offset"):
        fields["crop_offset"] = TORCHVISION_TEN if fields["crops"] == 10 and reader == "pil" else _OFFSETS[reader]
