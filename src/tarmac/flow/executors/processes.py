"""Worker processes on this machine: for steps that hold the interpreter, and for those that may not harm it.

A worker is a fresh Python that is told which function to call. If it dies, its step is lost and nothing else.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from typing import IO, Any

from tarmac.flow.executors import Fault, Outcome, Task
from tarmac.flow.executors.logs import Show, StepLog
from tarmac.flow.executors.work import fault_of

SIZE = struct.Struct("<Q")


class Processes:
    """So many workers at most, started when they are needed and kept until the end."""

    name = "processes"
    in_process = False

    def __init__(self, slots: int = 0, show: Show | None = None) -> None:
        self.slots = slots or max(2, os.cpu_count() or 1)
        self._show = show
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._busy: dict[str, Worker] = {}
        self._waiting: list[Task] = []
        self._closed = False

    def submit(self, task: Task) -> None:
        with self._lock:
            if len(self._busy) >= self.slots:
                self._waiting.append(task)
                return
        self._begin(task)

    def _begin(self, task: Task) -> None:
        try:
            where = pickle.dumps((list(sys.path), os.getcwd()))  # noqa: PTH109 - read before anything is imported
            message = SIZE.pack(len(where)) + where + pickle.dumps(described(task), protocol=5)
        except Exception as error:  # noqa: BLE001 - whatever a class does when it is asked for its state
            fault = fault_of(error)
            fault.message = f"what it is given cannot be sent to another process: {fault.message}"
            self._done.put(Outcome(task.id, fault=fault))
            return
        with self._lock:
            worker = self._idle.pop() if self._idle else Worker(self._heard)
            self._busy[task.id] = worker
        worker.begin(task.id, StepLog(task.node, self._show, task.secrets), message)

    def _heard(self, worker: Worker, id: str, outcome: Outcome | None) -> None:
        """A worker has done its task, or is gone."""
        with self._lock:
            given_up = self._busy.pop(id, None) is None
            if outcome is not None and not given_up and not self._closed:
                self._idle.append(worker)
            following = self._waiting.pop(0) if self._waiting and not self._closed else None
        if not given_up:
            self._done.put(outcome or Outcome(id, fault=worker.loss(), log=worker.log.text()))
        if following is not None:
            self._begin(following)

    def next(self, seconds: float) -> list[Outcome]:
        found = []
        try:
            found.append(self._done.get(timeout=max(0.0, seconds)))
            while True:
                found.append(self._done.get_nowait())
        except queue.Empty:
            return found

    def stop(self, id: str, why: Fault) -> None:
        with self._lock:
            waiting = [task for task in self._waiting if task.id == id]
            self._waiting = [task for task in self._waiting if task.id != id]
            worker = self._busy.pop(id, None)
        if worker is not None:
            text = worker.log.text()
            worker.kill()
            self._done.put(Outcome(id, fault=why, log=text))
        elif waiting:
            self._done.put(Outcome(id, fault=why))

    def log(self, id: str) -> str:
        worker = self._busy.get(id)
        return worker.log.text() if worker is not None else ""

    def close(self) -> None:
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._busy.values()]
            busy = set(self._busy.values())
            self._idle, self._busy, self._waiting = [], {}, []
        for worker in workers:
            if worker in busy:
                worker.kill()
            else:
                worker.end()


def described(task: Task) -> dict[str, Any]:
    """A task in plain data, so that another Python can do it."""
    function = task.function
    args, kwargs = task.arguments()
    return {
        "id": task.id,
        "node": task.node,
        "module": function.__module__,
        "qualname": function.__qualname__,
        "file": function.__code__.co_filename,
        "options": task.options,
        "arguments": (args, kwargs),
        "parts": task.parts,
        "allowed": task.allowed,
        "code": task.code,
        "items": task.items,
        "secrets": task.secrets,
        "place": task.place,
        "observed": task.observed,
    }


class Worker:
    """One process, and the thread that hears it."""

    def __init__(self, heard: Any) -> None:
        self._heard = heard
        self._id = ""
        self.log = StepLog("")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tarmac.flow.executors.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=os.name != "nt",  # Ctrl-C is the driver's to answer, and its children go with it
        )
        threading.Thread(target=self._listen, name="tarmac-worker-listener", daemon=True).start()

    def begin(self, id: str, log: StepLog, message: bytes) -> None:
        self._id, self.log = id, log
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(SIZE.pack(len(message)) + message)
            self._process.stdin.flush()
        except OSError:
            pass  # it is gone: its listener says so

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while (message := receive(self._process.stdout)) is not None:
            kind, content = pickle.loads(message)  # noqa: S301 - from a process of our own
            if kind == "log":
                self.log.write(content)
            else:
                id, self._id = self._id, ""
                self._heard(self, id, content)
        self._process.wait()
        self._close()
        if self._id:
            self._heard(self, self._id, None)

    def loss(self) -> Fault:
        code = self._process.returncode
        how = f"was killed ({_signal(-code)})" if code < 0 else f"ended with exit code {code}"
        return Fault("Lost", f"its process {how}", lost=True)

    def kill(self) -> None:
        self._id = ""
        try:
            if os.name != "nt":
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        except (ProcessLookupError, PermissionError):
            pass

    def end(self) -> None:
        """Its input ends, and so does it."""
        self._close_input()

    def _close_input(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass

    def _close(self) -> None:
        self._close_input()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def receive(stream: IO[bytes]) -> bytes | None:
    """One message; None at the end, also where it was cut."""
    head = stream.read(SIZE.size)
    if len(head) < SIZE.size:
        return None
    (size,) = SIZE.unpack(head)
    body = stream.read(size)
    return body if len(body) == size else None
