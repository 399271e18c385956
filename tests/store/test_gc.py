"""Garbage collection beside writers: never a manifest with a hole, and what nobody needs really goes."""

from __future__ import annotations

import io
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tarmac import store as stores
from tarmac.core.actor import os_user
from tarmac.core.digest import digest
from tarmac.core.settings import Settings
from tarmac.door.dispatch import Door
from tarmac.store import Store
from tarmac.store.blobs.folder import FolderBlobs
from tarmac.store.blobs.gc import Collector
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import (
    CollectGarbage,
    CommitManifest,
    DeleteManifest,
    GetStatus,
    ListFiles,
    ListManifests,
)
from tarmac.store.records import File, Garbage
from tarmac.workspace import LocalWorkspace, Workspace, connect
from tests.store.editing import database_of
from tests.store.processes import end, faults, ran, start

PROVE = bool(os.environ.get("TARMAC_PROVE"))
CONTENTS = [b"content %d" % number for number in range(6)]
SOME_FILES = st.dictionaries(st.sampled_from(["a", "b", "c/d"]), st.sampled_from(CONTENTS), min_size=1)
ANY_PACE: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it happens, and nobody cleans up."""


def collect(workspace: Workspace, grace_hours: float = 0, *, dry_run: bool = False) -> Garbage:
    return workspace.wait(workspace(CollectGarbage(grace_hours=grace_hours, dry_run=dry_run)))


def files_of(folder: WorkspaceFolder) -> set[str]:
    return {path.name for path in folder.blobs.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------------------- property


class Interleavings(RuleBasedStateMachine):
    """Uploads, commits, deletions and collections in any order, each of which may die at any of its steps."""

    new_database: Callable[[], str] | None = None

    @initialize()
    def begin(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="tarmac-gc"))
        self.folder = WorkspaceFolder(self.base / ".tarmac")
        address = self.new_database() if self.new_database else "sqlite"
        self.store = stores.create(self.folder, Settings(), address)
        self.store.project_key("default", create=True)
        self.open()
        self.manifests: dict[str, dict[str, bytes]] = {}

    def open(self) -> None:
        self.workspace = LocalWorkspace(Door(self.store), os_user(), "default")

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.base)

    @rule(content=st.sampled_from(CONTENTS), dies=st.sampled_from(["", "", "half", "placed", "row"]))
    def upload(self, content: bytes, dies: str) -> None:
        incoming = self.store.blobs.receive()
        incoming.write(content[:4])
        if dies == "half":
            incoming._file.close()  # what the kernel does for a killed process
            return
        incoming.write(content[4:])
        stored = incoming.finish()
        if dies == "placed":
            stored.settle()
            return
        if dies == "row":  # killed between the row and the deletion of the copy that was not needed
            self.workspace.door.store.blobs = Undeleting(self.folder.blobs)
        self.workspace.door.keep_blob(stored, os_user(), "default")
        self.store.blobs = FolderBlobs(self.folder.blobs)

    @rule(files=SOME_FILES, upload=st.booleans())
    def commit(self, files: dict[str, bytes], upload: bool) -> None:
        if upload:
            for content in files.values():
                self.upload(content, "")
        listed = [File(path=path, digest=digest(data), size=len(data)) for path, data in files.items()]
        answer = self.workspace(CommitManifest(kind="test", files=listed))
        if answer.manifest is not None:
            self.manifests[answer.manifest.id] = files
        else:
            assert answer.missing
            assert not upload, "what was just uploaded is there"

    @precondition(lambda self: self.manifests)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.manifests)))
        self.workspace(DeleteManifest(id=id))
        del self.manifests[id]

    @rule(dies_after=st.sampled_from([None, None, 0, 1, 2, 3, 4]))
    def gc(self, dies_after: int | None) -> None:
        time.sleep(0.002)  # a grace of nothing still needs a clock that has moved on
        blobs = Dying(self.folder.blobs, dies_after)
        collector = Collector(self.store.database, blobs.counting(self.store.writer), blobs, 0)
        try:
            collector.collect(dry_run=False, progress=lambda done, what: None)
        except Killed:
            return

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = stores.open_store(self.folder, Settings())
        self.open()

    @rule()
    def collect_twice(self) -> None:
        """Whatever died before: two collections later only what is needed is there."""
        for _ in range(2):
            self.gc(None)
        needed = {digest(content) for files in self.manifests.values() for content in files.values()}
        assert {name.partition(".")[0] for name in files_of(self.folder)} == needed
        assert self.workspace(GetStatus()).blobs.count == len(needed)

    @invariant()
    def no_manifest_has_a_hole(self) -> None:
        if not hasattr(self, "workspace"):
            return
        assert {made.id for made in self.workspace(ListManifests(limit=1000)).manifests} == self.manifests.keys()
        for id, files in self.manifests.items():
            for file in self.workspace(ListFiles(id=id)).files:
                assert b"".join(self.workspace.read(file.digest)) == files[file.path]


class Undeleting(FolderBlobs):
    def delete(self, place: str) -> None:
        pass


class Dying(FolderBlobs):
    """Counts the steps of a collection that change something, and dies at one of them."""

    def __init__(self, folder: Path, dies_after: int | None) -> None:
        super().__init__(folder)
        self.allowed = dies_after
        self.steps = 0

    def step(self) -> None:
        if self.allowed is not None and self.steps >= self.allowed:
            raise Killed
        self.steps += 1

    def delete(self, place: str) -> None:
        self.step()
        super().delete(place)

    def counting(self, writer: Any) -> Any:
        dying = self

        class Counting:
            def call(self, work: Any) -> Any:
                dying.step()
                return writer.call(work)

        return Counting()


Interleavings.TestCase.settings = settings(max_examples=200 if PROVE else 20, stateful_step_count=25, **ANY_PACE)


@pytest.mark.slow
class TestInterleavings(Interleavings.TestCase):  # type: ignore[misc,valid-type]
    pass


@pytest.mark.slow
@pytest.mark.postgres
def test_interleavings_on_postgres(new_database: Callable[[], str]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    class OnPostgres(Interleavings):
        pass

    OnPostgres.new_database = staticmethod(new_database)
    run_state_machine_as_test(
        OnPostgres,
        settings=settings(max_examples=30 if PROVE else 4, stateful_step_count=20, **ANY_PACE),
    )


# -------------------------------------------------------------------------------------------------------- one by one


def test_what_is_not_needed_goes_after_its_grace(anywhere: Workspace, folder: WorkspaceFolder) -> None:
    kept, dropped, unbound = (anywhere.put(data) for data in (b"kept", b"dropped", b"unbound"))
    anywhere(CommitManifest(kind="k", files=[File(path="a", digest=kept, size=4)]))
    made = anywhere(CommitManifest(kind="d", files=[File(path="a", digest=dropped, size=7)])).manifest
    assert made is not None
    anywhere(DeleteManifest(id=made.id))
    assert collect(anywhere, 24).condemned == 0, "within its time of grace nothing is touched"
    weighed = collect(anywhere, dry_run=True)
    assert (weighed.dry_run, weighed.condemned, weighed.condemned_bytes) == (True, 2, 14)
    assert len(files_of(folder)) == 3
    first, second = collect(anywhere), collect(anywhere)
    assert first.condemned + second.condemned == 2
    assert (first.deleted + second.deleted, first.deleted_bytes + second.deleted_bytes) == (2, 14)
    assert {name[:64] for name in files_of(folder)} == {kept}
    assert anywhere.put(b"unbound") == unbound, "and can come again"
    assert b"".join(anywhere.read(unbound)) == b"unbound"
    assert faults(anywhere) == []


def test_a_condemned_blob_comes_back_to_life(workspace: Workspace, folder: WorkspaceFolder) -> None:
    """By a commit that needs it, or by an upload of the same bytes, in each state in which gc can have died."""
    for state in ("condemned", "deleting"):
        for how in ("commit", "upload"):
            data = f"{state} {how}".encode()
            name = workspace.put(data)
            file = File(path="a", digest=name, size=len(data))
            with database_of(folder) as run:
                run("UPDATE blobs SET state = ? WHERE digest = ?", state, name)
            if how == "upload":
                workspace.put(data)
            answer = workspace(CommitManifest(kind="t", files=[file]))
            if (state, how) == ("deleting", "commit"):
                assert answer.missing == [name], "its file is going: it has to be sent again"
            else:
                assert answer.manifest is not None
    time.sleep(0.005)
    for _ in range(2):
        collect(workspace)
    assert workspace(GetStatus()).blobs.count == 3
    for made in workspace(ListManifests()).manifests:
        for file in workspace(ListFiles(id=made.id)).files:
            assert len(b"".join(workspace.read(file.digest))) == file.size
    assert faults(workspace) == []


def test_uploads_that_were_cut_off_are_swept_and_those_in_progress_are_not(folder: WorkspaceFolder) -> None:
    half = """
        incoming = workspace.door.store.blobs.receive()
        incoming.write(b"half of it")
        print("half", flush=True)
        sys.stdin.readline()
    """
    placed = """
        import io
        stored = workspace.door.store.blobs.put(io.BytesIO(b"whole, but without a row"))
        print("placed", flush=True)
        sys.stdin.readline()
    """
    children = [start_waiting(folder, script) for script in (half, placed)]
    with connect(folder.path.parent) as workspace:
        time.sleep(0.005)
        assert collect(workspace).strays == 0
        assert len(files_of(folder)) == 2
        for child in children:
            child.kill()
            child.wait()
        assert collect(workspace, 24).strays == 0, "a new file may belong to somebody on another machine"
        swept = collect(workspace)
        assert (swept.strays, swept.stray_bytes) == (2, len(b"half of it") + len(b"whole, but without a row"))
        assert files_of(folder) == set()
        assert faults(workspace) == []
    for child in children:
        child.communicate()


def start_waiting(folder: WorkspaceFolder, script: str) -> Any:
    import subprocess
    import sys
    import textwrap

    from tests.store.processes import OPEN

    child = subprocess.Popen(
        [sys.executable, "-c", OPEN + textwrap.dedent(script), str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline()
    return child


def test_an_upload_that_begins_beside_a_gc_is_not_lost(
    folder: WorkspaceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gc without grace may see the new file before its uploader has locked it."""
    import fcntl

    locked: list[str] = []
    real = fcntl.flock

    def flock(file: Any, how: int) -> None:
        if how == fcntl.LOCK_EX and "incoming" in str(file.name) and not locked:
            locked.append(file.name)
            Path(file.name).unlink()  # what a sweep does that comes in between
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with connect(folder.path.parent) as workspace:
        name = workspace.put(b"not lost")
        assert locked
        assert b"".join(workspace.read(name)) == b"not lost"


