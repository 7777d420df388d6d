"""The report of a verification as one self-contained page: it reads without scripts, in light and dark, on paper too."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from converters.errors import printable
from converters.files import StrPath, map_file, writing
from converters.graph.costs import costs
from converters.graph.provenance import SAID
from converters.runtimes.compare import Difference
from converters.verification.drawing import drawing, histogram, plot
from converters.verification.report import Report
from converters.verification.weights import Looked, look_at
from converters.version import __version__

if TYPE_CHECKING:
    import onnx_ir

_PACKAGES = ("numpy", "onnx", "onnx-ir", "torch", "onnxruntime")
Cell = tuple[str, str]
"""What a cell shows, and the number that it sorts by ("" for text)."""


def write_page(
    path: StrPath,
    report: Report,
    *,
    files: Sequence[tuple[str, StrPath]],
    model: onnx_ir.Model | None = None,
    layers: Sequence[Difference] = (),
    force: bool = False,
) -> None:
    """Writes the page. files: what each is to the comparison, and its path. model: the graph, for its layers, drawing and weights;
    layers: how far each of its values is apart. Raises OutputExistsError."""
    parts = [_summary(report, files), _compared(report)]
    if model is not None:
        parts += _graph(report, model, layers)
    title = "Verification of " + " and ".join(Path(os.fspath(file)).name for _, file in files[:2])
    verdict = "Equal within the tolerance" if report.ok and report.outputs else "Not run" if report.ok else "Not equal"
    template = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
    text = template.substitute(title=_e(title), verdict=_e(verdict), mood="good" if report.ok else "bad", body="\n".join(parts))
    with writing(path, force=force) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def _e(text: object) -> str:
    """Text for HTML, whatever is in it."""
    return escape(printable(text, 400))


def _table(name: str, head: Sequence[tuple[str, bool]], rows: Iterable[tuple[str, Sequence[Cell]]]) -> str:
    """head: each column's word, and whether it holds numbers. rows: a class, and the cells."""
    heads = "".join(f"<th{' class=n' if number else ''}>{_e(word)}</th>" for word, number in head)
    lines = []
    for kind, cells in rows:
        inside = "".join(f'<td class=n data-v="{value}">{shown}</td>' if value else f"<td>{shown}</td>" for shown, value in cells)
        lines.append(f"<tr{f' class={kind}' if kind else ''}>{inside}</tr>")
    return f'<div class=scroll><table id="{name}"><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _heads(words: str) -> list[tuple[str, bool]]:
    """Columns' words; + in front of one that holds numbers."""
    return [(word.removeprefix("+"), word.startswith("+")) for word in words.split(", ")]


def _number(value: float | None, form: str = ",") -> Cell:
    return ("", "") if value is None else (format(value, form), repr(value if value == value and abs(value) != float("inf") else 1e300))


def _summary(report: Report, files: Sequence[tuple[str, StrPath]]) -> str:
    rows = []
    for role, file in files:
        view = map_file(file)
        digest = hashlib.sha256(view).hexdigest()
        name = Path(os.fspath(file)).name
        rows.append(("", [(_e(role), ""), (_e(name), ""), _number(len(view)), (f"<code>{digest}</code>", "")]))
    versions = [f"converters {__version__}", f"Python {platform.python_version()}", *_versions()]
    notes = "".join(f"<li>{_e(note)}</li>" for note in report.notes)
    return (
        f"<p>{_e(report.what)}; tolerance {report.tolerance:g} of the largest number, largest difference {report.worst:.2g}.</p>"
        + (f"<ul>{notes}</ul>" if notes else "")
        + "<h2>Files</h2>"
        + _table("files", _heads("what, file, +bytes, SHA-256"), rows)
        + f"<p class=soft>{_e(', '.join(versions))}</p>"
    )


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return found


