"""What must never be lost, whatever dies: many processes, killed ones, a full disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tarmac.core.errors import TarmacError
from tarmac.govern.operations import VerifyLedger
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import CheckStore
from tarmac.track.operations import CreateRun, ListRuns
from tarmac.workspace import Workspace, connect
from tests.conftest import Server, tarmac_environment

WRITER = textwrap.dedent(
    """
    import sys, time
    from tarmac.track.operations import CreateRun
    from tarmac.workspace import connect

    with connect(sys.argv[1], create=True) as workspace:
        end = time.monotonic() + float(sys.argv[2])
        count = 0
        while count < 5 or time.monotonic() < end:
            print(workspace(CreateRun(experiment=f"e{count % 7}")).id, flush=True)
            count += 1
    """
)


def all_runs(workspace: Workspace) -> set[str]:
    found: set[str] = set()
    cursor = ""
    while True:
        page = workspace(ListRuns(limit=1000, cursor=cursor))
        found |= {run.id for run in page.runs}
        if page.next is None:
            return found
        cursor = page.next


def is_whole(workspace: Workspace) -> None:
    checked = workspace.wait(workspace(CheckStore()))
    assert checked.faults == []
    assert workspace.wait(workspace(VerifyLedger())).faults == []


def start_writer(place: Path, out: Path, err: Path) -> subprocess.Popen[bytes]:
    with out.open("wb") as to_out, err.open("wb") as to_err:
        command = [sys.executable, "-c", WRITER, str(place), "1.0"]
        return subprocess.Popen(command, stdout=to_out, stderr=to_err, env=tarmac_environment())


@pytest.mark.slow
def test_64_processes_on_an_empty_folder_20_of_them_killed(tmp_path: Path) -> None:
    chance = random.Random(64)
    outputs = [(tmp_path / f"out{n}", tmp_path / f"err{n}") for n in range(64)]
    processes = [start_writer(tmp_path / "shared", out, err) for out, err in outputs]
    doomed = set(chance.sample(range(64), 20))
    for number in sorted(doomed, key=lambda n: chance.random()):
        time.sleep(chance.random() * 0.5)
        processes[number].send_signal(signal.SIGKILL)
    codes = [process.wait(120) for process in processes]

    for number, (_, err) in enumerate(outputs):
        assert err.read_bytes() == b"", f"process {number} complained"
        if number not in doomed:
            assert codes[number] == 0
    acknowledged = {line for out, _ in outputs for line in out.read_text().split("\n")[:-1] if line}
    assert len(acknowledged) >= 44 * 5
    with connect(tmp_path / "shared") as workspace:
        assert acknowledged <= all_runs(workspace)
        is_whole(workspace)


def test_a_server_killed_under_load_loses_nothing_it_acknowledged(
    folder: WorkspaceFolder, serve: Callable[..., Server]
) -> None:
    acknowledged: set[str] = set()
    for _ in range(3):
        server = serve(folder)
        threads = [threading.Thread(target=write_until_it_dies, args=(server.url, acknowledged)) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.6)
        server.process.kill()
        for thread in threads:
            thread.join()
    assert len(acknowledged) > 100
    with connect(folder.path.parent) as workspace:
        assert acknowledged <= all_runs(workspace)
        is_whole(workspace)


def write_until_it_dies(url: str, acknowledged: set[str]) -> None:
    with connect(url) as workspace:
        while True:
            try:
                acknowledged.add(workspace(CreateRun()).id)
            except TarmacError:
                return


FILLER = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from tarmac.core.errors import Full
    from tarmac.store.operations import CheckStore
    from tarmac.track.operations import CreateRun, GetRun
    from tarmac.workspace import connect

    place = Path(sys.argv[1])
    with connect(place, create=True) as workspace:
        ballast = place / "ballast"
        kept = [workspace(CreateRun()).id]
        ballast.write_bytes(bytes(os.statvfs(place).f_bavail * os.statvfs(place).f_frsize - 400_000))
        refused = 0
        for _ in range(20_000):
            try:
                kept.append(workspace(CreateRun(experiment="x" * 200)).id)
            except Full as error:
                refused += 1
                assert "no room left" in error.message, error
                if refused == 20:
                    break
        assert refused == 20, "the disk never filled"
        try:
            workspace.put(bytes(2_000_000))
            raise SystemExit("a blob larger than the disk was taken")
        except Full:
            pass
        for id in kept:
            workspace(GetRun(id=id))  # reading goes on
        ballast.unlink()
        kept.append(workspace(CreateRun()).id)
        assert workspace.wait(workspace(CheckStore())).faults == []
    with connect(place) as workspace:
        for id in kept:
            assert workspace(GetRun(id=id)).id == id
    print(len(kept), "kept,", refused, "refused")
    """
)


def small_disk() -> list[str] | None:
    """The start of a command that runs with a small disk of its own, where this machine allows one."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    start = [unshare, "--mount"] if os.geteuid() == 0 else [unshare, "--user", "--map-root-user", "--mount"]
    tried = subprocess.run([*start, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return start if tried.returncode == 0 else None


def test_a_full_disk_refuses_and_harms_nothing(tmp_path: Path) -> None:
    start = small_disk()
    if start is None:
        pytest.skip("not run: this machine lets nobody mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "filler.py").write_text(FILLER)
    script = f"mount -t tmpfs -o size=12m tmpfs {disk} && exec {sys.executable} {tmp_path}/filler.py {disk}"
    done = subprocess.run([*start, "sh", "-c", script], capture_output=True, text=True, env=tarmac_environment())
    assert done.returncode == 0, done.stderr
    assert "20 refused" in done.stdout


def test_a_server_on_a_full_disk_answers_507_and_recovers(tmp_path: Path) -> None:
    start = small_disk()
    if start is None:
        pytest.skip("not run: this machine lets nobody mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "over_http.py").write_text(OVER_HTTP)
    script = f"mount -t tmpfs -o size=12m tmpfs {disk} && exec {sys.executable} {tmp_path}/over_http.py {disk}"
    done = subprocess.run([*start, "sh", "-c", script], capture_output=True, text=True, env=tarmac_environment())
    assert done.returncode == 0, done.stderr


OVER_HTTP = textwrap.dedent(
    """
    import os, re, subprocess, sys
    from pathlib import Path
    from tarmac.core.errors import Full
    from tarmac.track.operations import CreateRun, GetRun
    from tarmac.workspace import connect

    place = Path(sys.argv[1])
    server = subprocess.Popen(
        [sys.executable, "-m", "tarmac", "up", "-w", str(place), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    url = re.search(r"(http://[^/]+)/", server.stdout.readline())[1]
    with connect(url) as workspace:
        kept = [workspace(CreateRun()).id]
        ballast = place / "ballast"
        ballast.write_bytes(bytes(os.statvfs(place).f_bavail * os.statvfs(place).f_frsize - 300_000))
        try:
            for _ in range(20_000):
                kept.append(workspace(CreateRun(experiment="x" * 200)).id)
            raise SystemExit("the disk never filled")
        except Full as error:
            assert error.hint and "free some room" in error.hint
        ballast.unlink()
        kept.append(workspace(CreateRun()).id)
        for id in kept:
            workspace(GetRun(id=id))
    server.terminate()
    assert server.wait(20) == 0
    """
)
