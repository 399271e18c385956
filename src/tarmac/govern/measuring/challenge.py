"""Challenger against champion on the same rows: how much better, and between what with 95 % confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Refused
from tarmac.govern.measuring.scores import Answers

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BEYOND = 1.959963984540054
"""Standard errors of a normal distribution that hold 95 %."""


def difference(challenger: Answers, champion: Answers) -> dict[str, float]:
    """The mean of what each row gained. The two answer the same rows, so each row is compared with itself, which is
    far sharper than comparing two means."""
    gained = _gained(challenger, champion)
    n = len(gained)
    if n < 2:
        raise Refused(f"an interval needs two rows at least; there is {n}")
    mean = float(gained.mean())
    error = float(gained.std(ddof=1)) / n**0.5
    return {"difference": mean, "low": mean - BEYOND * error, "high": mean + BEYOND * error, "rows": float(n)}


def _gained(challenger: Answers, champion: Answers) -> Array:
    """Of classes 1 for each row that only the challenger has right and -1 the other way; of numbers how much nearer."""
    if challenger.are_classes != champion.are_classes:
        raise Refused("one of them says classes and the other numbers")
    if challenger.are_classes:
        right = (challenger.said == challenger.truth).astype(float)
        gained: Array = right - (champion.said == champion.truth)
        return gained
    closer: Array = abs(champion.said - champion.truth) - abs(challenger.said - challenger.truth)
    return closer
