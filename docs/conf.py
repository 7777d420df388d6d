"""Sphinx: sphinx-build -W docs OUT. The pages are Markdown (MyST), the reference comes from the docstrings."""

from __future__ import annotations

import re
from typing import Any

from converters.packages import __version__

project = "converters"
author = "the converters authors"
copyright = author
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"converters {release}"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
suppress_warnings = ["myst.header"]  # included files begin with their own title


def as_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with `code`; what reStructuredText would read as markup in it is escaped."""
    for index, line in enumerate(lines):
        if re.match(r"\s*(>>>|\.\.\. )", line):
            continue
        parts = re.split(r"`+", line)
        for at, part in enumerate(parts):
            parts[at] = f"``{part.strip()}``" if at % 2 else re.sub(r"([*|\\]|_(?=\W|$))", r"\\\1", part)
        lines[index] = "".join(parts)


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", as_rst)
