"""What must survive: kills at any moment, two at once, a folder that changes, a full disk, hostile names."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarmac.core.errors import Conflict, Damaged, Full, Invalid
from tarmac.data.checkout import trusted
from tarmac.data.listing import FILE, LINK, Entry
from tarmac.data.operations import DeleteData, ListData, PurgeData
from tarmac.data.placing import refuse_clashes
from tarmac.data.scan import clashes
from tarmac.data.status import status
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import CheckStore, CollectGarbage
from tarmac.workspace import Workspace, connect
from tarmac.workspace.datasets import memory_of, quiet, sources_of
from tarmac.workspace.transfer import transfer
from tests.conftest import tarmac_environment
from tests.data.making import data_set, fill, tree

KILLS = 4


READY = "import sys; from tarmac.door import catalog; catalog.handlers(); import tarmac.workspace.datasets; "
COMMAND = READY + "print('ready', flush=True); from tarmac.cli import main; main()"
COLLECT = READY + (
    "from tarmac.workspace import connect; from tarmac.store.blobs.gc import Collector; "
    "s = connect(sys.argv[1]).door.store; print('ready', flush=True); "
    "Collector(s.database, s.writer, s.blobs, 0).collect(dry_run=False, progress=lambda done, what: None)"
)


def killed(program: str, seconds: float, *words: str) -> None:
    """A program that is killed so long after it was ready to work."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=tarmac_environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    process.stdout.close()


def moments(longest: float) -> Iterator[float]:
    return (random.random() * longest for _ in range(KILLS))


def many(folder: Path, mark: bytes, count: int = 150) -> Path:
    return fill(folder, {f"{n % 7}/{n}.bin": mark + os.urandom(20_000) for n in range(count)})


@pytest.mark.slow
def test_a_killed_log_leaves_no_version_or_a_whole_one(
    workspace: Workspace, folder: WorkspaceFolder, tmp_path: Path
) -> None:
    many(tmp_path / "in", b"one")
    for seconds in moments(0.4):
        killed(COMMAND, seconds, "data", "log", "faces", str(tmp_path / "in"), "-w", str(folder.path))
    version = data_set(workspace).log(tmp_path / "in")
    assert version.number == 1
    workspace.wait(workspace(CollectGarbage(grace_hours=0)))
    version.checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "in")
    assert workspace.wait(workspace(CheckStore())).faults == []


@pytest.mark.slow
def test_a_killed_checkout_leaves_old_files_and_new_ones(
    workspace: Workspace, folder: WorkspaceFolder, tmp_path: Path
) -> None:
    faces = data_set(workspace)
    for number, mark in ((1, b"one"), (2, b"two")):
        many(tmp_path / mark.decode(), mark)
        assert faces.log(tmp_path / mark.decode()).number == number
    olds, news = tree(tmp_path / "one"), tree(tmp_path / "two")
    faces.at(1).checkout(tmp_path / "out")
    sources, memory = sources_of([tmp_path / "out"]), memory_of(workspace)
    for seconds in moments(0.4):
        killed(COMMAND, seconds, "data", "checkout", "faces@v2", str(tmp_path / "out"), "-w", str(folder.path))
        for name, now in tree(tmp_path / "out").items():
            if ".tarmac-partial-" not in name:
                assert now in (olds[name], news[name])
        found = status(workspace, memory, sources)
        assert found.changed == []
        assert found.unfinished or found.version in ("faces@v1", "faces@v2")
        if found.unfinished:
            left = sum(now != news.get(name) for name, now in tree(tmp_path / "out").items() if name in news)
            assert found.left == left
    faces.at(2).checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == news
    assert status(workspace, memory, sources).clean


@pytest.mark.slow
def test_a_killed_push_goes_on(workspace: Workspace, folder: WorkspaceFolder, tmp_path: Path) -> None:
    data_set(workspace).log(many(tmp_path / "in", b"one"))
    with connect(tmp_path / "elsewhere", create=True) as other:
        for seconds in moments(0.4):
            killed(COMMAND, seconds, "data", "push", "faces", str(tmp_path / "elsewhere"), "-w", str(folder.path))
            assert len(other(ListData()).data) in (0, 1)
        assert transfer(workspace, other, "faces", quiet).version.number == 1
        data_set(other).latest.checkout(tmp_path / "out")
        assert other.wait(other(CheckStore())).faults == []
    assert tree(tmp_path / "out") == tree(tmp_path / "in")


@pytest.mark.slow
def test_a_killed_gc_takes_nothing_that_is_needed(
    workspace: Workspace, folder: WorkspaceFolder, tmp_path: Path
) -> None:
    faces = data_set(workspace)
    for mark in (b"one", b"two", b"three"):
        faces.log(many(tmp_path / "in", mark, 100))
    for number in (1, 2):
        workspace(DeleteData(ref=f"faces@v{number}"))
    workspace.wait(workspace(PurgeData(days=0)))
    for seconds in moments(0.4):
        killed(COLLECT, seconds, str(folder.path))
    workspace.wait(workspace(CollectGarbage(grace_hours=0)))
    faces.at(3).checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "in")
    assert workspace.wait(workspace(CheckStore())).faults == []