WORK = """
    import random
    from tarmac.core.digest import digest
    chance = random.Random(int(sys.argv[2]))
    mine, acknowledged, until = [], 0, time.monotonic() + float(sys.argv[3])
    while time.monotonic() < until:
        contents = [b"shared %d" % chance.randrange(12) for _ in range(3)]
        files = [File(path=str(n), digest=digest(data), size=len(data)) for n, data in enumerate(contents)]
        for _ in range(20):
            answer = workspace(CommitManifest(kind="t", files=files))
            if answer.manifest:
                break
            for data in contents:
                if digest(data) in answer.missing:
                    workspace.put(data)
        else:
            raise SystemExit("gc without grace is always faster")
        mine.append(answer.manifest.id)
        print(f"made {answer.manifest.id}", flush=True)
        if len(mine) > 3:
            gone = mine.pop(chance.randrange(len(mine)))
            print(f"gone {gone}", flush=True)
            workspace(DeleteManifest(id=gone))
"""
COLLECT = """
    import itertools
    from tarmac.store.blobs.gc import Collector
    store, until, deleted = workspace.door.store, time.monotonic() + float(sys.argv[2]), 0
    while time.monotonic() < until:
        done = Collector(store.database, store.writer, store.blobs, 0).collect(
            dry_run=False, progress=lambda done, what: None)
        deleted += done.deleted
    print(deleted)
"""


