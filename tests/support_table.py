"""The pages of the documentation that are generated: what is supported, from the registries; commands and options, from the parser.

python -m tests.support_table          renews docs/supported.md and docs/command.md
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from converters.formats import FORMATS
from converters.registry import Registry

DOCS = Path(__file__).parent.parent / "docs"
SUPPORTED, COMMAND = DOCS / "supported.md", DOCS / "command.md"
BEGIN, END = "<!-- generated: python -m tests.support_table -->", "<!-- end of what is generated -->"


def registries() -> dict[str, Registry[Any, Any]]:
    """Heading -> registry with everything that is built in."""
    found = {f"{row.title} {row.noun}s": _named(row.registry) for row in FORMATS if row.registry}
    return {**found, "ONNX operators as PyTorch source": _named("converters.writers.source.node:writes")}


def _named(place: str) -> Registry[Any, Any]:
    """What "module:name" names."""
    module, _, name = place.partition(":")
    found: Registry[Any, Any] = getattr(importlib.import_module(module), name)
    return found


def supported() -> str:
    """A section for each registry, rows sorted by name; names that share a function share a row."""
    parts = []
    for heading, registry in registries().items():
        rows: dict[object, list[str]] = {}
        for name in sorted(registry, key=str.lower):
            rows.setdefault(registry[name], []).append(name)
        lines = [f"## {heading}: {len(registry)}", "", "| type | what |", "|---|---|"]
        for names in rows.values():
            lines.append(f"| {', '.join(f'`{name}`' for name in names)} | {_cell(registry.summary(names[0]))} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def commands() -> str:
    """A table of the commands with their arguments, and one of the options with the commands that take them."""
    rows = ["| command | arguments | what |", "|---|---|---|"]
    takers: dict[tuple[str, str], list[str]] = {}
    for name, what, parser in _commands():
        actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
        arguments = " ".join(_argument(action) for action in actions if not action.option_strings)
        rows.append(f"| `{name}` | {f'`{arguments}`' if arguments else ''} | {_cell(what)} |")
        for action in actions:
            if action.option_strings:
                takers.setdefault((_option(action), action.help or ""), []).append(name)
    conversions = [name for name, _, _ in _commands() if re.fullmatch(r"\w+2\w+", name)]
    rows += ["", "| option | meaning | of |", "|---|---|---|"]
    for (option, meaning), names in takers.items():
        all_of_them = set(conversions) <= set(names)
        of = ["conversions"] * all_of_them + [f"`{name}`" for name in names if not (all_of_them and name in conversions)]
        rows.append(f"| `{_cell(option)}` | {_cell(meaning)} | {', '.join(of)} |")
    return "\n".join(rows)


def _argument(action: argparse.Action) -> str:
    word = str(action.metavar or action.dest)
    if isinstance(action.nargs, int):
        return " ".join([word] * action.nargs)
    return {"+": f"{word}...", "*": f"[{word}...]", "?": f"[{word}]"}.get(str(action.nargs), word)


def _option(action: argparse.Action) -> str:
    name = max(action.option_strings, key=len)
    if action.choices:
        return f"{name} {'|'.join(map(str, action.choices))}"
    return name if action.nargs == 0 else f"{name} {action.metavar or action.dest.upper()}"


def _commands() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Name, help and parser of each command."""
    parser = importlib.import_module("converters.cli.main").parser()
    (group,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    helps = {action.dest: action.help or "" for action in group._choices_actions}
    for name, command in group.choices.items():
        yield name, helps[name], command


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("%%", "%")


GENERATED = {SUPPORTED: supported, COMMAND: commands}


def renewed(page: Path) -> str:
    """The page's text with what is generated in it renewed."""
    text = page.read_text()
    assert BEGIN in text and END in text, page
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{GENERATED[page]()}\n\n{END}", text, flags=re.DOTALL)


if __name__ == "__main__":
    for page in GENERATED:
        page.write_text(renewed(page))
