"""A copy of everything as of one moment, made beside working writers, and the way back.

    backup.json   format, what it is of, counts, digests      keys/ledger.key   so that the ledger still verifies
    store.db      SQLite's own copy        or   rows/TABLE    frames of rows (Postgres)
    blobs/        the bytes, at the places their rows name

It is written under a temporary name and renamed when it is whole: a backup that exists is a complete one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tarmac.core.clock import iso, now
from tarmac.core.digest import digest_file
from tarmac.core.errors import Conflict, Damaged, Invalid, NewerFormat, NotFound
from tarmac.core.files import write_private
from tarmac.core.ids import short
from tarmac.formats import frames
from tarmac.store import Store, migrations, open_database
from tarmac.store.blobs.folder import translate as translate_disk
from tarmac.store.blobs.gc import alone
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.records import BackupReport
from tarmac.store.sql import Connection, Database, Kind
from tarmac.store.sqlite import SQLiteDatabase

FORMAT = 1
ROWS_IN_FRAME = 1000
PAGES_AT_ONCE = 2000
# parents before children, so that rows can be put back in this order
TABLES = (
    "migrations", "facts", "projects", "persons", "grants", "tokens", "experiments", "runs", "blobs", "manifests",
    "manifest_files", "lineage", "jobs", "seals", "events", "pending_events", "names", "params", "tags", "metrics",
    "metric_tails", "metric_segments", "metric_sheets", "metric_outlines", "artifacts", "run_inputs", "run_logs",
    "run_facts", "spools", "experiment_tags", "loose_files", "packages", "package_files",
    "package_params", "package_tags", "package_metrics", "package_runs", "compiled", "models", "model_tags", "versions",
    "version_tags", "alias_moves", "aliases", "cuts", "data_sets", "data_versions", "data_tags", "data_blobs",
    "gates", "gate_checks", "approvals", "signatures",
    "step_results", "step_groups", "step_items", "step_item_blobs", "step_code", "pipeline_steps",
    "reproductions", "schedules", "firings",
)  # fmt: skip
Progress = Callable[[int, int, str], None]


class Contents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `backup.json` says."""

    format: int
    workspace: str
    kind: Kind
    store_format: int
    made_at: int
    rows: int
    blobs: int
    bytes: int
    files: dict[str, str]


class _Found(NamedTuple):
    """What the copied store is like, whatever this tarmac would make."""

    store_format: int
    tables: list[str]


def backup(store: Store, to: Path | None, progress: Progress) -> BackupReport:
    target = to or store.folder.backups / iso(now()).replace(":", "").replace(".", "-")
    target = target.absolute()
    if target.exists():
        raise Conflict(f"{target} exists already", hint="name a folder that does not exist yet")
    partial = target.with_name(f".{target.name}.{short()}.partial")
    try:
        with alone(store.database, lambda: progress(0, 0, "waits for a gc or another backup to end")):
            for left in store.folder.backups.glob(".*.partial"):  # of backups that were killed: we are alone here
                shutil.rmtree(left, ignore_errors=True)
            partial.mkdir(parents=True)
            contents = _copy_all(store, partial, progress)
        _sync_tree(partial)
        partial.rename(target)
    except OSError as error:
        raise translate_disk(error, target) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return BackupReport(path=str(target), rows=contents.rows, blobs=contents.blobs, bytes=contents.bytes)


