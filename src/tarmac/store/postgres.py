"""Postgres: the same schema and statements, for several servers at once."""

from __future__ import annotations

import contextlib
import itertools
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg import errors as pg

from tarmac.core.errors import Busy, Full, Internal, Invalid, ReadOnly, TarmacError, Unreachable
from tarmac.core.secrets import Secret, mask_url
from tarmac.store.sql import Kind, Retry, Row, Unclean, insert_statement, to_percent

IDLE_READERS = 8
CONNECT_SECONDS = 10
LOCK_SPACE = 0x7A12
FEW_ROWS = 4
ROWS_AT_ONCE = 10_000
NUMBERS = ("bigint", "double precision")
PREPARED = 500
RETRIED = (pg.DeadlockDetected, pg.SerializationFailure)

_numbers = itertools.count()
_inherited: list[psycopg.Connection[Any]] = []
"""Connections that a forked child found: kept, so that they are never closed there."""


def translate(error: psycopg.Error, place: str) -> TarmacError:
    """The same fault in tarmac's words."""
    text = str(error).strip().split("\n")[0]
    if isinstance(error, pg.DiskFull):
        return Full.at(place)
    if isinstance(error, (pg.ReadOnlySqlTransaction, pg.InsufficientPrivilege)):
        return ReadOnly(f"{place} cannot be written: {text}")
    if isinstance(error, (pg.LockNotAvailable, pg.QueryCanceled, pg.TooManyConnections)):
        return Busy(f"{place} is busy: {text}")
    if isinstance(error, psycopg.OperationalError):
        return Unreachable(f"{place} does not answer: {text}", hint="check that Postgres runs and the address is right")
    if isinstance(error, (pg.DataError, pg.InvalidTextRepresentation)):
        return Invalid(f"a value cannot be stored: {text}")
    return Internal(f"{place}: {text}")


def _array(numbers: Iterable[float | None]) -> str:
    """Numbers as Postgres reads an array of them; infinities and NaN are written as Python writes them."""
    return "{" + ",".join(map(repr, numbers)).replace("None", "NULL") + "}"


def _texts(texts: Iterable[str | None]) -> str:
    """Texts as Postgres reads an array of them; psycopg's own way takes five times as long."""
    return "{" + ",".join(["NULL" if text is None else _quoted(text) for text in texts]) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_WRITTEN: dict[str, Callable[[Iterable[Any]], Any]] = {**dict.fromkeys(NUMBERS, _array), "text": _texts}


class PostgresConnection:
    kind: Kind = "postgres"

    def __init__(self, raw: psycopg.Connection[Row]) -> None:
        self.raw = raw
        raw.prepared_max = PREPARED
        self._cursor = raw.cursor(binary=False)
        self._types: dict[str, dict[str, str]] = {}
        self._changes = 0
        # statements whose answer nobody waits for have a cursor of their own: it may get answers late
        self._unasked = raw.cursor()
        self._hurry: AbstractContextManager[psycopg.Pipeline] | None = None

    def _execute(self, sql: str, values: dict[str, Any]) -> psycopg.Cursor[Row]:
        self._changes += not sql.startswith("SELECT")
        return self._cursor.execute(to_percent(sql), values)

    def all(self, sql: str, **values: Any) -> list[Row]:
        return self._execute(sql, values).fetchall()

    def one(self, sql: str, **values: Any) -> Row | None:
        return self._execute(sql, values).fetchone()

    def value(self, sql: str, **values: Any) -> Any:
        row = self._execute(sql, values).fetchone()
        return row[0] if row else None

    def run(self, sql: str, **values: Any) -> int:
        cursor = self._execute(sql, values)
        if self._hurry is not None:
            try:
                cursor.fetchone()  # waits for the answer; Pipeline.sync() would, but hangs if much is still to be sent
            except psycopg.ProgrammingError:
                if cursor.pgresult is None:
                    raise
        return cursor.rowcount

    def do(self, sql: str, **values: Any) -> None:
        self._changes += 1
        self._unasked.execute(to_percent(sql), values)

    def pieces(self, sql: str, size: int, **values: Any) -> Iterator[list[Row]]:
        if self.raw.autocommit and self.raw.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            raise RuntimeError("pieces need a snapshot: database.read(snapshot=True)")
        with self.raw.cursor(name=f"pieces_{next(_numbers)}") as cursor:
            cursor.execute(to_percent(sql), values)
            while rows := cursor.fetchmany(size):
                yield rows

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], *, otherwise: str = "") -> None:
        if not rows:
            return
        self._changes += 1
        names = tuple(columns)
        if len(rows) < FEW_ROWS:
            for row in rows:
                self._unasked.execute(insert_statement(table, names, 1, "%s", otherwise), row)
            return
        # an array for each column: psycopg takes longer to look at each single value than Postgres to insert it
        types = self._types_of(table, names)
        marks = ", ".join(f"{'%s' if kind in _WRITTEN else '%b'}::{kind}[]" for kind in types)
        sql = f"INSERT INTO {table} ({', '.join(names)}) SELECT * FROM unnest({marks}) {otherwise}"
        for start in range(0, len(rows), ROWS_AT_ONCE):
            columns_of = zip(types, zip(*rows[start : start + ROWS_AT_ONCE], strict=True), strict=True)
            self._unasked.execute(sql, [_WRITTEN.get(kind, list)(column) for kind, column in columns_of])

    def _types_of(self, table: str, names: Sequence[str]) -> list[str]:
        known = self._types.get(table, {})
        if not known.keys() >= set(names):
            known = self._types[table] = dict(
                self.all(
                    "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
                    "WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped",
                    name=table,
                )
            )
        return [known[name] for name in names]

    def begin(self, *, hurried: bool = False) -> None:
        if hurried:
            self._hurry = self.raw.pipeline()
            self._hurry.__enter__()
        self._unasked.execute("BEGIN")

    def commit(self) -> None:
        hurried = self._hurry is not None
        try:
            self._unasked.execute("COMMIT")
            self._wait()
        except psycopg.Error as error:
            if not hurried or self.raw.closed or isinstance(error, RETRIED):
                raise
            raise Unclean from error  # the database has said that it did not commit

    def _wait(self) -> None:
        """For the answers of all that was hurried."""
        if self._hurry is not None:
            hurry, self._hurry = self._hurry, None
            hurry.__exit__(None, None, None)

    def rollback(self) -> None:
        with contextlib.suppress(psycopg.Error):  # what failed is known, or the connection is lost
            self._wait()
        if not self.raw.closed and self.raw.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            self._cursor.execute("ROLLBACK")

    def changes(self) -> int:
        return self._changes

    def savepoint(self) -> None:
        self._unasked.execute("SAVEPOINT item")

    def release(self) -> None:
        self._unasked.execute("RELEASE item")

    def recover(self, error: Exception) -> Exception:
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) or self.raw.closed:
            raise error
        self._cursor.execute("ROLLBACK TO SAVEPOINT item; RELEASE SAVEPOINT item")
        return translate(error, "the store") if isinstance(error, psycopg.Error) else error


