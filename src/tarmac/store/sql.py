"""What every stage sees of the database: SQL as text with `:names`, rows as tuples.

The same statements run on SQLite and on Postgres; the little that differs is in `sqlite.py` and `postgres.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

from tarmac.core.actor import Actor

MANY_SIZES = 16
Row = tuple[Any, ...]
Kind = Literal["sqlite", "postgres"]


class Retry(Exception):
    """The database undid the transaction for reasons of its own; doing it again is safe."""


class Unclean(Exception):
    """Something failed in a transaction that has changed more than it should have: it is undone as a whole and done
    again, each piece of work with a savepoint of its own."""


class Connection(Protocol):
    """One open line to the database."""

    kind: Kind

    def all(self, sql: str, **values: Any) -> list[Row]: ...
    def one(self, sql: str, **values: Any) -> Row | None: ...
    def value(self, sql: str, **values: Any) -> Any: ...
    def run(self, sql: str, **values: Any) -> int: ...
    def do(self, sql: str, **values: Any) -> None: ...
    def pieces(self, sql: str, size: int, **values: Any) -> Iterator[list[Row]]: ...
    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row], *, otherwise: str = "") -> None: ...


class Writing(Connection, Protocol):
    """A connection that can hold a transaction.

    `changes` grows with whatever is changed. A transaction that is begun `hurried` does not wait for the answer to a
    statement that has none (`do`, `insert`): what failed is heard of later, at the latest as `Unclean` from `commit`.
    `recover` undoes what has happened since the savepoint and says the error in tarmac's words; it raises instead when
    the whole transaction is lost.
    """

    def begin(self, *, hurried: bool = False) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def changes(self) -> int: ...
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


class Names:
    """The store's dictionary, kept in memory: keys of params, tags and metrics as numbers, by project."""

    def __init__(self) -> None:
        self._numbers: defaultdict[int, dict[str, int]] = defaultdict(dict)
        self._names: dict[int, str] = {}

    def number(self, read: Reader, name: str) -> int | None:
        """The number of a name, or None where nothing was ever called so."""
        known = self._numbers[read.project].get(name)
        if known is None:
            known = read.value(
                "SELECT key FROM names WHERE project = :project AND name = :name", project=read.project, name=name
            )
            if known is not None and not isinstance(read, Tx):  # what a transaction sees may yet be undone
                self.learn([(read.project, name, known)])
        return known

    def numbers(self, tx: Tx, names: Collection[str]) -> dict[str, int]:
        """The numbers of names, given to those that have none."""
        project, known = tx.project, self._numbers[tx.project]
        found = {name: known[name] for name in names if name in known}
        missing = set() if len(found) == len(names) else set(names) - found.keys()
        for name in sorted(missing):  # in order, so that two servers cannot wait for each other
            number = tx.value(
                "INSERT INTO names (project, name) VALUES (:project, :name) ON CONFLICT DO NOTHING RETURNING key",
                project=project,
                name=name,
            )
            if number is None:
                number = tx.value(
                    "SELECT key FROM names WHERE project = :project AND name = :name", project=project, name=name
                )
            found[name] = number
            tx.batch.learned.append((project, name, number))
        return found

    def names(self, read: Reader, numbers: Iterable[int]) -> dict[int, str]:
        """The names behind numbers."""
        missing = [number for number in set(numbers) if number not in self._names]
        if not missing:
            return self._names
        rows = read.all("SELECT project, name, key FROM names WHERE key >= :least", least=min(missing))
        if isinstance(read, Tx):
            return {**self._names, **{number: name for _, name, number in rows}}
        self.learn(rows)
        return self._names

    def learn(self, entries: Iterable[tuple[int, str, int]]) -> None:
        for project, name, number in entries:
            self._numbers[project][name] = number
            self._names[number] = name

    def forget(self) -> None:
        self._numbers.clear()
        self._names.clear()


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
    names: Names
    events: list[Event] = field(default_factory=list)
    learned: list[tuple[int, str, int]] = field(default_factory=list)
    """Names this transaction gave numbers to: known to others only when it is committed."""


class Reader:
    """What a query handler is given: a consistent view, and who asks about which project."""

    __slots__ = ("actor", "all", "connection", "kind", "names", "one", "pieces", "project", "project_name", "value")

    def __init__(self, connection: Connection, names: Names, project: int, project_name: str, actor: Actor) -> None:
        self.connection = connection
        self.names = names
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

    __slots__ = ("batch", "changed", "do", "evidence", "insert", "now", "run", "subject")

    def __init__(self, batch: Batch, project: int, project_name: str, actor: Actor) -> None:
        super().__init__(batch.connection, batch.names, project, project_name, actor)
        self.batch = batch
        self.evidence: dict[str, Any] | None = None
        self.run = batch.connection.run
        self.do = batch.connection.do
        self.insert = batch.connection.insert
        self.now = batch.now
        self.changed = True
        self.subject: str | None = None

    def unchanged(self) -> None:
        """Say that a repeated command found its work done: nothing is recorded twice."""
        self.changed = False


@lru_cache(maxsize=4096)
def to_percent(sql: str) -> str:
    """`:name` as psycopg writes it, leaving `::casts`, quoted text, comments and `%` alone."""
    out: list[str] = []
    position, length = 0, len(sql)
    while position < length:
        character = sql[position]
        if character == "'":
            end = sql.index("'", position + 1) + 1
            out.append(sql[position:end].replace("%", "%%"))
            position = end
        elif sql.startswith("--", position):
            end = sql.find("\n", position)
            position = length if end < 0 else end
        elif character == ":" and sql[position + 1 : position + 2] == ":":
            out.append("::")
            position += 2
        elif character == ":" and ((after := sql[position + 1 : position + 2]).isalpha() or after == "_"):
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
    for size in (200, 50, *range(MANY_SIZES, 0, -1)):  # a small rest is one statement, whatever its size
        if size > widest:
            continue
        while count >= size:
            yield size
            count -= size
