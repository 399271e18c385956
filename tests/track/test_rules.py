"""What a run refuses, what it keeps whole, how its end is sealed, and how it counts when it falls silent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tarmac.core.clock import now
from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, Invalid, NotFound
from tarmac.govern.operations import ListEvents
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import GetStatus
from tarmac.store.records import File
from tarmac.track.operations import (
    AttachFiles,
    BeatRun,
    CountRuns,
    CreateRun,
    DeleteRuns,
    DescribeRun,
    EditRun,
    EndRun,
    GetDetails,
    GetRun,
    GroupRuns,
    ListArtifacts,
    ListRuns,
    LogRun,
    ReadLog,
    RestoreRuns,
    ResumeRun,
    SweepRuns,
    TagRun,
    UseInput,
    WriteLog,
)
from tarmac.workspace import Workspace
from tests.store.editing import database_of

# ------------------------------------------------------------------------------------------------ params, tags, points


def test_a_param_that_changes_is_named(anywhere: Workspace) -> None:
    run = anywhere(CreateRun(params={"depth": "6", "lr": "0.1"})).id
    anywhere(LogRun(id=run, params={"depth": "6", "seed": "1"}))
    with pytest.raises(Conflict, match=r"`depth`.*`6`.*`8`") as caught:
        anywhere(LogRun(id=run, params={"depth": "8", "new": "x"}, tags={"t": "x"}, metrics=[("m", 1.0, 0, 1)]))
    assert caught.value.hint
    assert caught.value.detail["params"] == {"depth": ["6", "8"]}
    kept = anywhere(GetRun(id=run))
    assert kept.params == {"depth": "6", "lr": "0.1", "seed": "1"}
    assert (kept.tags, kept.metrics) == ({}, {}), "nothing of a refused request is kept"


def test_a_long_param_that_changes_is_named_in_few_words(anywhere: Workspace) -> None:
    run = anywhere(CreateRun(params={"p": "x" * 100_000})).id
    with pytest.raises(Conflict) as caught:
        anywhere(LogRun(id=run, params={"p": "x" * 99_999 + "y"}))
    assert len(caught.value.message) < 1000


def test_tags_are_overwritten_and_removed(anywhere: Workspace) -> None:
    run = anywhere(CreateRun(tags={"a": "1", "b": "1"})).id
    anywhere(LogRun(id=run, tags={"a": "2", "c": "3"}))
    assert anywhere(TagRun(id=run, set={"d": "4"}, unset=["b", "never", "c"])).runs == 1
    assert anywhere(GetRun(id=run)).tags == {"a": "2", "d": "4"}


def test_values_are_kept_whole(anywhere: Workspace) -> None:
    long = "ä\n\t'\"\\%🙂" * 100_000
    run = anywhere(CreateRun(params={"p": long, "empty": ""}, tags={"t": long}, note=long[:20_000])).id
    kept = anywhere(GetRun(id=run))
    assert (kept.params, kept.tags, kept.note) == ({"p": long, "empty": ""}, {"t": long}, long[:20_000])
    anywhere(WriteLog(id=run, start=0, text=long))
    text, at = "", 0
    while part := anywhere(ReadLog(id=run, start=at)).text:
        text, at = text + part, at + len(part)
    assert text == long
    with pytest.raises(Invalid, match="params"):
        anywhere(LogRun(id=run, params={"q": "x" * 1_000_001}))
    with pytest.raises(Invalid):
        anywhere(LogRun(id=run, tags={"q": "a\x00b"}))


# --------------------------------------------------------------------------------------------------- ended and deleted

WRITES: list[Callable[[str], Any]] = [
    lambda id: LogRun(id=id, metrics=[("m", 1.0, 0, 1)]),
    lambda id: LogRun(id=id, params={"p": "1"}),
    lambda id: LogRun(id=id, tags={"t": "1"}),
    lambda id: LogRun(id=id, tags={"t": "1"}, ended=True),
    lambda id: EndRun(id=id),
    lambda id: ResumeRun(id=id),
    lambda id: TagRun(id=id, set={"t": "1"}),
    lambda id: EditRun(id=id, name="other"),
    lambda id: UseInput(id=id, name="data"),
    lambda id: DescribeRun(id=id, facts={}),
    lambda id: WriteLog(id=id, start=0, text="x"),
    lambda id: AttachFiles(id=id, files=[File(path="a", digest=digest(b""), size=0)]),
]


def test_a_run_in_the_trash_is_not_written_to(anywhere: Workspace) -> None:
    run = anywhere(CreateRun()).id
    anywhere.put(b"")
    anywhere(DeleteRuns(ids=[run]))
    before = anywhere(GetDetails(id=run))
    for write in WRITES:
        with pytest.raises(Conflict, match="trash") as caught:
            anywhere(write(run))
        assert caught.value.hint == f"`tarmac runs restore {run}`"
    assert anywhere(GetDetails(id=run)) == before
    anywhere(RestoreRuns(ids=[run]))
    for write in WRITES[:4]:
        anywhere(write(run))


def test_a_run_that_has_ended_is_written_to_only_if_that_is_said(anywhere: Workspace) -> None:
    run = anywhere(CreateRun()).id
    anywhere(EndRun(id=run, status="failed"))
    for write in WRITES[:3]:
        with pytest.raises(Conflict, match="has ended: failed") as caught:
            anywhere(write(run))
        assert "ended" in (caught.value.hint or "")
    assert anywhere(LogRun(id=run, metrics=[("m", 1.0, 0, 1)], params={"p": "1"}, ended=True)).points == 1
    assert anywhere(GetRun(id=run)).params == {"p": "1"}
    assert anywhere(GetRun(id=run)).status == "failed"
    resumed = anywhere(ResumeRun(id=run))
    assert (resumed.status, resumed.ended_at) == ("running", None)
    assert anywhere(LogRun(id=run, metrics=[("m", 2.0, 1, 1)])).points == 1
    assert anywhere(EndRun(id=run)).status == "finished"


def test_writes_to_what_is_not_there(anywhere: Workspace) -> None:
    for write in WRITES:
        with pytest.raises(NotFound, match="there is no run"):
            anywhere(write("0" * 32))


# ------------------------------------------------------------------------------------------------------------- sealing


def events(workspace: Workspace, operation: str) -> list[Any]:
    """Oldest first; on Postgres they are sealed a moment later."""
    until = time.monotonic() + 10
    while not (found := workspace(ListEvents(after=0, operation=operation)).events) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def test_the_end_of_a_run_seals_what_it_came_to(anywhere: Workspace) -> None:
    run = anywhere(CreateRun(params={"b": "2", "a": "é"})).id
    anywhere(LogRun(id=run, metrics=[("n", "NaN", 3, 7), ("m", 1.5, 0, 5), ("m", 2.5, 1, 6)], params={"c": "x" * 9000}))
    anywhere.put(b"bytes")
    anywhere(AttachFiles(id=run, files=[File(path=path, digest=digest(b"bytes"), size=5) for path in ("z", "d/a")]))
    anywhere(EndRun(id=run))
    (event,) = events(anywhere, "runs.end")
    assert event.subject == f"runs/{run}"
    # from what anybody can ask for, without the code that made them
    details = anywhere(GetDetails(id=run))
    files = anywhere(ListArtifacts(id=run, all=True)).artifacts
    parts = {
        "params": sorted(details.run.params.items()),
        "metrics": [[m.key, m.last, m.step, m.at, m.points] for m in details.metrics],
        "artifacts": [[file.path, file.digest, file.size] for file in files],
    }
    assert [m.key for m in details.metrics] == ["m", "n"]
    assert event.payload["evidence"] == {name: digest(msgspec.json.encode(part)) for name, part in parts.items()}
    anywhere(LogRun(id=run, metrics=[("m", 9.0, 9, 9)], ended=True))
    changed = [[m.key, m.last, m.step, m.at, m.points] for m in anywhere(GetDetails(id=run)).metrics]
    assert digest(msgspec.json.encode(changed)) != event.payload["evidence"]["metrics"], "a later change shows"


def test_points_leave_no_event_and_an_end_leaves_one(anywhere: Workspace) -> None:
    run = anywhere(CreateRun()).id
    anywhere(LogRun(id=run, metrics=[("m", 1.0, 0, 1)]))
    anywhere(EndRun(id=run))
    anywhere(EndRun(id=run))
    assert len(events(anywhere, "runs.end")) == 1
    assert anywhere(ListEvents(operation="runs.log")).events == []


# ---------------------------------------------------------------------------------------------------------- heartbeats


def silence(folder: WorkspaceFolder, run: str, seconds: int = 60) -> int:
    at = now() - seconds * 1000
    with database_of(folder) as execute:
        execute("UPDATE runs SET heartbeat_at = ? WHERE id = ?", at, run)
    return at


def test_a_silent_run_counts_as_killed_at_once(anywhere: Workspace, folder: WorkspaceFolder) -> None:
    silent, beating, quiet = (anywhere(CreateRun(name=name, beats=name != "quiet")).id for name in ("s", "b", "quiet"))
    done = anywhere(CreateRun(name="done", beats=True)).id
    anywhere(EndRun(id=done))
    assert {run.status for run in anywhere(ListRuns()).runs} == {"running", "finished"}
    for run in (silent, done, quiet):
        if run != quiet:
            silence(folder, run)
    silence(folder, beating, 40)
    assert anywhere(GetRun(id=silent)).status == "killed"
    assert anywhere(GetDetails(id=silent)).run.status == "killed"
    assert {run.name: run.status for run in anywhere(ListRuns()).runs} == {
        "s": "killed", "b": "running", "quiet": "running", "done": "finished",
    }  # fmt: skip
    assert [run.id for run in anywhere(ListRuns(filter="status = 'killed'")).runs] == [silent]
    assert [run.id for run in anywhere(ListRuns(status="killed")).runs] == [silent]
    assert [run.id for run in anywhere(ListRuns(filter="attributes.status = 'KILLED'")).runs] == [silent]
    assert anywhere(CountRuns(filter="status = 'running'")).count == 2
    groups = anywhere(GroupRuns(by=["status"])).groups
    assert {group.by["status"]: group.runs for group in groups} == {"running": 2, "killed": 1, "finished": 1}
    assert [run.status for run in anywhere(ListRuns(order=["status"])).runs] == [
        "finished", "killed", "running", "running",
    ]  # fmt: skip


def test_a_sweep_ends_silent_runs_when_they_were_last_heard(workspace: Workspace, folder: WorkspaceFolder) -> None:
    silent, beating = workspace(CreateRun(beats=True)).id, workspace(CreateRun(beats=True)).id
    assert workspace(SweepRuns()).runs == 0
    at = silence(folder, silent)
    assert workspace(SweepRuns()).runs == 1
    swept = workspace(GetRun(id=silent))
    assert (swept.status, swept.ended_at) == ("killed", at)
    assert workspace(GetRun(id=beating)).status == "running"
    assert workspace(SweepRuns()).runs == 0
    assert len(events(workspace, "runs.sweep")) == 1, "a sweep that finds nothing leaves no event"
    with pytest.raises(Conflict, match="has ended: killed"):
        workspace(LogRun(id=silent, metrics=[("m", 1.0, 0, 1)]))


def test_a_beat_keeps_a_run_alive(anywhere: Workspace, folder: WorkspaceFolder) -> None:
    run = anywhere(CreateRun(beats=True)).id
    silence(folder, run)
    assert anywhere(GetRun(id=run)).status == "killed"
    assert anywhere(BeatRun(id=run)).runs == 1
    assert anywhere(GetRun(id=run)).status == "running", "it was only slow"
    anywhere(EndRun(id=run))
    assert anywhere(BeatRun(id=run)).runs == 0
    ended = anywhere(GetRun(id=run))
    assert ended.status == "finished"
    resumed = anywhere(ResumeRun(id=run))
    assert resumed.status == "running"
    assert anywhere(BeatRun(id=run)).runs == 1
    anywhere(DeleteRuns(ids=[run]))
    anywhere(BeatRun(id=run))
    assert anywhere(GetRun(id=run)).deleted_at is not None


def test_a_run_that_was_swept_can_go_on(workspace: Workspace, folder: WorkspaceFolder) -> None:
    run = workspace(CreateRun(beats=True)).id
    silence(folder, run)
    workspace(SweepRuns())
    workspace(ResumeRun(id=run))
    assert workspace(GetRun(id=run)).status == "running", "its old heartbeat is not held against it"
    assert workspace(SweepRuns()).runs == 0


def test_a_silent_run_that_is_resumed_runs(workspace: Workspace, folder: WorkspaceFolder) -> None:
    """It shows as killed, so resuming it must change what it shows, swept or not."""
    run = workspace(CreateRun(beats=True)).id
    silence(folder, run)
    assert workspace(ResumeRun(id=run)).status == "running"
    assert workspace(GetRun(id=run)).status == "running"


def test_the_status_of_the_workspace_knows_who_is_silent(workspace: Workspace, folder: WorkspaceFolder) -> None:
    run = workspace(CreateRun(beats=True)).id
    workspace(CreateRun())
    silence(folder, run)
    workspace(SweepRuns())
    assert workspace(GetStatus()).runs == {"running": 1, "killed": 1}
