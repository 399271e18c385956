"""What every stage sees of the database: SQL as text with `:names`, rows as tuples.

The same statements run on SQLite and on Postgres; the little that differs is in `sqlite.py` and `postgres.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

from tarmac.core.actor import Actor

Row = tuple[Any, ...]
Kind = Literal["sqlite", "postgres"]


class Retry(Exception):
    """The database undid the transaction for reasons of its own; doing it again is safe."""


class Connection(Protocol):
    """One open line to the database."""

    kind: Kind

    def all(self, sql: str, **values: Any) -> list[Row]: ...
    def one(self, sql: str, **values: Any) -> Row | None: ...
    def value(self, sql: str, **values: Any) -> Any: ...
    def run(self, sql: str, **values: Any) -> int: ...
    def pieces(self, sql: str, size: int, **values: Any) -> Iterator[list[Row]]: ...
    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], *, otherwise: str = "") -> None: ...


class Writing(Connection, Protocol):
    """A connection that can hold a transaction.

    `recover` undoes what has happened since the savepoint and says the error in tarmac's words; it raises instead when
    the whole transaction is lost.
    """

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def savepoint(self) -> None: ...
    def release(self) -> None: ...
    def recover(self, error: Exception) -> Exception: ...


class Database(Protocol):
    """Where facts live."""

    kind: Kind
    place: str

    def read(self, *, snapshot: bool = False) -> AbstractContextManager[Connection]: ...
    def write(self) -> AbstractContextManager[Writing]: ...
    def exclusive(self, name: str, *, wait: bool = True) -> AbstractContextManager[bool]: ...
    def size(self) -> int: ...
    def close(self) -> None: ...
    def forget(self) -> None: ...


@dataclass(slots=True)
class Event:
    """One recorded change, before it has a place in the chain."""

    project: str
    at: int
    actor: str
    operation: str
    subject: str
    payload: bytes


@dataclass(slots=True)
class Batch:
    """The open transaction of one group commit, and the events it will seal."""

    connection: Connection
    now: int
    events: list[Event] = field(default_factory=list)


class Reader:
    """What a query handler is given: a consistent view, and who asks about which project."""

    __slots__ = ("actor", "all", "connection", "kind", "one", "pieces", "project", "project_name", "value")

    def __init__(self, connection: Connection, project: int, project_name: str, actor: Actor) -> None:
        self.connection = connection
        self.project = project
        self.project_name = project_name
        self.actor = actor
        self.kind = connection.kind
        self.all = connection.all
        self.one = connection.one
        self.value = connection.value
        self.pieces = connection.pieces


class Tx(Reader):
    """What a command handler is given: a reader that may also write, inside its own savepoint."""

    __slots__ = ("changed", "insert", "now", "run", "subject")

    def __init__(self, batch: Batch, project: int, project_name: str, actor: Actor) -> None:
        super().__init__(batch.connection, project, project_name, actor)
        self.run = batch.connection.run
        self.insert = batch.connection.insert
        self.now = batch.now
        self.changed = True
        self.subject: str | None = None

    def unchanged(self) -> None:
        """Say that a repeated command found its work done: nothing is recorded twice."""
        self.changed = False


@lru_cache(maxsize=4096)
def to_percent(sql: str) -> str:
    """`:name` as psycopg writes it, leaving `::casts`, quoted text and `%` alone."""
    out: list[str] = []
    position, length = 0, len(sql)
    while position < length:
        character = sql[position]
        if character == "'":
            end = sql.index("'", position + 1) + 1
            out.append(sql[position:end].replace("%", "%%"))
            position = end
        elif character == ":" and sql[position + 1 : position + 2] == ":":
            out.append("::")
            position += 2
        elif character == ":" and (sql[position + 1 : position + 2].isalpha() or sql[position + 1] == "_"):
            end = position + 1
            while end < length and (sql[end].isalnum() or sql[end] == "_"):
                end += 1
            out.append(f"%({sql[position + 1 : end]})s")
            position = end
        else:
            out.append("%%" if character == "%" else character)
            position += 1
    return "".join(out)


@lru_cache(maxsize=1024)
def insert_statement(table: str, columns: tuple[str, ...], rows: int, mark: str, otherwise: str) -> str:
    row = f"({', '.join([mark] * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)} {otherwise}"


def portions(count: int, widest: int) -> Iterator[int]:
    """How to cut `count` rows into statements of few distinct sizes, so that each is prepared once."""
    for size in (200, 50, 10, 1):
        if size > widest:
            continue
        while count >= size:
            yield size
            count -= size
