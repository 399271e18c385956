"""A database that MLflow opens, in the making. What belongs to one thing is written in one transaction."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tarmac.core.errors import Full, bounded
from tarmac.start.mlflow_database import LARGEST
from tarmac.start.mlflow_schema import REVISIONS, tables
from tarmac.start.operations import Release


class MlflowFile:
    def __init__(self, path: Path, release: Release) -> None:
        self.release = release
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        with self._said():
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            if not self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall():
                self._connection.executescript(f"begin; {tables(release)}")
                self.put("alembic_version", version_num=REVISIONS[release])
                self._connection.execute("commit")

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that is put in meanwhile, or nothing of it."""
        with self._said():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def has(self, table: str, column: str, value: Any) -> bool:
        sql = f"SELECT 1 FROM {table} WHERE {column} = ?"  # noqa: S608 - constants
        return self._connection.execute(sql, (value,)).fetchone() is not None

    def count(self, table: str) -> int:
        number: int = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - a constant
        return number

    def put(self, table: str, **values: Any) -> bool:
        """A row, unless one with its key is there."""
        return self.put_all(table, tuple(values), [tuple(values.values())]) == 1

    def put_all(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        return self._connection.executemany(sql, rows).rowcount

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Full(f"{bounded(self._path, 300)} cannot be written: {error}") from error


def as_number(value: float | str) -> tuple[float, int]:
    """A value as MLflow's database has it: the largest number for infinity, zero and a mark for NaN."""
    number = float(value)
    if math.isnan(number):
        return 0.0, 1
    return max(-LARGEST, min(LARGEST, number)), 0
