"""The preprocessing that a Caffe data layer states: its transform_param."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from converters.errors import ConversionError
from converters.preprocessing.preprocess import Preprocess


def from_transform_param(stated: Mapping[str, Any], channels: int, means: Sequence[float] | None = None) -> Preprocess:
    """What a data layer does: read by OpenCV, cropped in the center, (value - mean) * scale.

    stated: the fields of transform_param. channels: how many the net takes. means: those of its mean_file.
    Raises ConversionError where they don't fit. Source: caffe/src/caffe/data_transformer.cpp.
    """
    gray = channels == 1 or bool(stated.get("force_gray"))
    count = 1 if gray else 3
    if channels != count or (gray and stated.get("force_color")):
        raise ConversionError(f"transform_param speaks of {count} channels, the net takes {channels}")
    values = [float(value) for value in means or stated.get("mean_value", ())] or [0.0]
    values = values * count if len(values) == 1 else values
    crop = int(stated.get("crop_size", 0))
    scale = float(stated.get("scale", 1.0))
    if not scale:
        raise ConversionError("transform_param multiplies by a scale of 0")
    fields: dict[str, Any] = {"decode": "pil" if gray else "opencv", "color": "gray" if gray else "BGR", "range": 255, "mean": values}
    fields |= {"std": [1 / scale] * count, "crop": crop or None, "crop_offset": "floor" if crop else None}
    return Preprocess.from_dict(fields)
