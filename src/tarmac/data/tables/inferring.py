"""A contract from data that are taken to be good: what held for all rows, with room where more data would need it.

It is a beginning that people tighten: every line of it was true of the rows it was made from.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tarmac.formats import patterns
from tarmac.formats.contract import Column, Contract
from tarmac.formats.profile import ColumnProfile, Numbers, Profile
from tarmac.formats.repeats import Repeats

if TYPE_CHECKING:
    import polars as pl

ENOUGH = 100
"""Fewer rows say nothing of what never happens."""
MOST_CATEGORIES = 50
PER_CATEGORY = 10
MOST_KEYS = 8
SAMPLED = 5_000

HEAD = """What the rows of {name} have to be, inferred from {version} ({rows:,} rows).
It is checked whenever {name} is logged, and where a model that was trained on it is served.
Ranges have as much room on either side as the values were wide. Tighten it by hand."""


class ContractFinder:
    """Sees all batches of a table, beside its profile, for what the profile does not say."""

    def __init__(self) -> None:
        self._keys: dict[str, Repeats] | None = None
        self._patterns: dict[str, str] = {}

    def take(self, frame: pl.DataFrame) -> None:
        if not frame.height:
            return
        if self._keys is None:
            self._begin(frame)
        assert self._keys is not None
        for name, repeats in self._keys.items():
            repeats.take(frame.select(name))
        for name, pattern in list(self._patterns.items()):
            if not _all_match(frame[name], pattern):
                del self._patterns[name]

    def _begin(self, frame: pl.DataFrame) -> None:
        from tarmac.formats.table import kind_of

        self._keys = {}
        for column in frame:
            kind = kind_of(column.dtype)
            whole = not column.null_count()
            if kind in ("integer", "text") and whole and len(self._keys) < MOST_KEYS and column.is_unique().all():
                self._keys[column.name] = Repeats()
            if kind == "text" and (pattern := _pattern_of(column)):
                self._patterns[column.name] = pattern

    def finish(self, profile: Profile) -> Contract:
        keys = [name for name, repeats in (self._keys or {}).items() if not repeats.finish()[0]]
        if profile.rows < ENOUGH:
            keys = []
        columns = {
            column.name: _column(column, unique=column.name in keys, pattern=self._patterns.get(column.name))
            for column in profile.columns
        }
        return Contract(key=_best_key(keys), columns=columns)


def _best_key(keys: list[str]) -> tuple[str, ...]:
    """One that is called like a key, or the first."""
    named = [name for name in keys if re.search(r"(^|_|\b)(id|key|uuid|path)$", name, re.IGNORECASE)]
    return tuple((named or keys)[:1])


def _column(profile: ColumnProfile, *, unique: bool, pattern: str | None) -> Column:
    there = profile.rows - profile.nulls
    kind: Any = profile.kind if there and profile.kind != "other" else "any"
    values = _categories(profile, there)
    ranged = kind in ("integer", "number", "date", "time") and not unique  # numbers that only count go on
    low, high = _range(profile) if ranged else (None, None)
    return Column(
        type=kind,
        nulls=_nulls(profile),
        min=low,
        max=high,
        values=values,
        pattern=pattern if kind == "text" and values is None else None,
        longest=_longest(profile) if kind == "text" and values is None and pattern is None else None,
        unique=unique,
    )


def _nulls(profile: ColumnProfile) -> float:
    """As many again as there were; any number if there are too few rows to tell."""
    if profile.rows < ENOUGH:
        return 1.0
    return min(1.0, math.ceil(200 * profile.nulls / profile.rows) / 100)


def _categories(profile: ColumnProfile, there: int) -> tuple[Any, ...] | None:
    top = profile.top
    if profile.kind != "text" or top is None or not top.complete or top.error:
        return None
    if len(top.values) > MOST_CATEGORIES or there < max(ENOUGH, PER_CATEGORY * len(top.values)):
        return None
    return tuple(sorted(value for value, _ in top.values if isinstance(value, str)))


def _range(profile: ColumnProfile) -> tuple[Any, Any]:
    numbers = profile.numbers
    if numbers is None or profile.rows < ENOUGH or profile.infinite:
        return None, None
    width = numbers.highest - numbers.lowest
    low, high = numbers.lowest - width, numbers.highest + width
    if profile.kind in ("date", "time"):
        return _moment(low, down=True), _moment(high, down=False)
    if numbers.lowest >= 0:
        low = max(0.0, low)
    if numbers.highest <= 0:
        high = min(0.0, high)
    if profile.kind == "integer":
        return math.floor(low), math.ceil(high)
    return _rounded(low, width, math.floor), _rounded(high, width, math.ceil)


def _rounded(value: float, width: float, away: Any) -> float:
    """Two digits of what the range is wide, away from the values."""
    if not width or not math.isfinite(value):
        return value
    step = 10.0 ** (math.floor(math.log10(width)) - 1)
    found = float(f"{away(value / step) * step:.12g}")
    return found if math.isfinite(found) else value


def _moment(seconds: float, *, down: bool) -> datetime | None:
    try:
        day = datetime.fromtimestamp(seconds, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return day if down else day + timedelta(days=1)
    except (ValueError, OverflowError, OSError):
        return None


def _longest(profile: ColumnProfile) -> int | None:
    lengths: Numbers | None = profile.lengths
    if lengths is None or profile.rows < ENOUGH:
        return None
    return int(max(2 * lengths.highest, 10))


# ------------------------------------------------------------------------------------------------------------ patterns

_RUNS = re.compile(r"[0-9]+|[A-Z]+|[a-z]+|.", re.DOTALL)


def _pattern_of(column: pl.Series) -> str | None:
    """A pattern that all of some values have, if they are put together alike."""
    values = column.drop_nulls().head(SAMPLED).cast(_string()).unique().to_list()
    if len(values) < ENOUGH // 2 or max(map(len, values)) > 64:
        return None
    shapes = {tuple(map(_class_of, _RUNS.findall(value))) for value in values}
    if len(shapes) != 1:
        return None
    (shape,) = shapes
    if not any(part in ("d", "A", "a") for part in shape) or len(shape) < 2:
        return None
    runs = [_RUNS.findall(value) for value in values]
    text = ""
    for place, part in enumerate(shape):
        seen = {run[place] for run in runs}
        if len(seen) == 1:
            text += "".join(f"\\{sign}" if sign in r"\.^$*+?{}[]|()&~-#" else sign for sign in seen.pop())
            continue
        lengths = {len(one) for one in seen}
        count = f"{{{min(lengths)}}}" if len(lengths) == 1 else "+"
        text += {"d": r"\d", "A": "[A-Z]", "a": "[a-z]"}.get(part, ".") + count
    return text if patterns.fault(text) is None else None


def _class_of(run: str) -> str:
    if run[0].isascii() and run[0].isdigit():
        return "d"
    if run[0].isascii() and run[0].isalpha():
        return "A" if run[0].isupper() else "a"
    return run


def _string() -> Any:
    import polars as pl

    return pl.String


def _all_match(column: pl.Series, pattern: str) -> bool:
    found = column.cast(_string()).drop_nulls()
    return bool(found.str.contains(rf"\A(?:{patterns.translated(pattern)})\z").all())
