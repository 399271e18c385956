"""Jobs: work in processes of their own, that can be followed, stopped, killed and taken up again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.errors import Cancelled, Conflict, Internal, Invalid, NotFound, TarmacError
from tarmac.core.operation import Operation, Started
from tarmac.flow.operations import CancelJob, GetJob, ListJobs, ReadJobLog, ResumeJob
from tarmac.flow.records import Job
from tarmac.govern.operations import ListEvents, VerifyLedger
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import BackupStore, CheckStore, CollectGarbage
from tarmac.workspace import Workspace
from tests.store.editing import database_of

# Real jobs on small stores are over before anybody can look. Site code in the job's own process makes a blob take time.
SLOW = """
import os, sys, time
if any("tarmac.door.child" in word for word in getattr(sys, "orig_argv", [])):
    from tarmac.store.blobs.folder import FolderBlobs
    from tarmac.store import check
    check.CHECKPOINT_EVERY = 5
    real = FolderBlobs.read
    def read(self, *args):
        pace = float(open(os.environ["PACE"]).read())
        print(f"look at {args[0][:8]} – schön langsam", flush=True)
        if pace < 0:
            os._exit(7)
        time.sleep(pace)
        return real(self, *args)
    FolderBlobs.read = read
"""
BLOBS = 40


@pytest.fixture
def pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """How long each blob takes a job, in seconds; below zero its process crashes. Set before the server starts."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SLOW)
    file = tmp_path / "pace"
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("PACE", str(file))
    from tests import conftest

    monkeypatch.setattr(conftest, "ENVIRONMENT", {**conftest.ENVIRONMENT, "PYTHONPATH": path, "PACE": str(file)})

    def set_pace(seconds: float) -> None:
        file.write_text(str(seconds))

    set_pace(0)
    return set_pace


@pytest.fixture
def slow(pace: Callable[[float], None], anywhere: Workspace) -> Workspace:
    """A workspace with enough blobs for a job that lasts a while."""
    for number in range(BLOBS):
        anywhere.put(b"blob %d" % number)
    pace(0.1)
    return anywhere


def until(workspace: Workspace, job: str, condition: Callable[[Job], bool], seconds: float = 15) -> Job:
    end = time.monotonic() + seconds
    while True:
        found = workspace(GetJob(id=job))
        if condition(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.05)


