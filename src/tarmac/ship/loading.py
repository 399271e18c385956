"""Callers for a runtime: as fast as it answers, or at a rate that does not care how fast it is.

With a rate, time counts from when a request should have been sent: a runtime that stops for a second is late for all
that came in that second, not for the one that happened to wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from tarmac.core.errors import Invalid, Unreachable, bounded

BUCKETS_PER_OCTAVE = 8
SMALLEST = 1e-5
MOST_NAMED = 5


@dataclass(slots=True)
class Histogram:
    """Times in buckets that are each a little wider than the one before."""

    counts: dict[int, int] = field(default_factory=dict)
    total: float = 0.0
    longest: float = 0.0
    answers: int = 0

    def add(self, seconds: float) -> None:
        import math

        bucket = max(0, int(math.log2(max(seconds, SMALLEST) / SMALLEST) * BUCKETS_PER_OCTAVE))
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += seconds
        self.longest = max(self.longest, seconds)
        self.answers += 1

    def quantile(self, share: float) -> float:
        """The upper end of the bucket, so that it is never better than it was; at most the longest."""
        seen = 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= share * self.answers:
                return min(self.longest, SMALLEST * 2 ** ((bucket + 1) / BUCKETS_PER_OCTAVE))
        return 0.0

    def octaves(self) -> list[tuple[float, int]]:
        """Upper ends in seconds, and how many lie below each and above the one before."""
        found: dict[int, int] = {}
        for bucket, count in self.counts.items():
            found[bucket // BUCKETS_PER_OCTAVE] = found.get(bucket // BUCKETS_PER_OCTAVE, 0) + count
        first, last = min(found, default=0), max(found, default=-1)
        return [(SMALLEST * 2 ** (octave + 1), found.get(octave, 0)) for octave in range(first, last + 1)]


class Bucket(msgspec.Struct, frozen=True):
    up_to_ms: float
    answers: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What callers saw."""

    url: str
    callers: int
    asked_rate: float | None
    seconds: float
    answers: int
    failed: int
    rate: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    failures: dict[str, int]
    histogram: list[Bucket]


@dataclass(slots=True)
class _Seen:
    histogram: Histogram = field(default_factory=Histogram)
    failures: dict[str, int] = field(default_factory=dict)

    def fail(self, why: str) -> None:
        known = why in self.failures or len(self.failures) < MOST_NAMED
        name = why if known else "others"
        self.failures[name] = self.failures.get(name, 0) + 1


def run(
    url: str, bodies: Sequence[bytes], *, callers: int, seconds: float, rate: float | None = None,
    headers: Sequence[tuple[str, str]] = (),
) -> Report:  # fmt: skip
    """Ask for some seconds. `rate` is for all callers together; without one each asks again when it was answered."""
    return asyncio.run(_run(url, bodies, callers, seconds, rate, headers))


async def _run(
    url: str, bodies: Sequence[bytes], callers: int, seconds: float, rate: float | None,
    headers: Sequence[tuple[str, str]],
) -> Report:  # fmt: skip
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise Invalid(f"`{bounded(url, 300)}` is not asked: only http:// is", hint="TLS ends at a proxy: ask behind it")
    requests = [_request(parts.netloc, parts.path or "/", body, headers) for body in bodies]
    seen = _Seen()
    began = time.perf_counter()
    until = began + seconds
    plan = _Plan(began, until, rate)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(_caller(parts.hostname, parts.port or 80, requests, number, plan, seen))
    except* OSError as errors:
        first = errors.exceptions[0]
        raise Unreachable(f"{bounded(url, 300)} does not answer: {first}", hint="is it up?") from None
    took = time.perf_counter() - began
    found = seen.histogram
    failed = sum(seen.failures.values())
    return Report(
        url=url,
        callers=callers,
        asked_rate=rate,
        seconds=round(took, 3),
        answers=found.answers,
        failed=failed,
        rate=round(found.answers / took, 1),
        mean_ms=round(found.total / max(1, found.answers) * 1e3, 3),
        p50_ms=round(found.quantile(0.5) * 1e3, 3),
        p90_ms=round(found.quantile(0.9) * 1e3, 3),
        p99_ms=round(found.quantile(0.99) * 1e3, 3),
        p999_ms=round(found.quantile(0.999) * 1e3, 3),
        max_ms=round(found.longest * 1e3, 3),
        failures=seen.failures,
        histogram=[Bucket(round(end * 1e3, 4), count) for end, count in found.octaves()],
    )


class _Plan:
    """When the next request is due."""

    def __init__(self, began: float, until: float, rate: float | None) -> None:
        self._began = began
        self._until = until
        self._step = 1 / rate if rate else 0.0
        self._sent = 0

    async def next(self) -> float | None:
        """The time from which the next request counts; None when it is over."""
        due = self._began + self._sent * self._step if self._step else time.perf_counter()
        if due >= self._until:
            return None
        self._sent += 1
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        return due


async def _caller(host: str, port: int, requests: list[bytes], number: int, plan: _Plan, seen: _Seen) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while (due := await plan.next()) is not None:
            number += 1
            writer.write(requests[number % len(requests)])
            try:
                status = await _answer(reader)
            except (OSError, EOFError, ValueError) as error:
                seen.fail(type(error).__name__)
                writer.close()
                reader, writer = await asyncio.open_connection(host, port)
                continue
            if status >= 400:
                seen.fail(f"status {status}")
            else:
                seen.histogram.add(time.perf_counter() - due)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    at = lowered.find(b"\r\ncontent-length:")
    if at < 0:
        raise ValueError("an answer without its length")
    length = int(lowered[at + 17 : lowered.index(b"\r\n", at + 2)])
    if length:
        await reader.readexactly(length)
    return int(head[9:12])


def _request(host: str, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in [("Content-Type", "application/json"), *headers]]
    if any("\r" in line or "\n" in line for line in lines):
        raise Invalid("a header cannot hold a line break")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
