"""How commands begin and end: on a pipe, on a terminal, with Ctrl-C, twice, on a port that is taken."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tarmac import store
from tarmac.core.settings import Settings
from tarmac.flow.operations import ListJobs
from tarmac.store.folder import WorkspaceFolder
from tarmac.track.operations import CreateRun
from tarmac.workspace import connect
from tests.conftest import Ran, Server, tarmac_environment

Tarmac = Callable[..., Ran]
RUN = [sys.executable, "-m", "tarmac"]
ESCAPE = "\x1b"


@pytest.fixture
def folder(tmp_path: Path) -> WorkspaceFolder:
    made = WorkspaceFolder(tmp_path / ".tarmac")
    store.create(made, Settings.from_environment()).close()
    return made


@pytest.fixture
def many_runs(folder: WorkspaceFolder) -> WorkspaceFolder:
    with connect(folder.path) as workspace:
        for number in range(300):
            workspace(CreateRun(experiment="an experiment with quite a long name", name=f"run {number:03} " + "x" * 60))
    return folder


def on_terminal(words: list[str], columns: int, cwd: Path, **environment: str) -> str:
    """What a person sees in a window so wide."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [*RUN, *words], stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd,
        env={**tarmac_environment(TERM="xterm", **environment), "COLUMNS": "", "LINES": ""},
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 65536):
                seen += piece
        except OSError:  # the other end is gone
            pass
        process.wait(20)
    os.close(ours)
    return seen.decode()


