"""Keeps the workers of a runtime alive: starts them, replaces who dies or hangs, passes on the order to stop.

It holds the listening socket, so a connection that is just being made when a worker dies is taken by another one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.serve.worker import Config, states

LOOK_SECONDS = 0.05
SILENT_SECONDS = 15.0
"""A worker that says nothing for so long hangs as a whole."""
STEADY_SECONDS = 10.0
LONGEST_PAUSE = 30.0
STOP_SECONDS = 15.0
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "268435456"}
"""glibc would give the memory of every large request back and fetch it anew: half of what a picture costs."""

log = logging.getLogger("tarmac.serve")


class _Child:
    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.pause = 0.0
        self.again_at = 0.0


class Supervisor:
    """One runtime: a folder, a socket, some workers."""

    def __init__(
        self, folder: Path, config: Config, host: str, port: int, workers: int, grpc_port: int | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("worker-*.json"):
            old.unlink(missing_ok=True)
        self.folder = folder
        self._listening = listen(host, port)
        self.host, self.port = self._listening.getsockname()[:2]
        self._second = reserve(host, grpc_port) if grpc_port is not None else None
        self.grpc_port = self._second.getsockname()[1] if self._second is not None else None
        if self._second is not None:
            config = msgspec.structs.replace(config, grpc=f"{self._shown_host}:{self.grpc_port}")
        (folder / "runtime.json").write_bytes(msgspec.json.encode(config))
        self._children = [_Child(number) for number in range(workers)]
        self._stopping = threading.Event()
        self.restarts = 0

    @property
    def url(self) -> str:
        return f"http://{self._shown_host}:{self.port}"

    @property
    def _shown_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else str(self.host)

    def start(self) -> None:
        for child in self._children:
            self._spawn(child)

    def watch(self, every: Callable[[], None] | None = None) -> None:
        """Until `stop` is called: look after the workers, and do what else is to be done now and then."""
        while not self._stopping.wait(LOOK_SECONDS):
            self.look()
            if every is not None:
                every()

    def stop_watching(self) -> None:
        """`watch` comes back; a signal may call this."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """Workers answer what they have taken and go; who does not go in time is killed."""
        self._stopping.set()
        self._listening.close()
        if self._second is not None:
            self._second.close()
        living = [child.process for child in self._children if child.process is not None]
        for process in living:
            with contextlib.suppress(OSError):
                process.terminate()
        until = time.monotonic() + STOP_SECONDS
        for process in living:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ready(self) -> bool:
        found = states(self.folder)
        return len(found) == len(self._children) and all(state["ready"] for state in found)

    def faults(self) -> dict[str, str]:
        """What keeps the workers from serving what the routes say."""
        found: dict[str, str] = {}
        for state in states(self.folder):
            found |= state["faults"]
            if state["fault"]:
                found["routes"] = state["fault"]
        return found

    def _spawn(self, child: _Child) -> None:
        descriptor = self._listening.fileno()
        child.process = subprocess.Popen(
            [
                sys.executable, "-P", "-m", "tarmac.serve.worker",
                str(self.folder), str(child.number), str(descriptor),
            ],
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            env={**MALLOC, **os.environ},
            process_group=0,  # Ctrl-C is for whoever holds the terminal; it tells them in order
        )  # fmt: skip
        child.started = time.monotonic()

    def look(self) -> None:
        """Replace who has ended or says nothing any more."""
        now = time.monotonic()
        for child in self._children:
            if child.process is None:
                if now >= child.again_at:
                    self._spawn(child)
                continue
            if child.process.poll() is None:
                if now - child.started > SILENT_SECONDS and self._is_silent(child):
                    log.error("worker %d says nothing any more and is killed", child.number)
                    child.process.kill()
                continue
            steady = now - child.started > STEADY_SECONDS
            child.pause = 0.0 if steady else min(LONGEST_PAUSE, max(0.25, child.pause * 2))
            log.error("worker %d ended with %s; another one takes its place", child.number, child.process.returncode)
            child.process, child.again_at = None, now + child.pause
            self.restarts += 1
            (self.folder / f"worker-{child.number}.json").unlink(missing_ok=True)

    def _is_silent(self, child: _Child) -> bool:
        try:
            return time.time() - (self.folder / f"worker-{child.number}.json").stat().st_mtime > SILENT_SECONDS
        except OSError:
            return False  # it has not begun to speak: packages may take long to load


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections at once; workers take them from it."""
    listening = _bound(host, port)
    listening.listen(2048)
    listening.set_inheritable(True)
    return listening


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port at which each worker listens by itself, as gRPC does; nothing is accepted here."""
    free = _bound(host, port)  # refused if anybody is there; who shares a port would also share it with strangers
    found = free.getsockname()[1]
    free.close()
    return _bound(host, found, shared=True)


def _bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise Invalid(f"`{bounded(host)}` is no address here: {error.strerror or error}") from None
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise Conflict(
            f"{host}:{port} cannot be listened at: {error.strerror}",
            hint="another program may have the port; take another one: 0 finds a free one",
        ) from None
    return listening
