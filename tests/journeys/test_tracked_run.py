"""A script as a tracked run, files of runs, and uploads that are cut off: as a person does it, in processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tarmac.core.digest import digest
from tarmac.core.errors import Invalid, NotFound
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import CheckStore, CollectGarbage
from tarmac.track.operations import CreateRun, GetDetails, ListRuns, ReadLog
from tarmac.workspace import Workspace, connect
from tarmac.workspace.files import artifacts, download, upload
from tests.conftest import Ran, Server, tarmac_environment

SCRIPT = """
import os, sys, time
from tarmac import connect
from tarmac.track.operations import LogRun
print("depth is", sys.argv[2], flush=True)
with connect() as workspace:
    points = [("loss", 1 / (step + 1), step, 0) for step in range(20)]
    workspace(LogRun(id=os.environ["TARMAC_RUN"], metrics=points))
print("to stderr", file=sys.stderr)
if "--sleep" in sys.argv:
    print("sleeping", flush=True)
    time.sleep(60)
sys.exit(7 if "--fail" in sys.argv else 0)
"""


@pytest.fixture
def script(folder: WorkspaceFolder) -> Path:
    path = folder.path.parent / "train.py"
    path.write_text(SCRIPT)
    (folder.path.parent / ".env").write_text("PASSWORD=hunter2")
    return path


def last_run(workspace: Workspace) -> str:
    return workspace(ListRuns(limit=1)).runs[0].id


def test_a_script_becomes_a_run_with_all_that_made_it(
    tarmac: Callable[..., Ran], script: Path, folder: WorkspaceFolder
) -> None:
    done = tarmac("run", "train.py", "-p", "depth=6", "--", "--token", "sesame", cwd=script.parent)
    assert done.code == 0, done.err
    assert done.out == "depth is 6\n"
    assert "to stderr" in done.err
    with connect(folder.path.parent) as workspace:
        details = workspace(GetDetails(id=last_run(workspace)))
        assert details.run.status == "finished"
        assert details.run.params == {"depth": "6"}
        assert details.run.metrics["loss"] == pytest.approx(1 / 20)
        assert sorted(workspace(ReadLog(id=details.run.id)).text.splitlines()) == ["depth is 6", "to stderr"]
        assert "sesame" not in json.dumps(details.facts)
        assert details.facts["command"].endswith("--token ***")
        assert "msgspec" in details.facts["packages"]
        assert details.facts["left_out"][".env"] == "may hold a secret"
        assert details.source is not None


def test_the_scripts_exit_code_is_the_commands(tarmac: Callable[..., Ran], script: Path) -> None:
    done = tarmac("run", "train.py", "-p", "depth=1", "--", "--fail", cwd=script.parent)
    assert done.code == 7
    assert "failed" in done.err
    listed = json.loads(tarmac("runs", "ls", "--json", cwd=script.parent).out)
    assert listed["runs"][0]["status"] == "failed"


@pytest.mark.skipif(sys.platform == "win32", reason="not run: signals are another thing there")
def test_ctrl_c_ends_the_script_and_the_run_shows_as_killed(script: Path, folder: WorkspaceFolder) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tarmac", "run", "train.py", "-p", "depth=2", "--", "--sleep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=script.parent,
        env=tarmac_environment(),
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline() != "sleeping\n":
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "killed" in err
    with connect(folder.path.parent) as workspace:
        assert workspace(ListRuns(limit=1)).runs[0].status == "killed"


@pytest.mark.slow
def test_a_killed_run_shows_as_killed_within_a_minute(script: Path, folder: WorkspaceFolder) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tarmac", "run", "train.py", "-p", "depth=2", "--", "--sleep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=script.parent,
        env=tarmac_environment(),
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while process.stdout.readline() != "sleeping\n":
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    start = time.monotonic()
    with connect(folder.path.parent) as workspace:
        assert workspace(ListRuns(limit=1)).runs[0].status == "running"
        while workspace(ListRuns(limit=1)).runs[0].status != "killed":
            assert time.monotonic() - start < 60
            time.sleep(0.5)
        assert workspace(ListRuns(filter="status = 'killed'")).runs != []


def test_a_folder_goes_up_and_comes_down_the_same(anywhere: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    contents = {"a.txt": b"a", "deep/b.bin": bytes(9_000_000), "deep/er/ü.txt": "größer".encode(), "empty": b""}
    for name, data in contents.items():
        (source / name).write_bytes(data)
    run = anywhere(CreateRun()).id
    assert upload(anywhere, run, source, "out") == 4
    assert {file.path for file in artifacts(anywhere, run)} == {f"out/{name}" for name in contents}
    assert download(anywhere, run, "out", tmp_path / "back") == 4
    assert {name: (tmp_path / "back" / name).read_bytes() for name in contents} == contents
    assert anywhere.wait(anywhere(CheckStore())).faults == []
    anywhere.wait(anywhere(CollectGarbage(grace_hours=0)))
    assert anywhere.wait(anywhere(CheckStore())).faults == []


def test_links_and_devices_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    run = workspace(CreateRun()).id
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    for path in ("up", "pipe", "up/link"):
        with pytest.raises(Invalid, match=r"regular|neither"):
            upload(workspace, run, tmp_path / path)
    with pytest.raises(NotFound):
        upload(workspace, run, tmp_path / "nothing")
    assert list(artifacts(workspace, run)) == []


def test_an_upload_that_is_cut_off_goes_on(server: Server) -> None:
    data = os.urandom(24 * 1024 * 1024)
    name = digest(data)
    host, port = server.url.removeprefix("http://").split(":")
    path = f"/api/v1/p/default/blobs/{name}"
    with socket.create_connection((host, int(port))) as plug:
        head = f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n\r\n"
        plug.sendall(head.encode() + data[: 16 * 1024 * 1024])
    with connect(server.url) as workspace:
        remote = workspace._remote  # type: ignore[attr-defined]
        end = time.monotonic() + 10
        while (kept := remote._parked(f"{path}/parked")) < 8 * 1024 * 1024:
            assert time.monotonic() < end
            time.sleep(0.05)
        rest = {
            "Content-Range": f"bytes {kept}-{len(data) - 1}/{len(data)}",
            "Content-Type": "application/octet-stream",
        }
        remote._ask("PUT", path, data[kept:], rest, repeat=False)
        assert b"".join(workspace.read(name)) == data
        assert workspace.wait(workspace(CheckStore())).faults == []


def test_runs_as_rows(folder: WorkspaceFolder) -> None:
    import tarmac

    with connect(folder.path.parent) as workspace:
        for depth in ("1", "2", "3"):
            workspace(CreateRun(params={"depth": depth}))
    rows = tarmac.runs("params.depth > 1", order=["params.depth ASC"], workspace=folder.path.parent, form="rows")
    assert [row["params.depth"] for row in rows] == ["2", "3"]
    assert len(tarmac.runs(most=1, workspace=folder.path.parent, form="rows")) == 1


def test_the_code_of_two_runs_is_compared_line_by_line(tarmac: Callable[..., Ran], script: Path) -> None:
    assert tarmac("run", "train.py", "-p", "depth=1", cwd=script.parent).code == 0
    script.write_text(SCRIPT.replace('"depth is"', '"depth was"'))
    assert tarmac("run", "train.py", "-p", "depth=1", cwd=script.parent).code == 0
    new, old = (run["id"] for run in json.loads(tarmac("runs", "ls", "--json", cwd=script.parent).out)["runs"])
    found = tarmac("runs", "diff", old, new, cwd=script.parent)
    assert found.code == 1
    assert '-print("depth is", sys.argv[2], flush=True)' in found.out
    assert '+print("depth was", sys.argv[2], flush=True)' in found.out
    assert tarmac("runs", "diff", new, new, cwd=script.parent).code == 0
    assert tarmac("runs", "logs", new, "--follow", cwd=script.parent).out.startswith("depth was 1")


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="not run: the kernel keeps no accounts in /proc here")
def test_the_meter_sees_work_and_memory_of_a_process_and_its_children() -> None:
    from tarmac.logging.system import Meter

    work = "import subprocess, sys, time; x = b'x' * 60_000_000; end = time.time() + 1\nwhile time.time() < end: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent])
    meter = Meter(process.pid)
    time.sleep(0.7)
    found = meter.sample()
    process.wait()
    assert found["system/cpu_percent"] > 10
    assert found["system/memory_mb"] > 60
    assert 0 <= found["system/machine_memory_percent"] <= 100