@pytest.mark.slow
def test_a_collector_beside_writers_in_other_processes(folder: WorkspaceFolder) -> None:
    """Real processes at one folder, two of which are killed at a random moment."""
    seconds = 60.0 if PROVE else 5.0
    writers = [start(folder, WORK, seed, seconds) for seed in range(4)]
    collector = start(folder, COLLECT, seconds)
    killed_collector = start(folder, COLLECT, seconds)
    time.sleep(random.uniform(1.5, seconds - 1))
    writers[0].kill()
    killed_collector.kill()
    made, gone = set[str](), set[str]()
    for number, process in enumerate([*writers, collector, killed_collector]):
        ended = end(process, 120)
        if process not in (writers[0], killed_collector):
            assert (ended.code, ended.err) == (0, ""), number
        if process is collector:
            assert int(ended.out) > 0, "there was something to collect"
            continue
        lines = [line.split(" ") for line in ended.out.splitlines() if line.count(" ") == 1]
        made |= {id for what, id in lines if what == "made" and len(id) == 32}
        gone |= {id for what, id in lines if what == "gone"}
    with connect(folder.path.parent) as workspace:
        there = {found.id for found in pages(workspace)}
        assert made - gone <= there, "an acknowledged manifest is gone"
        assert faults(workspace) == []
        for id in there:
            for file in workspace(ListFiles(id=id)).files:
                assert len(b"".join(workspace.read(file.digest))) == file.size
        for id in there:
            workspace(DeleteManifest(id=id))
        time.sleep(0.005)
        for _ in range(2):
            collect(workspace)
        assert files_of(folder) == set()
        assert workspace(GetStatus()).blobs.count == 0


