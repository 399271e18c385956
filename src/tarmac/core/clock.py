"""Time as tarmac stores it: whole milliseconds since 1970, UTC."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from tarmac.core.errors import Invalid, bounded

UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def iso(milliseconds: int | None) -> str:
    """A time for people and exports, in UTC."""
    if milliseconds is None:
        return ""
    try:
        at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return f"{milliseconds} ms"
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def span(text: str) -> int:
    """How long, as people write it: 90m, 24h, 7d."""
    if not re.fullmatch(r"\d{1,9}[smhdw]", text):
        raise Invalid(f"`{bounded(text)}` is not a length of time", hint="like 90m, 24h or 7d")
    return int(text[:-1]) * UNITS[text[-1]]


def moment(text: str) -> int:
    """A time as people write it: a date or time in UTC or with its zone, `-7d` from now, or milliseconds since 1970."""
    if re.fullmatch(r"[+-]?\d{1,9}[smhdw]", text):
        return now() + int(text[:-1]) * UNITS[text[-1]]
    if re.fullmatch(r"\d{9,18}", text):
        return int(text)
    try:
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Invalid(
            f"`{bounded(text)}` is not a time",
            hint="like 2026-11-20, 2026-11-20T14:03, -7d, or milliseconds since 1970",
        ) from None
