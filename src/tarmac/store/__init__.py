"""One store under everything: facts in SQL, bytes by digest, changes in a sealed ledger."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from tarmac.core.clock import now
from tarmac.core.errors import Invalid, NotAWorkspace, NotFound, OlderFormat, TarmacError
from tarmac.core.settings import Settings
from tarmac.store import migrations
from tarmac.store.blobs.folder import FolderBlobs
from tarmac.store.folder import WorkspaceFolder, database_url, key_fingerprint
from tarmac.store.ledger import Ledger
from tarmac.store.sql import Batch, Database, Names, Retry
from tarmac.store.writer import Writer

SEAL_EVERY_SECONDS = 0.2


class Store:
    """An open workspace folder: its database, writer, ledger and blobs, built in one place and passed on."""

    def __init__(self, folder: WorkspaceFolder, settings: Settings) -> None:
        description = folder.describe()
        self.folder = folder
        self.id = description.id
        self.database = open_database(folder)
        key = folder.ledger_key(settings.ledger_key)
        self.ledger = Ledger(key)
        self.blobs = FolderBlobs(folder.blobs)
        self.names = Names()
        self.writer = Writer(self.database, self.names, self._seal)
        self.format = len(migrations.known())
        self._fingerprint = key_fingerprint(key)
        self._projects: dict[str, int] = {}
        self._sealer: Sealer | None = None
        _stores.add(self)

    def check_format(self) -> None:
        """Refuse a store that another version of tarmac has to open, or whose ledger has another key."""
        with self.database.read() as connection:
            migrations.compare(connection, str(self.folder.path), migrations.known())
            found = connection.value("SELECT value FROM facts WHERE name = 'ledger_key'")
        if found is None:
            self.writer.call(self._remember_key)
        elif found != self._fingerprint:
            raise Invalid(
                f"the ledger of {self.folder.path} is signed with another key",
                hint="every server of one workspace needs the same key: TARMAC_LEDGER_KEY",
            )

    def _remember_key(self, batch: Batch) -> None:
        batch.connection.run(
            "INSERT INTO facts (name, value) VALUES ('ledger_key', :value) ON CONFLICT DO NOTHING",
            value=self._fingerprint,
        )

    def project_key(self, name: str, *, create: bool = False) -> int:
        """The number that stands for a project in every table."""
        key = self._projects.get(name)
        if key is None:
            with self.database.read() as connection:
                key = connection.value("SELECT key FROM projects WHERE name = :name", name=name)
            if key is None and create:
                key = self.writer.call(lambda batch: create_project(batch, name))
            if key is None:
                with self.database.read() as connection:
                    known = [row[0] for row in connection.all("SELECT name FROM projects")]
                raise NotFound.named("project", name, known, hint="make it: `tarmac projects create NAME`")
            self._projects[name] = key
        return key

    def _seal(self, batch: Batch) -> None:
        self.ledger.seal_batch(batch)
        if batch.events:
            self.start_sealing()  # who only opened the folder is a server too, as far as its own events go

    def start_sealing(self) -> None:
        """Seal what waits while this process lives; SQLite seals at each commit and needs nobody."""
        if self.database.kind == "postgres" and self._sealer is None:
            self._sealer = Sealer(self.database, self.ledger)
            self._sealer.start()

    def close(self) -> None:
        self.writer.close()
        if self._sealer is not None:
            self._sealer.stop()
        if self.database.kind == "postgres" and self.writer.wrote:
            seal_now(self.database, self.ledger, wait=True)
        self.database.close()

    def forget(self) -> None:
        """In a forked child: leave what was inherited unused and open anew when needed."""
        self.database.forget()
        self.writer.forget()
        self._sealer = None


class Sealer(threading.Thread):
    """On Postgres: whichever server holds the lock gives positions to what all of them wrote."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        super().__init__(name="tarmac-sealer", daemon=True)
        self._database = database
        self._ledger = ledger
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(SEAL_EVERY_SECONDS):
            try:
                seal_now(self._database, self._ledger)
            except (TarmacError, Retry):
                continue  # the database is away; what waits is sealed when it is back

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def seal_now(database: Database, ledger: Ledger, *, wait: bool = False) -> None:
    with database.write() as connection:
        more = True
        while more:
            connection.begin()
            try:
                more = ledger.seal_pending(connection, wait=wait) > 0
                connection.commit()
            except BaseException:
                connection.rollback()
                raise


def create_project(batch: Batch, name: str) -> int:
    batch.connection.run(
        "INSERT INTO projects (name, created_at) VALUES (:name, :at) ON CONFLICT DO NOTHING", name=name, at=now()
    )
    key: int = batch.connection.value("SELECT key FROM projects WHERE name = :name", name=name)
    return key


def open_database(folder: WorkspaceFolder, store: str | None = None) -> Database:
    """The database of a workspace; `store` says where it is while the folder does not say so yet."""
    url = database_url(store or folder.describe().store)
    if url is None:
        from tarmac.store.sqlite import SQLiteDatabase

        return SQLiteDatabase(folder.database_file)
    try:
        from tarmac.store.postgres import PostgresDatabase
    except ImportError:
        raise Invalid(
            "this workspace is on Postgres, and psycopg is not installed", hint="pip install 'tarmac[postgres]'"
        ) from None
    return PostgresDatabase(url)


def create(folder: WorkspaceFolder, settings: Settings, store: str = "sqlite") -> Store:
    """Make the workspace if there is none, however many try at once, and open it."""
    with folder.making(with_key=settings.ledger_key is None) as ours:
        if ours:
            database = open_database(folder, store)
            try:
                with database.exclusive("migrate"):
                    with database.write() as connection:
                        new = not migrations.applied(connection)
                    if new:
                        migrations.apply(database, migrations.known())
            finally:
                database.close()
            folder.declare(store)
    return open_store(folder, settings)


def open_store(folder: WorkspaceFolder, settings: Settings) -> Store:
    if not folder.exists():
        raise NotAWorkspace.at(folder.path.parent if folder.path.name == ".tarmac" else folder.path)
    store = Store(folder, settings)
    try:
        store.check_format()
    except BaseException:
        store.close()
        raise
    return store


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade has done, or would do."""

    folder: str
    format: int
    applied: list[str]
    backup: str | None
    dry_run: bool


def upgrade(
    folder: WorkspaceFolder,
    settings: Settings,
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Upgraded:
    """Bring an older store to this tarmac's format, after a backup; says what it does."""
    database = open_database(folder)
    try:
        with database.read() as connection:
            have = migrations.applied(connection)
            with contextlib.suppress(OlderFormat):
                migrations.compare(connection, str(folder.path), migrations.known())
        missing = migrations.known()[len(have) :]
        names = [f"{migration.number:04} {migration.name}" for migration in missing]
        if not missing:
            say(f"{folder.path} has the newest format, {len(have)}")
        for name in names:
            say(f"{'would apply' if dry_run else 'to apply'}: {name}")
        if dry_run or not missing:
            return Upgraded(str(folder.path), len(have), names, None, dry_run)
        backed_up = None
        if have:
            from tarmac.store.backup import backup

            store = Store(folder, settings)
            try:
                made = backup(store, None, lambda done, total, what: None)
            finally:
                store.close()
            backed_up = str(made.path)
            say(f"backed up to {backed_up}")
        with database.exclusive("migrate"):
            migrations.apply(database, migrations.known())
        say(f"upgraded to format {len(migrations.known())}")
        return Upgraded(str(folder.path), len(migrations.known()), names, backed_up, dry_run)
    finally:
        database.close()


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
