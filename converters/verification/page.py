"""The report of a verification as a page: files, what was compared, layers, the graph, weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from converters.files import StrPath, map_file, writing
from converters.graph.costs import costs
from converters.graph.provenance import SAID
from converters.runtimes.compare import Difference
from converters.verification.drawing import drawing, histogram, plot
from converters.verification.html import heads, number, page_of, path_text, table, text, versions
from converters.verification.report import Report
from converters.verification.weights import Looked, look_at

if TYPE_CHECKING:
    import onnx_ir


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
    named: dict[str, str] = {}  # the first file of each side
    for role, given in files:
        named.setdefault(role, Path(os.fspath(given)).name)
    title = "Verification of " + " and ".join(named.values())
    verdict = "Equal within the tolerance" if report.ok and report.outputs else "Not run" if report.ok else "Not equal"
    page = page_of(title, verdict, "\n".join(parts), good=report.ok)
    with writing(path, force=force) as file:
        file.write(page.encode("utf-8", "backslashreplace"))


def _summary(report: Report, files: Sequence[tuple[str, StrPath]]) -> str:
    rows = []
    for role, file in files:
        view = map_file(file)
        digest = hashlib.sha256(view).hexdigest()
        name = Path(os.fspath(file)).name
        rows.append(("", [(text(role), ""), (path_text(name), ""), number(len(view)), (f"<code>{digest}</code>", "")]))
    notes = "".join(f"<li>{text(note)}</li>" for note in report.notes)
    return (
        f"<p>{text(report.what)}; tolerance {report.tolerance:g} of the largest number, largest difference {report.worst:.2g}.</p>"
        + (f"<ul>{notes}</ul>" if notes else "")
        + "<h2>Files</h2>"
        + table("files", heads("what, file, +bytes, SHA-256"), rows)
        + f"<p class=soft>{text(', '.join(versions()))}</p>"
    )


def _compared(report: Report) -> str:
    head = heads("input, output, +largest difference, +of the largest number, +largest number, note")
    rows = []
    for trial in report.trials:
        for found in trial.outputs:
            cells = [number(found.absolute, ".2e"), number(found.error, ".2e"), number(found.scale, ".3g")]
            off = "off" if found.error > report.tolerance * trial.slack else ""
            rows.append((off, [(text(trial.name), ""), (path_text(found.name), ""), *cells, (text(found.note), "")]))
    parts = ["<h2>What was compared</h2>", table("trials", head, rows)] if rows else []
    if report.outputs and not report.trials:  # weights alone
        rows = [
            ("off" if d.error > report.tolerance else "", [(path_text(d.name), ""), (text(d.note or str(d)), "")]) for d in report.outputs
        ]
        parts += ["<h2>What was compared</h2>", table("tensors", heads("tensor, difference"), rows)]
    if report.weights or report.compared:
        parts.append(f"<p>{report.compared:,} weights of both sides, {len(report.weights) or 'none'} of which differ.</p>")
    if report.weights:
        rows = [("off", [(path_text(found.name), ""), (text(found.note or str(found)), "")]) for found in report.weights]
        parts.append(table("differing", heads("weight, difference"), rows))
    if report.layers:
        rows = []
        for d in report.layers:
            rows.append(("off", [(path_text(d.name), ""), (path_text(d.source), ""), number(d.absolute, ".2e"), number(d.error, ".2e")]))
        head = heads("value, from, +difference, +of the largest number")
        parts += ["<h2>The first layers that differ</h2>", table("first", head, rows)]
    if report.optimizer:
        parts.append(f"<p>onnxruntime's optimizer {text(report.optimizer_words)}.</p>")
    return "\n".join(parts)


def _graph(report: Report, model: onnx_ir.Model, layers: Sequence[Difference]) -> list[str]:
    """The layers, how far each is apart, the drawing, the weights, and what was warned of."""
    counted = costs(model)
    apart: dict[str, float] = {}
    for found in layers:
        apart[found.source] = max(apart.get(found.source, 0.0), found.error)
    head = heads("+#, layer, operators, from, output, +parameters, +FLOPs, +difference")
    rows = []
    for place, layer in enumerate(counted.layers, 1):
        shape = "?" if layer.shape is None else "x".join("?" if d is None else str(d) for d in layer.shape)
        error = apart.get(layer.source)
        operators = "+<wbr>".join(text(name) for name in dict.fromkeys(layer.operators))
        words = [(shown, "") for shown in (path_text(layer.name), operators, path_text(layer.source), text(shape))]
        cells = [number(layer.parameters), number(layer.multiply_adds), number(error, ".1e")]
        rows.append(("off" if error is not None and error > report.tolerance else "", [number(place), *words, *cells]))
    totals = [f"{counted.parameters:,} parameters"] + ([f"{counted.multiply_adds:,} FLOPs"] if counted.multiply_adds is not None else [])
    parts = [
        f"<h2>Layers</h2><p>{len(counted.layers):,} layers, {', '.join(totals)} for one item (a multiply-add counts once).</p>",
        '<input placeholder="filter" aria-label="filter the layers" data-table="layers">',
        table("layers", head, rows),
    ]
    if layers:
        parts += ["<h2>Differences by layer</h2>", plot([(d.source or d.name, d.error) for d in layers], report.tolerance)]
    parts += ["<h2>The graph</h2>", f"<div class=scroll>{drawing(model)}</div>", "<h2>Weights</h2>", _weights(look_at(model))]
    said: Sequence[str] = model.meta.get(SAID, ())
    if said:
        parts.append("<h2>Warnings</h2><ul>" + "".join(f"<li>{text(message)}</li>" for message in said) + "</ul>")
    return parts


def _weights(found: Mapping[str, Looked]) -> str:
    head = heads("weight, shape, +least, +mean, +largest, histogram, remarks")
    rows = []
    for name, seen in found.items():
        numbers = [number(seen.least, ".3g"), number(seen.mean, ".3g"), number(seen.largest, ".3g")]
        remarks = text(", ".join(seen.remarks))
        cells = [(path_text(name), ""), (text(seen.shape), ""), *numbers, (histogram(seen.counts), ""), (remarks, "")]
        rows.append(("off" if seen.is_odd else "", cells))
    return '<input placeholder="filter" aria-label="filter the weights" data-table="weights">' + table("weights", head, rows)