def process_of(job: str) -> int:
    """The process that works on a job, as the system tells."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"tarmac.door.child" in words and job.encode() in words:
            return int(path.parent.name)
    raise AssertionError("nobody works on it")


def let_go(folder: WorkspaceFolder) -> None:
    """Wait until whoever started a job has seen its process go."""
    end = time.monotonic() + 15
    while list(folder.jobs.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.02)


def whole_log(workspace: Workspace, job: str) -> str:
    text, at = "", 0
    while True:
        part = workspace(ReadJobLog(id=job, start=at))
        text, at = text + part.text, part.next
        if not part.text:
            return text


def ended_states(workspace: Workspace) -> dict[str, str]:
    return {job.id: job.state for job in workspace(ListJobs()).jobs}


def test_a_job_is_followed_to_its_end(anywhere: Workspace) -> None:
    for number in range(3):
        anywhere.put(b"blob %d" % number)
    seen: list[Job] = []
    started = anywhere(CheckStore())
    report = anywhere.wait(started, seen.append)
    assert (report.blobs, report.faults) == (3, [])
    job = anywhere(GetJob(id=started.id))
    assert (job.state, job.operation, job.tries, job.error) == ("done", "store.check", 1, None)
    assert job.answer["blobs"] == 3
    assert job.ended_at is not None
    assert job.created_at <= job.ended_at
    assert seen[-1] == job
    assert anywhere(ListJobs()).jobs == [job]
    assert anywhere(ListJobs(state="done")).jobs == [job]
    assert anywhere(ListJobs(state="running")).jobs == []
    with pytest.raises(Conflict, match="ended already"):
        anywhere(CancelJob(id=job.id))
    with pytest.raises(Conflict, match="nothing to resume"):
        anywhere(ResumeJob(id=job.id))
    with pytest.raises(NotFound, match="job"):
        anywhere(GetJob(id="0" * 32))
    with pytest.raises(NotFound, match="job"):
        anywhere(ReadJobLog(id="0" * 32))
    with pytest.raises(Invalid, match="start"):
        anywhere(ReadJobLog(id=job.id, start=1 << 70))


@pytest.mark.slow
def test_progress_log_and_cancel(slow: Workspace) -> None:
    started = slow(CheckStore())
    early = until(slow, started.id, lambda job: job.done > 0)
    assert (early.state, early.message) == ("running", "blobs")
    assert early.total >= BLOBS
    later = until(slow, started.id, lambda job: job.done > early.done)
    assert later.done < later.total
    assert "schön langsam" in whole_log(slow, started.id), "the log can be read while it grows"
    slow(CancelJob(id=started.id))
    asked = [event for event in events(slow) if event.operation == "jobs.cancel"]
    slow(CancelJob(id=started.id))
    assert [event for event in events(slow) if event.operation == "jobs.cancel"] == asked, "asked again is asked once"
    with pytest.raises(Cancelled, match="was asked to stop"):
        slow.wait(started)
    job = slow(GetJob(id=started.id))
    assert job.state == "cancelled"
    assert 0 < job.done < job.total
    log = whole_log(slow, started.id).splitlines()
    assert job.done <= len(log) <= job.done + 1
    assert len(set(log)) == len(log), "nothing is said twice"
    assert all(line.endswith("– schön langsam") for line in log)


def events(workspace: Workspace) -> list[Any]:
    time.sleep(0.5)  # Postgres seals a moment later
    return workspace(ListEvents(after=0, limit=1000)).events


@pytest.mark.slow
def test_a_killed_job_goes_on_where_it_was(slow: Workspace, pace: Callable[[float], None]) -> None:
    started = slow(CheckStore())
    until(slow, started.id, lambda job: job.done >= 12)
    os.kill(process_of(started.id), signal.SIGKILL)
    job = until(slow, started.id, lambda job: job.state == "interrupted")
    assert "ended with -9 (killed)" in job.error["message"]
    assert f"tarmac jobs resume {started.id}" in job.error["hint"]
    first = whole_log(slow, started.id).splitlines()
    assert len(first) >= 12
    assert len(set(first)) == len(first), "what was shipped before the kill is not shipped again"
    pace(0)
    assert slow(ResumeJob(id=started.id)).state == "queued"
    report = slow.wait(started)
    assert (report.faults, report.blobs) == ([], BLOBS)
    job = slow(GetJob(id=started.id))
    assert (job.state, job.tries, job.error) == ("done", 2, None)
    looks = [line for line in whole_log(slow, started.id).splitlines() if "look at" in line]
    assert len(set(looks)) == BLOBS, "every blob was looked at"
    assert BLOBS <= len(looks) <= BLOBS + 5 + 1, "and those before the last checkpoint only once"


def test_an_interrupted_job_can_be_given_up(slow: Workspace) -> None:
    started = slow(CheckStore())
    until(slow, started.id, lambda job: job.state == "running")
    os.kill(process_of(started.id), signal.SIGKILL)
    until(slow, started.id, lambda job: job.state == "interrupted")
    assert slow(CancelJob(id=started.id)).state == "cancelled"
    with pytest.raises(TarmacError):
        slow.wait(started)
    assert ended_states(slow) == {started.id: "cancelled"}


def test_a_crash_is_told(slow: Workspace, pace: Callable[[float], None]) -> None:
    pace(-1)
    started = slow(CheckStore())
    with pytest.raises(Internal, match="the job's process ended with 7"):
        slow.wait(started)
    assert slow(GetJob(id=started.id)).state == "interrupted"
    assert "look at" in whole_log(slow, started.id)
    pace(0)
    slow(ResumeJob(id=started.id))
    assert slow.wait(started).faults == []


def test_an_error_in_a_job_arrives_as_it_was_raised(
    anywhere: Workspace, folder: WorkspaceFolder, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    started = anywhere(BackupStore(to=str(tmp_path / "there")))
    with pytest.raises(Conflict, match="exists already") as caught:
        anywhere.wait(started)
    assert caught.value.hint == "name a folder that does not exist yet"
    job = anywhere(GetJob(id=started.id))
    assert (job.state, job.error["code"]) == ("failed", "conflict")
    (tmp_path / "there").rmdir()
    let_go(folder)
    anywhere(ResumeJob(id=started.id))
    assert anywhere.wait(started).rows > 0


def test_a_request_that_is_wrong_starts_nothing(anywhere: Workspace) -> None:
    wrong: list[Operation[Any]] = [CollectGarbage(grace_hours=-1), VerifyLedger(expect="x"), BackupStore(to="a\x00b")]
    for request in wrong:
        with pytest.raises(Invalid):
            anywhere(request)
    assert anywhere(ListJobs()).jobs == []


def test_a_job_nobody_hears_of_any_more_counts_as_interrupted(anywhere: Workspace, folder: WorkspaceFolder) -> None:
    started = anywhere(CheckStore())
    anywhere.wait(started)
    let_go(folder)
    with database_of(folder) as run:
        run("UPDATE jobs SET state = 'running', ended_at = NULL, heartbeat_at = heartbeat_at - 60000")
    assert anywhere(GetJob(id=started.id)).state == "interrupted"
    assert [job.id for job in anywhere(ListJobs(state="interrupted")).jobs] == [started.id]
    assert anywhere(ListJobs(state="running")).jobs == []
    with pytest.raises(Cancelled, match="is interrupted"):
        anywhere.wait(started)
    anywhere(ResumeJob(id=started.id))
    assert anywhere.wait(started).faults == []


@pytest.mark.slow
def test_a_server_that_stops_leaves_its_jobs_to_be_resumed(
    folder: WorkspaceFolder, pace: Callable[[float], None], serve: Callable[..., Any]
) -> None:
    from tarmac.workspace import connect

    server = serve(folder)
    with connect(server.url) as workspace:
        for number in range(BLOBS):
            workspace.put(b"blob %d" % number)
        pace(0.1)
        started = workspace(CheckStore())
        until(workspace, started.id, lambda job: job.done > 0)
    assert server.stop() == 0
    pace(0)
    with connect(folder.path.parent) as workspace:
        job = workspace(GetJob(id=started.id))
        assert job.state == "interrupted"
        assert 0 < job.done < job.total
        workspace(ResumeJob(id=started.id))
        assert workspace.wait(Started(started.id)) is not None
        assert workspace(GetJob(id=started.id)).tries == 2


def test_a_long_log_arrives_whole(pace: Callable[[float], None], folder: WorkspaceFolder, tmp_path: Path) -> None:
    """More than one beat of the heart carries, and letters of more than one byte at every edge."""
    from tarmac.workspace import connect

    lines = "".join(f"{number}: ä🦊 {'x' * 90}\n" for number in range(4_000))
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\n"
        "if any('tarmac.door.child' in word for word in getattr(sys, 'orig_argv', [])):\n"
        f"    sys.stdout.buffer.write(open({str(tmp_path / 'text')!r}, 'rb').read()); sys.stdout.flush()\n"
    )
    (tmp_path / "text").write_text(lines)
    with connect(folder.path.parent) as workspace:
        started = workspace(CheckStore())
        workspace.wait(started)
        assert whole_log(workspace, started.id) == lines
        last = workspace(ReadJobLog(id=started.id, start=len(lines)))
        assert (last.text, last.ended) == ("", True)
        let_go(folder)


def test_a_job_resumed_before_its_old_process_is_gone_is_left_in_peace(
    pace: Callable[[float], None], folder: WorkspaceFolder, tmp_path: Path
) -> None:
    """A failed job's process takes a moment to close its store; who resumes it just then must not lose the work."""
    from tarmac.workspace import connect

    (tmp_path / "site" / "sitecustomize.py").write_text(SLOW + "    import atexit; atexit.register(time.sleep, 1)\n")
    (tmp_path / "there").mkdir()
    with connect(folder.path.parent) as workspace:
        for number in range(5):
            workspace.put(b"blob %d" % number)
        pace(0.4)
        started = workspace(BackupStore(to=str(tmp_path / "there")))
        until(workspace, started.id, lambda job: job.state == "failed")
        (tmp_path / "there").rmdir()
        workspace(ResumeJob(id=started.id))
        assert workspace.wait(started).blobs == 5
