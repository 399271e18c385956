"""Cron lines: when is the next time, in a zone with its summer and winter time.

A line is minute, hour, day of month, month, day of week, as in crontab(5); names (`mon`, `jan`), ranges, steps and
lists are understood, and `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. Days match if either of the two day
fields does, when both are restricted.

A line that names hours runs once for each of its times of the day: one that the clock passes over when it is put
forward runs as soon as it was, one that comes twice runs the first time. A line that runs in every hour goes by elapsed
time and has neither problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from tarmac.core.errors import Invalid, bounded, nearest

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SHORT = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
FIELDS = (
    ("minute", 0, 59, ()), ("hour", 0, 23, ()), ("day of month", 1, 31, ()), ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, DAYS),
)  # fmt: skip
HORIZON_DAYS = 9 * 366
"""Longer than from one 29th of February to the next, over a century that has none."""
MINUTE = 60_000
QUARTER = 15 * MINUTE
LATEST = 250_000_000_000_000
"""In the year 9892: some way before the end of what dates can say."""


@dataclass(frozen=True)
class Cron:
    """A line that was understood."""

    text: str
    zone: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def after(self, moment: int) -> int | None:
        """The first time after a moment, both in milliseconds since 1970; None if there is none for years."""
        if moment > LATEST:
            return None
        return next(self._from((max(-MINUTE, moment) // MINUTE + 1) * MINUTE), None)

    def last(self, first: int, moment: int, most: int) -> tuple[int, int]:
        """The last time from one up to a moment, and how many came before it, as far as it is worth counting."""
        passed = sum(1 for _ in islice(takewhile(lambda at: at <= moment, self._from(first)), most))
        if passed < most:
            found = list(takewhile(lambda at: at <= moment, self._from(first)))
            return (found[-1], passed - 1) if found else (first, 0)
        span = 60 * MINUTE
        while True:
            found = list(takewhile(lambda at: at <= moment, self._from(max(first, moment - span))))
            if found:
                return found[-1], most
            span *= 24

    def _from(self, start: int) -> Iterator[int]:
        """Times from a moment on, in order."""
        zone = zone_of(self.zone)
        # a clock can be put forward over midnight: what it passed over belongs to the day before
        day = datetime.fromtimestamp(start / 1000, zone).date() - timedelta(days=1)
        for _ in range(HORIZON_DAYS):
            if self._is_on(day):
                yield from (at for at in self._of(day, zone, start) if at >= start)
            day += timedelta(days=1)

    def _is_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.either_day else in_month and in_week

    def _of(self, day: date, zone: ZoneInfo, start: int) -> Iterable[int]:
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        if len(self.hours) == 24:
            return self._elapsed(midnight, zone, start)
        times = {
            _moment(midnight.replace(hour=hour, minute=minute), zone) for hour in self.hours for minute in self.minutes
        }
        return sorted(times)

    def _elapsed(self, midnight: datetime, zone: ZoneInfo, start: int) -> Iterator[int]:
        """The times of a day with 23, 24 or 25 hours, as they pass: by quarters, within which no clock is changed."""
        first = _milliseconds(midnight) // QUARTER * QUARTER - 3 * 4 * QUARTER
        for at in range(max(first, start // QUARTER * QUARTER), first + 31 * 4 * QUARTER, QUARTER):
            local = datetime.fromtimestamp(at / 1000, zone)
            for minute in range(15):
                shown = local + timedelta(minutes=minute)
                if shown.minute in self.minutes and shown.date() == midnight.date():
                    yield at + minute * MINUTE


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _moment(local: datetime, zone: ZoneInfo) -> int:
    """When a clock on the wall shows this for the first time; or passes over it."""
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return _milliseconds(moment)
    # in a gap the two readings lie on both sides of the change: the first minute that is beyond it
    at = local.replace(fold=1).astimezone(UTC)
    while at.astimezone(zone).replace(tzinfo=None) < local.replace(tzinfo=None):
        at += timedelta(minutes=1)
    return _milliseconds(at)


@lru_cache(maxsize=1000)
def parse(text: str, zone: str = "UTC") -> Cron:
    """A line as it is understood; one that says nothing, or never comes, is refused."""
    line = SHORT.get(text.strip().lower(), text)
    parts = line.split()
    if len(parts) != 5:
        raise Invalid(
            f"`{bounded(text)}` is no cron line: it has {len(parts)} fields, not 5",
            hint="minute, hour, day of month, month, day of week: `0 3 * * 1` is Mondays at 3:00",
        )
    minutes, hours, days, months, weekdays = (_field(part, *known) for part, known in zip(parts, FIELDS, strict=True))
    made = Cron(
        text=text,
        zone=zone,
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        either_day=not parts[2].startswith("*") and not parts[4].startswith("*"),
    )
    zone_of(zone)
    if made.after(1_600_000_000_000) is None:
        raise Invalid(f"`{bounded(text)}` never comes: there is no such day", hint="like `0 3 * * 1`")
    return made


@lru_cache(maxsize=100)
def zone_of(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfoNotFoundError, available_timezones

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = nearest(name, available_timezones())
        hint = f"did you mean `{near}`?" if near else "like Europe/Prague"
        raise Invalid(f"there is no time zone `{bounded(name)}`", hint=hint) from None


def _field(text: str, what: str, low: int, high: int, names: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\*|[^-/]+)(?:-([^-/]+))?(?:/(\d{1,4}))?", part, re.ASCII)
        if match is None or (match[1] == "*" and match[2]):
            raise Invalid(f"`{bounded(part)}` is no {what}", hint=f"{low} to {high}, `*`, a range 1-5 or a step */15")
        first = low if match[1] == "*" else _number(match[1], what, low, high, names)
        if match[2]:
            last = _number(match[2], what, low, high, names)
        else:
            last = high if match[1] == "*" or match[3] else first
        step = int(match[3] or 1)
        if step == 0 or last < first:
            raise Invalid(f"`{bounded(part)}` is no {what}", hint="a range goes up, and a step is 1 or more")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, what: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + (1 if names is MONTHS else 0)
    if re.fullmatch(r"\d{1,4}", text, re.ASCII) and low <= int(text) <= high:
        return int(text)
    raise Invalid(f"`{bounded(text)}` is no {what}", hint=f"{low} to {high}" + (f", or {names[0]} …" if names else ""))
