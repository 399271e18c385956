"""Whether a canary is worse than what it shall replace, looked at as often as one likes without that making it so.

Two shares of bad answers are compared by a mixture of normal distributions over their difference (a sequential
probability ratio, Robbins 1970): its bounds hold at all times together, so that a look each second raises no more false
alarms than one look at the end. A canary is rolled back when its bounds lie above zero, and given more callers when
they lie below the margin that somebody is willing to accept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["wait", "advance", "done", "back"]

FEWEST = 200
"""Answers of each version before anything is said: the normal distribution needs some to lean on."""
FALSE_ALARMS = 0.05
EFFECT = 0.02
"""The difference that the bounds are sharpest at."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Answers of a version, and how many of them were bad."""

    answers: int
    bad: int

    @property
    def share(self) -> float:
        return self.bad / self.answers if self.answers else 0.0


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    difference: float
    """The canary's share of bad answers less that of the other."""
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.difference:+.2%} bad answers, between {self.lower:+.2%} and {self.upper:+.2%}"


def judge(stable: Counts, canary: Counts, *, margin: float, false_alarms: float = FALSE_ALARMS) -> Judgement:
    """What is known by now. `advance` says that it is not worse by `margin`; who is at the last step is `done`."""
    if min(stable.answers, canary.answers) < FEWEST:
        return Judgement("wait", canary.share - stable.share, -1.0, 1.0)
    difference = canary.share - stable.share
    half = half_width(stable, canary, false_alarms)
    lower, upper = difference - half, difference + half
    verdict: Verdict = "back" if lower > 0 else "advance" if upper < margin else "wait"
    return Judgement(verdict, difference, lower, upper)


def half_width(stable: Counts, canary: Counts, false_alarms: float) -> float:
    """Of the bounds around the difference, which hold at all times together."""
    answers = stable.answers + canary.answers
    share = (stable.bad + canary.bad + 1) / (answers + 2)  # never certain that nothing is ever bad
    variance = share * (1 - share) * (1 / stable.answers + 1 / canary.answers)
    mixed = variance + EFFECT**2
    return math.sqrt(2 * variance * mixed / EFFECT**2 * math.log(math.sqrt(mixed / variance) / false_alarms))


def next_share(steps: Sequence[float], now: float) -> float | None:
    """The step above the share that the canary has; None at the top."""
    return next((step for step in sorted(steps) if step > now + 1e-9), None)
