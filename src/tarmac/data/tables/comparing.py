"""Two tables against each other: rows by their key, columns, and how values are distributed.

First only hashes are compared, of the key and of the whole row. Then both tables are read again, and of what differs
the values. What is more than memory should hold waits on disk, cut into parts by the hash of the key.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Invalid, UnknownKey, bounded
from tarmac.data.tables.records import Cell, ColumnChange, Shift, TableDiff
from tarmac.data.tables.sources import Source, as_frame
from tarmac.formats.profile import ColumnProfile, Profile
from tarmac.formats.verdict import shown

if TYPE_CHECKING:
    import polars as pl

MOST_ROWS_IN_MEMORY = 4_000_000
MOST_CHANGED_IN_MEMORY = 200_000
PARTS = 64
MOST_EXAMPLES = 5
SEED = 7
KEY, ROW, NUMBER = "\0key", "\0row", "\0number"


def compare(one: Source, other: Source, key: Sequence[str], profiles: tuple[Profile, Profile] | None) -> TableDiff:
    """What differs. Without a key rows are the same or not; none is called changed."""
    sides = _Side(one, key), _Side(other, key)
    for side in sides:
        side.check_key()
    common = [name for name in one.schema.names if name in other.schema.names]
    casts = {name: _together(sides[0].types[name], sides[1].types[name]) for name in common}
    with tempfile.TemporaryDirectory(prefix="tarmac-diff-") as folder:
        held = [_Held(Path(folder) / f"{at}", MOST_ROWS_IN_MEMORY) for at in (0, 1)]
        for side, parts in zip(sides, held, strict=True):
            side.hash_into(parts, common, casts)
        found = _Found(bool(key))
        for before, after in _pairs(*held):
            found.match(before, after)
        cells, by_column, names = _values(sides, found, common, casts, Path(folder))
    return TableDiff(
        key=list(key),
        rows=(sides[0].rows, sides[1].rows),
        added=found.added,
        removed=found.removed,
        changed=len(found.changed[0]),
        columns_added=[name for name in other.schema.names if name not in one.schema.names],
        columns_removed=[name for name in one.schema.names if name not in other.schema.names],
        columns_retyped=[
            ColumnChange(name=name, before=str(sides[0].types[name]), after=str(sides[1].types[name]))
            for name in common
            if sides[0].types[name] != sides[1].types[name]
        ],
        changed_by_column=by_column,
        added_keys=names[1],
        removed_keys=names[0],
        cells=cells,
        shifts=shifts(*profiles) if profiles is not None else [],
    )


class _Side:
    def __init__(self, source: Source, key: Sequence[str]) -> None:

        self.source = source
        self.key = list(key)
        empty = as_frame(source.schema.empty_table())
        self.types = dict(empty.schema)
        self.rows = 0

    def check_key(self) -> None:
        for name in self.key:
            if name not in self.types:
                raise UnknownKey.at("the table", name, self.types)

    def hash_into(self, held: _Held, common: Sequence[str], casts: dict[str, Any]) -> None:
        import polars as pl

        for number, frame in self.frames(common, casts):
            self.rows += frame.height
            of_row = frame.hash_rows(seed=SEED)
            of_key = frame.select(self.key).hash_rows(seed=SEED) if self.key else of_row
            numbers = pl.int_range(number, number + frame.height, eager=True)
            held.add(pl.DataFrame({KEY: of_key, ROW: of_row, NUMBER: numbers}))

    def frames(self, columns: Sequence[str], casts: dict[str, Any]) -> Iterator[tuple[int, pl.DataFrame]]:
        """Batches with the number of their first row."""

        number = 0
        for batch in self.source.batches(columns):
            frame = as_frame(batch)
            yield number, frame.cast({name: kind for name, kind in casts.items() if kind != frame.schema[name]})
            number += batch.num_rows

    def rows_at(self, numbers: Any, columns: Sequence[str], casts: dict[str, Any]) -> Iterator[pl.DataFrame]:
        """The rows with these numbers, which are in order."""
        import numpy as np
        import polars as pl

        for first, frame in self.frames(columns, casts):
            low, high = np.searchsorted(numbers, [first, first + frame.height])
            if low < high:
                chosen = frame[numbers[low:high] - first]
                of_key = chosen.select(self.key or columns).hash_rows(seed=SEED)
                yield chosen.with_columns(of_key.alias(KEY), pl.Series(NUMBER, numbers[low:high]))
            if high == len(numbers):
                return


class _Held:
    """Frames with a hash, in memory while there are few rows, then on disk in parts."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        self._frames: list[pl.DataFrame] = []
        self._rows = 0
        self._files = 0
        self.on_disk = False

    def add(self, frame: pl.DataFrame) -> None:
        self._frames.append(frame)
        self._rows += frame.height
        if self._rows > self._most:
            self.put_away()

    def put_away(self) -> None:
        self._folder.mkdir(exist_ok=True)
        self.on_disk = True
        whole = self.whole()
        if whole is None:
            return
        for part, frame in whole.with_columns((_part()).alias("\0part")).partition_by("\0part", as_dict=True).items():
            frame.drop("\0part").write_ipc(self._folder / f"{part[0]:02}-{self._files}")
        self._files += 1
        self._frames, self._rows = [], 0

    def whole(self) -> pl.DataFrame | None:
        import polars as pl

        return pl.concat(self._frames) if self._frames else None

    def part(self, number: int) -> pl.DataFrame | None:
        import polars as pl

        files = sorted(self._folder.glob(f"{number:02}-*"))
        return pl.concat([pl.read_ipc(file) for file in files]) if files else None


