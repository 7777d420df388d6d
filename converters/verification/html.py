"""The dress of this package's reports: one self-contained page that reads without scripts, in light and dark, on paper too."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from converters.errors import printable
from converters.packages import __version__

_PACKAGES = ("numpy", "onnx", "onnx-ir", "torch", "onnxruntime")
SHORT = 32
"""Letters of a path that stay in one line."""
Cell = tuple[str, str]
"""What a cell shows, and the number that it sorts by ("" for text)."""


def page_of(title: str, verdict: str, body: str, *, good: bool) -> str:
    """A page's text. title, verdict: plain text; body: HTML."""
    template = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
    return template.substitute(title=text(title), verdict=text(verdict), mood="good" if good else "bad", body=body)


def text(words: object) -> str:
    """Text for HTML, whatever is in it."""
    return escape(printable(words, 400))


def path_text(words: object) -> str:
    """Text for HTML that may, where it is long, go on in another line behind each part of a path; a search finds it whole in any case."""
    whole = text(words)
    if len(whole) <= SHORT:
        return whole
    broken = re.sub(r"([/_])(?=\w)", r"\1<wbr>", whole)
    return f'<span title="{whole}">{broken}</span>' if broken != whole else whole


def table(name: str, head: Sequence[tuple[str, bool]], rows: Iterable[tuple[str, Sequence[Cell]]]) -> str:
    """head: each column's word, and whether it holds numbers. rows: a class, and the cells. A column that no row fills is left out."""
    listed = list(rows)
    filled = [n for n in range(len(head)) if not listed or any(cells[n][0] for _, cells in listed)]
    heads = "".join(f"<th{' class=n' if number else ''}>{text(word)}</th>" for word, number in (head[n] for n in filled))
    lines = []
    for kind, cells in listed:
        chosen = [cells[n] for n in filled]
        inside = "".join(f'<td class=n data-v="{value}">{shown}</td>' if value else f"<td>{shown}</td>" for shown, value in chosen)
        lines.append(f"<tr{f' class={kind}' if kind else ''}>{inside}</tr>")
    return f'<div class=scroll><table id="{name}"><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def heads(words: str) -> list[tuple[str, bool]]:
    """Columns' words; + in front of one that holds numbers."""
    return [(word.removeprefix("+"), word.startswith("+")) for word in words.split(", ")]


def number(value: float | None, form: str = ",") -> Cell:
    return ("", "") if value is None else (format(value, form), repr(value if value == value and abs(value) != float("inf") else 1e300))


def versions() -> list[str]:
    """What wrote the page: this package, Python, and the packages that numbers come from."""
    found = [f"converters {__version__}", f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return found
