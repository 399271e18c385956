"""Whether groups of people are treated alike: gaps between the groups that a column makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Refused, bounded
from tarmac.govern.measuring.scores import Answers

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BINS = 10


def gap(answers: Answers, groups: Array, names: Sequence[str], which: str) -> float:
    """One gap by its name. `groups` says of each row to which of `names` it belongs."""
    if which == "groups":
        return float(len(names))
    if not answers.are_classes or len(answers.classes) != 2:
        raise Refused(f"`{which}` is of models that say yes or no")
    if which == "calibration_gap":
        return _spread(_calibration(answers, groups, names))
    said, truth = answers.said == answers.positive, answers.truth == answers.positive
    if which in ("selection_rate_gap", "selection_rate_ratio"):
        rates = _rates(said, groups, names, "rows")
        if which == "selection_rate_gap":
            return _spread(rates)
        if not rates.max():
            raise Refused("nobody is selected in any group: there is no ratio")
        return float(rates.min() / rates.max())
    hits = _rates(said[truth], groups[truth], names, "rows whose answer is yes")
    if which == "equal_opportunity_gap":
        return _spread(hits)
    alarms = _rates(said[~truth], groups[~truth], names, "rows whose answer is no")
    return max(_spread(hits), _spread(alarms))


def _spread(values: Array) -> float:
    return float(values.max() - values.min())


def _rates(said: Array, groups: Array, names: Sequence[str], of: str) -> Array:
    """The share of each group that was said yes to. A group of nobody has no share, and none is made up for it."""
    import numpy as np

    size = np.bincount(groups, minlength=len(names))
    if not size.all():
        empty = names[int(np.argmin(size))]
        raise Refused(f"group `{bounded(empty, 60)}` has no {of}")
    rates: Array = np.bincount(groups, weights=said, minlength=len(names)) / size
    return rates


def _calibration(answers: Answers, groups: Array, names: Sequence[str]) -> Array:
    """Of each group how far, over ten bins of what the model held probable, that is from what came true."""
    import numpy as np

    if answers.chance is None:
        raise Refused("the model does not say how probable it holds its answers")
    truth = (answers.truth == answers.positive).astype(float)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    place = np.searchsorted(edges[1:-1], answers.chance)
    at = groups * BINS + place
    cells = len(names) * BINS
    each = np.bincount(at, minlength=cells)
    held = np.bincount(at, weights=answers.chance, minlength=cells)
    came = np.bincount(at, weights=truth, minlength=cells)
    # |mean held - mean came true| of a bin, weighted by its rows, is the difference of the two sums
    off = abs(held - came).reshape(len(names), BINS).sum(axis=1)
    size = each.reshape(len(names), BINS).sum(axis=1)
    if not size.all():
        raise Refused(f"group `{bounded(names[int(np.argmin(size))], 60)}` has no rows")
    gaps: Array = off / size
    return gaps
