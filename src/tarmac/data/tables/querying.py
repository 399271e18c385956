"""Rows from a database: one query in one read-only transaction, streamed to a Parquet file."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tarmac.core.clock import iso, now
from tarmac.core.connections import named, url_of
from tarmac.core.errors import Conflict, Invalid, TarmacError, Unreachable, bounded
from tarmac.core.project_file import Connection
from tarmac.core.secrets import mask_text
from tarmac.data.tables import parquet
from tarmac.data.tables.sources import require_libraries

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 10_000
LONGEST_QUERY = 100_000
KINDS = ("sqlite", "postgres")


class Answer(NamedTuple):
    """What is kept of a query: never the URL that it was put to."""

    connection: str
    kind: str
    text: str
    rows: int
    snapshot_at: str
    snapshot: str

    def document(self) -> dict[str, Any]:
        return {"kind": "query", **self._asdict(), "database": self.kind}


class Opened(NamedTuple):
    columns: list[str]
    rows: Iterator[Sequence[Sequence[Any]]]
    snapshot_at: str
    snapshot: str


def query(name: str, text: str, target: Path, start: Path, progress: Callable[[int], None]) -> Answer:
    """Put a query to a connection of the project file, and its rows into a Parquet file."""
    require_libraries("a query")
    if not text.strip() or len(text) > LONGEST_QUERY:
        raise Invalid(f"a query has 1 to {LONGEST_QUERY:,} characters")
    connection = named(name, start)
    with _asked(name, connection, text, start) as opened:
        rows = _spooled(opened, target, progress)
    return Answer(name, connection.kind, mask_text(text), rows, opened.snapshot_at, opened.snapshot)


def test(name: str, start: Path) -> str:
    """Whether a connection answers; what it says of itself."""
    connection = named(name, start)
    if connection.kind not in KINDS:
        raise Conflict(
            f"connection `{bounded(name)}` is a {bounded(connection.kind)}: it cannot be asked, only sent to",
            hint=f"{' and '.join(KINDS)} can be tested",
        )
    version = "SELECT sqlite_version()" if connection.kind == "sqlite" else "SELECT version()"
    with _asked(name, connection, version, start) as opened:
        return str(next(opened.rows)[0][0])


@contextmanager
def _asked(name: str, connection: Connection, text: str, start: Path) -> Iterator[Opened]:
    if connection.kind == "sqlite":
        with _ask_sqlite(name, connection, text, start) as opened:
            yield opened
    elif connection.kind == "postgres":
        with _ask_postgres(name, connection, text) as opened:
            yield opened
    else:
        raise Invalid(
            f"connection `{bounded(name)}` is a {bounded(connection.kind)}, which cannot be asked",
            hint=f"a query needs one of {', '.join(KINDS)}",
        )


@contextmanager
def _ask_sqlite(name: str, connection: Connection, text: str, start: Path) -> Iterator[Opened]:
    from tarmac.core import project_file

    declared = project_file.find(start)
    where = connection.path or url_of(name, connection).reveal()
    path = (declared.parent if declared else start) / Path(where.removeprefix("sqlite:///")).expanduser()
    if not path.is_file():
        raise Invalid(f"connection `{bounded(name)}`: there is no database {bounded(path, 300)}")
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        database.execute("BEGIN")
        database.execute("SELECT 1 FROM sqlite_master").fetchone()  # the moment that is read begins here
        moment = iso(now())
        version = database.execute("PRAGMA data_version").fetchone()[0]
        cursor = database.execute(text)
        if cursor.description is None:
            raise Invalid("the query gives no rows", hint="a query is a SELECT")
        yield Opened(_names(cursor.description), _portions(cursor), moment, f"data_version {version}")
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise _failed(name, error) from None
    finally:
        database.close()


@contextmanager
def _ask_postgres(name: str, connection: Connection, text: str) -> Iterator[Opened]:
    try:
        import psycopg
    except ImportError:
        raise Invalid("a Postgres connection needs psycopg", hint="pip install 'tarmac[postgres]'") from None
    url = url_of(name, connection)
    try:
        database = psycopg.connect(url.reveal(), connect_timeout=10, application_name="tarmac")
    except psycopg.Error as error:
        raise Unreachable(f"connection `{bounded(name)}` does not answer: {_said(error, url.reveal())}") from None
    try:
        database.read_only = True
        database.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        snapshot = database.execute("SELECT pg_current_snapshot()::text").fetchone()
        moment = iso(now())
        with database.cursor(name="tarmac_query") as cursor:
            cursor.itersize = AT_ONCE
            cursor.execute(text.rstrip().rstrip(";"))
            yield Opened(_names(cursor.description or []), _portions(cursor), moment, snapshot[0] if snapshot else "")
    except psycopg.Error as error:
        raise _failed(name, error, url.reveal()) from None
    finally:
        database.close()


def _names(description: Sequence[Any]) -> list[str]:
    names = [str(column[0]) for column in description]
    if twice := {column for column in names if names.count(column) > 1}:
        raise Invalid(f"the query gives `{bounded(min(twice))}` twice", hint="name its columns apart: SELECT a AS b")
    return names


def _portions(cursor: Any) -> Iterator[Sequence[Sequence[Any]]]:
    while rows := cursor.fetchmany(AT_ONCE):
        yield rows


def _failed(name: str, error: Exception, secret: str = "") -> TarmacError:
    return Invalid(
        f"the query failed on connection `{bounded(name)}`: {_said(error, secret)}",
        hint="nothing was logged; a query reads, in one transaction, and changes nothing",
    )


def _said(error: Exception, secret: str) -> str:
    """What the database says, without what it was called with."""
    text = str(error).strip()
    return bounded(mask_text(text.replace(secret, "***") if secret else text), 500)


# ------------------------------------------------------------------------------------------------------------- writing


def _spooled(opened: Opened, target: Path, progress: Callable[[int], None]) -> int:
    """Rows to Parquet. They wait on disk meanwhile, because only the last may show of what type a column is."""
    import pyarrow as pa

    schemas, rows = [], 0
    with tempfile.TemporaryDirectory(prefix="tarmac-query-") as folder:
        for number, portion in enumerate(opened.rows):
            batch = _batch(opened.columns, portion)
            schemas.append(batch.schema)
            with (
                pa.OSFile(str(Path(folder) / f"{number:08}"), "wb") as file,
                pa.ipc.new_file(file, batch.schema) as out,
            ):
                out.write_batch(batch)
            rows += len(portion)
            progress(rows)
        schema = _schema(opened.columns, schemas)
        with target.open("wb") as file:
            parquet.write(_read_back(Path(folder), schema), schema, file)
    return rows


def _read_back(folder: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for path in sorted(folder.iterdir()):
        with pa.OSFile(str(path)) as file:
            for batch in pa.ipc.open_file(file).read_all().to_batches():
                columns = [_cast(batch.column(field.name), field.type) for field in schema]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _batch(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([_array([row[at] for row in rows]) for at in range(len(names))], list(names))


def _array(values: list[Any]) -> pa.Array:
    """One type for the values of a column; what has none together becomes text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if Decimal in kinds:
        values = [float(value) if isinstance(value, Decimal) else value for value in values]
        kinds = {type(value) for value in values if value is not None}
    if datetime in kinds:
        values = [_utc(value) if isinstance(value, datetime) else value for value in values]
    if kinds <= {int, float} and float in kinds:
        values = [None if value is None else float(value) for value in values]
    elif len(kinds) > 1 or any(kind.__module__ not in ("builtins", "datetime") for kind in kinds):
        values = [None if value is None else str(value) for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in values])


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC) if value.tzinfo else value


def _schema(names: Sequence[str], schemas: Sequence[pa.Schema]) -> pa.Schema:
    import pyarrow as pa

    types = {name: pa.null() for name in names}
    for schema in schemas:
        for field in schema:
            types[field.name] = _wider(types[field.name], field.type)
    return pa.schema([(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in types.items()])


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers = (pa.int64(), pa.float64())
    return pa.float64() if one in numbers and other in numbers else pa.string()


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if array.type == kind:
        return array
    if kind == pa.string() and not pa.types.is_null(array.type):
        return pa.array([None if value is None else str(value) for value in array.to_pylist()], kind)
    return array.cast(kind)
