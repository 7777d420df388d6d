"""Pictures of a report as inline SVG: differences on a log axis, histograms, the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from converters.errors import printable
from converters.graph.provenance import path_of, source_of

if TYPE_CHECKING:
    import onnx_ir

LOWEST = -16
"""The exponent at the foot of the log axis; smaller differences, and none at all, lie on it."""
WIDTH, HEIGHT, LEFT, TOP = 960, 260, 56, 12
ROW, LANE, BOX = 24, 14, 320


def plot(differences: Sequence[tuple[str, float]], tolerance: float) -> str:
    """A dot for each layer in order: how far it is apart, on a log axis; the tolerance is a line."""
    high = max([1.0, *(math.log10(error) for _, error in differences if 0 < error < math.inf)])
    high = min(8.0, math.ceil(high) if high > 1 else 0)

    def y(error: float) -> float:
        place = LOWEST if error <= 0 else high if not math.isfinite(error) else min(high, max(LOWEST, math.log10(error)))
        return TOP + (high - place) / (high - LOWEST) * (HEIGHT - TOP - 24)

    step = (WIDTH - LEFT - 16) / max(1, len(differences))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="differences by layer on a log axis">']
    for exponent in range(LOWEST, int(high) + 1, 4):
        parts.append(_line("axis", y(10.0**exponent)) + _text(LEFT - 6, y(10.0**exponent) + 4, f"1e{exponent}", end=True))
    parts.append(_line("limit", y(tolerance)) + _text(WIDTH - 4, y(tolerance) - 4, f"tolerance {tolerance:g}", end=True))
    for number, (name, error) in enumerate(differences):
        x, is_far = LEFT + step * (number + 0.5), error > tolerance
        mark = f"<circle class={'far' if is_far else 'dot'} cx={x:.1f} cy={y(error):.1f} r={4 if is_far else 2.5}>"
        parts.append(f"{mark}<title>{escape(printable(name))}: {error:.2e}</title></circle>")
    last = _text(WIDTH - 4, HEIGHT - 6, f"last of {len(differences):,} values", end=True)
    return "".join([*parts, _text(LEFT, HEIGHT - 6, "first layer"), last, "</svg>"])


def _line(kind: str, y: float) -> str:
    return f"<line class={kind} x1={LEFT} x2={WIDTH} y1={y:.1f} y2={y:.1f} />"


def _text(x: float, y: float, words: str, *, end: bool = False) -> str:
    return f"<text x={x:.1f} y={y:.1f}{' text-anchor=end' if end else ''}>{escape(words)}</text>"


def histogram(counts: Sequence[int]) -> str:
    """Bars, the tallest as high as the picture."""
    if not counts or not max(counts):
        return ""
    width = 120 / len(counts)
    bars = [(number * width, max(0.6, 24 * count / max(counts))) for number, count in enumerate(counts) if count]
    path = "".join(f"M{x:.1f} 24h{width:.1f}v-{height:.1f}h-{width:.1f}z" for x, height in bars)
    return f'<svg width=120 height=24 viewBox="0 0 120 24" role="img" aria-label="histogram"><path class=bar d="{path}"/></svg>'


def drawing(model: onnx_ir.Model) -> str:
    """The layers from top to bottom, each a box; a line for each value from the layer that makes it to those that take it."""
    order: dict[str, tuple[int, str]] = {}
    owner: dict[str, str] = {}
    edges: dict[tuple[str, str], None] = {}
    for value in model.graph.inputs:
        order.setdefault(str(value.name), (len(order), f"{value.name} (input)"))
        owner[str(value.name)] = str(value.name)
    for node in model.graph:
        if node.op_type == "Constant":
            continue
        key = source_of(node) or path_of(node) or str(node.outputs[0].name)
        shown = key.partition(" ")[2] or f"{key} ({node.op_type})"
        order.setdefault(key, (len(order), shown))
        for given in node.inputs:
            before = owner.get(str(given.name)) if given is not None else None
            if before is not None and before != key:
                edges.setdefault((before, key))
        owner.update((str(value.name), key) for value in node.outputs)
    lanes: list[int] = []
    lines = []
    for before, after in edges:
        start, end = order[before][0], order[after][0]
        if end - start == 1:
            lines.append(f"M{BOX / 2:g} {start * ROW + 20}V{end * ROW + 4}")
        elif end > start:
            lane = next((number for number, free in enumerate(lanes) if free <= start), len(lanes))
            lanes[lane : lane + 1] = [end]
            x = BOX + 12 + lane * LANE
            lines.append(f"M{BOX} {start * ROW + 14}H{x}V{end * ROW + 10}H{BOX}")
    width, height = BOX + 40 + LANE * len(lanes), len(order) * ROW + 8
    boxes = "".join(_box(number * ROW, _short(shown)) for number, shown in order.values())
    size = f'width={width} height={height} viewBox="0 0 {width} {height}"'
    return f'<svg {size} role="img" aria-label="the graph"><path class=edge d="{"".join(lines)}"/>{boxes}</svg>'


def _box(y: int, words: str) -> str:
    box = f"<rect class=box x=0.5 y={y + 4} width={BOX - 1} height=16 rx=3 />"
    return f"{box}<text class=name x=8 y={y + 16}>{escape(words)}</text>"


def _short(text: str) -> str:
    shown = printable(text, 200)
    return shown if len(shown) <= 46 else f"{shown[:21]}..{shown[-23:]}"