def _part() -> Any:
    import polars as pl

    return pl.col(KEY) % PARTS


def _pairs(one: _Held, other: _Held) -> Iterator[tuple[pl.DataFrame | None, pl.DataFrame | None]]:
    """What may belong together of both."""
    if not (one.on_disk or other.on_disk):
        yield one.whole(), other.whole()
        return
    one.put_away()
    other.put_away()
    for number in range(PARTS):
        yield one.part(number), other.part(number)


class _Found:
    """What the hashes tell: how many rows came and went, and which ones changed."""

    def __init__(self, keyed: bool) -> None:
        self._keyed = keyed
        self.added = self.removed = 0
        self.changed: tuple[list[int], list[int]] = ([], [])
        self.examples: tuple[list[int], list[int]] = ([], [])
        """Numbers of rows that are only in one table, and only in the other."""

    def match(self, before: pl.DataFrame | None, after: pl.DataFrame | None) -> None:
        import polars as pl

        empty = pl.DataFrame(schema={KEY: pl.UInt64, ROW: pl.UInt64, NUMBER: pl.Int64})
        one, other = (empty if before is None else before), (empty if after is None else after)
        if not self._keyed:
            one, other = _told_apart(one), _told_apart(other)
        on = [KEY] if self._keyed else [KEY, "\0nth"]
        for side in (one, other) if self._keyed else ():
            if repeated := side.height - side[KEY].n_unique():
                raise Invalid(
                    f"the key is no key: {repeated:,} rows repeat another one's",
                    hint="name columns that tell rows apart: --key a --key b; --no-key compares whole rows",
                )
        gone, come = one.join(other, on=on, how="anti"), other.join(one, on=on, how="anti")
        self.removed += gone.height
        self.added += come.height
        for kept, rows in zip(self.examples, (gone, come), strict=True):
            kept.extend(rows[NUMBER].sort().head(MOST_EXAMPLES).to_list())
        if self._keyed:
            both = one.join(other, on=KEY, how="inner").filter(pl.col(ROW) != pl.col(f"{ROW}_right"))
            self.changed[0].extend(both[NUMBER].to_list())
            self.changed[1].extend(both[f"{NUMBER}_right"].to_list())