class PostgresDatabase:
    """One writing connection and a few reading ones to a Postgres address."""

    kind: Kind = "postgres"

    def __init__(self, url: Secret) -> None:
        self._url = url
        self.place = mask_url(url.reveal())
        self._writer: PostgresConnection | None = None
        self._readers: list[PostgresConnection] = []
        self._thread = threading.RLock()

    def _open(self) -> PostgresConnection:
        raw: psycopg.Connection[Row] = psycopg.connect(
            self._url.reveal(), autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="tarmac"
        )
        return PostgresConnection(raw)

    @contextmanager
    def read(self, *, snapshot: bool = False) -> Iterator[PostgresConnection]:
        """Each statement sees the newest commit; with `snapshot` all of them see the same moment."""
        try:
            connection = self._reader()
            try:
                if snapshot:
                    connection.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield connection
            finally:
                if not connection.raw.closed:
                    connection.rollback()
                    self._give_back(connection)
        except psycopg.Error as error:
            raise translate(error, self.place) from error

    def _reader(self) -> PostgresConnection:
        while self._readers:
            connection = self._readers.pop()
            if not connection.raw.closed and not connection.raw.broken:
                return connection
        return self._open()

    def _give_back(self, connection: PostgresConnection) -> None:
        if len(self._readers) < IDLE_READERS:
            self._readers.append(connection)
        else:
            connection.raw.close()

    @contextmanager
    def write(self) -> Iterator[PostgresConnection]:
        """The writing connection of this process; other processes have theirs."""
        with self._thread:
            try:
                if self._writer is None or self._writer.raw.closed or self._writer.raw.broken:
                    self._writer = self._open()
                yield self._writer
            except RETRIED as error:
                raise Retry from error
            except psycopg.Error as error:
                raise translate(error, self.place) from error
            finally:
                if self._writer is not None and (self._writer.raw.closed or self._writer.raw.broken):
                    self._writer = None

    @contextmanager
    def exclusive(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """A named lock among all processes that use this database; it ends with the connection."""
        number = zlib.crc32(name.encode()) & 0x7FFFFFFF
        try:
            connection = self._open()
            try:
                if wait:
                    connection.run("SELECT pg_advisory_lock(:space, :number)", space=LOCK_SPACE, number=number)
                    held = True
                else:
                    held = connection.value(
                        "SELECT pg_try_advisory_lock(:space, :number)", space=LOCK_SPACE, number=number
                    )
                yield held
            finally:
                connection.raw.close()
        except psycopg.Error as error:
            raise translate(error, self.place) from error

    def size(self) -> int:
        with self.read() as connection:
            return int(connection.value("SELECT pg_database_size(current_database())"))

    def close(self) -> None:
        with self._thread:
            for connection in [*self._readers, *([self._writer] if self._writer else [])]:
                connection.raw.close()
            self._readers, self._writer = [], None

    def forget(self) -> None:
        _inherited.extend(c.raw for c in [*self._readers, *([self._writer] if self._writer else [])])
        self._readers, self._writer = [], None
        self._thread = threading.RLock()
