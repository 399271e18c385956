"""Group commit: many callers, few transactions; what one does wrong harms nobody else, and forks lose nothing."""

from __future__ import annotations

import os
import random
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tarmac.core.errors import Busy, Conflict, Internal, NotFound, TarmacError
from tarmac.govern.operations import ListEvents
from tarmac.store import Store
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.sql import Batch, Event, Retry
from tarmac.track.operations import CreateExperiment, CreateRun, EndRun, GetRun, ListRuns
from tarmac.workspace import Workspace, connect
from tests.store.processes import end, faults, start


def store_of(workspace: Workspace) -> Store:
    found: Store = workspace.door.store  # type: ignore[attr-defined]
    return found


def run_ids(workspace: Workspace, experiment: str) -> list[str]:
    found: list[str] = []
    page = workspace(ListRuns(experiment=[experiment], limit=1000))
    while True:
        found += [run.id for run in page.runs]
        if page.next is None:
            return found
        page = workspace(ListRuns(experiment=[experiment], limit=1000, cursor=page.next))


class Group:
    """Work that all goes into one transaction: the first piece waits until the rest is in the queue."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.go = threading.Event()
        self.outcomes: dict[int, tuple[Any, BaseException | None]] = {}
        self.done = threading.Semaphore(0)
        store.writer.submit(lambda batch: self.go.wait(10), lambda result, error: None)
        time.sleep(0.05)

    def add(self, work: Callable[[Batch], Any]) -> None:
        number = len(self.outcomes)
        self.outcomes[number] = (None, None)

        def done(result: Any, error: BaseException | None) -> None:
            self.outcomes[number] = result, error
            self.done.release()

        self.store.writer.submit(work, done)

    def run(self) -> list[tuple[Any, BaseException | None]]:
        self.go.set()
        for _ in self.outcomes:
            assert self.done.acquire(timeout=30)
        return [self.outcomes[number] for number in range(len(self.outcomes))]


def note(name: str) -> Callable[[Batch], str]:
    """A change and its event."""

    def work(batch: Batch) -> str:
        batch.connection.run("INSERT INTO facts (name, value) VALUES (:name, 'x')", name=name)
        batch.events.append(Event("default", batch.now, "os:test", "notes.add", f"notes/{name}", b"{}"))
        return name

    return work


def noted(workspace: Workspace) -> set[str]:
    with store_of(workspace).database.read() as connection:
        return {row[0] for row in connection.all("SELECT name FROM facts WHERE value = 'x'")}


def told(workspace: Workspace, count: int) -> set[str]:
    until = time.monotonic() + 10
    while True:
        found = {event.subject for event in workspace(ListEvents(operation="notes.add", limit=1000)).events}
        if len(found) >= count or time.monotonic() > until:
            return found
        time.sleep(0.05)


def test_who_fails_in_a_group_harms_nobody_else(workspace: Workspace) -> None:
    def unknown(batch: Batch) -> None:
        note("half")(batch)
        raise NotFound.named("thing", "x")

    def wrong_sql(batch: Batch) -> None:
        note("also half")(batch)
        batch.connection.run("INSERT INTO projects (name, created_at) VALUES ('default', 1)")

    def fault(batch: Batch) -> None:
        note("a third half")(batch)
        raise ZeroDivisionError("a fault of ours")

    group = Group(store_of(workspace))
    for work in (note("one"), unknown, note("two"), wrong_sql, fault, note("one"), note("three")):
        group.add(work)
    found = group.run()
    assert [result for result, _ in found] == ["one", None, "two", None, None, None, "three"]
    errors = [error for _, error in found]
    assert [error is None for error in errors] == [True, False, True, False, False, False, True]
    assert isinstance(errors[1], NotFound)
    assert isinstance(errors[4], ZeroDivisionError)
    assert isinstance(errors[3], TarmacError)
    assert noted(workspace) == {"one", "two", "three"}
    assert told(workspace, 3) == {"notes/one", "notes/two", "notes/three"}
    assert faults(workspace) == []


def test_who_is_refused_before_changing_anything_costs_the_others_nothing(workspace: Workspace) -> None:
    times = dict.fromkeys("abc", 0)

    def counted(name: str, work: Callable[[Batch], Any]) -> Callable[[Batch], Any]:
        def once_more(batch: Batch) -> Any:
            times[name] += 1
            return work(batch)

        return once_more

    def refused(batch: Batch) -> None:
        batch.connection.value("SELECT count(*) FROM facts")
        raise NotFound.named("thing", "x")

    group = Group(store_of(workspace))
    for name, work in (("a", note("one")), ("b", refused), ("c", note("two"))):
        group.add(counted(name, work))
    assert [error is None for _, error in group.run()] == [True, False, True]
    assert times == {"a": 1, "b": 1, "c": 1}
    assert noted(workspace) == {"one", "two"}


def test_a_fault_under_the_group_undoes_all_of_it_and_all_hear_of_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(workspace)

    def broken(batch: Batch) -> None:
        raise RuntimeError("the disk went away")

    monkeypatch.setattr(store.writer, "_seal", broken)
    group = Group(store)
    group.add(note("one"))
    group.add(note("two"))
    group.add(lambda batch: (_ for _ in ()).throw(Conflict("its own")))
    found = group.run()
    assert [result for result, _ in found] == [None, None, None]
    assert [type(error) for _, error in found] == [Internal, Internal, Conflict]
    monkeypatch.undo()
    assert noted(workspace) == set()
    assert workspace(CreateRun()).status == "running", "and the next one is served"
    assert faults(workspace) == []


def test_what_the_database_undid_is_done_again(workspace: Workspace) -> None:
    tries: list[int] = []

    def deadlocked(batch: Batch) -> str:
        tries.append(1)
        return note("in the end")(batch)

    store = store_of(workspace)
    real, left = store.writer._seal, [2]

    def seal(batch: Batch) -> None:
        if left[0]:
            left[0] -= 1
            raise Retry
        real(batch)

    store.writer._seal = seal
    assert store.writer.call(deadlocked) == "in the end"
    assert len(tries) == 3
    left[0] = 99
    with pytest.raises(Busy, match="in the way"):
        store.writer.call(note("never"))
    left[0] = 0
    assert noted(workspace) == {"in the end"}
    assert told(workspace, 1) == {"notes/in the end"}


def test_a_caller_who_cannot_be_told_does_not_stop_the_others(workspace: Workspace) -> None:
    """What happens when a client's event loop is closed, or a job's process cannot be started."""

    def deaf(result: Any, error: BaseException | None) -> None:
        raise RuntimeError("nobody is there")

    writer = store_of(workspace).writer
    writer.submit(note("unheard"), deaf)
    assert writer.call(note("heard"), timeout=10) == "heard"
    assert noted(workspace) == {"unheard", "heard"}


def test_who_gave_up_is_left_out(workspace: Workspace) -> None:
    store = store_of(workspace)
    group = Group(store)
    with pytest.raises(Busy, match="nothing was changed"):
        store.writer.call(note("given up"), timeout=0.1)
    group.add(note("kept"))
    group.run()
    assert noted(workspace) == {"kept"}


def test_many_threads_write_and_read(workspace: Workspace) -> None:
    def work(name: str) -> list[str]:
        made = []
        for number in range(40):
            run = workspace(CreateRun(experiment=name, name=str(number)))
            assert workspace(GetRun(id=run.id)) == run, "what was acknowledged can be seen"
            workspace(EndRun(id=run.id))
            with pytest.raises(Conflict):
                workspace(CreateExperiment(name=name))
            made.append(run.id)
        return made

    names = [f"thread {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(work, names))
    for name, ids in zip(names, made, strict=True):
        assert run_ids(workspace, name) == ids[::-1]
    assert faults(workspace) == []


@pytest.mark.slow
def test_processes_that_are_killed_at_random_lose_nothing_acknowledged(folder: WorkspaceFolder) -> None:
    script = """
        while True:
            print(workspace(CreateRun(experiment=sys.argv[2])).id, flush=True)
    """
    names = [f"process {number}" for number in range(5)]
    children = [start(folder, script, name) for name in names]
    first = [child.stdout.readline().strip() for child in children if child.stdout]
    for child in children:
        time.sleep(random.uniform(0.05, 0.4))
        child.send_signal(signal.SIGKILL)
    with connect(folder.path.parent) as workspace:
        for name, child, id in zip(names, children, first, strict=True):
            told = [id, *(line for line in end(child).out.split("\n")[:-1] if len(line) == 32)]
            assert set(told) <= set(run_ids(workspace, name))
        assert faults(workspace) == []


# --------------------------------------------------------------------------------------------------------------- forks


def forked(work: Callable[[], list[str]]) -> tuple[int, int]:
    """A child of this very process, and where it tells which runs it was promised."""
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        return child, told
    try:
        text = " ".join(work())
    except BaseException:
        text = "failed " + traceback.format_exc()
    os.write(tell, text.encode()[:60_000])
    os._exit(0)


def heard(child: int, told: int) -> list[str]:
    ready, _, _ = select.select([told], [], [], 40)
    if not ready:
        os.kill(child, signal.SIGKILL)
    text = b""
    while piece := os.read(told, 65536):
        text += piece
    os.close(told)
    os.waitpid(child, 0)
    assert ready, "the child hangs"
    assert not text.startswith(b"failed"), text.decode()
    return text.decode().split()


def test_a_forked_child_goes_on_after_its_parent_has_closed(folder: WorkspaceFolder) -> None:
    """As far as its locks tell, the parent was the last to have the store open: its child's work must survive it."""
    workspace = connect(folder.path.parent)
    before = workspace(CreateRun(experiment="parent")).id

    def work() -> list[str]:
        ids = [workspace(CreateRun(experiment="child")).id]
        time.sleep(0.5)
        assert workspace(GetRun(id=before)).id == before
        return [*ids, *(workspace(CreateRun(experiment="child")).id for _ in range(10))]

    children = [forked(work) for _ in range(2)]
    time.sleep(0.2)
    workspace.close()
    promised = [id for child in children for id in heard(*child)]
    assert len(promised) == 22
    with connect(folder.path.parent) as again:
        assert sorted(run_ids(again, "child")) == sorted(promised)
        assert run_ids(again, "parent") == [before]
        assert faults(again) == []


