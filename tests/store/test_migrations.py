"""Formats: a store is brought forward whole or not at all, after a backup, and never opened by the wrong tarmac."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarmac import store as stores
from tarmac.core.errors import Damaged, NewerFormat, OlderFormat
from tarmac.core.settings import Settings
from tarmac.store import migrations
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.migrations import Migration
from tarmac.store.operations import GetStatus
from tarmac.track.operations import CreateRun, GetRun
from tarmac.workspace import connect
from tests.store.editing import database_of
from tests.store.processes import faults

NEXT = len(migrations.known()) + 1
TEXT = """
-- a step that doesn't exist yet; it makes a table, fills it and changes another
CREATE TABLE second (key {key}, name {text} NOT NULL);
INSERT INTO second (name) VALUES ('a;b');
ALTER TABLE projects ADD COLUMN note {text} NOT NULL DEFAULT '-- none; yet';
INSERT INTO second (name) VALUES ('last')
"""
LATER = """
import os, signal, sys
from pathlib import Path
from tarmac.store import backup, migrations
real, run = migrations.known, migrations.run_statements
late = migrations.Migration(len(real()) + 1, "second", Path(sys.argv[1]).read_text())
migrations.known = lambda folder=None: [*real(folder), late]
backup.TABLES = (*backup.TABLES, "second")

class Dying:
    def __init__(self, connection, after):
        self.connection, self.after, self.kind = connection, after, connection.kind
    def run(self, sql, **values):
        if self.after == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.after -= 1
        return self.connection.run(sql, **values)

def dying(connection, migration):
    run(Dying(connection, int(sys.argv[2])) if migration is late else connection, migration)

if int(sys.argv[2]) >= 0:
    migrations.run_statements = dying
from tarmac.cli import root
from tarmac.cli.errors import run as command
sys.exit(command(root, sys.argv[3:]))
"""


@pytest.fixture
def later(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line of the next tarmac, which has one more migration; it may be killed at one of its statements."""
    text = tmp_path / "second.sql"
    text.write_text(TEXT)

    def run(*words: str, dies_at: int = -1) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", LATER, str(text), str(dies_at), *words], capture_output=True, text=True, timeout=60
        )

    return run


def format_of(folder: WorkspaceFolder) -> int:
    with database_of(folder) as run:
        ((count,),) = run("SELECT count(*) FROM migrations")
    return int(count)