def _told_apart(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows that are the same numbered: the first, the second, …"""
    import polars as pl

    return frame.with_columns(pl.int_range(pl.len()).over(KEY).alias("\0nth"))


def _values(
    sides: tuple[_Side, _Side], found: _Found, common: Sequence[str], casts: dict[str, Any], folder: Path
) -> tuple[list[Cell], dict[str, int], list[list[str]]]:
    """Both tables once more: the values of what differs."""
    import numpy as np

    names: list[list[str]] = []
    held = []
    for at, side in enumerate(sides):
        few = sorted(found.examples[at])[:MOST_EXAMPLES]
        parts = _Held(folder / f"changed-{at}", MOST_CHANGED_IN_MEMORY)
        wanted = np.array(sorted({*few, *found.changed[at]}), dtype="i8")
        told = dict[int, str]()
        for frame in side.rows_at(wanted, common, casts) if len(wanted) else ():
            told.update(_told(frame, side.key or common, few))
            parts.add(frame)
        names.append([told[number] for number in few if number in told])
        held.append(parts)
    cells: list[Cell] = []
    by_column: dict[str, int] = {}
    if found.changed[0]:
        for before, after in _pairs(*held):
            if before is not None and after is not None:
                _count_changes(before, after, sides[0].key, common, cells, by_column)
    ordered = sorted(by_column.items(), key=lambda item: (-item[1], item[0]))
    return cells, dict(ordered), names


def _told(frame: pl.DataFrame, key: Sequence[str], few: Sequence[int]) -> dict[int, str]:
    """Some rows by what tells them apart."""
    import polars as pl

    chosen = frame.filter(pl.col(NUMBER).is_in(few)) if few else frame.head(0)
    return {row[-1]: _key(row[:-1]) for row in chosen.select([*key, NUMBER]).rows()}


def _key(values: Sequence[Any]) -> str:
    return bounded(", ".join(map(shown, values)), 200)


def _count_changes(
    before: pl.DataFrame,
    after: pl.DataFrame,
    key: Sequence[str],
    common: Sequence[str],
    cells: list[Cell],
    by_column: dict[str, int],
) -> None:
    both = before.join(after, on=KEY, how="inner", suffix="\0after").sort(NUMBER)
    others = [name for name in common if name not in key]
    for name in others:
        differs = both.filter(_differs(name))
        if not differs.height:
            continue
        by_column[name] = by_column.get(name, 0) + differs.height
        room = MOST_EXAMPLES - sum(cell.column == name for cell in cells)
        for row in differs.head(max(0, room)).select([*key, name, f"{name}\0after"]).rows():
            told = _key(row[:-2])
            cells.append(Cell(key=told, column=name, before=shown(row[-2]), after=shown(row[-1])))


def _differs(name: str) -> Any:
    import polars as pl

    before, after = pl.col(name), pl.col(f"{name}\0after")
    return before.ne_missing(after)


def _together(one: Any, other: Any) -> Any:
    """A type in which the values of two columns can be compared."""
    import polars as pl

    if one == other:
        return one
    return pl.Float64 if one.is_numeric() and other.is_numeric() else pl.String


# --------------------------------------------------------------------------------------------------- distributions


def shifts(before: Profile, after: Profile) -> list[Shift]:
    """How the columns of both lie, those that moved most first."""
    found = []
    for one in before.columns:
        other = after.column(one.name)
        if other is not None and one.rows and other.rows:
            found.append(_shift(one, other))
    return sorted(found, key=lambda shift: -(shift.distance or 0.0))


def _shift(one: ColumnProfile, other: ColumnProfile) -> Shift:
    nulls = (one.nulls / one.rows, other.nulls / other.rows)
    mean = (one.numbers.mean, other.numbers.mean) if one.numbers and other.numbers else None
    categories = one.kind == other.kind and one.kind in ("text", "boolean")
    if categories and one.top is not None and other.top is not None and one.top.complete and other.top.complete:
        shares = [
            {value: count / max(1, profile.rows - profile.nulls) for value, count in top.values}
            for profile, top in ((one, one.top), (other, other.top))
        ]
        values = shares[0].keys() | shares[1].keys()
        distance = max((abs(shares[0].get(value, 0) - shares[1].get(value, 0)) for value in values), default=0.0)
        return Shift(
            column=one.name,
            nulls=nulls,
            mean=mean,
            distance=distance,
            new=sorted(bounded(value, 60) for value in shares[1].keys() - shares[0].keys())[:20],
            gone=sorted(bounded(value, 60) for value in shares[0].keys() - shares[1].keys())[:20],
        )
    if one.numbers is None or other.numbers is None:
        return Shift(column=one.name, nulls=nulls, mean=mean)
    left, right = one.numbers.quantiles, other.numbers.quantiles
    points = sorted({*left.values, *right.values})
    distance = max(abs(left.rank(at) / left.count - right.rank(at) / right.count) for at in points)
    error = left.error / left.count + right.error / right.count
    return Shift(column=one.name, nulls=nulls, mean=mean, distance=distance, error=error)
