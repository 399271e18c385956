"""The ledger: one event for each change, and a chain in which every later edit is found and named."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tarmac.core.errors import Conflict, Invalid, NotFound, TarmacError
from tarmac.core.operation import Operation
from tarmac.govern.operations import ExportEvents, ListEvents, VerifyLedger
from tarmac.govern.records import AuditEvent, Verification
from tarmac.people.operations import AddPerson
from tarmac.store import ledger
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.ledger import Ledger
from tarmac.store.operations import CheckStore, CommitManifest, CreateProject, DeleteManifest, GetStatus
from tarmac.store.records import File
from tarmac.track.operations import CreateExperiment, CreateRun, EndRun, GetRun, ListRuns
from tarmac.workspace import Workspace, connect
from tests.store.editing import Intruder, database_of
from tests.store.processes import ran

Edit = Callable[[Intruder], Any]


def events(workspace: Workspace, least: int = 0) -> list[AuditEvent]:
    """All of this project's, oldest first; on Postgres they come a moment later."""
    until = time.monotonic() + 10
    while True:
        found: list[AuditEvent] = []
        page = workspace(ListEvents(after=0, limit=1000))
        found += page.events
        while page.next is not None:
            page = workspace(ListEvents(after=page.next, limit=1000))
            found += page.events
        if len(found) >= least or time.monotonic() > until:
            return found
        time.sleep(0.05)


def verify(workspace: Workspace, expect: str = "") -> Verification:
    return workspace.wait(workspace(VerifyLedger(expect=expect)))


def test_every_change_leaves_one_event_and_nothing_else_does(anywhere: Workspace) -> None:
    run = anywhere(CreateRun(experiment="one", name="first"))
    anywhere(EndRun(id=run.id))
    blob = anywhere.put(b"bytes")
    file = File(path="a", digest=blob, size=5)
    made = anywhere(CommitManifest(kind="data", files=[file])).manifest
    assert made is not None
    anywhere(DeleteManifest(id=made.id))
    anywhere(CreateProject(name="other"))
    person = anywhere(AddPerson(name="ada", role="admin"))
    # asked again, failed, refused or only looked at
    anywhere(EndRun(id=run.id))
    assert anywhere(CommitManifest(kind="data", files=[File(path="a", digest="0" * 64, size=1)])).missing
    wrong: list[tuple[Operation[Any], type[TarmacError]]] = [
        (EndRun(id=run.id, status="failed"), Conflict),
        (CreateExperiment(name="one"), Conflict),
        (CreateProject(name="other"), Conflict),
        (CreateRun(parent="0" * 32), NotFound),
        (DeleteManifest(id=made.id), NotFound),
        (CommitManifest(kind="data", files=[msgspec.structs.replace(file, size=6)]), Invalid),
        (CreateRun(experiment=""), Invalid),
    ]
    for request, error in wrong:
        with pytest.raises(error):
            anywhere(request)
    looks: list[Operation[Any]] = [GetRun(id=run.id), ListRuns(), GetStatus()]
    for look in looks:
        anywhere(look)
    anywhere(CreateExperiment(name="last"))

    found = events(anywhere, 7)
    assert [event.operation for event in found] == [
        "runs.create", "runs.end", "manifests.commit", "manifests.rm", "projects.create", "people.add",
        "experiments.create",
    ]  # fmt: skip
    assert [event.position for event in found] == list(range(1, 8))
    assert [event.subject for event in found[:4]] == [f"runs/{run.id}"] * 2 + [f"manifests/{made.id}"] * 2
    assert found[5].subject == f"people/{person.id}"
    assert found[0].payload["name"] == "first"
    assert {event.actor for event in found} == {run.actor}
    assert run.actor.startswith("os:"), "nobody has shown a token"
    checked = verify(anywhere)
    assert checked.faults == []
    assert events(anywhere, 8)[7].operation == "audit.verify", "and asking for the proof is itself recorded"