@pytest.mark.slow
def test_an_upgrade_makes_a_backup_and_goes_on_after_a_kill(
    folder: WorkspaceFolder, later: Callable[..., Any], tarmac: Callable[..., Any], new_place: tuple[Path, str]
) -> None:
    place = ("-w", str(folder.path))
    with connect(folder.path.parent) as workspace:
        kept = workspace(CreateRun(name="from before"))
        blob = workspace.put(b"from before")

    refused = later("status", *place)
    assert refused.returncode == 1
    assert f"has format {NEXT - 1}; this tarmac works with format {NEXT}" in refused.stderr
    assert "tarmac store upgrade" in refused.stderr
    planned = later("store", "upgrade", "--dry-run", *place)
    assert planned.stdout == f"would apply: {NEXT:04} second\n"
    assert not folder.backups.exists()

    for statement in range(5):  # the record of migrations, and four of the migration's five
        killed = later("store", "upgrade", *place, dies_at=statement)
        assert killed.returncode == -9, killed.stderr
        assert format_of(folder) == NEXT - 1
        assert tarmac("status", *place).code == 0, "the older tarmac still works with it"
    done = later("store", "upgrade", *place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"to apply: {NEXT:04} second"
    assert done.stdout.splitlines()[-1] == f"upgraded to format {NEXT}"
    assert format_of(folder) == NEXT
    with database_of(folder) as run:
        assert [row[0] for row in run("SELECT name FROM second ORDER BY key")] == ["a;b", "last"]
        assert run("SELECT DISTINCT note FROM projects") == [("-- none; yet",)]
    assert later("store", "upgrade", *place).stdout == f"{folder.path} has the newest format, {NEXT}\n"
    assert '"from before"' in later("runs", "show", kept.id, "--json", *place).stdout

    for command in (("status",), ("store", "upgrade"), ("store", "check"), ("up", "--port", "0")):
        older = tarmac(*command, *place)
        assert older.code == 1
        assert f"has format {NEXT}; this tarmac knows formats up to {NEXT - 1}" in older.err

    made = sorted(folder.backups.iterdir())
    assert len(made) == 6
    target, address = new_place
    back = tarmac("store", "restore", str(made[-1]), "--to", str(target), "--store", address)
    assert back.code == 0, back.err
    assert format_of(WorkspaceFolder(target / ".tarmac")) == NEXT - 1, "the backup before an upgrade is a way back"
    with connect(target) as workspace:
        assert workspace(GetRun(id=kept.id)) == kept
        assert b"".join(workspace.read(blob)) == b"from before"
        assert faults(workspace) == []
    again = later("store", "upgrade", "-w", str(target / ".tarmac"))
    assert again.returncode == 0, again.stderr


@pytest.fixture
def new_place(tmp_path: Path, address: str, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """Where the same kind of store can be restored to."""
    made = address if address == "sqlite" else request.getfixturevalue("new_database")()
    return tmp_path / "restored", made


def test_a_changed_migration_is_refused(folder: WorkspaceFolder, tarmac: Callable[..., Any]) -> None:
    with database_of(folder) as run:
        run("UPDATE migrations SET digest = ? WHERE number = 1", "0" * 64)
    with pytest.raises(Damaged, match="migration 0001 was not the one"):
        stores.open_store(folder, Settings())
    for command in (("status",), ("store", "upgrade")):
        done = tarmac(*command, "-w", str(folder.path))
        assert done.code == 1
        assert "0001" in done.err
        assert "Traceback" not in done.err


def test_an_empty_database_gets_every_migration_once(address: str, tmp_path: Path) -> None:
    folder = WorkspaceFolder(tmp_path / ".tarmac")
    stores.create(folder, Settings(), address).close()
    with stores_database(folder) as database:
        assert migrations.apply(database, migrations.known()) == []
        more = [*migrations.known(), Migration(NEXT, "second", TEXT)]
        with pytest.raises(OlderFormat), database.read() as connection:
            migrations.compare(connection, "here", more)
        assert [made.number for made in migrations.apply(database, more)] == [NEXT]
        assert migrations.apply(database, more) == []
        for check in (lambda c: migrations.compare(c, "here", migrations.known()),):
            with pytest.raises(NewerFormat, match=f"format {NEXT}"), database.read() as connection:
                check(connection)
        with pytest.raises(NewerFormat):
            migrations.apply(database, migrations.known())


def test_a_migration_that_fails_leaves_nothing(folder: WorkspaceFolder) -> None:
    broken = Migration(NEXT, "broken", "CREATE TABLE half (a {int}); INSERT INTO nowhere VALUES (1);")
    with stores_database(folder) as database:
        with pytest.raises(Exception, match="nowhere"):
            migrations.apply(database, [*migrations.known(), broken])
        with pytest.raises(Exception, match="half"), database.read() as connection:
            connection.all("SELECT * FROM half")
    with connect(folder.path.parent) as workspace:
        assert workspace(GetStatus()).store.format == NEXT - 1


class stores_database:  # noqa: N801 - reads as a function
    def __init__(self, folder: WorkspaceFolder) -> None:
        self._database = stores.open_database(folder)

    def __enter__(self) -> Any:
        return self._database

    def __exit__(self, *_: object) -> None:
        self._database.close()


def test_migrations_are_numbered_without_a_gap(tmp_path: Path) -> None:
    for name in ("0002_b.sql", "0001_a.sql", "notes.txt", "1_no.sql"):
        (tmp_path / name).write_text("SELECT 1;")
    assert [(made.number, made.name) for made in migrations.known(tmp_path)] == [(1, "a"), (2, "b")]
    (tmp_path / "0004_d.sql").write_text("")
    with pytest.raises(RuntimeError, match="without a gap"):
        migrations.known(tmp_path)


def split(text: str) -> list[str]:
    return [statement.strip() for statement in migrations.statements(text)]


def test_a_file_is_cut_into_its_statements() -> None:
    assert split("") == split(";;\n;") == split("-- only this; said\n") == []
    assert split("A; B;C") == ["A;", "B;", "C;"]
    assert split("INSERT 'a;b' ;\nB;") == ["INSERT 'a;b' ;", "B;"]
    assert split("INSERT 'it''s; ok'; B") == ["INSERT 'it''s; ok';", "B;"]
    assert split('CREATE "a;b"; B') == ['CREATE "a;b";', "B;"]
    assert split("-- don't; stop\nA;\n-- the end; really") == ["-- don't; stop\nA;"]
    trigger = "CREATE TRIGGER t AFTER INSERT ON x BEGIN UPDATE x SET a = 1; DELETE FROM y; END;"
    assert split(f"A; {trigger} B;") == ["A;", trigger, "B;"]
    assert split("/* a; b */ A;") == ["/* a; b */ A;"]


STATEMENTS = [
    "INSERT INTO a VALUES ('x;y')",
    "SELECT ';'",
    'CREATE TABLE "a;b" (c)',
    "-- it's; so\nSELECT 1",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(STATEMENTS), max_size=6))
def test_what_is_joined_is_cut_again(many: list[str]) -> None:
    assert split(";\n".join(many)) == [f"{one};" for one in many]


def test_many_who_make_one_workspace_at_once_make_one(tmp_path: Path, address: str) -> None:
    """On both databases: a few real processes, one of them killed."""
    script = """
import os, sys
from pathlib import Path
from tarmac import store
from tarmac.core.settings import Settings
from tarmac.store.folder import WorkspaceFolder
made = store.create(WorkspaceFolder(Path(sys.argv[1])), Settings(), sys.argv[2])
print(made.id)
made.close()
"""
    words = [sys.executable, "-c", script, str(tmp_path / ".tarmac"), address]
    children = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    children[0].kill()
    ended = [child.communicate(timeout=60) for child in children]
    assert [err for _, err in ended[1:]] == [""] * 5
    assert len({out for out, _ in ended[1:]}) == 1
    with connect(tmp_path) as workspace:
        workspace(CreateRun())
        assert faults(workspace) == []


@pytest.fixture(autouse=True)
def no_debris() -> Iterator[None]:
    yield
    assert not os.environ.get("TARMAC_LEDGER_KEY")
