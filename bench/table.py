"""Rows of a benchmark, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Figure:
    """One measured figure beside its target and its limit. `better` says which way is good."""

    work: str
    tarmac: float
    unit: str
    target: float | None = None
    better: str = "less"
    limit: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.tarmac <= self.target if self.better == "less" else self.tarmac >= self.target


def number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(figures: list[Figure]) -> str:
    lines = ["| work | tarmac | target | beside it | |", "|---|---|---|---|---|"]
    for figure in figures:
        sign = {None: "", True: "met", False: "**missed**"}[figure.met]
        target = (
            ""
            if figure.target is None
            else f"{'≤' if figure.better == 'less' else '≥'} {number(figure.target)} {figure.unit}"
        )
        note = f" {figure.note}" if figure.note else ""
        lines.append(
            f"| {figure.work} | {number(figure.tarmac)} {figure.unit} | {target} | {figure.limit} | {sign}{note} |"
        )
    return "\n".join(lines)
