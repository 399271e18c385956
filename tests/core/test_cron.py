"""Cron lines in zones: what they mean, nights on which the clock is changed, and lines that mean nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac.core.cron import parse
from tarmac.core.errors import Invalid


def ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def times(line: str, start: str, count: int, zone: str = "UTC") -> list[str]:
    """The next times of a line, as a clock on the wall shows them."""
    at, found = ms(start, zone), []
    for _ in range(count):
        following = parse(line, zone).after(at)
        assert following is not None
        at = following
        found.append(datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("line", "start", "expected"),
    [
        ("0 3 * * 1", "2026-11-20 12:00", ["11-23 03:00", "11-30 03:00"]),
        ("*/20 * * * *", "2026-01-01 00:05", ["01-01 00:20", "01-01 00:40", "01-01 01:00"]),
        ("0 3 * * *", "2026-01-01 03:00", ["01-02 03:00"]),
        ("30 4 1,15 * 5", "2026-11-01 12:00", ["11-06 04:30", "11-13 04:30", "11-15 04:30"]),  # either day
        ("0 0 */10 * mon", "2026-11-01 12:00", ["12-21 00:00"]),  # both days: a step is no restriction to the other
        ("0 0 29 feb *", "2026-01-01 00:00", ["02-29 00:00"]),
        ("0 12 * jan-mar 7", "2026-11-20 00:00", ["01-03 12:00"]),
        ("5/20 1 * * *", "2026-01-01 00:00", ["01-01 01:05", "01-01 01:25", "01-01 01:45"]),
        ("@weekly", "2026-11-20 00:00", ["11-22 00:00"]),
    ],
)
def test_the_next_times(line: str, start: str, expected: list[str]) -> None:
    assert times(line, start, len(expected)) == expected


def test_the_night_on_which_an_hour_is_left_out() -> None:
    # in Prague, on 2026-03-29, 3:00 follows on 1:59
    assert times("30 2 * * *", "2026-03-28 12:00", 2, "Europe/Prague") == ["03-29 03:00", "03-30 02:30"]
    assert times("0 3 * * *", "2026-03-28 12:00", 2, "Europe/Prague") == ["03-29 03:00", "03-30 03:00"]
    assert times("0 2,3 * * *", "2026-03-28 12:00", 2, "Europe/Prague") == ["03-29 03:00", "03-30 02:00"]  # once
    hourly = times("30 * * * *", "2026-03-29 00:45", 3, "Europe/Prague")
    assert hourly == ["03-29 01:30", "03-29 03:30", "03-29 04:30"]


def test_the_night_on_which_an_hour_comes_twice() -> None:
    line = parse("30 2 * * *", "Europe/Prague")
    first = line.after(ms("2026-10-24 12:00"))
    assert first == ms("2026-10-25 00:30")  # UTC: summer time still
    assert line.after(first) == ms("2026-10-26 01:30")
    at, passed = ms("2026-10-24 23:45"), []
    for _ in range(4):
        at = parse("30 * * * *", "Europe/Prague").after(at) or 0
        passed.append(at)
    assert [b - a for a, b in pairwise(passed)] == [3_600_000] * 3  # every hour that passes


def test_midnight_that_is_left_out() -> None:
    # in Cairo, on 2026-04-24, 1:00 follows on 23:59 of the day before
    assert times("0 0 * * *", "2026-04-23 12:00", 2, "Africa/Cairo") == ["04-24 01:00", "04-25 00:00"]
    assert times("*/30 * * * *", "2026-04-23 23:00", 3, "Africa/Cairo") == ["04-23 23:30", "04-24 01:00", "04-24 01:30"]


def test_zones_that_are_not_whole_hours_apart() -> None:
    assert times("15 * * * *", "2026-01-01 00:20", 2, "Asia/Kathmandu") == ["01-01 01:15", "01-01 02:15"]
    assert times("0 9 * * *", "2026-01-01 08:00", 1, "Asia/Kolkata") == ["01-01 09:00"]


@pytest.mark.parametrize(
    "line",
    [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a * * * *",
        "5-1 * * * *", "*/0 * * * *", "1--2 * * * *", "*-5 * * * *", "1,,2 * * * *", "* * * * moon", "@never",
        "٣ * * * *", "1/99999 * * * *",
    ],
)  # fmt: skip
def test_lines_that_mean_nothing_are_refused(line: str) -> None:
    with pytest.raises(Invalid):
        parse(line)


@pytest.mark.parametrize("line", ["0 0 31 2 *", "0 0 30 feb *", "0 0 31 4,6,9,11 *"])
def test_lines_that_never_come_are_refused(line: str) -> None:
    with pytest.raises(Invalid, match="never comes"):
        parse(line)


def test_zones_are_known_or_refused() -> None:
    with pytest.raises(Invalid, match="no time zone") as refused:
        parse("* * * * *", "Europe/Praha")
    assert refused.value.hint is not None
    for zone in ("", "../../etc/passwd", "/etc/passwd", "\x00", "x" * 10_000):
        with pytest.raises(Invalid):
            parse("* * * * *", zone)


field = st.one_of(st.just("*"), st.integers(0, 23).map(str), st.sampled_from(["*/5", "1-3", "2,4,6", "0-20/7"]))


@settings(max_examples=60, deadline=None)
@given(
    minute=field,
    hour=field,
    day=st.one_of(st.just("*"), st.integers(1, 28).map(str)),
    weekday=st.one_of(st.just("*"), st.integers(0, 7).map(str)),
    zone=st.sampled_from(["UTC", "Europe/Prague", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    start=st.integers(ms("2020-01-01 00:00"), ms("2030-01-01 00:00")),
)
def test_times_go_up_and_fit_their_line(minute: str, hour: str, day: str, weekday: str, zone: str, start: int) -> None:
    line = parse(f"{minute} {hour} {day} * {weekday}", zone)
    at = start
    for _ in range(5):
        following = line.after(at)
        assert following is not None
        assert following > at
        assert following % 60_000 == 0
        shown = datetime.fromtimestamp(following / 1000, ZoneInfo(zone))
        exact = shown.minute in line.minutes and shown.hour in line.hours
        # a time that was left out comes with the first minute after it
        moved = datetime.fromtimestamp(following / 1000 - 60, ZoneInfo(zone)).utcoffset() != shown.utcoffset()
        assert exact or moved
        at = following


def test_what_passed_is_counted() -> None:
    line = parse("0 * * * *")
    first = ms("2026-01-01 01:00")
    assert line.last(first, ms("2026-01-01 05:30"), 100) == (ms("2026-01-01 05:00"), 4)
    assert line.last(first, first, 100) == (first, 0)
    assert line.last(first, ms("2036-01-01 05:30"), 100) == (ms("2036-01-01 05:00"), 100)


def test_moments_at_the_ends_of_time() -> None:
    assert parse("* * * * *").after(-5) == 0
    assert parse("* * * * *").after(-(1 << 62)) == 0
    assert parse("* * * * *").after(1 << 62) is None
    assert datetime.fromtimestamp((parse("@yearly").after(0) or 0) / 1000, UTC).year == 1971
