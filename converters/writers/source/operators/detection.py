"""Source of operators on regions and boxes."""

from __future__ import annotations

import numpy as np

from converters.writers.source.code import number
from converters.writers.source.node import Node, writes


def _f(value: float) -> str:
    return number(np.float32(value))


@writes("RoiAlign")
def roi_align(n: Node) -> str:
    """Averages or maxima of bilinear samples in each region."""
    mode = n.attr("mode", "avg")
    offset = 0.5 if n.opset >= 16 and n.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel" else 0.0
    options = [
        f"({n.attr('output_height', 1)}, {n.attr('output_width', 1)})",
        str(n.attr("sampling_ratio", 0)),
        _f(n.attr("spatial_scale", 1.0)),
        str(offset),
        repr(mode).replace("'", '"'),
    ]
    return f"{n.function('roi_align')}({n[0]}, {n[1]}, {n[2]}, {', '.join(options)})"


@writes("MaxRoiPool")
def max_roi_pool(n: Node) -> str:
    """Maxima over the bins of each region."""
    return f"{n.function('max_roi_pool')}({n[0]}, {n[1]}, {tuple(n.attr('pooled_shape'))}, {_f(n.attr('spatial_scale', 1.0))})"


@writes("NonMaxSuppression")
def non_max_suppression(n: Node) -> str:
    """The best boxes of each class that don't overlap a better one."""
    count = n.scalar(2) if n.has(2) else "0"
    overlap = n.scalar(3) if n.has(3) else "0.0"
    score = n.scalar(4) if n.has(4) else "None"
    return f"{n.function('non_max_suppression')}({n[0]}, {n[1]}, {count}, {overlap}, {score}, {bool(n.attr('center_point_box', 0))})"
