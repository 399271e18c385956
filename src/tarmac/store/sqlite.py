"""SQLite: one file in the workspace, many readers, one writer at a time on the whole machine.

Writers queue at a file lock that the kernel keeps, before SQLite's own lock is tried: the order is fair, nobody sees
"database is locked", a killed writer lets go at once, and checkpoints (which SQLite runs inside a commit) have one
holder. After a fork the child leaves inherited connections unused: closing them would touch the parent's files.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tarmac.core.errors import Busy, Damaged, Full, Internal, NotAWorkspace, ReadOnly, TarmacError
from tarmac.core.locks import FileLock
from tarmac.store.sql import Kind, Row, insert_statement, portions

BUSY_MILLISECONDS = 60_000
IDLE_READERS = 8
SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA journal_size_limit = {64 * 1024 * 1024}",
)

_inherited: list[sqlite3.Connection] = []
"""Connections that a forked child found: kept, so that they are never closed there."""


def translate(error: sqlite3.Error, place: object) -> TarmacError:
    """The same fault in tarmac's words."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return Full.at(place)
    if primary == sqlite3.SQLITE_READONLY or primary == sqlite3.SQLITE_PERM:
        return ReadOnly(f"{place} cannot be written", hint="check who owns the folder and how its disk is mounted")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Damaged(
            f"{place} is damaged: {error}", hint="see `tarmac store check`; restore a backup: `tarmac store restore`"
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Busy(f"{place} is held by another program", hint="find it with `lsof`, or wait")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return NotAWorkspace(
            f"{place} cannot be opened", hint="check that it exists and that you may read and write it"
        )
    if primary == sqlite3.SQLITE_IOERR:
        return Internal(f"{place}: the disk failed: {error}", hint="check the disk and the system log")
    return Internal(f"{place}: {error}")


class SQLiteConnection:
    """One connection; errors come out in tarmac's words only at the edges that commit or open."""

    kind: Kind = "sqlite"

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self._execute = raw.execute

    def all(self, sql: str, **values: Any) -> list[Row]:
        return self._execute(sql, values).fetchall()

    def one(self, sql: str, **values: Any) -> Row | None:
        row: Row | None = self._execute(sql, values).fetchone()
        return row

    def value(self, sql: str, **values: Any) -> Any:
        row = self._execute(sql, values).fetchone()
        return row[0] if row else None

    def run(self, sql: str, **values: Any) -> int:
        return self._execute(sql, values).rowcount

    def pieces(self, sql: str, size: int, **values: Any) -> Iterator[list[Row]]:
        cursor = self._execute(sql, values)
        while rows := cursor.fetchmany(size):
            yield rows

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], *, otherwise: str = "") -> None:
        names = tuple(columns)
        start = 0
        # one step for many rows: sqlite3 lets go of the GIL at each step, which is dear beside a busy thread
        for size in portions(len(rows), 30_000 // len(names)):
            flat = [value for row in rows[start : start + size] for value in row]
            self._execute(insert_statement(table, names, size, "?", otherwise), flat)
            start += size

    def begin(self) -> None:
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._execute("COMMIT")

    def rollback(self) -> None:
        if self.raw.in_transaction:
            self._execute("ROLLBACK")

    def savepoint(self) -> None:
        self._execute("SAVEPOINT item")

    def release(self) -> None:
        self._execute("RELEASE item")

    def recover(self, error: Exception) -> Exception:
        # a full or failing disk may have undone the whole transaction, with or without saying so
        if isinstance(error, sqlite3.OperationalError) or not self.raw.in_transaction:
            raise error
        self._execute("ROLLBACK TO item")
        self._execute("RELEASE item")
        return translate(error, "the store") if isinstance(error, sqlite3.Error) else error


class SQLiteDatabase:
    """The file, its lock, one writing connection and a few reading ones."""

    kind: Kind = "sqlite"

    def __init__(self, file: Path) -> None:
        self.file = file
        self.place = str(file)
        self._lock = FileLock(file.with_name("write.lock"))
        self._names: dict[str, FileLock] = {}
        self._writer: SQLiteConnection | None = None
        self._readers: list[SQLiteConnection] = []
        self._thread = threading.RLock()

    def _open(self) -> SQLiteConnection:
        raw = sqlite3.connect(
            self.file,
            timeout=BUSY_MILLISECONDS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        for setting in SETTINGS:
            raw.execute(setting)
        return SQLiteConnection(raw)

    @contextmanager
    def read(self, *, snapshot: bool = False) -> Iterator[SQLiteConnection]:
        """A consistent view of everything committed so far; `snapshot` makes no difference here."""
        try:
            connection = self._reader()
            try:
                connection.raw.execute("BEGIN")
                yield connection
            finally:
                connection.rollback()
                self._give_back(connection)
        except sqlite3.Error as error:
            raise translate(error, self.place) from error

    def _reader(self) -> SQLiteConnection:
        try:
            return self._readers.pop()
        except IndexError:
            connection = self._open()
            connection.raw.execute("PRAGMA query_only = ON")
            return connection

    def _give_back(self, connection: SQLiteConnection) -> None:
        if len(self._readers) < IDLE_READERS:
            self._readers.append(connection)
        else:
            connection.raw.close()

    @contextmanager
    def write(self) -> Iterator[SQLiteConnection]:
        """The writing connection, while nobody else on this machine writes."""
        with self._thread:
            try:
                self._lock.acquire()
            except OSError as error:
                raise ReadOnly(f"{self.file.parent} cannot be written: {error.strerror}") from error
            try:
                if self._writer is None:
                    # inside the lock: the first opener of an empty folder makes the file for all
                    self._writer = self._open()
                    self._writer.raw.execute("PRAGMA journal_mode = WAL")
                yield self._writer
            except sqlite3.Error as error:
                raise translate(error, self.place) from error
            finally:
                self._lock.release()

    @contextmanager
    def exclusive(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """A named lock among all processes that use this workspace (gc against backup, one upgrade at a time)."""
        lock = self._names.setdefault(name, FileLock(self.file.with_name(f"{name}.lock")))
        held = lock.acquire(wait=wait)
        try:
            yield held
        finally:
            if held:
                lock.release()

    def size(self) -> int:
        total = 0
        for suffix in ("", "-wal"):
            try:
                total += self.file.with_name(self.file.name + suffix).stat().st_size
            except FileNotFoundError:
                continue
        return total

    def close(self) -> None:
        with self._thread:
            for connection in [*self._readers, *([self._writer] if self._writer else [])]:
                connection.raw.close()
            self._readers, self._writer = [], None
            for lock in [self._lock, *self._names.values()]:
                lock.close()

    def forget(self) -> None:
        _inherited.extend(c.raw for c in [*self._readers, *([self._writer] if self._writer else [])])
        self._readers, self._writer = [], None
        self._thread = threading.RLock()