def _compared(report: Report) -> str:
    head = _heads("input, output, +largest difference, +of the largest number, +largest number, note")
    rows = []
    for trial in report.trials:
        for found in trial.outputs:
            cells = [_number(found.absolute, ".2e"), _number(found.error, ".2e"), _number(found.scale, ".3g")]
            off = "off" if found.error > report.tolerance * trial.slack else ""
            rows.append((off, [(_e(trial.name), ""), (_e(found.name), ""), *cells, (_e(found.note), "")]))
    parts = ["<h2>What was compared</h2>", _table("trials", head, rows)] if rows else []
    if report.weights or report.compared:
        parts.append(f"<p>{report.compared:,} weights of both sides, {len(report.weights) or 'none'} of which differ.</p>")
    if report.weights:
        rows = [("off", [(_e(found.name), ""), (_e(found.note or str(found)), "")]) for found in report.weights]
        parts.append(_table("differing", _heads("weight, difference"), rows))
    if report.layers:
        rows = [("off", [(_e(d.name), ""), (_e(d.source), ""), _number(d.absolute, ".2e"), _number(d.error, ".2e")]) for d in report.layers]
        head = _heads("value, from, +difference, +of the largest number")
        parts += ["<h2>The first layers that differ</h2>", _table("first", head, rows)]
    if report.optimizer:
        parts.append(f"<p>onnxruntime's optimizer {_e(report.optimizer_words)}.</p>")
    return "\n".join(parts)


def _graph(report: Report, model: onnx_ir.Model, layers: Sequence[Difference]) -> list[str]:
    """The layers, how far each is apart, the drawing, the weights, and what was warned of."""
    counted = costs(model)
    apart: dict[str, float] = {}
    for found in layers:
        apart[found.source] = max(apart.get(found.source, 0.0), found.error)
    head = _heads("+#, layer, operators, from, output, +parameters, +FLOPs, +difference")
    rows = []
    for number, layer in enumerate(counted.layers, 1):
        shape = "?" if layer.shape is None else "x".join("?" if d is None else str(d) for d in layer.shape)
        error = apart.get(layer.source)
        words = [(_e(layer.name), ""), (_e("+".join(dict.fromkeys(layer.operators))), ""), (_e(layer.source), ""), (_e(shape), "")]
        cells = [_number(layer.parameters), _number(layer.multiply_adds), _number(error, ".1e")]
        rows.append(("off" if error is not None and error > report.tolerance else "", [_number(number), *words, *cells]))
    totals = [f"{counted.parameters:,} parameters"] + ([f"{counted.multiply_adds:,} FLOPs"] if counted.multiply_adds is not None else [])
    parts = [
        f"<h2>Layers</h2><p>{len(counted.layers):,} layers, {', '.join(totals)} for one item (a multiply-add counts once).</p>",
        '<input placeholder="filter" aria-label="filter the layers" data-table="layers">',
        _table("layers", head, rows),
    ]
    if layers:
        parts += ["<h2>Differences by layer</h2>", plot([(d.source or d.name, d.error) for d in layers], report.tolerance)]
    parts += ["<h2>The graph</h2>", f"<div class=scroll>{drawing(model)}</div>", "<h2>Weights</h2>", _weights(look_at(model))]
    said: Sequence[str] = model.meta.get(SAID, ())
    if said:
        parts.append("<h2>Warnings</h2><ul>" + "".join(f"<li>{_e(message)}</li>" for message in said) + "</ul>")
    return parts


def _weights(found: Mapping[str, Looked]) -> str:
    head = _heads("weight, shape, +least, +mean, +largest, histogram, remarks")
    rows = []
    for name, seen in found.items():
        numbers = [_number(seen.least, ".3g"), _number(seen.mean, ".3g"), _number(seen.largest, ".3g")]
        remarks = _e(", ".join(seen.remarks))
        rows.append(
            ("off" if seen.remarks else "", [(_e(name), ""), (_e(seen.shape), ""), *numbers, (histogram(seen.counts), ""), (remarks, "")])
        )
    return '<input placeholder="filter" aria-label="filter the weights" data-table="weights">' + _table("weights", head, rows)
