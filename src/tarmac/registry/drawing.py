"""Small pictures in SVG, drawn by hand: text for a page, no library, the same on each machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDE, HIGH, EDGE = 320, 260, 44
INK, LINE, FAINT = "#1f2933", "#2563a8", "#c3ccd6"
MOST_BARS, MOST_CELLS = 15, 12


def pictures(found: Mapping[str, Any]) -> dict[str, str]:
    """Name and SVG of whatever can be drawn of a measurement."""
    drawn: dict[str, str] = {}
    if roc := found.get("roc"):
        drawn["roc"] = curve(roc["x"], roc["y"], f"ROC, area {roc['auc']:.3f}", "false alarms", "hits")
    if calibration := found.get("calibration"):
        drawn["calibration"] = curve(
            calibration["x"], calibration["y"], "Calibration", "held probable", "came true", dots=True
        )
    confusion = found.get("confusion")
    if confusion and len(confusion["classes"]) <= MOST_CELLS:
        drawn["confusion"] = matrix(confusion["classes"], confusion["counts"])
    if importances := found.get("importances"):
        drawn["importances"] = bars(importances, "Score lost without each input")
    if residuals := found.get("residuals"):
        drawn["residuals"] = steps(residuals["x"], residuals["y"], "Said minus true")
    return drawn


def _frame(title: str, inside: str, *, wide: float = WIDE, high: float = HIGH) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" height="{high:g}" '
        f'role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="11" fill="{INK}">'
        f'<text x="{EDGE}" y="16" font-size="13">{escape(title)}</text>{inside}</svg>'
    )


def _text(x: float, y: float, text: object, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(str(text))}</text>'


def curve(x: Sequence[float], y: Sequence[float], title: str, across: str, up: str, *, dots: bool = False) -> str:
    """A line from 0 to 1 both ways, with the diagonal behind it."""
    wide, high = WIDE - EDGE - 12, HIGH - EDGE - 26
    places = [(EDGE + a * wide, 26 + (1 - b) * high) for a, b in zip(x, y, strict=True)]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    marks = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{LINE}"/>' for a, b in places) if dots else ""
    return _frame(
        title,
        f'<rect x="{EDGE}" y="26" width="{wide}" height="{high}" fill="none" stroke="{FAINT}"/>'
        f'<line x1="{EDGE}" y1="{26 + high}" x2="{EDGE + wide}" y2="26" stroke="{FAINT}" stroke-dasharray="4"/>'
        f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="2"/>{marks}'
        + _text(EDGE + wide / 2, HIGH - 6, across, "middle")
        + _text(EDGE, 26 + high + 14, "0", "middle")
        + _text(EDGE + wide, 26 + high + 14, "1", "middle")
        + _text(EDGE - 6, 30, "1", "end")
        + f'<text transform="translate(14 {26 + high / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(up)}</text>',
    )


def matrix(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """What is true downwards, what was said across; the darker, the more of a row."""
    cell, left, top = 46, 90, 52
    parts = []
    for row, line in enumerate(counts):
        whole = sum(line) or 1
        for column, count in enumerate(line):
            x, y = left + column * cell, top + row * cell
            share = count / whole
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell}" height="{cell}" fill="{LINE}" fill-opacity="{share:.2f}" '
                f'stroke="{FAINT}"/>'
            )
            ink = "#fff" if share > 0.55 else INK
            parts.append(f'<text x="{x + 23}" y="{y + 27}" text-anchor="middle" fill="{ink}">{count}</text>')
        parts.append(_text(left - 6, top + row * cell + 27, classes[row][:12], "end"))
    for column, name in enumerate(classes):
        parts.append(_text(left + column * cell + 23, top - 6, name[:7], "middle"))
    size = len(classes) * cell
    return _frame(
        "True (down) and said (across)", "".join(parts), wide=max(WIDE, left + size + 12), high=top + size + 12
    )


def bars(values: Mapping[str, float], title: str) -> str:
    ordered = sorted(values.items(), key=lambda item: -item[1])[:MOST_BARS]
    most = max((abs(value) for _, value in ordered), default=0) or 1
    left, room = 120, WIDE - 120 - 60
    parts = []
    for row, (name, value) in enumerate(ordered):
        y = 30 + row * 20
        parts.append(_text(left - 6, y + 12, name[:18], "end"))
        parts.append(
            f'<rect x="{left}" y="{y}" width="{max(0.0, value) / most * room:.1f}" height="15" fill="{LINE}"/>'
        )
        parts.append(_text(left + max(0.0, value) / most * room + 4, y + 12, f"{value:.3g}"))
    return _frame(title, "".join(parts), high=40 + 20 * len(ordered))


def steps(edges: Sequence[float], counts: Sequence[int], title: str) -> str:
    wide, high = WIDE - EDGE - 12, HIGH - EDGE - 26
    most, each = max(counts) or 1, wide / len(counts)
    boxes = "".join(
        f'<rect x="{EDGE + at * each:.1f}" y="{26 + high * (1 - count / most):.1f}" width="{each - 1:.1f}" '
        f'height="{high * count / most:.1f}" fill="{LINE}"/>'
        for at, count in enumerate(counts)
    )
    ends = _text(EDGE, 26 + high + 14, f"{edges[0]:.3g}", "middle")
    return _frame(title, boxes + ends + _text(EDGE + wide, 26 + high + 14, f"{edges[-1]:.3g}", "middle"))
