"""The trash and what comes after it: restored, moved, purged; rows and bytes really go, what is needed stays."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.clock import now
from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, NotFound
from tarmac.core.operation import Operation
from tarmac.flow.operations import ResumeJob
from tarmac.govern.operations import ListEvents
from tarmac.store import writer
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.lineage import link
from tarmac.store.operations import CheckStore, CollectGarbage, GetStatus, ShowLineage
from tarmac.store.records import File
from tarmac.store.sql import Batch, Tx
from tarmac.track import points
from tarmac.track.handlers import files as file_handlers
from tarmac.track.handlers import runs as run_handlers
from tarmac.track.operations import (
    AttachFiles,
    CountRuns,
    CreateExperiment,
    CreateRun,
    DeleteExperiment,
    DeleteRuns,
    DescribeRun,
    EndRun,
    GetDetails,
    GetExperiment,
    GetRun,
    ListExperiments,
    ListRuns,
    LogRun,
    MoveRuns,
    PurgeRuns,
    RenameExperiment,
    RestoreExperiment,
    RestoreRuns,
    TagRun,
    UseInput,
    WriteLog,
)
from tarmac.track.queries import removal
from tarmac.track.queries.removal import OWN_TABLES
from tarmac.track.records import Removed
from tarmac.workspace import LocalWorkspace, Workspace
from tests.flow.test_jobs import let_go, process_of, until
from tests.store.editing import database_of
from tests.store.processes import ran


def purge(workspace: Workspace, days: float = 0, *, dry_run: bool = False) -> Removed:
    time.sleep(0.002)  # no days at all still need a clock that has moved on
    return workspace.wait(workspace(PurgeRuns(days=days, dry_run=dry_run)))


def ids(workspace: Workspace, **asked: Any) -> list[str]:
    return [run.id for run in workspace(ListRuns(limit=1000, **asked)).runs]


def sound(workspace: Workspace) -> None:
    assert workspace.wait(workspace(CheckStore())).faults == []


def rows_of(folder: WorkspaceFolder) -> dict[str, int]:
    with database_of(folder) as run:
        return {table: run(f"SELECT count(*) FROM {table}")[0][0] for table in ("runs", *OWN_TABLES, "lineage")}


def full_run(workspace: Workspace, number: int = 0, **given: Any) -> str:
    """A run that has something in every table."""
    run = workspace(CreateRun(params={"p": str(number)}, tags={"t": "x"}, **given)).id
    # the second lot is long enough for a segment and its outline, the others lie on sheets
    for start, end in ((0, 10), (10, 600), (600, 610)):
        workspace(LogRun(id=run, metrics=[("m", float(step), step, 1) for step in range(start, end)]))
    workspace(LogRun(id=run, spool=run, position=1))
    data = b"bytes of %d" % number
    workspace.put(data)
    workspace(AttachFiles(id=run, files=[File(path="a/b", digest=digest(data), size=len(data))]))
    workspace(UseInput(id=run, name="data", version="1"))
    workspace(WriteLog(id=run, start=0, text="printed"))
    workspace(DescribeRun(id=run, facts={"machine": {"cpu": 1}}))
    return run


def give_old_tail(folder: WorkspaceFolder, id: str) -> None:
    """As format 2 wrote it; and a step, as only pipelines have one."""
    with database_of(folder) as run:
        columns = "run, number, node, step, done, why, step_run, result, seconds"
        values = "key, 1, 'a', 'a', 'ran', '', '', '', 0"
        run(
            f"INSERT INTO pipeline_steps ({columns}) SELECT {values} FROM runs WHERE id = ?",
            id,
        )
        run("INSERT INTO metric_tails (run, key, points) SELECT key, 1, ? FROM runs WHERE id = ?", b"\0" * 24, id)


# -------------------------------------------------------------------------------------------------------------- trash


def test_into_the_trash_and_back(anywhere: Workspace) -> None:
    runs = [full_run(anywhere, number) for number in range(3)]
    before = [anywhere(GetDetails(id=run)) for run in runs]
    assert anywhere(DeleteRuns(ids=runs[:2])).runs == 2
    assert anywhere(DeleteRuns(ids=runs[:2])).runs == 0, "twice is once"
    assert ids(anywhere) == runs[2:]
    assert ids(anywhere, deleted="only") == runs[1::-1]
    assert ids(anywhere, deleted="also") == runs[::-1]
    assert anywhere(CountRuns(deleted="only")).count == 2
    assert anywhere(GetRun(id=runs[0])).deleted_at is not None
    with pytest.raises(NotFound):
        anywhere(DeleteRuns(ids=[runs[2], "0" * 32]))
    assert ids(anywhere) == runs[2:], "all or none"
    assert anywhere(RestoreRuns(ids=[*runs, runs[0]])).runs == 2
    assert [anywhere(GetDetails(id=run)) for run in runs] == before


def test_runs_move_with_all_they_have(anywhere: Workspace) -> None:
    runs = [full_run(anywhere, number, experiment="from") for number in range(3)]
    before = anywhere(GetDetails(id=runs[0]))
    assert anywhere(MoveRuns(ids=runs[:2], to="to")).runs == 2
    assert anywhere(MoveRuns(ids=runs[:2], to="to")).runs == 0
    assert ids(anywhere, experiment=["to"]) == runs[1::-1]
    assert ids(anywhere, experiment=["from"]) == runs[2:]
    after = anywhere(GetDetails(id=runs[0]))
    assert after.run.experiment == "to"
    assert (after.metrics, after.run.params, after.artifacts) == (before.metrics, before.run.params, before.artifacts)
    anywhere(DeleteExperiment(name="to"))
    with pytest.raises(Conflict, match="trash"):
        anywhere(MoveRuns(ids=runs[2:], to="to"))


def test_an_experiment_goes_and_comes_with_its_runs(anywhere: Workspace) -> None:
    made = anywhere(CreateExperiment(name="e", note="n"))
    gone, stays = (anywhere(CreateRun(experiment="e")).id for _ in range(2))
    other = anywhere(CreateRun(experiment="f")).id
    anywhere(DeleteRuns(ids=[gone]))
    time.sleep(0.005)
    assert anywhere(DeleteExperiment(name="e")).deleted_at is not None
    assert anywhere(DeleteExperiment(name=made.id)).deleted_at is not None, "twice is once"
    assert [found.name for found in anywhere(ListExperiments()).experiments] == ["f"]
    assert [found.name for found in anywhere(ListExperiments(deleted=True)).experiments] == ["e"]
    assert ids(anywhere) == [other]
    refused: list[Operation[Any]] = [
        CreateExperiment(name="e"),
        CreateRun(experiment="e"),
        RenameExperiment(name="f", to="e"),
    ]
    for taken in refused:
        with pytest.raises(Conflict):
            anywhere(taken)
    assert anywhere(RestoreExperiment(name="e")).deleted_at is None
    assert sorted(ids(anywhere)) == sorted([stays, other]), "what had been deleted by itself stays in the trash"


def test_what_went_by_itself_in_the_same_moment_stays_in_the_trash(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, stays, other = (workspace(CreateRun(experiment="e")).id for _ in range(4))
    moment = now() + 1
    monkeypatch.setattr(writer, "now", lambda: moment)
    workspace(DeleteRuns(ids=[before]))
    workspace(DeleteExperiment(name="e"))
    workspace(RestoreRuns(ids=[after]))
    workspace(DeleteRuns(ids=[after]))
    workspace(RestoreExperiment(name="e"))
    assert sorted(ids(workspace)) == sorted([stays, other])
    assert sorted(ids(workspace, deleted="only")) == sorted([before, after])


def test_nothing_starts_below_a_run_in_the_trash(anywhere: Workspace) -> None:
    parent = anywhere(CreateRun()).id
    anywhere(DeleteRuns(ids=[parent]))
    with pytest.raises(Conflict, match=f"{parent} is in the trash") as caught:
        anywhere(CreateRun(parent=parent))
    assert f"tarmac runs restore {parent}" in str(caught.value.hint)
    anywhere(RestoreRuns(ids=[parent]))
    child = anywhere(CreateRun(parent=parent[:20]))
    assert child.parent == parent, "a beginning of an id stands for the whole of it"
    assert [edge.source for edge in anywhere(ShowLineage(thing=f"runs/{child.id}")).edges] == [f"runs/{parent}"]


def test_a_name_is_free_when_its_experiment_is_renamed_or_purged(anywhere: Workspace) -> None:
    anywhere(CreateRun(experiment="e"))
    anywhere(DeleteExperiment(name="e"))
    renamed = anywhere(RenameExperiment(name="e", to="old e"))
    assert (renamed.name, renamed.deleted_at is not None) == ("old e", True)
    anywhere(CreateRun(experiment="e"))
    anywhere(DeleteExperiment(name="e"))
    assert purge(anywhere).runs == 2
    assert anywhere(ListExperiments(deleted=True)).experiments == []
    for name in ("e", "old e"):
        with pytest.raises(NotFound):
            anywhere(GetExperiment(name=name))
        anywhere(CreateExperiment(name=name))


# -------------------------------------------------------------------------------------------------------------- purge


def test_purged_runs_leave_nothing(anywhere: Workspace, folder: WorkspaceFolder) -> None:
    anywhere(CreateRun(name="warm"))
    before = rows_of(folder)
    kept = full_run(anywhere, 1)
    give_old_tail(folder, kept)
    with_one = rows_of(folder)
    assert all(with_one[table] > before[table] for table in with_one), "the run has something in every table"
    runs = [full_run(anywhere, number, parent=kept) for number in (1, 2, 3)]
    give_old_tail(folder, runs[1])
    shared = b"bytes of 1"
    anywhere(DeleteRuns(ids=runs))
    weighed = purge(anywhere, dry_run=True)
    size = sum(len(b"bytes of %d" % number) for number in (1, 2, 3))
    assert (weighed.runs, weighed.points, weighed.artifacts, weighed.bytes) == (3, 1830, 3, size)
    assert anywhere(CountRuns(deleted="only")).count == 3, "a dry run changes nothing"
    assert purge(anywhere, days=1).runs == 0, "they have not been in the trash for long"
    assert purge(anywhere) == weighed
    assert rows_of(folder) == with_one
    for run in runs:
        with pytest.raises(NotFound):
            anywhere(GetRun(id=run))
    assert purge(anywhere) == Removed(runs=0, points=0, artifacts=0, bytes=0)
    for _ in range(2):
        anywhere.wait(anywhere(CollectGarbage(grace_hours=0)))
    assert anywhere(GetStatus()).blobs.count == 1
    assert b"".join(anywhere.read(digest(shared))) == shared, "another run needs it"
    assert len(list(folder.blobs.rglob(digest(shared)[:64] + "*"))) == 1
    assert len([path for path in folder.blobs.rglob("*") if path.is_file()]) == 1
    sound(anywhere)


def test_what_is_needed_is_kept_and_named(workspace: LocalWorkspace) -> None:
    source, parent, child, free, in_between = (workspace(CreateRun(name=name)).id for name in "spcfb")
    grandchild = workspace(CreateRun(parent=parent)).id
    dead_child = workspace(CreateRun(parent=in_between)).id
    store, project = workspace.door.store, workspace.door.store.project_key("default")
    store.writer.call(
        lambda batch: link(Tx(batch, project, "default", workspace.actor), f"runs/{source}", "models/m@1", "made")
    )
    workspace(DeleteRuns(ids=[source, parent, child, free, in_between, dead_child]))
    weighed, done = purge(workspace, dry_run=True), purge(workspace)
    assert weighed == done
    assert done.runs == 4
    assert sorted(done.kept) == sorted(
        [f"{source}: models/m@1 was made from it", f"{parent}: run {grandchild} was started by it"]
    )
    assert sorted(ids(workspace, deleted="also")) == sorted([source, parent, grandchild])
    assert len(workspace(ShowLineage(thing="models/m@1")).edges) == 1
    workspace(DeleteRuns(ids=[grandchild]))
    assert purge(workspace).runs == 2
    assert ids(workspace, deleted="also") == [source]


def test_what_is_needed_is_judged_where_it_would_be_deleted(workspace: LocalWorkspace) -> None:
    """Something may have been made from a run after purge has looked at it."""
    needed, free = (workspace(CreateRun()).id for _ in range(2))
    workspace(DeleteRuns(ids=[needed, free]))
    store, project = workspace.door.store, workspace.door.store.project_key("default")
    with store.database.read() as connection:
        keys = [key for key, _ in removal.candidates(connection, project, now() + 9, 0)]

    def late(batch: Batch) -> removal.Gone:
        tx = Tx(batch, project, "default", workspace.actor)
        link(tx, f"runs/{needed}", "models/m@1", "made")
        return removal.delete(tx, keys)

    gone = store.writer.call(late)
    assert gone == removal.Gone([free], 0, 0, 0, [f"{needed}: models/m@1 was made from it"])
    assert ids(workspace, deleted="also") == [needed]


def test_a_purge_is_in_the_ledger(workspace: Workspace) -> None:
    runs = [workspace(CreateRun()).id for _ in range(3)]
    workspace(DeleteRuns(ids=runs))
    purge(workspace)
    until = time.monotonic() + 10
    named: set[str] = set()
    while named != set(runs) and time.monotonic() < until:
        events = workspace(ListEvents(operation="runs.purge")).events
        named = {id for event in events for id in (event.payload or {}).get("runs", [])}
        time.sleep(0.05)
    assert named == set(runs)


def many(workspace: LocalWorkspace, count: int) -> list[str]:
    """So many runs, each with a param and points, some with a file, in few transactions; all in the trash."""
    project = workspace.door.store.project_key("default")
    made: list[str] = []
    blobs = [b"blob %d" % number for number in range(40)]
    for data in blobs:
        workspace.put(data)

    def some(batch: Batch) -> None:
        tx = Tx(batch, project, "default", workspace.actor)
        for _ in range(min(500, count - len(made))):
            number = len(made)
            made.append(run_handlers.create_run(CreateRun(params={"p": str(number)}), tx).id)
            batch_of = points.group([("m", float(step), step, 1) for step in range(3)], 1)
            run_handlers.log_run(LogRun(id=made[-1]), tx, batch_of)
            if number % 4:
                continue
            data = blobs[number % len(blobs)]
            file = File(path="f", digest=digest(data), size=len(data))
            file_handlers.attach_files(AttachFiles(id=made[-1], files=[file]), tx)

    while len(made) < count:
        workspace.door.store.writer.call(some)
    for start in range(0, count, 5000):
        assert workspace(DeleteRuns(ids=made[start : start + 5000])).runs == len(made[start : start + 5000])
    return made


@pytest.mark.slow
def test_ten_thousand_runs_are_purged(workspace: LocalWorkspace, folder: WorkspaceFolder) -> None:
    keep = full_run(workspace, 1)
    before = rows_of(folder)
    runs = many(workspace, 10_000)
    workspace(RestoreRuns(ids=[runs[776]]))
    child = workspace(CreateRun(parent=runs[776])).id
    workspace(DeleteRuns(ids=[runs[776]]))
    bytes_ = sum(len(b"blob %d" % (number % 40)) for number in range(0, 10_000, 4) if number != 776)
    start = time.monotonic()
    done = purge(workspace)
    assert time.monotonic() - start < 60
    assert (done.runs, done.points, done.artifacts, done.bytes) == (9999, 29_997, 2499, bytes_)
    assert done.kept == [f"{runs[776]}: run {child} was started by it"]
    workspace(DeleteRuns(ids=[child]))
    assert purge(workspace).runs == 2
    for _ in range(2):
        workspace.wait(workspace(CollectGarbage(grace_hours=0)))
    assert rows_of(folder) == before
    assert ids(workspace, deleted="also") == [keep]
    assert len([path for path in folder.blobs.rglob("*") if path.is_file()]) == 1
    sound(workspace)


KILLED = """
    import tarmac.track.handlers.removal as handler
    real, calls = handler._delete, []
    class Job:
        store, actor, project_name, id, saved = workspace.door.store, workspace.actor, "default", "ab" * 16, {}
        project = store.project_key("default")
        def progress(self, done, total=0, message=""):
            pass
    def delete(job, keys, batch):
        gone = real(job, keys, batch)
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)  # in the middle of the third transaction
        return gone
    handler._delete = delete
    handler.purge_runs(PurgeRuns(days=0), Job())