def _copy_all(store: Store, partial: Path, progress: Progress) -> Contents:
    (partial / "keys").mkdir()
    key = store.folder.key_file
    if key.exists():
        write_private(partial / "keys" / key.name, key.read_text(encoding="ascii"))
    if isinstance(store.database, SQLiteDatabase):
        rows = _copy_sqlite(store.database, partial / "store.db", progress)
        copy = SQLiteDatabase(partial / "store.db")
        with copy.read() as connection:
            found = _Found(len(migrations.applied(connection)), _tables(connection))
            count, size = _copy_blobs(store, connection, partial / "blobs", progress)
        copy.close()
        for leftover in ("store.db-wal", "store.db-shm", "write.lock"):
            (partial / leftover).unlink(missing_ok=True)
        files = ["store.db"]
    else:
        with store.database.read(snapshot=True) as connection:
            found = _Found(len(migrations.applied(connection)), _tables(connection))
            rows = _copy_rows(connection, found.tables, partial / "rows", progress)
            count, size = _copy_blobs(store, connection, partial / "blobs", progress)
        files = [f"rows/{table}" for table in found.tables]
    contents = Contents(
        format=FORMAT,
        workspace=store.id,
        kind=store.database.kind,
        store_format=found.store_format,
        made_at=now(),
        rows=rows,
        blobs=count,
        bytes=size + sum((partial / name).stat().st_size for name in files),
        files={name: digest_file(partial / name) for name in files},
    )
    (partial / "backup.json").write_bytes(msgspec.json.format(msgspec.json.encode(contents)))
    return contents


def _copy_sqlite(database: SQLiteDatabase, target: Path, progress: Progress) -> int:
    with database.read() as source:
        copy = sqlite3.connect(target)
        try:
            copy.execute("PRAGMA synchronous = OFF")  # synced below, in parts
            with target.open("rb") as written:
                # one read transaction holds the moment; writers go on beside it
                source.raw.backup(
                    copy,
                    pages=PAGES_AT_ONCE,
                    sleep=0,
                    progress=lambda status, remaining, total: _flush(
                        written.fileno(), progress, total - remaining, total
                    ),
                )
            copy.execute("PRAGMA journal_mode = DELETE")
            rows = 0
            tables = _tables(source)
            for index, table in enumerate(tables):
                rows += copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                progress(index, len(tables), "facts")
        finally:
            copy.close()
    return rows


def _flush(handle: int, progress: Progress, done: int, total: int) -> None:
    """Sync in parts: a disk that is given all at the end keeps every writer waiting for its own few bytes."""
    os.fsync(handle)
    progress(done, total, "pages")


def _tables(connection: Connection) -> list[str]:
    """Those that this store has: the backup before an upgrade is of an older one."""
    return [table for table in TABLES if _columns(connection, table)]