def test_events_can_be_looked_through(workspace: Workspace) -> None:
    made = [workspace(CreateRun(experiment="x")) for _ in range(5)]
    workspace(EndRun(id=made[2].id))
    events(workspace, 6)
    newest = workspace(ListEvents(limit=4))
    assert [event.position for event in newest.events] == [6, 5, 4, 3]
    assert newest.next == 3
    assert [event.position for event in workspace(ListEvents(before=newest.next)).events] == [2, 1]
    about = workspace(ListEvents(subject=f"runs/{made[2].id}")).events
    assert [event.operation for event in about] == ["runs.end", "runs.create"]
    assert len(workspace(ListEvents(operation="runs.create")).events) == 5
    assert workspace(ListEvents(actor="nobody")).events == []
    assert workspace(ListEvents(after=(1 << 63) - 1)).events == []
    with pytest.raises(Invalid, match="after"):
        workspace(ListEvents(after=1 << 63))
    with pytest.raises(Invalid, match="expect"):
        workspace(VerifyLedger(expect="9" * 5000 + ":" + "0" * 64))


# ------------------------------------------------------------------------------------------------------------- edits


@pytest.fixture
def sealed(folder: WorkspaceFolder) -> WorkspaceFolder:
    """Twelve events in at least six seals, and nobody at work."""
    for number in range(6):
        with connect(folder.path.parent) as workspace:
            run = workspace(CreateRun(experiment="history", name=f"run {number}"))
            workspace(EndRun(id=run.id))
    return folder


def seal_of(run: Intruder, position: int) -> tuple[int, int, int]:
    """Number, first event and count of the seal over an event."""
    (row,) = run(
        "SELECT number, first_position, events FROM seals WHERE first_position <= ? AND first_position + events > ?",
        position,
        position,
    )
    return row


def remove_seal(run: Intruder) -> None:
    run("DELETE FROM seals WHERE number = 3")


def remove_event(run: Intruder) -> None:
    run("DELETE FROM events WHERE position = 5")


def swap_events(run: Intruder) -> None:
    run("UPDATE events SET position = 1000 WHERE position = 5")
    run("UPDATE events SET position = 5 WHERE position = 7")
    run("UPDATE events SET position = 7 WHERE position = 1000")


def add_event(run: Intruder) -> None:
    run("INSERT INTO events SELECT 13, project, at, actor, operation, subject, payload, payload_digest FROM events "
        "WHERE position = 1")  # fmt: skip


def cover_a_payload(run: Intruder) -> None:
    from tarmac.core.digest import digest

    new = b'{"experiment":"history","name":"another"}'
    run("UPDATE events SET payload = ?, payload_digest = ? WHERE position = 5", new, digest(new))


