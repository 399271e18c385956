"""The carrier, as training sees it: a process of its own that brings spools to their workspace.

One carrier serves all spools of a folder; it is started by the first run that finds none and goes when nothing is left
to do. Training never waits for it but at the end, and only while it gets on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tarmac.core.locks import FileLock
from tarmac.logging.place import Place

LOCK_FILE, WAKE_FILE, LOG_FILE, STATE_FILE = "carrier.lock", "wake", "carrier.log", "state.json"
SEND_FILE = "send"
"""In a spool that was written offline: from now on it may be sent."""
START_SECONDS = 5.0
SHELL = 'log="$1"; shift; "$@" </dev/null >>"$log" 2>&1 &'


class State(msgspec.Struct, frozen=True):
    """What the carrier says of one spool."""

    carried: int
    """Bytes of the spool that are in the workspace."""
    trouble: str = ""
    """Why it does not get on; empty while it does."""


def ensure(place: Place) -> bool:
    """Wake the carrier of a place's spools, or start one. False where no process can be started."""
    spools = place.spools
    if not sys.executable or not spools.is_dir():
        return False
    if _is_there(spools):
        wake(spools)
        return True
    words = [sys.executable, "-P", "-m", "tarmac.workspace.carrier", str(spools), place.where]
    # whoever trains may have found us through sys.path alone
    here = str(Path(__file__).resolve().parents[2])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, here] if here not in paths else paths)}
    try:
        if os.name == "nt":
            subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "DETACHED_PROCESS", 0),
            )
        else:
            # the shell hands it to the system at once: it outlives us, and is no child that somebody could wait for.
            # A group of its own keeps Ctrl-C away; a session of its own would get as much of the machine as training
            subprocess.run(
                ["/bin/sh", "-c", SHELL, "sh", str(spools / LOG_FILE), *words],
                env=environment,
                process_group=0,
                timeout=START_SECONDS,
                check=False,
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _is_there(spools: Path) -> bool:
    lock = FileLock(spools / LOCK_FILE)
    try:
        if not lock.acquire(wait=False):
            return True
        lock.release()
    except OSError:
        return False
    finally:
        lock.close()
    return False


def wake(spools: Path) -> None:
    """Say that there is something to do now; it would be seen a moment later anyway."""
    try:
        pipe = os.open(spools / WAKE_FILE, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return
    try:
        os.write(pipe, b"\n")
    except OSError:
        pass
    finally:
        os.close(pipe)


def state(spool: Path) -> State | None:
    try:
        return msgspec.json.decode((spool / STATE_FILE).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return None


def wait(spool: Path, seconds: float, tell: Callable[[State | None], None]) -> State | None:
    """Until all is in the workspace (None), or the carrier cannot get on, or the time is over.

    `tell` is called now and then. A carrier that gets on may take longer than `seconds` from one step to the next.
    """
    pause, carried = 0.002, -1
    began = moved = seen = time.monotonic()
    while spool.exists():
        found, now = state(spool), time.monotonic()
        if found is not None and found.carried != carried:
            carried, moved = found.carried, now
        if found is not None and found.trouble:
            return found
        if now - moved > seconds:
            return State(carried, "it takes long")
        if now - seen > 1:
            if _is_there(spool.parent):
                seen = now
            elif now - max(began, seen) > START_SECONDS:
                return State(carried, f"nothing carries it (see {spool.parent / LOG_FILE})")
        tell(found)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return None if spool.parent.exists() else State(0, "its folder was removed or moved")
