"""What a card draws: few numbers, kept with the evidence, so that the drawing needs neither the model nor the rows."""

from __future__ import annotations

from typing import Any

from tarmac.govern.measuring import scores
from tarmac.govern.measuring.scores import Answers

POINTS, BINS, MOST_CLASSES = 60, 10, 20


def of(answers: Answers) -> dict[str, Any]:
    if not answers.are_classes:
        return {"residuals": _residuals(answers)}
    found: dict[str, Any] = {}
    if len(answers.classes) <= MOST_CLASSES:
        found["confusion"] = {"classes": list(answers.classes), "counts": scores.counts(answers).tolist()}
    if answers.chance is not None and len(answers.classes) == 2:
        found["roc"] = _roc(answers)
        found["calibration"] = _calibration(answers)
    return found


def _roc(answers: Answers) -> dict[str, Any]:
    import numpy as np

    assert answers.chance is not None
    order = np.argsort(-answers.chance, kind="stable")
    truth = (answers.truth == answers.positive)[order]
    last = np.append(np.nonzero(np.diff(answers.chance[order]))[0], len(order) - 1)
    hits, alarms = np.cumsum(truth)[last], np.cumsum(~truth)[last]
    few = np.unique(np.linspace(0, len(last) - 1, min(POINTS, len(last))).astype(int))
    x = np.concatenate([[0.0], alarms[few] / max(1, int((~truth).sum()))])
    y = np.concatenate([[0.0], hits[few] / max(1, int(truth.sum()))])
    return {"x": x.round(5).tolist(), "y": y.round(5).tolist(), "auc": scores.score(answers, "roc_auc")}


def _calibration(answers: Answers) -> dict[str, Any]:
    import numpy as np

    assert answers.chance is not None
    truth = (answers.truth == answers.positive).astype(float)
    place = np.searchsorted(np.linspace(0.0, 1.0, BINS + 1)[1:-1], answers.chance)
    each = np.bincount(place, minlength=BINS)
    there = each > 0
    held = np.bincount(place, weights=answers.chance, minlength=BINS)[there] / each[there]
    came = np.bincount(place, weights=truth, minlength=BINS)[there] / each[there]
    return {"x": held.round(5).tolist(), "y": came.round(5).tolist(), "rows": each[there].tolist()}


def _residuals(answers: Answers) -> dict[str, Any]:
    import numpy as np

    each, edges = np.histogram(answers.said - answers.truth, bins=20)
    return {"x": edges.round(6).tolist(), "y": each.tolist()}
