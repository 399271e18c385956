"""What rules say of facts: plain values in, plain values out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tarmac.core.errors import bounded
from tarmac.core.expressions import Compare, Expression, Name, Path, plain, value_of
from tarmac.registry import gates
from tarmac.registry.records import Fact, Gate, Outcome

Known = Callable[[Path], object]
Reasons = Mapping[str, str]
OPPOSITE = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than", "==": "exactly", "!=": "other than"}


def judge(gate: Gate, known: Known, reasons: Reasons, *, champion: bool) -> list[Outcome]:
    """One outcome for each rule. `reasons` says of facts that are missing why they are."""
    return [_one(gates.rule(text), gate, known, reasons, champion=champion) for text in gate.require]


def _one(rule: Expression, gate: Gate, known: Known, reasons: Reasons, *, champion: bool) -> Outcome:
    values = {gates.spelled(name.path): as_fact(known(name.path)) for name in rule.names}
    if not champion and any(gates.needs_champion(name.path) for name in rule.names):
        if gate.first == "allow":
            return Outcome(
                rule=rule.text, verdict="not applicable", why="there is no champion yet, and the first is allowed"
            )
        return Outcome(
            rule=rule.text, verdict="failed", values=values,
            why='there is no champion yet; `first = "allow"` in the gate lets the first one pass this rule',
        )  # fmt: skip
    answer = rule.judge(known)
    if answer.passed:
        return Outcome(rule=rule.text, verdict="held", values=values, why=_shown(values))
    missing = [reasons[name] for name, value in values.items() if value is None and name in reasons]
    why = "; ".join(dict.fromkeys(missing)) if missing else answer.undecided or _wanted(rule, known, values)
    return Outcome(rule=rule.text, verdict="failed", values=values, why=bounded(why, 500))


def _wanted(rule: Expression, known: Known, values: Mapping[str, Fact]) -> str:
    """What would satisfy it: of a plain comparison the threshold, of others what was looked at."""
    root = rule.root
    if isinstance(root, Compare) and len(root.others) == 1:
        sign, right = root.others[0]
        left, threshold = value_of(root.first, known), value_of(right, known)
        if isinstance(root.first, Name) and sign in OPPOSITE and threshold is not None:
            return f"is {show(left)}, and has to be {OPPOSITE[sign]} {show(threshold)}"
        if sign in OPPOSITE and left is not None and threshold is not None:
            return f"{show(left)} {sign} {show(threshold)} does not hold"
    if isinstance(root, Name):
        return f"is {show(known(root.path))}, and has to be True"
    return _shown(values)


def _shown(values: Mapping[str, Fact]) -> str:
    return ", ".join(f"{bounded(name, 60)} is {show(value)}" for name, value in values.items())


def show(value: object) -> str:
    value = plain(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return "missing" if value is None else bounded(value, 60)


def as_fact(value: Any) -> Fact:
    """A value as evidence keeps it; JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    kept = plain(value)
    return kept if kept is None or isinstance(kept, (bool, int, float, str)) else str(kept)


def failed(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.verdict == "failed"]
