"""How versions of data are written: `faces@v3`, `faces@latest`, `faces@2026-11-01`, `faces`. Read here only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tarmac.core.clock import UNITS, moment
from tarmac.core.errors import Invalid, bounded

LATEST = "latest"
HIGHEST = 2**62
_NUMBER = re.compile(r"[vV](\d{1,19})")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ].*")


@dataclass(frozen=True, slots=True)
class Reference:
    """A data set, and which of its versions: a number, the newest before a time, or neither for the latest."""

    name: str
    number: int | None = None
    before: int | None = None


def parse(text: str) -> Reference:
    name, mark, which = text.partition("@")
    if not name or (mark and not which):
        raise _unclear(text)
    if not mark or which.lower() == LATEST:
        return Reference(name)
    if found := _NUMBER.fullmatch(which):
        return Reference(name, number=min(int(found[1]), HIGHEST))
    if _DAY.fullmatch(which):  # the newest on that day, or before it: all of the day counts
        return Reference(name, before=moment(which) + UNITS["d"])
    if _TIME.fullmatch(which):
        return Reference(name, before=moment(which) + 1)
    raise _unclear(text)


def _unclear(text: str) -> Invalid:
    name = bounded(text.partition("@")[0] or "faces", 60)
    return Invalid(
        f"`{bounded(text)}` does not say which version",
        hint=f"write it like {name}@v3, {name}@latest or {name}@2026-11-01",
    )
