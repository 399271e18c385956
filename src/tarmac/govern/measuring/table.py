"""The rows of a gate: a CSV, Parquet or JSON-lines file, read by columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarmac.core.errors import Invalid, Refused, bounded, nearest

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MISSING = "missing"
MOST_GROUPS = 1000


@dataclass(frozen=True, slots=True)
class Groups:
    """To which group each row belongs; those without a value are a group of their own."""

    of: Array
    names: tuple[str, ...]


class Table:
    """Rows with named columns, and what was worked out about a column once."""

    def __init__(self, frame: Any) -> None:
        self.frame = frame
        self._groups: dict[str, Groups] = {}

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> Any:
        if name not in self.frame.columns:
            near = nearest(name, self.frame.columns)
            raise Refused(
                f"the rows have no column `{bounded(name)}`", hint=f"did you mean `{bounded(near)}`?" if near else None
            )
        return self.frame[name]

    def without(self, *names: str) -> Any:
        return self.frame.drop([name for name in names if name in self.frame.columns])

    def groups(self, name: str) -> Groups:
        if name not in self._groups:
            self._groups[name] = _groups(self.column(name), name)
        return self._groups[name]


def _groups(column: Any, name: str) -> Groups:
    import polars as pl

    if column.dtype in (pl.Float32, pl.Float64):
        column = column.fill_nan(None)
    different = column.n_unique()
    if different > MOST_GROUPS:
        raise Refused(
            f"column `{bounded(name)}` makes {different:,} groups; at most {MOST_GROUPS:,} are compared",
            hint="group it first: a column with ranges in place of numbers",
        )
    names = [as_text(value) for value in column.drop_nulls().unique().sort().to_list()]
    of = (column.rank("dense").cast(pl.Int64) - 1).fill_null(len(names)).to_numpy()
    return Groups(of, (*names, MISSING) if column.null_count() else tuple(names))


def as_text(value: Any) -> str:
    """A label as people write it: 1 for 1.0, so that labels read from different files are the same."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def read(path: Path) -> Table:
    try:
        import polars as pl
    except ImportError:
        raise Invalid("rows are read with the library `polars`", hint="pip install 'tarmac[data]'") from None
    readers = {
        ".csv": lambda: pl.read_csv(path, infer_schema_length=10_000),
        ".tsv": lambda: pl.read_csv(path, separator="\t", infer_schema_length=10_000),
        ".parquet": lambda: pl.read_parquet(path),
        ".jsonl": lambda: pl.read_ndjson(path),
        ".ndjson": lambda: pl.read_ndjson(path),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise Refused(
            f"`{bounded(path.name)}` is no table that is read here", hint=f"one of {', '.join(sorted(readers))}"
        )
    try:
        frame = reader()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Refused(f"`{bounded(path.name)}` cannot be read as a table: {bounded(error, 200)}") from None
    if not len(frame):
        raise Refused(f"`{bounded(path.name)}` has no rows")
    return Table(frame)
