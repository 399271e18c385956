"""`tarmac demo` shows what it says it shows, on a terminal and in a pipe, and leaves nothing, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Ran, tarmac_environment

COLUMNS = 80
MOST_SECONDS = 120
"""It takes 15 seconds of the processor; this is for busy machines."""


@pytest.mark.slow
def test_it_shows_each_thing_and_leaves_nothing(tarmac: Callable[..., Ran], tmp_path: Path):
    started = time.monotonic()
    ran = tarmac("demo", TMPDIR=str(tmp_path))
    assert ran.code == 0, ran.out + ran.err
    assert time.monotonic() - started < MOST_SECONDS
    assert "\x1b" not in ran.out
    assert re.findall(r"^(\d+)  ", ran.out, re.MULTILINE) == [str(number) for number in range(1, 17)]
    assert re.findall(r"^   loss (\S+)$", ran.out, re.MULTILINE) == ["0.0498", "0.000123"]
    for said in (
        "runs ls --filter 'metrics.loss < 0.01 AND params.lr > 0.2'",
        "█▇▇▆▆▅▅▄▄▄▃▃▃▃▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁",  # the slow curve, drawn
        "params.lr      0.1 ",  # compared
        "metrics.loss.mean",  # grouped
        "verdict      same",  # done again from nothing
        "['third', 'second', 'first']",  # the same workspace from Python, command line and server
        "error: vic may not runs.create",
        "401 ",
        "is damaged in bytes",
        "package fetched is damaged: `model.pkl` has",
        "event 2 was edited",
        "restored ",
    ):
        assert said in ran.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_quick_and_kept_it_can_be_looked_at_afterwards(tarmac: Callable[..., Ran], tmp_path: Path):
    ran = tarmac("demo", "--quick", "--keep", str(tmp_path / "kept"))
    assert ran.code == 0, ran.out + ran.err
    assert f"cd {tmp_path / 'kept' / 'project'}" in ran.out
    for name in ("project", "restored"):
        assert tarmac("store", "check", "-w", str(tmp_path / "kept" / name)).code == 0
    again = tarmac("demo", "--keep", str(tmp_path / "kept"))
    assert again.code == 1
    assert "exists already" in again.err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no pseudo terminals")
def test_it_fits_a_terminal_of_80_columns(tmp_path: Path):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tarmac", "demo", "--quick"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=tarmac_environment(TMPDIR=str(tmp_path), TERM="xterm"),
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(MOST_SECONDS) == 0, shown.decode()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
    assert [line for line in lines if len(line) > COLUMNS] == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="not run: Windows has no signals to send")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["tarmac is up", "store gc"])
def test_stopped_in_the_middle_it_leaves_nothing(tmp_path: Path, end: signal.Signals, when: str):
    process = subprocess.Popen(
        [sys.executable, "-m", "tarmac", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=tarmac_environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
    )
    assert process.stdout is not None
    url = ""
    for line in process.stdout:
        if found := re.search(r"http://[^/\s]+", line):
            url = found[0]
        if when in line:
            break
    process.send_signal(end)
    _, complaints = process.communicate(timeout=MOST_SECONDS)
    assert process.returncode == 130
    assert complaints.strip() == "stopped"
    assert list(tmp_path.iterdir()) == []
    assert url
    assert not is_somebody_there(int(url.rpartition(":")[2]))


def is_somebody_there(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