def test_two_logs_of_one_name_at_once(anywhere: Workspace, folder: WorkspaceFolder, tmp_path: Path) -> None:
    where = anywhere.place if "://" in anywhere.place else folder.path
    errors: list[BaseException] = []

    def log(mark: str) -> None:
        try:
            with connect(where) as own:
                data_set(own).log(fill(tmp_path / mark, {"a": mark.encode(), "same": b"s" * 1000}))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=log, args=(mark,)) for mark in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    faces = data_set(anywhere)
    assert [version.number for version in faces.versions()] == [3, 2, 1]
    held = set()
    for number in (1, 2, 3):
        with faces.at(number).open("a") as file:
            held.add(file.read())
    assert held == {b"one", b"two", b"three"}


def test_gc_beside_a_log(workspace: Workspace, folder: WorkspaceFolder, tmp_path: Path) -> None:
    """Packs that were uploaded and not committed yet may go: they are then sent again."""
    faces = data_set(workspace)
    faces.log(many(tmp_path / "in", b"one", 30))
    stop = threading.Event()

    def collect() -> None:
        with connect(folder.path) as own:
            while not stop.is_set():
                own.wait(own(CollectGarbage(grace_hours=0)))

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for mark in (b"two", b"three", b"four"):
            many(tmp_path / "in", mark, 30)
            faces.log(tmp_path / "in")
    finally:
        stop.set()
        thread.join()
    faces.latest.checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "in")
    assert workspace.wait(workspace(CheckStore())).faults == []


@pytest.mark.parametrize("change", ["written", "removed", "added"])
def test_a_folder_that_changes_is_no_version(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The change happens when some files have been read, between two of them."""
    folder = many(tmp_path / "in", b"one", 40)
    victim = folder / "3/3.bin"

    def progress(done: int, total: int, what: str) -> None:
        if change == "written" and done:
            victim.write_bytes(b"changed")
        elif change == "removed":
            victim.unlink(missing_ok=True)
        elif change == "added":
            (folder / "3/3new.bin").write_bytes(b"new")

    with pytest.raises(Invalid, match=r"3/3(new)?\.bin changed while it was logged"):
        data_set(workspace).log(folder, progress=progress)
    assert workspace(ListData()).data == []
    assert data_set(workspace).log(folder).number == 1


def test_what_cannot_be_kept_is_refused_by_name(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = data_set(workspace)
    cases = tmp_path / "cases"
    fill(cases, {"out/a": b"1", "pipe/a": b"1", "socket/a": b"1", "name/a": b"1"})
    (cases / "out/link").symlink_to("../../secret")
    with pytest.raises(Invalid, match=r"out/link is a link that leaves the folder"):
        faces.log(cases / "out")
    os.mkfifo(cases / "pipe/fifo")
    with pytest.raises(Invalid, match=r"pipe/fifo is neither a file nor a folder"):
        faces.log(cases / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(cases / "socket")  # the path of a socket has to be short
        listening.bind("s")
        with pytest.raises(Invalid, match=r"socket/s is neither a file nor a folder"):
            faces.log(cases / "socket")
    (cases / "name" / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")
    with pytest.raises(Invalid, match="not UTF-8"):
        faces.log(cases / "name")
    with pytest.raises(Invalid, match="nothing to log"):
        faces.log(fill(tmp_path / "hollow", {"x/": b""}) / "x")
    assert workspace(ListData()).data == []


@pytest.mark.parametrize("path", ["../up", "/absolute", "a/../../b", "a//b", "./a", "C:/x", "a\\b", "a\0b", ""])
def test_names_from_elsewhere_do_not_lead_out(path: str) -> None:
    with pytest.raises(Damaged, match="cannot be written"):
        trusted(Entry(path, FILE))
    with pytest.raises((Damaged, Invalid)):
        trusted(Entry("fine", LINK, target="../../out"))


def test_names_that_are_one_where_case_does_not_matter(tmp_path: Path) -> None:
    assert clashes(["a/B.txt", "a/b.txt"]) == ("a/B.txt", "a/b.txt")
    assert clashes(["A/x", "a/y"]) == ("A", "a")
    assert clashes(["caf\u00e9", "cafe\u0301"]) is not None
    assert clashes(["a", "b", "a/b"]) is None
    refuse_clashes(tmp_path, {"a": Entry("a", FILE), "A": Entry("A", FILE)})  # here case matters


def test_a_link_on_the_way_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    faces = data_set(workspace)
    faces.log(fill(tmp_path / "in", {"sub/a": b"one"}))
    outside = fill(tmp_path / "outside", {"b": b"theirs"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sub").symlink_to(outside)
    with pytest.raises((Conflict, Invalid)):
        faces.at(1).checkout(tmp_path / "out")
    assert tree(outside) == {"b": ("file", b"theirs", False)}


def test_a_full_disk_in_checkout(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = data_set(workspace)
    faces.log(fill(tmp_path / "in", {f"{n}": os.urandom(30_000) for n in range(10)}))
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "big").mkdir()
    faces.log(fill(tmp_path / "in", {"z-large": os.urandom(9_000_000)}))
    held = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, before[1]))
    try:
        with pytest.raises((Conflict, Full)):
            faces.at(2).checkout(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, held)
    found = status(workspace, memory_of(workspace), sources_of([tmp_path / "out"]))
    assert (found.unfinished, found.left, found.changed) == ("faces@v2", 1, [])
    assert not list((tmp_path / "out").rglob(".tarmac-partial-*"))
    faces.at(2).checkout(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "in")
