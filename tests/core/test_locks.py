"""Locks between processes: one holder, let go by the kernel when the holder is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tarmac.core.errors import Busy
from tarmac.core.locks import FileLock, acquire_or_refuse, locked

HOLD = """
import sys, time
from pathlib import Path
from tarmac.core.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""
FORK = """
import os, sys, time
from pathlib import Path
from tarmac.core.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire()
if not os.fork():
    print(os.getpid(), lock.acquire(wait=False), flush=True)
time.sleep(60)
"""
COUNT = """
import sys
from pathlib import Path
from tarmac.core.locks import locked
counter = Path(sys.argv[2])
for _ in range(100):
    with locked(Path(sys.argv[1])):
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def holder(lock: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.stdout.close()
    return process


def test_a_killed_holder_lets_go_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = holder(path)
    lock = FileLock(path)
    assert not lock.acquire(wait=False)
    with pytest.raises(Busy) as caught:
        acquire_or_refuse(path, "somebody is at it", "wait")
    assert (caught.value.message, caught.value.hint) == ("somebody is at it", "wait")
    threading.Timer(0.2, lambda: process.send_signal(signal.SIGKILL)).start()
    began = time.monotonic()
    assert lock.acquire()
    assert 0.1 < time.monotonic() - began < 5
    lock.release()
    process.wait()
    lock.close()


def test_processes_and_threads_take_turns(tmp_path: Path) -> None:
    lock, counter = tmp_path / "lock", tmp_path / "counter"
    counter.write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, str(lock), str(counter)]) for _ in range(3)]
    ours = FileLock(lock)

    def count() -> None:
        for _ in range(100):
            with ours:
                counter.write_text(str(int(counter.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    ours.close()
    assert counter.read_text() == "600"


def test_a_forked_child_neither_has_the_lock_nor_keeps_it_beyond_its_parents_death(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", FORK, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child, could = process.stdout.readline().split()
    process.stdout.close()
    try:
        assert could == "False"
        lock = FileLock(path)
        assert not lock.acquire(wait=False)
        process.kill()
        process.wait()
        assert lock.acquire(wait=False), "the child lives, and has kept a copy of its parent's lock"
        lock.release()
        lock.close()
    finally:
        os.kill(int(child), signal.SIGKILL)


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock"):
        raise ZeroDivisionError
    with locked(tmp_path / "lock"):
        pass
    nowhere = FileLock(tmp_path / "no" / "folder" / "lock")
    for _ in range(2):  # the second try must not wait for the first
        with pytest.raises(FileNotFoundError):
            nowhere.acquire()
