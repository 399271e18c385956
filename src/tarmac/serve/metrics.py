"""Counters and latencies of every version, kept as plain numbers and printed as Prometheus reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


class Tally:
    """Of one version of one endpoint."""

    __slots__ = ("buckets", "errors", "latency", "requests", "rows", "shadow_differs", "shadow_same")

    def __init__(self) -> None:
        self.requests = self.rows = self.errors = 0
        self.shadow_same = self.shadow_differs = 0
        self.latency = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def count(self, seconds: float, rows: int) -> None:
        self.requests += 1
        self.rows += rows
        self.latency += seconds
        self.buckets[bisect_left(BOUNDS, seconds)] += 1

    def facts(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "rows": self.rows,
            "errors": self.errors,
            "seconds": self.latency,
            "buckets": list(self.buckets),
            "shadow_same": self.shadow_same,
            "shadow_differs": self.shadow_differs,
        }


class Tallies:
    """By endpoint and version; they outlive a swap, so that a counter never goes back."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Tally] = {}
        self.refused: dict[int, int] = {}

    def of(self, endpoint: str, version: str) -> Tally:
        return self.found.setdefault((endpoint, version), Tally())

    def refuse(self, status: int) -> None:
        self.refused[status] = self.refused.get(status, 0) + 1

    def facts(self) -> list[dict[str, Any]]:
        return [
            {"endpoint": endpoint, "version": version, **tally.facts()}
            for (endpoint, version), tally in self.found.items()
        ]


def merged(workers: Iterable[Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """What all workers counted, together."""
    total: dict[tuple[str, str], dict[str, Any]] = {}
    for facts in workers:
        for fact in facts:
            place = (fact["endpoint"], fact["version"])
            if place not in total:
                total[place] = {**fact, "buckets": list(fact["buckets"])}
                continue
            into = total[place]
            for name in ("requests", "rows", "errors", "seconds", "shadow_same", "shadow_differs"):
                into[name] += fact[name]
            into["buckets"] = [a + b for a, b in zip(into["buckets"], fact["buckets"], strict=True)]
    return list(total.values())


_COUNTERS = (
    ("tarmac_requests_total", "requests", "Requests answered by a version."),
    ("tarmac_rows_total", "rows", "Rows predicted."),
    ("tarmac_errors_total", "errors", "Requests at which the version failed."),
    ("tarmac_shadow_same_total", "shadow_same", "Shadowed requests with the same answer."),
    ("tarmac_shadow_differs_total", "shadow_differs", "Shadowed requests with another answer."),
)


def exposition(
    facts: list[dict[str, Any]], refused: Mapping[int, int], plain: Mapping[str, tuple[str, str, float]]
) -> bytes:
    """`plain` are single values by name: kind, help, value."""
    lines: list[str] = []
    for name, field, text in _COUNTERS:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
        lines += [f"{name}{_labels(fact)} {fact[field]}" for fact in facts]
    lines += [
        "# HELP tarmac_request_seconds Time from the request's head to its answer.",
        "# TYPE tarmac_request_seconds histogram",
    ]
    for fact in facts:
        seen = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), fact["buckets"], strict=True):
            seen += count
            lines.append(f"tarmac_request_seconds_bucket{_labels(fact, le=bound)} {seen}")
        lines.append(f"tarmac_request_seconds_sum{_labels(fact)} {fact['seconds']:.6f}")
        lines.append(f"tarmac_request_seconds_count{_labels(fact)} {seen}")
    lines += [
        "# HELP tarmac_refused_total Requests refused before a version saw them.",
        "# TYPE tarmac_refused_total counter",
    ]
    lines += [f'tarmac_refused_total{{status="{status}"}} {count}' for status, count in sorted(refused.items())]
    for name, (kind, text, value) in plain.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
    return ("\n".join(lines) + "\n").encode()


def _labels(fact: Mapping[str, Any], **more: str) -> str:
    pairs = {"endpoint": fact["endpoint"], "version": fact["version"], **more}
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
