"""What is told of tables that are compared."""

from __future__ import annotations

import msgspec


class ColumnChange(msgspec.Struct, frozen=True, kw_only=True):
    """A column of both that has another type, or other values."""

    name: str
    before: str
    after: str


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    column: str
    before: str
    after: str


class Shift(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the values of a column lie in one table and in the other."""

    column: str
    nulls: tuple[float, float]
    mean: tuple[float, float] | None = None
    distance: float | None = None
    """The largest difference between the shares of values below any point (or of any category), 0 to 1."""
    error: float = 0.0
    """What the distance may be wrong by, because profiles are sketches."""
    new: list[str] = []
    gone: list[str] = []


class TableDiff(msgspec.Struct, frozen=True, kw_only=True):
    key: list[str]
    rows: tuple[int, int]
    added: int
    removed: int
    changed: int
    columns_added: list[str]
    columns_removed: list[str]
    columns_retyped: list[ColumnChange]
    changed_by_column: dict[str, int]
    added_keys: list[str]
    removed_keys: list[str]
    cells: list[Cell]
    shifts: list[Shift]

    @property
    def same(self) -> bool:
        schema = self.columns_added or self.columns_removed or self.columns_retyped
        return not (self.added or self.removed or self.changed or schema)
