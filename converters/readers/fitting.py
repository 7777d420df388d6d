"""The image size that a net was made for, where the one that was given doesn't fit it: what a message proposes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping

from converters.errors import ConversionError

USUAL = (224, 227, 299, 256, 112, 96, 128, 64, 32, 28, 48, 160, 320, 512)
"""Sides of images that published nets take."""
SECONDS, TRIALS = 5.0, 40
"""How long sizes are tried, and how many."""


def hint(problem: ConversionError, load: Callable[[Mapping[str, tuple[int, ...]]], object]) -> str:
    """What to do about an error of a layer that takes another count of numbers than a sample has.

    load: reads the files with these shapes; the first size near the likely one with which it does is proposed.
    """
    found, wanted = problem.counts or (0, 0)
    words = f"a sample has {found} numbers here, where {wanted} are taken"
    images = {name: shape for name, shape in problem.images.items() if len(shape) > 2}
    if len(images) != 1 or found < 1:
        return f"{words}: another image size may give them"
    ((name, shape),) = images.items()
    stop = time.monotonic() + SECONDS
    for other in _sizes(shape, math.sqrt(wanted / found)):
        if time.monotonic() > stop:
            break
        try:
            load({**problem.images, name: other})
        except ConversionError:
            continue
        return f"{words}: the image size {other[-2]}x{other[-1]} gives them, --input {name}={'x'.join(map(str, other))}"
    return f"{words}: another image size may give them, with --input {name}=..."


def _sizes(shape: tuple[int, ...], factor: float) -> Iterator[tuple[int, ...]]:
    """Shapes with another height and width, the likeliest first: usual ones near to the factor, then what lies around it."""
    height, width = shape[-2:]
    likely = height * factor
    near = sorted((side for side in USUAL if 0.6 * likely <= side <= 1.7 * likely), key=lambda side: abs(side - likely))
    around = sorted(range(max(1, int(0.7 * likely)), int(1.4 * likely) + 2), key=lambda side: abs(side - likely))
    for side in list(dict.fromkeys([*near, *around]))[:TRIALS]:
        if side != height:
            yield (*shape[:-2], side, max(1, round(width * side / height)))