EDITS: dict[str, tuple[Edit, str]] = {
    "payload": (lambda run: run("UPDATE events SET payload = ? WHERE position = 5", b"{}"), "event 5 was edited"),
    "payload and digest": (cover_a_payload, "was edited: seal"),
    "actor": (lambda run: run("UPDATE events SET actor = 'ada' WHERE position = 5"), "was edited: seal"),
    "time": (lambda run: run("UPDATE events SET at = at + 1 WHERE position = 5"), "was edited: seal"),
    "subject": (lambda run: run("UPDATE events SET subject = 'runs/0' WHERE position = 5"), "was edited: seal"),
    "swapped": (swap_events, "was edited: seal"),
    "event removed": (remove_event, "event 5 is missing"),
    "event added": (add_event, "1 events from 13 on have no seal"),
    "seal removed": (remove_seal, "seal 3 is missing"),
    "seal's time": (lambda run: run("UPDATE seals SET sealed_at = 0 WHERE number = 3"), "seal 3 was edited"),
    "seal's batch": (
        lambda run: run("UPDATE seals SET batch_digest = ? WHERE number = 3", "0" * 64), "seal 3 was edited"),
    "seal's digest": (lambda run: run("UPDATE seals SET digest = ? WHERE number = 3", "0" * 64), "seal 3 was edited"),
    "signature": (
        lambda run: run("UPDATE seals SET signature = ? WHERE number = 3", "0" * 64), "seal 3 is not signed"),
    "count": (lambda run: run("UPDATE seals SET events = events + 1 WHERE number = 3"), "seal 3 was edited"),
    "absurd count": (lambda run: run("UPDATE seals SET events = ? WHERE number = 3", 1 << 60), "seal 3 was edited"),
    "negative count": (lambda run: run("UPDATE seals SET events = -5 WHERE number = 3"), "seal 3 was edited"),
    "absurd start": (
        lambda run: run("UPDATE seals SET first_position = ? WHERE number = 3", 1 << 60), "seal 3 was edited"),
    "renumbered": (lambda run: run("UPDATE seals SET number = 1000 WHERE number = 3"), "seal 3 is missing"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_edited_is_found_and_named(sealed: WorkspaceFolder, edit: str) -> None:
    change, named = EDITS[edit]
    with database_of(sealed) as run:
        number, first, count = seal_of(run, 5)
        assert number >= 3 or "seal" not in named
        change(run)
        opened = Ledger(sealed.ledger_key(None))
    with connect(sealed.path.parent) as workspace:
        store = workspace.door.store  # type: ignore[attr-defined]
        with store.database.read(snapshot=True) as connection:
            found = list(opened.faults(connection))
    assert any(named in fault for fault in found), found
    if named == "was edited: seal":
        assert any(f"seal {number} " in fault and (f"event {first}" in fault or f"{first}–{first + count - 1}" in fault)
                   for fault in found)  # fmt: skip


def test_edits_are_found_through_the_command_line(sealed: WorkspaceFolder, tarmac: Callable[..., Any]) -> None:
    place = str(sealed.path)
    with connect(sealed.path.parent) as workspace:
        head = verify(workspace).head
    assert tarmac("audit", "verify", "-w", place, "--expect", head).code == 0
    with database_of(sealed) as run:
        run("UPDATE events SET actor = 'ada' WHERE position = 3")
    for command in (("audit", "verify"), ("store", "check")):
        done = tarmac(*command, "-w", place)
        assert done.code == 1
        assert "was edited" in done.out
        assert "event 3" in done.out or "3–" in done.out or "–3" in done.out
        assert "Traceback" not in done.err


def test_a_payload_edited_in_sqlites_shell_is_found_and_can_still_be_read(tmp_path: Any) -> None:
    """There a person writes text, not bytes, and maybe no JSON."""
    with connect(tmp_path, create=True) as workspace:
        for _ in range(3):
            workspace(CreateRun())
        folder = WorkspaceFolder(tmp_path / ".tarmac")
        with database_of(folder) as run:
            run("UPDATE events SET payload = 'nothing of the kind' WHERE position = 2")
            run('UPDATE events SET payload = \'{"experiment":"x"}\' WHERE position = 3')
        assert verify(workspace).faults == [
            "event 2 was edited: its payload is not the one that was sealed",
            "event 3 was edited: its payload is not the one that was sealed",
        ]
        shown = workspace(ListEvents(after=0, limit=3)).events
        assert [event.payload for event in shown[1:]] == ["nothing of the kind", {"experiment": "x"}]


def test_an_erased_payload_leaves_the_proof_whole(sealed: WorkspaceFolder) -> None:
    with database_of(sealed) as run:
        run("UPDATE events SET payload = NULL WHERE position IN (1, 5, 12)")
    with connect(sealed.path.parent) as workspace:
        assert verify(workspace).faults == []
        first = workspace(ListEvents(after=0, limit=1)).events[0]
        assert (first.payload, len(first.payload_digest)) == (None, 64)


def cut_the_end(folder: WorkspaceFolder, number: int) -> None:
    with database_of(folder) as run:
        ((last,),) = run("SELECT first_position + events - 1 FROM seals WHERE number = ?", number)
        run("DELETE FROM seals WHERE number > ?", number)
        run("DELETE FROM events WHERE position > ?", last)


def test_an_end_that_was_cut_off_is_missed_by_who_remembers_it(sealed: WorkspaceFolder) -> None:
    with connect(sealed.path.parent) as workspace:
        written_down = verify(workspace).head
        assert workspace.wait(workspace(CheckStore())).faults == []
    cut_the_end(sealed, 3)
    with connect(sealed.path.parent) as workspace:
        assert verify(workspace).faults == [], "what is left is a chain; that is why heads are written down"
        number = written_down.partition(":")[0]
        assert verify(workspace, written_down).faults == [f"seal {number} is not the one that was written down"]
        for _ in range(2):  # what was found wrong is not taken for the truth at the second look
            (fault,) = workspace.wait(workspace(CheckStore())).faults
            assert fault.endswith("was seen here before and is gone: the ledger's end was removed")


def test_a_history_that_was_written_anew_is_found(sealed: WorkspaceFolder) -> None:
    """Somebody who can write the tables, but has another key, replaces one event and all that follows."""
    with connect(sealed.path.parent) as workspace:
        assert workspace.wait(workspace(CheckStore())).faults == []
        head = verify(workspace).head

    def forge(key: bytes) -> None:
        forger = Ledger(key)
        with connect(sealed.path.parent) as workspace:
            store = workspace.door.store  # type: ignore[attr-defined]
            with store.database.write() as connection:
                connection.begin()
                rows = connection.all(f"SELECT {', '.join(ledger.EVENT_COLUMNS)} FROM events ORDER BY position")
                connection.run("DELETE FROM events")
                connection.run("DELETE FROM seals")
                for row in rows:
                    forger._append(connection, [("default", row[2], "mallory", *row[4:])], row[2])
                connection.commit()

    forge(b"x" * 32)
    with connect(sealed.path.parent) as workspace:
        found = verify(workspace).faults
        assert found[0] == "seal 1 is not signed with this workspace's key"
        assert len(found) >= 12
    forge(sealed.ledger_key(None))  # even who has the key cannot make the chain that was written down
    with connect(sealed.path.parent) as workspace:
        assert verify(workspace).faults == []
        assert "not the one that was written down" in verify(workspace, head).faults[0]
        assert any("history was rewritten" in fault for fault in workspace.wait(workspace(CheckStore())).faults)


def test_one_seal_made_anew_does_not_fit_the_next(sealed: WorkspaceFolder) -> None:
    """Even with the key: one event and its seal are replaced, and the seals behind it are left alone."""
    ours = Ledger(sealed.ledger_key(None))
    with database_of(sealed) as run:
        columns = ", ".join(ledger.SEAL_COLUMNS)
        ((number, first, count, at, _, previous, _, _),) = run(f"SELECT {columns} FROM seals WHERE number = 3")
        run("UPDATE events SET actor = 'mallory' WHERE position = ?", first)
        chosen = (
            f"SELECT {', '.join(ledger.EVENT_COLUMNS)} FROM events WHERE position BETWEEN ? AND ? ORDER BY position"
        )
        batch = ledger._batch_digest(run(chosen, first, first + count - 1))
        made = ledger._seal_digest(number, first, count, at, batch, previous)
        run(
            "UPDATE seals SET batch_digest = ?, digest = ?, signature = ? WHERE number = 3",
            batch,
            made,
            ours.sign(made),
        )
    with connect(sealed.path.parent) as workspace:
        assert verify(workspace).faults == ["seal 4 does not follow seal 3: one of them was replaced"]


def test_a_server_with_another_key_is_refused(sealed: WorkspaceFolder, tarmac: Callable[..., Any]) -> None:
    done = tarmac("status", "-w", str(sealed.path), TARMAC_LEDGER_KEY="ab" * 32)
    assert done.code == 2
    assert "signed with another key" in done.err
    assert tarmac("status", "-w", str(sealed.path), TARMAC_LEDGER_KEY="short").code == 2
    sealed.key_file.unlink()
    assert "cannot be read" in tarmac("status", "-w", str(sealed.path)).err


def test_an_export_has_every_event_of_the_project(anywhere: Workspace) -> None:
    made = [anywhere(CreateRun(name=f"run {n}")).id for n in range(30)]
    events(anywhere, 30)
    export = anywhere.wait(anywhere(ExportEvents()))
    lines = b"".join(anywhere.read(export.blob)).splitlines()
    told = [msgspec.json.decode(line, type=AuditEvent) for line in lines]
    assert len(told) == export.events >= 30
    assert [event.subject for event in told[:30]] == [f"runs/{id}" for id in made]
    later = anywhere.wait(anywhere(ExportEvents(after=29)))
    assert msgspec.json.decode(b"".join(anywhere.read(later.blob)).splitlines()[0], type=AuditEvent) == told[29]


# ------------------------------------------------------------------------------------------------- many at one time


def test_two_processes_give_each_event_one_position(folder: WorkspaceFolder) -> None:
    """Both write and seal at once: no gap, no double, and each one's own order is kept."""
    from tests.store.processes import end, start

    script = """
        for number in range(60):
            workspace(CreateRun(experiment=sys.argv[2], name=f"{sys.argv[2]} {number}"))
        workspace.close()
    """
    children = [start(folder, script, name) for name in ("left", "right")]
    for child in children:
        done = end(child)
        assert (done.code, done.err) == (0, "")
    with connect(folder.path.parent) as workspace:
        found = [event for event in events(workspace, 120) if event.operation == "runs.create"]
        assert [event.position for event in found] == list(range(1, 121))
        for name in ("left", "right"):
            ours = [event.payload["name"] for event in found if event.payload["experiment"] == name]
            assert ours == [f"{name} {number}" for number in range(60)]
        assert verify(workspace).faults == []


@pytest.mark.postgres
def test_who_follows_the_ledger_misses_and_doubles_nothing(tmp_path: Any, new_database: Callable[[], str]) -> None:
    """Four threads write through two stores while a third reads on from the last position it saw."""
    from concurrent.futures import ThreadPoolExecutor
    from shutil import copytree

    from tarmac import store
    from tarmac.core.settings import Settings

    first = WorkspaceFolder(tmp_path / "a" / ".tarmac")
    store.create(first, Settings.from_environment(), new_database()).close()
    copytree(tmp_path / "a", tmp_path / "b")  # the second server: the same id and key, the same database
    each = 80
    with connect(tmp_path / "a") as one, connect(tmp_path / "b") as two, connect(tmp_path / "a") as reader:

        def write(workspace: Workspace, name: str) -> list[str]:
            made = []
            for _ in range(each):
                run = workspace(CreateRun(experiment=name))
                workspace(EndRun(id=run.id))
                made.append(run.id)
            return made

        with ThreadPoolExecutor(4) as threads:
            writers = [threads.submit(write, [one, two][n % 2], f"writer {n}") for n in range(4)]
            seen: list[AuditEvent] = []
            until = time.monotonic() + 30
            while len(seen) < 8 * each and time.monotonic() < until:
                seen += reader(ListEvents(after=seen[-1].position if seen else 0, limit=100)).events
            made = [id for writer in writers for id in writer.result()]
        assert reader(ListEvents(after=seen[-1].position)).events == []
        assert [event.position for event in seen] == list(range(1, 8 * each + 1))
        begun = {event.subject: event.position for event in seen if event.operation == "runs.create"}
        ended = {event.subject: event.position for event in seen if event.operation == "runs.end"}
        assert set(begun) == set(ended) == {f"runs/{id}" for id in made}
        assert all(begun[subject] < ended[subject] for subject in begun), "what was seen comes before what saw it"
        assert verify(reader).faults == []


def test_what_was_written_is_sealed_though_nobody_closes(folder: WorkspaceFolder) -> None:
    """A process that lives on, or is killed a second after its answer, leaves nothing unsealed for long."""
    done = ran(folder, """
        workspace(CreateRun(name="kept"))
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    """)  # fmt: skip
    assert done.code == -9
    with connect(folder.path.parent) as workspace:
        assert [event.payload["name"] for event in workspace(ListEvents()).events] == ["kept"]
