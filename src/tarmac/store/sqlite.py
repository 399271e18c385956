"""SQLite: one file in the workspace, many readers, one writer at a time on the whole machine.

Writers queue at a file lock that the kernel keeps, before SQLite's own lock is tried: the order is fair, nobody sees
"database is locked", a killed writer lets go at once, and checkpoints (which SQLite runs inside a commit) have one
holder.

SQLite keeps the locks of one file in one record for the whole process, and a forked child inherits that record without
the locks: it would take itself for a holder, and the parent's last close would delete the log under it. So nothing of
ours is open when a process forks: whoever reads or writes is waited for, and parent and child open anew.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tarmac.core.errors import Busy, Damaged, Full, Internal, Invalid, NotAWorkspace, ReadOnly, TarmacError
from tarmac.core.locks import FileLock
from tarmac.store.sql import Kind, Row, insert_statement, portions

BUSY_MILLISECONDS = 60_000
FORK_SECONDS = 5.0
IDLE_READERS = 8
READER_MAP_BYTES = 512 * 1024 * 1024
"""Searches jump about in the file: mapped, a page costs half of what reading it does. The kernel may take it back."""
WRITER_CACHE_KIB = 32 * 1024
"""Pages a transaction has changed and cannot keep are written twice; indexes in random order change many."""
CHECKPOINT_PAGES = 4000
"""16 MB of log: a small run changes some fifty pages, most of them of indexes and again and again the same."""
SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {64 * 1024 * 1024}",
)

_inherited: list[sqlite3.Connection] = []
"""Connections that could not be closed before a fork: kept, so that the child never closes them."""

_databases: weakref.WeakSet[SQLiteDatabase] = weakref.WeakSet()
_torn: set[Path] = set()
_forking = threading.Lock()


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

    def do(self, sql: str, **values: Any) -> None:
        self._execute(sql, values)

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

    def begin(self, *, hurried: bool = False) -> None:
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._execute("COMMIT")

    def rollback(self) -> None:
        if self.raw.in_transaction:
            self._execute("ROLLBACK")

    def changes(self) -> int:
        return self.raw.total_changes

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
        self._gate = threading.Condition()
        self._shut = False
        self._reading = 0
        self._writing = False
        self._quiet = False
        _databases.add(self)

    def _open(self) -> SQLiteConnection:
        if self.file in _torn:
            raise Busy(
                f"{self.place} was being read or written when this process was forked from another",
                hint="start the process in another way: `spawn` or `forkserver`",
            )
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
        except OverflowError as error:
            raise Invalid("a number is too large for the store", hint="at most 9,223,372,036,854,775,807") from error

    def _reader(self) -> SQLiteConnection:
        with self._gate:
            while self._shut:
                self._gate.wait()
            self._reading += 1
            if self._readers:
                return self._readers.pop()
        try:
            connection = self._open()
            connection.raw.execute("PRAGMA query_only = ON")
            if sys.platform != "win32":
                connection.raw.execute(f"PRAGMA mmap_size = {READER_MAP_BYTES}")
        except BaseException:
            self._leave()
            raise
        return connection

    def _leave(self) -> None:
        with self._gate:
            self._reading -= 1
            self._gate.notify_all()

    def _give_back(self, connection: SQLiteConnection) -> None:
        with self._gate:
            self._reading -= 1
            self._gate.notify_all()
            if len(self._readers) < IDLE_READERS:
                self._readers.append(connection)
                return
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
                self._writing = True
                if self._writer is None:
                    # inside the lock: the first opener of an empty folder makes the file for all
                    self._writer = self._open()
                    self._writer.raw.execute("PRAGMA journal_mode = WAL")
                    self._writer.raw.execute(f"PRAGMA cache_size = {-WRITER_CACHE_KIB}")
                yield self._writer
            except sqlite3.Error as error:
                raise translate(error, self.place) from error
            finally:
                self._writing = False
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

    def before_fork(self) -> None:
        """Wait for who reads and writes here, and close everything; nobody begins until `after_fork`."""
        until = time.monotonic() + FORK_SECONDS
        if not self._thread.acquire(timeout=FORK_SECONDS):
            return
        self._gate.acquire()
        self._shut = True
        while self._reading and (left := until - time.monotonic()) > 0:
            self._gate.wait(left)
        if self._reading or self._writing:
            self._open_again()
            return
        for connection in [*self._readers, *([self._writer] if self._writer else [])]:
            connection.raw.close()
        self._readers, self._writer, self._quiet = [], None, True

    def after_fork(self) -> None:
        """In the parent: go on."""
        if self._quiet:
            self._quiet = False
            self._open_again()

    def _open_again(self) -> None:
        self._shut = False
        self._gate.notify_all()
        self._gate.release()
        self._thread.release()

    def forget(self) -> None:
        """In the forked child: go on with locks of its own."""
        if not self._quiet and (self._reading or self._readers or self._writer):
            _inherited.extend(c.raw for c in [*self._readers, *([self._writer] if self._writer else [])])
            _torn.add(self.file)
        self._readers, self._writer, self._reading, self._writing, self._quiet = [], None, 0, False, False
        self._thread, self._gate, self._shut = threading.RLock(), threading.Condition(), False


def _before_fork() -> None:
    _forking.acquire()
    for database in list(_databases):
        database.before_fork()


def _after_fork() -> None:
    for database in list(_databases):
        database.after_fork()
    _forking.release()


def _in_child() -> None:
    global _forking
    _forking = threading.Lock()
    for database in list(_databases):
        database.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
