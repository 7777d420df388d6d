"""The code in the README and in docs/, run as a reader would: page by page, from the first block to the last.

python -m tests.documentation PAGE       runs the blocks of a page in the current folder, which needs `fixtures` and `convert` on the PATH
python -m tests.documentation --python FOLDER      writes each page's Python into FOLDER, for mypy

A ```sh block holds commands; those that install something are tried by tests/installation.py instead. A ```console block holds commands
behind `$` and what they print on either stream, where `...` stands for anything. The ```python blocks of a page are one program.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INSTALLS = re.compile(r"\bpip install\b|\bpre-commit\b|\bbash \.ci/run\b|\bsphinx-build\b|\bpytest\b|-m (tests|build)\b")


@dataclass(frozen=True)
class Block:
    """A block of a page: language, text, and the line that it begins on."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order, Sphinx's own directives aside."""
    text = page.read_text(encoding="utf-8")
    found = [Block(page, text.count("\n", 0, m.start(2)) + 1, m[1].strip(), m[2]) for m in FENCE.finditer(text)]
    return [block for block in found if not block.language.startswith("{")]


def run_page(page: Path) -> None:
    """Runs the blocks of a page in the current folder. Raises AssertionError, or what the Python raises."""
    names: dict[str, Any] = {"__name__": "__page__"}
    sys.path.insert(0, "")
    for block in blocks(page):
        LANGUAGES[block.language](block, names)


def _run_sh(block: Block, names: dict[str, Any]) -> None:
    for command in block.text.replace("\\\n", " ").splitlines():
        if command.strip() and not INSTALLS.search(command):
            status, output = _shell(command)
            assert status == 0, f"{block.place}: {command}\n{output}"


def _run_console(block: Block, names: dict[str, Any]) -> None:
    for command, expected in sessions(block):
        _, output = _shell(command)
        pattern = re.escape(expected).replace(r"\.\.\.", ".*")
        assert re.fullmatch(pattern, output.rstrip("\n"), re.DOTALL), f"{block.place}: {command}\nsays\n{output}\nnot\n{expected}"


def _run_python(block: Block, names: dict[str, Any]) -> None:
    exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)


def _run_published(block: Block, names: dict[str, Any]) -> None:
    """Sessions with published nets, which the project doesn't hold: those of $CONVERTERS_DATA/zoo, as `zoo`."""
    data = os.environ.get("CONVERTERS_DATA")
    if data is None:
        return
    if not Path("zoo").exists():
        Path("zoo").symlink_to(Path(data, "zoo").resolve())
    if all(any(Path(folder).glob("input.npz")) for folder in re.findall(r"zoo/\w+/[\w.-]+", block.text)):
        _run_console(block, names)


LANGUAGES: dict[str, Callable[[Block, dict[str, Any]], None]] = {
    "sh": _run_sh,
    "console": _run_console,
    "console zoo": _run_published,
    "python": _run_python,
}


def sessions(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected.rstrip("\n")


def _shell(command: str) -> tuple[int, str]:
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def write_python(folder: Path) -> None:
    """Each page's Python as one file, lines where they are in the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        lines: list[str] = []
        for block in blocks(page):
            if block.language == "python":
                lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
        if lines:
            (folder / f"{page.stem.lower()}_page.py").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--python":
        write_python(Path(sys.argv[2]))
    else:
        run_page(ROOT / sys.argv[1])
