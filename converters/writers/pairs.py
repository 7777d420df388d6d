"""The mark by which a .pth and the .py beside it are known to be of one conversion."""

from __future__ import annotations

import re
from pathlib import Path

from converters.errors import printable, warn
from converters.writers.pth import identity_of

PAIR = "\n# Written together with weights"
"""What stands at the end of a source, before the digits of its weights."""


def check_pair(weights: Path, source: Path) -> None:
    """Warns where a .pth isn't the one that was written together with the .py beside it: one of them may be older."""
    try:
        text = source.read_text("utf-8")
    except (OSError, ValueError):
        return
    marks = re.findall(rf"{PAIR} (\d{{40}})$", text, re.MULTILINE)
    if marks and marks[-1] != identity_of(weights):
        warn(f"{printable(str(weights), 400)} isn't the file that {printable(source.name)} was written together with: one of them is newer")
