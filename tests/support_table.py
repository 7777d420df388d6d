"""The README's table of what is supported, generated from the registries.

python -m tests.support_table          renews README.md
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from converters.registry import Registry

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- support table: python -m tests.support_table -->", "<!-- end of support table -->"


def registries() -> dict[str, Registry]:
    """Heading -> registry with everything that is built in."""
    importlib.import_module("converters.writers.source.writer").known_operators()  # registers them
    return {
        "Caffe layers": importlib.import_module("converters.readers.caffe").lowers,
        "Lua Torch modules": importlib.import_module("converters.readers.torch7").lowers,
        "MXNet operators": importlib.import_module("converters.readers.mxnet").lowers,
        "ONNX operators as PyTorch source": importlib.import_module("converters.writers.source.node").writes,
    }


def table() -> str:
    """Markdown: a folded table for each registry, rows sorted by name; names that share a function share a row."""
    parts = []
    for heading, registry in registries().items():
        rows: dict[object, list[str]] = {}
        for name in sorted(registry, key=str.lower):
            rows.setdefault(registry[name], []).append(name)
        lines = [f"<details><summary><b>{heading}</b>: {len(registry)}</summary>", "", "| type | what |", "|---|---|"]
        for names in rows.values():
            summary = registry.summary(names[0]).replace("|", "\\|")
            lines.append(f"| {', '.join(f'`{name}`' for name in names)} | {summary} |")
        parts.append("\n".join([*lines, "", "</details>"]))
    return "\n\n".join(parts)


def renewed(text: str) -> str:
    """README text with the table renewed."""
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{table()}\n\n{END}", text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
