"""How long one row takes, on this machine, now."""

from __future__ import annotations

import time
from collections.abc import Callable

WARM_UP, MOST, SECONDS = 20, 1000, 2.0
LEAST = 100


def percentiles(predict: Callable[[int], object], rows: int) -> dict[str, float]:
    """Milliseconds of one row at a time: the median, and what 99 of 100 stay below."""
    for at in range(WARM_UP):
        predict(at % rows)
    taken: list[int] = []
    until = time.perf_counter() + SECONDS
    while len(taken) < MOST and (len(taken) < LEAST or time.perf_counter() < until):
        start = time.perf_counter_ns()
        predict(len(taken) % rows)
        taken.append(time.perf_counter_ns() - start)
    taken.sort()
    return {
        "p50_ms": taken[len(taken) // 2] / 1e6,
        "p99_ms": taken[min(len(taken) - 1, int(len(taken) * 0.99))] / 1e6,
    }
