"""Constraints that take the lowest version of each package that setup.cfg claims to work with.

python -m tests.lowest_versions > lowest.txt && pip install -c lowest.txt ".[test]"
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

SETTINGS = Path(__file__).parent.parent / "setup.cfg"


def lowest() -> list[str]:
    """`numpy==2.0` for each `numpy>=2.0`, in the order of setup.cfg."""
    settings = configparser.ConfigParser()
    settings.read(SETTINGS)
    lines = settings["options"]["install_requires"].splitlines()
    for extra in settings["options.extras_require"].values():
        lines += extra.splitlines()
    return list(dict.fromkeys(line.replace(">=", "==") for line in lines if re.fullmatch(r"[\w-]+>=[\d.]+", line)))


if __name__ == "__main__":
    print("\n".join(lowest()))