def test_a_reader_that_has_enough(many_runs: WorkspaceFolder, tmp_path: Path) -> None:
    """`tarmac … | head -1` says nothing on stderr and does not fail."""
    for words in (["runs", "ls", "--limit", "1000", "--json"], ["runs", "ls", "--limit", "1000"], ["runs", "--help"]):
        with subprocess.Popen(
            [*RUN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=tarmac_environment()
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.read(10)
            process.stdout.close()
            said = process.stderr.read()
            assert (process.wait(20), said) == (0, b""), words


@pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no pty")
def test_a_table_fits_the_terminal_and_is_whole_in_a_pipe(
    many_runs: WorkspaceFolder, tmp_path: Path, tarmac: Tarmac
) -> None:
    seen = on_terminal(["runs", "ls", "--limit", "3"], 80, tmp_path)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    assert ESCAPE in seen, "headings stand out"
    assert max(len(line) for line in plain.splitlines()) <= 80, plain
    assert "…" in plain
    assert ESCAPE not in on_terminal(["runs", "ls", "--limit", "3"], 80, tmp_path, NO_COLOR="1")
    piped = tarmac("runs", "ls", "--limit", "3").out
    assert ESCAPE not in piped
    assert "x" * 60 in piped
    assert ESCAPE not in tarmac("runs", "show", "00").err


def test_names_cannot_write_on_the_terminal(folder: WorkspaceFolder, tarmac: Tarmac) -> None:
    """Notes may have many lines, and whatever else is in them is shown, not obeyed."""
    made = tarmac("experiments", "create", "a", "--note", f"line\n{ESCAPE}[31mred{ESCAPE}]0;title\x07")
    assert made.code == 0
    assert ESCAPE not in made.out
    assert "\x07" not in made.out
    assert tarmac("runs", "create", f"{ESCAPE}[2J").code == 2


def child_of(process: int) -> int | None:
    """The process it has started, from any of its threads."""
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        if words := file.read_text().split():
            return int(words[0])
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="not run: only Linux says which processes a process has started")
def test_ctrl_c_stops_a_followed_job(folder: WorkspaceFolder, tmp_path: Path) -> None:
    """The job is asked to stop, the person is told how to go on with it, and the command ends."""
    process = subprocess.Popen(
        [*RUN, "store", "check"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=tarmac_environment(),
    )  # fmt: skip
    until = time.monotonic() + 20
    while not (job_process := child_of(process.pid)):
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(job_process, signal.SIGSTOP)  # a job that takes its time
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    os.kill(job_process, signal.SIGCONT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "stopped"
    with connect(folder.path) as workspace:
        (job,) = workspace(ListJobs()).jobs
    assert f"`tarmac jobs resume {job.id}`" in err
    assert job.state in ("cancelled", "interrupted")


def test_two_servers_on_one_folder(folder: WorkspaceFolder, serve: Callable[..., Server], tarmac: Tarmac) -> None:
    server = serve(folder)
    second = tarmac("up", "--port", "0")
    assert second.code == 1
    assert f"a server is up already for {folder.path} at {server.url} (process {server.process.pid})" in second.err
    assert "Traceback" not in second.err
    assert tarmac("status", "-w", server.url).code == 0, "the first goes on"
    assert json.loads((folder.path / "server.json").read_text())["pid"] == server.process.pid
    server.process.kill()  # nothing it left behind keeps the next one from starting
    server.process.wait()
    assert serve(folder).stop() == 0


def test_a_port_that_is_taken(folder: WorkspaceFolder, tarmac: Tarmac) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = tarmac("up", "--port", port)
    assert ran.code == 1
    assert f"port {port} of 127.0.0.1 cannot be used: Address already in use" in ran.err
    assert "--port 0" in ran.err
    assert tarmac("up", "--port", "70000").code == 2
    assert tarmac("up", "--port", "-1").code == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_ends_when_told(folder: WorkspaceFolder, serve: Callable[..., Server], number: signal.Signals) -> None:
    server = serve(folder)
    with connect(server.url) as workspace:  # its kept connection keeps nothing from ending
        workspace(CreateRun())
        began = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(10) == 0
        assert time.monotonic() - began < 3
    assert server.process.stderr
    assert server.process.stderr.read() == ""
    assert not (folder.path / "server.json").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=2).close()


def test_up_makes_a_workspace_and_lets_the_commands_beside_it_in(
    serve: Callable[..., Server], tarmac: Tarmac, tmp_path: Path
) -> None:
    server = serve(WorkspaceFolder(tmp_path / "new" / ".tarmac"))
    assert tarmac("runs", "create", "-w", server.url).code == 0
    assert tarmac("runs", "create", "-w", f"{server.url}/p/default").code == 0
    assert tarmac("runs", "create", "-w", f"{server.url}/").code == 0
    assert "did you mean `default`?" in tarmac("runs", "ls", "-w", f"{server.url}/p/defualt").err
    assert tarmac("runs", "ls", "-w", server.url, TARMAC_TOKEN="tarmac_wrong").code == 1
    beside = tarmac("runs", "ls", "--json", cwd=tmp_path / "new")
    assert len(json.loads(beside.out)["runs"]) == 3, "the folder itself still opens"


def test_init_twice_and_restore_onto_something(folder: WorkspaceFolder, tarmac: Tarmac, tmp_path: Path) -> None:
    again = tarmac("init")
    assert (again.code, again.out) == (1, "")
    assert "is a workspace already" in again.err
    assert tarmac("runs", "create").code == 0
    assert tarmac("store", "backup", "copy").code == 0
    facts = {path: path.read_bytes() for path in folder.path.rglob("*.toml")}
    for target in ((), ("--to", "."), ("--to", ".tarmac")):
        onto = tarmac("store", "restore", "copy", *target)
        assert (onto.code, onto.out) == (1, ""), onto
        assert "exists already" in onto.err
    assert {path: path.read_bytes() for path in folder.path.rglob("*.toml")} == facts
    assert tarmac("store", "backup", "copy").code == 1, "a backup is not overwritten either"
    for source in ("nothing", "."):
        none = tarmac("store", "restore", source, "--to", "new")
        assert none.code == 1
        assert "there is no backup" in none.err
        assert not (tmp_path / "new").exists()
    assert tarmac("store", "restore", "copy", "--to", "new").code == 0
    assert tarmac("store", "check", "-w", "new").code == 0


def test_an_export_is_whole_or_not_there(folder: WorkspaceFolder, tarmac: Tarmac, tmp_path: Path) -> None:
    assert tarmac("runs", "create").code == 0
    assert tarmac("audit", "export", "--to", "nowhere/events").code == 2
    assert tarmac("audit", "export", "--to", "events.jsonl").code == 0
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["operation"] == "runs.create"
    assert tarmac("audit", "export", "--to", "events.jsonl").code == 1
    assert tarmac("audit", "export").out.splitlines()[: len(lines)] == lines


def test_doctor_and_status_say_where_things_are(folder: WorkspaceFolder, tarmac: Tarmac) -> None:
    doctor = tarmac("doctor", "--json")
    assert doctor.code == 0, doctor
    assert {finding["level"] for finding in json.loads(doctor.out)} <= {"ok", "note", "warning"}
    assert "is no workspace" in tarmac("doctor", TARMAC_WORKSPACE="/nowhere").out
    assert tarmac("--version").out.startswith("tarmac ")


def test_what_makes_upgrades_restores_and_serves_answers_as_json(tarmac: Tarmac, tmp_path: Path) -> None:
    def asked(*words: str) -> dict[str, object]:
        done = tarmac(*words, "--json")
        assert done.code == 0, done
        found: dict[str, object] = json.loads(done.out)
        return found

    made = asked("init", "one", "--project", "churn")
    assert made == {"folder": str(tmp_path / "one" / ".tarmac"), "store": "sqlite", "project": "churn"}
    upgraded = asked("store", "upgrade", "-w", "one")
    assert {**upgraded, "format": 0} == {
        "folder": made["folder"], "format": 0, "applied": [], "backup": None, "dry_run": False,
    }  # fmt: skip
    backup = asked("store", "backup", "-w", "one")
    restored = asked("store", "restore", str(backup["path"]), "--to", "two")
    assert restored["folder"] == str(tmp_path / "two" / ".tarmac")
    assert (restored["blobs"], restored["store_format"]) == (0, upgraded["format"])
    server = subprocess.Popen(
        [*RUN, "up", "-w", "two", "--port", "0", "--json"],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=tarmac_environment(),
    )  # fmt: skip
    assert server.stdout
    ready = json.loads(server.stdout.readline())
    assert ready["browser"] == f"{ready['url']}/?key={ready['key']}"
    assert ready["process"] == server.pid
    assert asked("status", "-w", ready["url"])
    server.terminate()
    assert server.wait(30) == 0
    server.stdout.close()
