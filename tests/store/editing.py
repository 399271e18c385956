"""Somebody with the database's own tools, who goes past tarmac."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg

from tarmac.store.folder import WorkspaceFolder


class Intruder:
    """Statements with `?` for values, on either database."""

    def __init__(self, raw: Any, mark: str) -> None:
        self._raw = raw
        self._mark = mark

    def __call__(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self._raw.execute(sql.replace("?", self._mark), values)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def database_of(folder: WorkspaceFolder) -> Iterator[Intruder]:
    address = folder.describe().store
    if address == "sqlite":
        with closing(sqlite3.connect(folder.database_file, isolation_level=None)) as raw:
            yield Intruder(raw, "?")
    else:
        with psycopg.connect(address, autocommit=True) as connection:
            yield Intruder(connection, "%s")