def test_forks_in_the_midst_of_reading_and_writing(workspace: Workspace) -> None:
    stop = threading.Event()
    promised: list[str] = []

    def write() -> None:
        while not stop.is_set():
            promised.append(workspace(CreateRun(experiment="parent")).id)

    def read() -> None:
        while not stop.is_set():
            workspace(ListRuns(limit=50))

    def work() -> list[str]:
        return [workspace(CreateRun(experiment="child")).id for _ in range(10)]

    workspace(CreateExperiment(name="parent"))
    threads = [threading.Thread(target=kind) for kind in (write, write, write, read, read)]
    for thread in threads:
        thread.start()
    try:
        children = []
        for _ in range(5):
            time.sleep(0.05)
            children.append(forked(work))
        by_children = [id for child in children for id in heard(*child)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(by_children) == 50
    assert sorted(run_ids(workspace, "child")) == sorted(by_children)
    assert sorted(run_ids(workspace, "parent")) == sorted(promised)
    assert faults(workspace) == []


def test_a_child_that_was_forked_inside_a_read_is_told_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What SQLite cannot do safely is refused, not tried; Postgres can."""
    from tarmac.store import sqlite

    monkeypatch.setattr(sqlite, "FORK_SECONDS", 0.2)
    kind = store_of(workspace).database.kind

    def work() -> list[str]:
        try:
            return [workspace(CreateRun(experiment="child")).id]
        except Busy as error:
            return [error.code]

    with store_of(workspace).database.read(snapshot=True) as connection:
        assert connection.value("SELECT count(*) FROM runs") == 0
        (answer,) = heard(*forked(work))
        assert connection.value("SELECT count(*) FROM runs") in (0, 1)
    assert (answer == "busy") == (kind == "sqlite")
    assert workspace(CreateRun()).status == "running"
    assert faults(workspace) == []
