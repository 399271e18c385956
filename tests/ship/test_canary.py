"""The canary's judge, simulated: worse ones go, equal ones stay, however often somebody looks."""

from __future__ import annotations

import numpy as np
import pytest

from tarmac.ship.canary import Counts, judge, next_share

LOOKS = 200
PER_LOOK = 100


def play(stable: float, canary: float, seed: int, share: float = 0.5) -> str:
    """A look after every hundred answers: what it comes to."""
    rng = np.random.default_rng(seed)
    totals = np.zeros((2, 2), int)
    for _ in range(LOOKS):
        for row, (rate, part) in enumerate(((stable, 1 - share), (canary, share))):
            count = int(PER_LOOK * part * 2)
            totals[row] += count, rng.binomial(count, rate)
        found = judge(Counts(*totals[0]), Counts(*totals[1]), margin=0.01)
        if found.verdict == "back":
            return "back"
    return "stays"


@pytest.mark.parametrize("base", [0.02, 0.1, 0.2])
def test_a_version_that_is_two_points_worse_is_rolled_back(base: float) -> None:
    looks = [play(base, base + 0.02, seed, 0.5) for seed in range(100)]
    # at a share of bad answers of 0.2 two points need more answers than these: the docs have the curve
    assert looks.count("back") >= {0.02: 95, 0.1: 95, 0.2: 75}[base]


@pytest.mark.parametrize("base", [0.001, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_an_equal_version_stays_however_often_somebody_looks(base: float, share: float) -> None:
    assert [play(base, base, seed, share) for seed in range(100)].count("back") <= 5


def test_nothing_is_said_too_early() -> None:
    assert judge(Counts(10_000, 100), Counts(50, 50), margin=0.01).verdict == "wait"


def test_a_version_that_is_as_good_gets_more_callers() -> None:
    assert judge(Counts(50_000, 500), Counts(50_000, 505), margin=0.01).verdict == "advance"
    assert [next_share((0.05, 0.25, 1.0), now) for now in (0.0, 0.05, 0.25, 1.0)] == [0.05, 0.25, 1.0, None]
