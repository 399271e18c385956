"""Pipelines that start by themselves: what is due starts once, whatever servers and clocks do."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.clock import now
from tarmac.core.errors import Invalid, NotFound
from tarmac.core.settings import Settings
from tarmac.flow import queries as jobs
from tarmac.flow.operations import GetJob, ListJobs
from tarmac.flow.schedules import queue
from tarmac.flow.schedules.operations import (
    AddSchedule,
    FireSchedule,
    ListFirings,
    ListSchedules,
    RemoveSchedule,
    RunSchedule,
    SwitchSchedule,
)
from tarmac.flow.schedules.records import Firing
from tarmac.flow.schedules.ticking import Ticker, starts
from tarmac.registry.operations import CreateModel
from tarmac.store import open_store
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import CreateProject
from tarmac.track.operations import ListRuns
from tarmac.workspace import LocalWorkspace, Workspace, connect
from tests.conftest import Ran, Server
from tests.store.editing import database_of

MINUTE = 60_000
PIPELINE = """
import tarmac

@tarmac.step
def double(x: int) -> int:
    return 2 * x

@tarmac.pipeline
def train(x: int = 3):
    return double(x)

@tarmac.pipeline
def broken(x: int = 3):
    return double(x) + double("no")
"""


@pytest.fixture
def project(folder: WorkspaceFolder) -> Path:
    """A project beside the workspace."""
    home = folder.path.parent
    (home / "ours.py").write_text(PIPELINE)
    (home / "tarmac.toml").write_text('[pipelines.train]\nentry = "ours:train"\n')
    return home


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def ticker(workspace: Workspace) -> Ticker:
    assert isinstance(workspace, LocalWorkspace)
    return Ticker(workspace.door.store)


def set_next(folder: WorkspaceFolder, at: int) -> None:
    with database_of(folder) as database:
        database(f"UPDATE schedules SET next_at = {at}")


def history(workspace: Workspace, name: str | None = None) -> list[Firing]:
    found, before = list[Firing](), ""
    while True:
        page = workspace(ListFirings(name=name, limit=1000, before=before))
        found += page.firings
        if page.next is None:
            return found
        before = page.next


def test_schedules_are_made_shown_and_forgotten(anywhere: Workspace, project: Path) -> None:
    made = anywhere(
        AddSchedule(name="nightly", pipeline="train", folder=str(project), cron="0 3 * * *", params={"x": "4"})
    )
    assert (made.on, made.waiting, made.last_at, made.params) == (True, 0, None, {"x": "4"})
    assert made.next_at is not None
    assert made.next_at > now()
    anywhere(AddSchedule(name="hourly", pipeline="train", folder=str(project), cron="0 * * * *", zone="Europe/Prague"))
    anywhere(AddSchedule(name="on-data", pipeline="train", folder=str(project), triggers=["data:faces"]))
    assert [one.name for one in anywhere(ListSchedules()).schedules] in (
        ["hourly", "nightly", "on-data"], ["nightly", "hourly", "on-data"],
    )  # fmt: skip
    rested = anywhere(SwitchSchedule(name="nightly", off=True))
    assert (rested.on, rested.next_at) == (False, None)
    assert anywhere(SwitchSchedule(name="nightly")).next_at == made.next_at
    changed = anywhere(AddSchedule(name="nightly", pipeline="train", folder=str(project), cron="0 4 * * *"))
    assert changed.cron == "0 4 * * *"
    anywhere(RemoveSchedule(name="hourly"))
    with pytest.raises(NotFound, match="no schedule `nighty`") as missing:
        anywhere(RemoveSchedule(name="nighty"))
    assert "nightly" in str(missing.value.hint)
    assert [one.name for one in anywhere(ListSchedules()).schedules] == ["nightly", "on-data"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"cron": "0 0 31 2 *"}, "never comes"),
        ({"cron": "0 3 * *"}, "4 fields"),
        ({"cron": "0 3 * * 1", "zone": "Europe/Praha"}, "no time zone"),
        ({}, "neither a cron line nor a trigger"),
        ({"triggers": ["dat:faces"]}, "triggers"),
        ({"triggers": ["event:runs.end"]}, "never end"),
        ({"triggers": ["event:modles.create"]}, "no event"),
        ({"cron": "@daily", "folder": "here"}, "not the whole path"),
        ({"cron": "@daily", "folder": "/nowhere"}, "no tarmac.toml"),
    ],
)
@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_what_could_not_start_is_refused(workspace: Workspace, project: Path, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        workspace(AddSchedule(**{"name": "train", "folder": str(project), **wrong}))
    assert workspace(ListSchedules()).schedules == []


def test_a_thousand_times_each_once_from_two_servers(
    workspace: Workspace, folder: WorkspaceFolder, project: Path
) -> None:
    """Two stores, as two servers have them, walk over the same minutes at their own pace."""
    workspace(AddSchedule(name="train", folder=str(project), cron="* * * * *"))
    first = ms("2030-01-01 00:00")
    set_next(folder, first)
    faults = list[BaseException]()

    def walk() -> None:
        try:
            store = open_store(folder, Settings.from_environment())
            walker = Ticker(store)
            for minute in range(1000):
                walker.tick(first + minute * MINUTE + 300)
            store.close()
        except BaseException as error:
            faults.append(error)

    walkers = [threading.Thread(target=walk) for _ in range(2)]
    for walker in walkers:
        walker.start()
    for walker in walkers:
        walker.join()
    assert faults == []
    due = sorted(one.due_at for one in history(workspace))
    assert due == [first + minute * MINUTE for minute in range(1000)]
    assert workspace(ListSchedules()).schedules[0].missed == 0


def test_clocks_that_jump(workspace: Workspace, folder: WorkspaceFolder, project: Path) -> None:
    workspace(AddSchedule(name="train", folder=str(project), cron="0 * * * *"))
    first = ms("2030-01-01 00:00")
    set_next(folder, first)
    clock = ticker(workspace)
    assert [clock.tick(first + at) for at in (-1, 0, 1000)] == [0, 1, 0]
    # forward over days: what passed is made up for once, and counted
    later = ms("2030-01-04 12:30")
    assert [clock.tick(later), clock.tick(later + 1000)] == [1, 0]
    shown = workspace(ListSchedules()).schedules[0]
    assert (shown.last_at, shown.next_at, shown.missed) == (ms("2030-01-04 12:00"), ms("2030-01-04 13:00"), 83)
    assert "made up for 2030-01-04T12:00" in history(workspace)[0].why
    # back: it goes on from there, and nothing runs a second time
    back = ms("2030-01-04 11:59")
    assert [clock.tick(back), clock.tick(back + MINUTE), clock.tick(back + 61 * MINUTE)] == [0, 0, 1]
    due = [one.due_at for one in history(workspace)]
    assert len(set(due)) == len(due) == 3


def test_the_night_of_the_change_runs_once(workspace: Workspace, folder: WorkspaceFolder, project: Path) -> None:
    workspace(AddSchedule(name="train", folder=str(project), cron="30 2 * * *", zone="Europe/Prague"))
    clock = ticker(workspace)
    for night, utc in (("2030-03-31", "2030-03-31 01:00"), ("2030-10-27", "2030-10-27 00:30")):
        start = ms(f"{night} 00:00") - 3_600_000
        set_next(folder, ms(utc))
        assert sum(clock.tick(start + minute * MINUTE) for minute in range(6 * 60)) == 1
        assert history(workspace)[0].due_at == ms(utc)


def test_events_of_the_ledger_start_it(workspace: Workspace, project: Path) -> None:
    trigger = "event:models.create models/base*"
    workspace(AddSchedule(name="train", folder=str(project), triggers=[trigger]))
    workspace(CreateProject(name="other"))
    clock = ticker(workspace)

    def ticked(*wanted: str) -> int:
        for name in wanted:
            workspace(CreateModel(name=name))
        end = time.monotonic() + 5
        while not (count := clock.tick(now())) and time.monotonic() < end and wanted and wanted[-1] != "else":
            time.sleep(0.05)  # on Postgres events are sealed a moment later
        return count

    assert ticked() == 0
    assert ticked("else") == 0
    assert ticked("baseline") == 1
    assert ticked() == 0
    assert history(workspace)[0].why == "models.create models/baseline"
    # a server that starts later goes on from where the ledger was looked at
    workspace(CreateModel(name="base2"))
    clock = ticker(workspace)
    assert ticked("base3") == 1
    assert len(history(workspace)) in (2, 3)


@pytest.mark.parametrize(
    ("trigger", "operation", "subject", "starts_it"),
    [
        ("data:faces", "data.commit", "data/faces@v4", True),
        ("data:faces", "data.commit", "data/faces-2@v4", False),
        ("data:faces*", "data.commit", "data/faces-2@v4", True),
        ("data:faces", "data.rm", "data/faces@v4", False),
        ("event:models.create", "models.create", "models/x", True),
        ("event:models.create models/y", "models.create", "models/x", False),
        ("webhook", "models.create", "models/x", False),
    ],
)
def test_what_a_trigger_means(trigger: str, operation: str, subject: str, starts_it: bool) -> None:
    assert starts([trigger], operation, [subject]) is starts_it


def test_the_most_urgent_goes_first_and_of_each_one_at_a_time(
    workspace: Workspace, folder: WorkspaceFolder, project: Path
) -> None:
    assert isinstance(workspace, LocalWorkspace)
    store = workspace.door.store
    for name, priority in (("low", -5), ("mid", 0), ("top", 5)):
        workspace(AddSchedule(name=name, pipeline="train", folder=str(project), cron="@daily", priority=priority))
        assert workspace(FireSchedule(name=name, mark="one")).queued
        assert not workspace(FireSchedule(name=name, mark="one")).queued
        assert workspace(FireSchedule(name=name, mark="two")).queued
    taken = [queue.claim(store, now()) for _ in range(4)]
    names = {one.job: one.schedule for one in history(workspace) if one.job}
    assert [names.get(str(job)) for job in taken] == [
        "top",
        "mid",
        "low",
        None,
    ]  # the second of each waits for the first
    assert [one.waiting for one in workspace(ListSchedules()).schedules] == [1, 1, 1]
    # a server that took them and was gone: another takes over, once
    later = now() + jobs.SILENT_AFTER + 1000
    with database_of(folder) as database:
        database("UPDATE jobs SET heartbeat_at = 0")
    over = queue.recover(store, later)
    assert sorted(over) == sorted((str(job), 2) for job in taken if job)
    assert queue.recover(store, now()) == []
    # whose project is not on this machine leaves it to others
    (project / "tarmac.toml").unlink()
    assert queue.claim(store, later) is None


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_server_runs_what_is_due_also_after_a_restart(
    folder: WorkspaceFolder, project: Path, serve: Callable[..., Server]
) -> None:
    (project / "tarmac.toml").write_text(
        '[project]\ntimezone = "Europe/Prague"\n[pipelines.train]\nentry = "ours:train"\nschedule = "0 3 * * 1"\n'
        "params = { x = 5 }\ntriggers = ['webhook']\n"
    )
    server = serve(folder)
    with connect(server.url) as workspace:
        (schedule,) = workspace(ListSchedules()).schedules
        assert (schedule.zone, schedule.cron, schedule.params) == ("Europe/Prague", "0 3 * * 1", {"x": "5"})
        assert schedule.next_at is not None
        # as a webhook, sent again because the answer was lost
        token = json.dumps({"name": "train", "mark": "delivery 7"}).encode()
        for expected in (True, False):
            request = urllib.request.Request(
                f"{server.url}/api/v1/p/default/schedules.fire", token, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request) as answer:
                assert json.load(answer) == {"queued": expected}
        until(lambda: [one.job_state for one in history(workspace)] == ["done"])
        job = workspace(GetJob(id=str(history(workspace)[0].job)))
        run = workspace(ListRuns(filter="tags.`tarmac.pipeline` = 'train'")).runs[0]
        assert (job.answer["run"], run.params, run.status) == (run.id, {"x": "5"}, "finished")
        with pytest.raises(Invalid, match="stands in"):
            workspace(RemoveSchedule(name="train"))
    assert server.stop() == 0
    # down for a week: the last time that passed is made up for, once
    set_next(folder, now() - 8 * 24 * 60 * MINUTE)
    for _ in range(2):
        server = serve(folder)
        with connect(server.url) as workspace:
            until(lambda: [one.job_state for one in history(workspace)] == ["done", "done"])
            assert "made up for" in history(workspace)[0].why
        assert server.stop() == 0
    # no longer in the file, no longer there
    (project / "tarmac.toml").write_text('[pipelines.train]\nentry = "ours:train"\n')
    server = serve(folder)
    with connect(server.url) as workspace:
        assert workspace(ListSchedules()).schedules == []


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("address", ["postgres"], indirect=True)
def test_two_servers_on_one_postgres_start_each_once(
    folder: WorkspaceFolder, project: Path, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    other = WorkspaceFolder(tmp_path / "other" / ".tarmac")
    other.path.parent.mkdir()
    import shutil

    shutil.copytree(folder.path, other.path)
    servers = [serve(folder), serve(other)]
    with connect(servers[0].url) as one, connect(servers[1].url) as two:
        for number in range(4):
            one(
                AddSchedule(
                    name=f"s{number}", pipeline="train", folder=str(project), cron="@yearly", params={"x": str(number)}
                )
            )
        set_next(folder, now() - 1000)
        until(lambda: len(history(two)) == 4 and all(each.job_state == "done" for each in history(two)))
        time.sleep(2.5)  # both have looked again
        assert len(history(one)) == 4
        assert len([job for job in one(ListJobs()).jobs if job.operation == "schedules.run"]) == 4
        runs = one(ListRuns(filter="tags.`tarmac.pipeline` = 'train'")).runs
        assert sorted(run.params["x"] for run in runs) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_a_line_that_never_comes_is_said_by_whoever_reads_the_file(project: Path, tarmac: Callable[..., Ran]) -> None:
    (project / "tarmac.toml").write_text('[pipelines.train]\nentry = "ours:train"\nschedule = "0 0 30 2 *"\n')
    for words in (["up", "--port", "0"], ["plan", "train"]):
        done = tarmac(*words, cwd=project)
        assert done.code == 2
        assert "[pipelines.train]" in done.err
        assert "never comes" in done.err


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_a_pipeline_that_fails_fails_its_job(workspace: Workspace, project: Path) -> None:
    (project / "tarmac.toml").write_text('[pipelines.broken]\nentry = "ours:broken"\n')
    workspace(AddSchedule(name="broken", folder=str(project), cron="@daily"))
    started = workspace(RunSchedule(name="broken"))
    with pytest.raises(Exception, match="pipeline `broken` ended with"):
        workspace.wait(started)