"""


@pytest.mark.slow
def test_a_purge_that_was_killed_is_finished_by_the_next(workspace: LocalWorkspace, folder: WorkspaceFolder) -> None:
    many(workspace, 1000)
    time.sleep(0.005)
    died = ran(folder, KILLED)
    assert died.code == -9, died.err
    left = workspace(CountRuns(deleted="only")).count
    assert left == 600, "two transactions were whole, and nothing is left of the third"
    sound(workspace)
    assert purge(workspace).runs == left
    rows = rows_of(folder)
    assert {table: count for table, count in rows.items() if count} == {}
    for _ in range(2):
        workspace.wait(workspace(CollectGarbage(grace_hours=0)))
    assert workspace(GetStatus()).blobs.count == 0
    sound(workspace)


SLOWLY = """
import sys, time
if any("tarmac.door.child" in word for word in getattr(sys, "orig_argv", [])):
    from tarmac.track.queries import removal
    real = removal.weigh
    def weigh(*given):
        time.sleep(0.4)
        return real(*given)
    removal.weigh = weigh
"""


@pytest.mark.slow
def test_a_purge_whose_process_was_killed_is_taken_up_again(
    workspace: LocalWorkspace, folder: WorkspaceFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real process of the job, at whatever place it is."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SLOWLY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    many(workspace, 1500)
    time.sleep(0.005)
    started = workspace(PurgeRuns(days=0))
    end = time.monotonic() + 20
    while workspace(CountRuns(deleted="only")).count == 1500:
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(process_of(started.id), signal.SIGKILL)
    let_go(folder)
    until(workspace, started.id, lambda job: job.state not in ("queued", "running"))
    left = workspace(CountRuns(deleted="only")).count
    assert 0 < left < 1500
    sound(workspace)
    workspace(ResumeJob(id=started.id))
    assert workspace.wait(started).runs == left, "what the first try did is not done again"
    assert not any(rows_of(folder).values())
    sound(workspace)


def test_restored_between_looking_and_deleting(workspace: LocalWorkspace) -> None:
    """A purge looks first and deletes then: who was restored meanwhile stays."""
    back, gone = (workspace(CreateRun()).id for _ in range(2))
    workspace(DeleteRuns(ids=[back, gone]))
    store, project = workspace.door.store, workspace.door.store.project_key("default")
    with store.database.read() as connection:
        keys = [row[0] for row in removal.candidates(connection, project, 2**62, 0)]
    workspace(RestoreRuns(ids=[back]))
    deleted = store.writer.call(lambda batch: removal.delete(Tx(batch, project, "default", workspace.actor), keys))
    assert deleted.ids == [gone]
    assert ids(workspace) == [back]


def test_a_run_goes_on_after_its_child_was_purged(workspace: Workspace) -> None:
    parent = workspace(CreateRun()).id
    child = workspace(CreateRun(parent=parent)).id
    workspace(DeleteRuns(ids=[child]))
    assert purge(workspace).runs == 1
    workspace(TagRun(id=parent, set={"a": "b"}))
    assert workspace(EndRun(id=parent)).status == "finished"
    assert workspace(ShowLineage(thing=f"runs/{parent}", direction="down")).edges == []
