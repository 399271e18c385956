"""Databases of somebody else, opened for reading only: SQLite by its file, Postgres by its address."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from tarmac.core.errors import Invalid, Unreachable, bounded

HINT = "an old one is brought up to date by `mlflow db upgrade`"
AT_ONCE = 5000
CONNECT_SECONDS = 20
POSTGRES = re.compile(r"postgres(?:ql)?(?:\+[a-z0-9]+)?://")
BY_OTHER_MEANS = "set PGPASSWORD, or write it into ~/.pgpass"


class Database(Protocol):
    """Statements have `?` where values belong."""

    def tables(self) -> set[str]: ...
    def all(self, sql: str, *values: Any) -> list[Any]: ...
    def each(self, sql: str, *values: Any) -> Iterator[Any]:
        """Rows one after the other, however many there are."""

    def close(self) -> None: ...


class SqliteFile:
    def __init__(self, file: Path) -> None:
        try:
            self._connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise Invalid(f"{bounded(file)} cannot be opened: {error}") from None
        self._connection.text_factory = decoded
        self._connection.execute("PRAGMA trusted_schema = OFF")

    def tables(self) -> set[str]:
        return {name for (name,) in self.all("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def all(self, sql: str, *values: Any) -> list[Any]:
        return list(self.each(sql, *values))

    def each(self, sql: str, *values: Any) -> Iterator[Any]:
        try:
            with contextlib.closing(self._connection.cursor()) as cursor:
                yield from cursor.execute(sql, values)
        except sqlite3.Error as error:
            raise Invalid(f"the database cannot be read: {error}", hint=HINT) from None

    def close(self) -> None:
        self._connection.close()


class PostgresServer:
    """One transaction that sees one moment, however long the import takes."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise Invalid(
                "reading from Postgres needs psycopg, which is not installed",
                hint="pip install 'tarmac[postgres]'",
            ) from None
        self._errors = psycopg.Error
        try:
            self._connection = psycopg.connect(plain(url), connect_timeout=CONNECT_SECONDS)
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection.read_only = True
        except (psycopg.Error, UnicodeError) as error:
            raise Unreachable(
                f"no answer from the database: {bounded(_said(error), 300)}",
                hint=f"look at its address; a password: {BY_OTHER_MEANS}",
            ) from None

    def tables(self) -> set[str]:
        rows = self.all(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = ANY (current_schemas(false))"
        )
        return {name for (name,) in rows}

    def all(self, sql: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(_percent(sql), values).fetchall()
        except self._errors as error:
            raise self._unreadable(error) from None

    def each(self, sql: str, *values: Any) -> Iterator[Any]:
        try:
            with self._connection.cursor(name="points") as cursor:  # a named one is read in portions
                cursor.itersize = AT_ONCE
                yield from cursor.execute(_percent(sql), values)
        except self._errors as error:
            raise self._unreadable(error) from None

    def close(self) -> None:
        self._connection.close()

    def _unreadable(self, error: Exception) -> Invalid:
        self._connection.rollback()
        return Invalid(f"the database cannot be read: {bounded(_said(error), 300)}", hint=HINT)


def plain(url: str) -> str:
    """The address as libpq wants it: without SQLAlchemy's driver. One that has a password is refused."""
    try:
        parts = urlsplit(url)
        secret = parts.password or any(key == "password" for key, _ in parse_qsl(parts.query))
    except ValueError:
        raise Invalid("that is no address of a database") from None
    if secret:
        raise Invalid("an address must not carry a password: it would be kept in the ledger", hint=BY_OTHER_MEANS)
    return urlunsplit(("postgresql", parts.netloc, parts.path, parts.query, ""))


def decoded(data: bytes) -> str:
    """Bytes that are no UTF-8 become what no rule lets through, and are reported where they stand."""
    return data.decode("utf-8", "surrogateescape")


def _said(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _percent(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")