def pages(workspace: Workspace) -> Iterator[Any]:
    page = workspace(ListManifests(limit=1000))
    yield from page.manifests
    while page.next:
        page = workspace(ListManifests(limit=1000, before=page.next))
        yield from page.manifests


@pytest.mark.parametrize("step", ["row", "file", "drop"])
def test_a_collection_that_was_killed_is_finished_by_the_next(folder: WorkspaceFolder, step: str) -> None:
    done = ran(
        folder,
        """
        from tarmac.store.blobs import gc
        from tarmac.store.blobs.folder import FolderBlobs
        workspace.put(b"one"), workspace.put(b"two")
        time.sleep(0.005)
        die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[2] == "row":
            FolderBlobs.delete = die
        elif sys.argv[2] == "file":
            real = FolderBlobs.delete
            FolderBlobs.delete = lambda self, place: (real(self, place), die())
        else:
            gc._drop = die
        store = workspace.door.store
        gc.Collector(store.database, store.writer, store.blobs, 0).collect(
            dry_run=False, progress=lambda done, what: None)
        """,
        step,
    )
    assert done.code == -9, done.err
    with connect(folder.path.parent) as workspace:
        assert faults(workspace) == [], "what is half deleted is not taken for damage"
        collect(workspace)
        assert (files_of(folder), workspace(GetStatus()).blobs.count) == (set(), 0)
        name = workspace.put(b"one")
        assert b"".join(workspace.read(name)) == b"one"


@pytest.mark.postgres
def test_an_upload_whose_row_gc_drops_in_this_moment_is_kept(new_database: Callable[[], str], tmp_path: Path) -> None:
    """On Postgres two servers look and change in turns: the row may go between two looks of an upload."""
    folder = WorkspaceFolder(tmp_path / ".tarmac")
    stores.create(folder, Settings(), new_database()).close()
    with connect(tmp_path) as workspace:
        name = workspace.put(b"again")
        with database_of(folder) as run:
            run("UPDATE blobs SET state = 'deleting' WHERE digest = ?", name)
            store: Store = workspace.door.store  # type: ignore[attr-defined]
            with dropping(store, lambda: run("DELETE FROM blobs WHERE digest = ?", name)) as dropped:
                workspace.put(b"again")
            assert dropped
        assert b"".join(workspace.read(name)) == b"again"
        assert faults(workspace) == []


@contextmanager
def dropping(store: Store, drop: Callable[[], Any]) -> Iterator[list[str]]:
    """Do something else after the writer's first attempt to insert a blob."""
    done: list[str] = []
    with store.database.write() as connection:
        real = connection.run

        def run(sql: str, **values: Any) -> int:
            changed = real(sql, **values)
            if sql.startswith("INSERT INTO blobs") and not done:
                done.append(sql)
                assert not changed
                drop()
            return changed

        connection.run = run  # type: ignore[method-assign]
    try:
        yield done
    finally:
        connection.run = real  # type: ignore[method-assign]


def test_streams_of_any_size_have_the_same_end(workspace: Workspace) -> None:
    for size in (0, 1, 1024 * 1024, 1024 * 1024 + 1):
        data = b"z" * size
        assert workspace.put(io.BytesIO(data)) == digest(data)