def _copy_rows(connection: Connection, tables: list[str], folder: Path, progress: Progress) -> int:
    folder.mkdir()
    total = 0
    for index, table in enumerate(tables):
        columns = _columns(connection, table)
        with (folder / table).open("wb") as file:
            file.write(frames.header())
            file.write(frames.encode(0, msgspec.msgpack.encode(columns)))
            pieces = connection.pieces(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1, 2", ROWS_IN_FRAME)
            for sequence, rows in enumerate(pieces, start=1):
                file.write(frames.encode(sequence, msgspec.msgpack.encode(rows)))
                total += len(rows)
                progress(index, len(tables), table)
            file.write(frames.encode(1 << 63, b""))  # the end: a file without it was cut
    return total


def _columns(connection: Connection, table: str) -> list[str]:
    if connection.kind == "sqlite":
        return [row[0] for row in connection.all("SELECT name FROM pragma_table_info(:name)", name=table)]
    rows = connection.all(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = current_schema() AND table_name = :name ORDER BY ordinal_position",
        name=table,
    )
    return [row[0] for row in rows]


def _copy_blobs(store: Store, connection: Connection, folder: Path, progress: Progress) -> tuple[int, int]:
    total = connection.value("SELECT count(*) FROM blobs WHERE state <> 'deleting'")
    count = size = 0
    folder.mkdir()
    for piece in connection.pieces("SELECT digest, size, place, blocks FROM blobs WHERE state <> 'deleting'", 500):
        for digest, length, place, blocks in piece:
            target = folder / place
            target.parent.mkdir(exist_ok=True)
            with target.open("xb") as file:  # verified while it is copied: damage does not spread into backups
                for part in store.blobs.read(digest, place, length, bytes(blocks), 0, length):
                    file.write(part)
            count, size = count + 1, size + length
            progress(count, total, "blobs")
    return count, size


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def restore(source: Path, target: WorkspaceFolder, store_url: str, progress: Progress) -> Contents:
    """Make a workspace out of a backup; the target must not exist, and is there only when it is whole."""
    contents = _verify(source)
    if target.exists() or (target.path.exists() and any(target.path.iterdir())):
        raise Conflict(f"{target.path} exists already", hint="restore to another folder, or move this one away first")
    if (contents.kind == "sqlite") != (store_url == "sqlite"):
        raise Invalid(
            f"this backup is of a {contents.kind} store and cannot be restored into another kind",
            hint="give --store ADDRESS for a Postgres backup, and none for SQLite",
        )
    partial = WorkspaceFolder(target.path.with_name(f"{target.path.name}.{short()}"))
    try:
        with partial.making(with_key=False):
            key = source / "keys" / "ledger.key"
            if key.exists():
                write_private(partial.key_file, key.read_text(encoding="ascii"))
            _restore_blobs(source / "blobs", partial.blobs, contents.blobs, progress)
            if contents.kind == "sqlite":
                shutil.copy2(source / "store.db", partial.database_file)
            else:
                _restore_rows(source / "rows", contents.store_format, open_database(partial, store_url), progress)
            partial.declare(store_url, contents.workspace)
        partial.path.rename(target.path)
    except OSError as error:
        raise translate_disk(error, target.path) from error
    finally:
        shutil.rmtree(partial.path, ignore_errors=True)
    return contents


def _restore_blobs(source: Path, target: Path, expected: int, progress: Progress) -> None:
    """Copy the bytes, each proved by the digest in its name."""
    files = [file for file in sorted(source.rglob("*")) if file.is_file()]
    if len(files) != expected:
        raise Damaged(f"{source} has {len(files)} blobs, not {expected}", hint="use another backup")
    for count, file in enumerate(files, start=1):
        if digest_file(file) != file.name.partition(".")[0]:
            raise Damaged(f"{file} is not what was backed up", hint="use another backup")
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy2(file, copy)
        progress(count, expected, "blobs")


def _verify(source: Path) -> Contents:
    try:
        text = (source / "backup.json").read_bytes()
        document: dict[str, Any] = msgspec.json.decode(text)
        if document.get("format", 0) > FORMAT:
            raise NewerFormat.of(str(source), document["format"], FORMAT)
        contents = msgspec.json.decode(text, type=Contents)
    except OSError:
        raise NotFound.named("backup", str(source), hint="a backup is a folder with a backup.json in it") from None
    except (msgspec.DecodeError, AttributeError) as error:
        raise Damaged(f"{source}/backup.json: {error}") from None
    if contents.store_format > len(migrations.known()):
        raise NewerFormat.of(str(source), contents.store_format, len(migrations.known()))
    for name, expected in contents.files.items():
        if not (source / name).is_file() or digest_file(source / name) != expected:
            raise Damaged(f"{source / name} is not what was backed up", hint="use another backup")
    return contents


def _restore_rows(folder: Path, store_format: int, database: Database, progress: Progress) -> None:
    with database.exclusive("migrate"), database.write() as connection:
        if migrations.applied(connection):
            raise Conflict(f"{database.place} holds a store already", hint="restore into an empty database")
        connection.begin()
        try:
            for migration in migrations.known()[:store_format]:
                migrations.run_statements(connection, migration)
            for index, table in enumerate(table for table in TABLES if (folder / table).exists()):
                for columns, rows in _read_rows(folder / table):
                    connection.insert(table, columns, [tuple(row) for row in rows])
                    progress(index, len(TABLES), table)
                _advance_key(connection, table)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
    database.close()


def _read_rows(path: Path) -> Iterator[tuple[list[str], list[list[Any]]]]:
    with path.open("rb") as file:
        columns: list[str] = []
        for frame in frames.read(file, str(path)):
            if frame.sequence == 0:
                columns = msgspec.msgpack.decode(frame.payload)
            elif frame.sequence == 1 << 63:
                return
            else:
                yield columns, msgspec.msgpack.decode(frame.payload)
    raise Damaged(f"{path} is cut off", hint="use another backup")


def _advance_key(connection: Connection, table: str) -> None:
    """New rows must not take the numbers of restored ones."""
    if "key" in _columns(connection, table):
        connection.run(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'key'), coalesce(max(key), 0) + 1, false) FROM {table}"
        )
