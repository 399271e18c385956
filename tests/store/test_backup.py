"""Backups: everything as of one moment, beside writers; whole or not there; and a way back that is proved."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.errors import Conflict
from tarmac.govern.operations import ListEvents, VerifyLedger
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import BackupStore, CheckStore, CommitManifest, GetStatus, ListFiles, ListManifests
from tarmac.store.records import File
from tarmac.track.operations import CreateRun, EndRun, GetRun, ListRuns
from tarmac.workspace import Workspace, connect
from tests.store.editing import database_of
from tests.store.processes import end, faults, ran, start

BIG = b"0123456789abcdef" * 600_000


def back_up(workspace: Workspace, to: Path) -> Path:
    return Path(workspace.wait(workspace(BackupStore(to=str(to)))).path)


def all_runs(workspace: Workspace) -> list[Any]:
    found: list[Any] = []
    page = workspace(ListRuns(limit=1000))
    while True:
        found += page.runs
        if page.next is None:
            return found
        page = workspace(ListRuns(limit=1000, cursor=page.next))


@pytest.fixture
def elsewhere(tmp_path: Path, address: str, request: pytest.FixtureRequest) -> Callable[[], tuple[str, ...]]:
    """Options that say where a backup of this kind can be restored to."""
    count = iter(range(9))

    def place() -> tuple[str, ...]:
        made = "sqlite" if address == "sqlite" else request.getfixturevalue("new_database")()
        return ("--to", str(tmp_path / f"restored-{next(count)}"), "--store", made)

    return place


@pytest.fixture
def backup(folder: WorkspaceFolder, tmp_path: Path) -> Path:
    with connect(folder.path.parent) as workspace:
        run = workspace(CreateRun(name="kept"))
        workspace(EndRun(id=run.id))
        file = File(path="a", digest=workspace.put(BIG), size=len(BIG))
        workspace(CommitManifest(kind="data", files=[file, File(path="b", digest=workspace.put(b""), size=0)]))
        return back_up(workspace, tmp_path / "backup")


@pytest.mark.slow
def test_a_backup_beside_writers_is_one_moment(
    folder: WorkspaceFolder, tmp_path: Path, tarmac: Callable[..., Any], elsewhere: Callable[[], tuple[str, ...]]
) -> None:
    writer = """
        until, number = time.monotonic() + 4, 0
        while time.monotonic() < until:
            run = workspace(CreateRun(experiment=sys.argv[2], name=str(number)))
            data = os.urandom(100)
            file = File(path="a", digest=workspace.put(data), size=100)
            workspace(CommitManifest(kind=f"{sys.argv[2]} {number}", files=[file]))
            workspace(EndRun(id=run.id))
            number += 1
        workspace.close()
    """
    children = [start(folder, writer, name) for name in ("left", "right")]
    with connect(folder.path.parent) as workspace:
        while workspace(GetStatus()).runs.get("finished", 0) < 20:
            time.sleep(0.05)
        made = [back_up(workspace, tmp_path / f"backup-{number}") for number in range(2)]
        for child in children:
            assert end(child).err == ""
        before = {run.id: run for run in all_runs(workspace)}
        heads = workspace.wait(workspace(VerifyLedger())).head
        assert heads
    counts = []
    for path in made:
        options = elsewhere()
        assert tarmac("store", "restore", str(path), *options).code == 0
        with connect(options[1]) as restored:
            assert faults(restored) == []
            assert restored.wait(restored(VerifyLedger())).faults == []
            runs = all_runs(restored)
            counts.append(len(runs))
            assert len([run for run in runs if run.status == "running"]) <= 2
            for run in runs:
                assert before[run.id] == run or run.status == "running"
            for name in ("left", "right"):  # no gap: what was there before the last one is there too
                numbers = sorted(int(run.name) for run in runs if run.experiment == name)
                assert numbers == list(range(len(numbers)))
            manifests = restored(ListManifests(limit=1000)).manifests
            assert len(runs) - 2 <= len(manifests) <= len(runs)
            for found in manifests[:50]:
                for file in restored(ListFiles(id=found.id)).files:
                    assert len(b"".join(restored.read(file.digest))) == file.size
    assert 20 <= counts[0] <= counts[1] < len(before)


def test_what_was_restored_lives_on(
    folder: WorkspaceFolder,
    backup: Path,
    tarmac: Callable[..., Any],
    elsewhere: Callable[[], tuple[str, ...]],
) -> None:
    options = elsewhere()
    done = tarmac("store", "restore", str(backup), *options)
    assert (done.code, done.err) == (0, "")
    assert "2 blobs" in done.out
    with connect(folder.path.parent) as old, connect(options[1]) as new:
        assert all_runs(new) == all_runs(old)
        assert new.door.store.id == old.door.store.id  # type: ignore[attr-defined]
        was = old(ListEvents(after=0)).events
        now = new(ListEvents(after=0)).events
        assert now[:3] == was[:3]
        run = new(CreateRun(name="new"))  # keys go on behind the restored ones
        assert new(GetRun(id=run.id)) == run
        file = File(path="c", digest=new.put(b"new"), size=3)
        assert new(CommitManifest(kind="data", files=[file])).manifest
        (big,) = (file for file in new(ListFiles(id=new(ListManifests()).manifests[1].id)).files if file.path == "a")
        assert b"".join(new.read(big.digest)) == BIG
        assert faults(new) == []
    again = tarmac("store", "restore", str(backup), *options)
    assert again.code == 1
    assert "exists already" in again.err
    with connect(options[1]) as new:
        assert new(GetRun(id=run.id)) == run


def test_a_backup_goes_to_a_new_place_only(workspace: Workspace, tmp_path: Path, folder: WorkspaceFolder) -> None:
    workspace(CreateRun())
    made = back_up(workspace, tmp_path / "deep" / "down" / "backup")
    with pytest.raises(Conflict, match="exists already"):
        back_up(workspace, made)
    unnamed = Path(workspace.wait(workspace(BackupStore())).path)
    assert unnamed.parent == folder.backups
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Exception, match="file"):
        back_up(workspace, tmp_path / "file" / "backup")
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == []


def nothing_restored(options: tuple[str, ...], done: Any, *says: str) -> None:
    assert done.code in (1, 2)
    assert all(text in done.err for text in says), done.err
    assert "Traceback" not in done.err
    target = Path(options[1])
    assert not target.exists() or list(target.iterdir()) == []


@pytest.mark.parametrize("what", ["facts", "big blob", "missing blob", "extra blob", "key", "contents", "no contents"])
def test_a_damaged_backup_is_refused(
    backup: Path, tarmac: Callable[..., Any], elsewhere: Callable[[], tuple[str, ...]], what: str
) -> None:
    big = max((path for path in (backup / "blobs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    says = "is not what was backed up"
    if what == "facts":
        sqlite = backup / "store.db"
        victim = sqlite if sqlite.exists() else backup / "rows" / "events"
        flip(victim, victim.stat().st_size // 2)
    elif what == "big blob":
        flip(big, 5_000_000)
    elif what == "missing blob":
        big.unlink()
        says = "has 1 blobs, not 2"
    elif what == "extra blob":
        (big.parent / "foreign").write_bytes(b"x")
        says = "has 3 blobs, not 2"
    elif what == "key":
        (backup / "keys" / "ledger.key").write_text("nonsense")
        says = "key"
    elif what == "contents":
        (backup / "backup.json").write_bytes((backup / "backup.json").read_bytes()[:-40])
        says = "backup.json"
    else:
        (backup / "backup.json").unlink()
        says = "there is no backup"
    options = elsewhere()
    done = tarmac("store", "restore", str(backup), *options)
    if what == "key":  # cannot be told from another key before it is used; then it is
        assert tarmac("status", "-w", options[1]).code == 2
        return
    nothing_restored(options, done, says)


def flip(file: Path, at: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("field", ["format", "store_format"])
def test_a_backup_of_a_newer_tarmac_is_refused(
    backup: Path, tarmac: Callable[..., Any], elsewhere: Callable[[], tuple[str, ...]], field: str
) -> None:
    contents = json.loads((backup / "backup.json").read_text())
    contents[field] += 1
    if field == "format":
        contents["what nobody knows yet"] = 1
    (backup / "backup.json").write_text(json.dumps(contents))
    options = elsewhere()
    nothing_restored(options, tarmac("store", "restore", str(backup), *options), "this tarmac knows formats up to")


def test_a_backup_of_one_kind_is_no_store_of_the_other(
    backup: Path, tarmac: Callable[..., Any], tmp_path: Path, address: str
) -> None:
    other = "postgresql://localhost/x" if address == "sqlite" else "sqlite"
    options = ("--to", str(tmp_path / "new"), "--store", other)
    nothing_restored(options, tarmac("store", "restore", str(backup), *options), "cannot be restored into another kind")


@pytest.mark.postgres
def test_a_database_that_holds_a_store_is_not_overwritten(
    new_database: Callable[[], str], tmp_path: Path, tarmac: Callable[..., Any]
) -> None:
    address = new_database()
    assert tarmac("init", str(tmp_path / "one"), "--store", address).code == 0
    with connect(tmp_path / "one") as workspace:
        run = workspace(CreateRun())
        made = back_up(workspace, tmp_path / "backup")
    options = ("--to", str(tmp_path / "two"), "--store", address)
    nothing_restored(options, tarmac("store", "restore", str(made), *options), "holds a store already")
    with connect(tmp_path / "one") as workspace:
        assert workspace(GetRun(id=run.id)) == run
        assert workspace.wait(workspace(CheckStore())).faults == []


@pytest.mark.parametrize("moment", ["facts", "blobs", "contents"])
def test_a_backup_that_was_killed_looks_like_none(folder: WorkspaceFolder, tmp_path: Path, moment: str) -> None:
    done = ran(
        folder,
        """
        from tarmac.store import backup
        for number in range(20):
            workspace(CreateRun())
            workspace.put(b"blob %d" % number)
        die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        def progress(done, total, what):
            if sys.argv[3] == "facts" or (what == "blobs" and sys.argv[3] == "blobs" and done == 10):
                die()
        if sys.argv[3] == "contents":
            backup._sync_tree = die
        backup.backup(workspace.door.store, Path(sys.argv[2]), progress)
        """,
        tmp_path / "backups" / "one",
        moment,
    )
    assert done.code == -9, done.err
    assert not (tmp_path / "backups" / "one").exists()
    assert [path.name for path in (tmp_path / "backups").iterdir() if not path.name.startswith(".")] == []
    with connect(folder.path.parent) as workspace:  # and keeps nobody waiting
        back_up(workspace, tmp_path / "backups" / "one")
        assert faults(workspace) == []


def test_damage_does_not_spread_into_a_backup(workspace: Workspace, folder: WorkspaceFolder, tmp_path: Path) -> None:
    name = workspace.put(b"soon damaged")
    (file,) = (path for path in folder.blobs.rglob("*") if path.is_file())
    flip(file, 3)
    with pytest.raises(Exception, match=name[:16]):
        back_up(workspace, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()
    with database_of(folder) as run:
        run("DELETE FROM blobs")
    assert back_up(workspace, tmp_path / "backup").exists()
