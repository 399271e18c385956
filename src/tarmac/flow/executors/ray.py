"""Machines of a Ray cluster: `--on ray://HOST:PORT`, or `--on ray` for a cluster on this machine while one develops.

A step is a task of Ray with the cpu, memory and gpu that it asks for. Ray decides where it is run; what it made, and
whether it is run again when a machine is lost, is decided here. This is the only file that imports ray.
"""

from __future__ import annotations

import os
import pickle
import queue
import secrets
import socket
import sys
import threading
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from tarmac import __version__
from tarmac.core.errors import Invalid, TarmacError, Unreachable, bounded
from tarmac.flow.executors import Fault, Outcome, Task, node, sending
from tarmac.flow.executors.carried import Source
from tarmac.flow.executors.logs import Show, StepLog
from tarmac.flow.executors.work import fault_of
from tarmac.flow.keeping import Door

LOCAL = ("ray", "ray://local")
HEAD = "node:__internal_head__"
LOOK_SECONDS = 0.25
COUNT_SECONDS = 5.0
MOST_WAITING = 4_000_000
TRIES = 3
REACH_SECONDS = 10
LOST = (
    "WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "OutOfMemoryError", "ObjectLostError",
    "TaskCancelledError", "NodePreemptedError",
)  # fmt: skip
"""Errors of Ray that say that a machine or process is gone; those below them as well."""


class Mailbox:
    """An actor of Ray that holds what steps print until the driver asks. What nobody asks for is dropped."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, str]] = deque()
        self._size = 0

    def tell(self, id: str, text: str) -> None:
        if self._size < MOST_WAITING:
            self._waiting.append((id, text))
            self._size += len(text)

    def take(self) -> list[tuple[str, str]]:
        found, self._waiting, self._size = list(self._waiting), deque(), 0
        return found


def do(message: bytes, archive: bytes, mailbox: Any, id: str) -> bytes:
    """A task of Ray: one step."""
    import ray

    told: list[Any] = []

    def tell(text: str) -> None:
        told[:] = [mailbox.tell.remote(id, text)]

    outcome = node.do(message, archive, tell)
    ray.wait(told, timeout=2) if told else None  # what was printed comes before the end
    return outcome


class Ray:
    """A cluster, reached once and left at the end."""

    name = "ray"
    in_process = False

    def __init__(
        self, address: str, source: Source, door: Door | None = None, *, slots: int = 0, show: Show | None = None
    ) -> None:
        self._ray = _library(address)
        self._show = show
        self._source = source
        self._door = door
        self._shared = door is None or "://" not in door.place
        self._done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._refs: dict[Any, str] = {}
        self._logs: dict[str, StepLog] = {}
        self._earlier: dict[str, str] = {}
        """What a step had printed when its machine was lost."""
        self._closed = threading.Event()
        self._address = address
        self._local = address in LOCAL
        self._mine = not self._ray.is_initialized()
        if self._mine:
            connect(self._ray, address)
        try:
            self._machines: list[dict[str, float]] = []
            self._counted = 0.0
            total = self._ray.cluster_resources()
            self.slots = slots or max(1, int(total.get("CPU", 1)))
            where = {"resources": {HEAD: 0.001}} if HEAD in total else {}
            self._mailbox = self._ray.remote(num_cpus=0, max_restarts=-1, **where)(Mailbox).remote()
            self._archive = self._ray.put(source.archive)
            self._task = self._ray.remote(max_retries=0)(do)  # whether it is done again is the driver's to decide
        except Exception as error:
            self._leave()
            raise _unreachable(address, error) from error
        threading.Thread(target=self._listen, name="tarmac-ray", daemon=True).start()

    # ---------------------------------------------------------------------------------------------------------- tasks

    def submit(self, task: Task) -> None:
        try:
            message = self._message(task)
            self._look_for_room(task)
            options = task.options
            ref = self._task.options(
                num_cpus=options.cpu, num_gpus=options.gpu, memory=options.memory or None, name=f"tarmac {task.node}"
            ).remote(message, self._archive, self._mailbox, task.id)
        except TarmacError as error:
            fault = fault_of(error)
            fault.message, fault.hint = error.message, error.hint or ""
            fault.gone = getattr(error, "node", "")
            self._done.put(Outcome(task.id, fault=fault))
            return
        except Exception as error:  # noqa: BLE001 - whatever a class does when it is asked for its state
            fault = fault_of(error)
            if fault.kind != "Gone":
                fault.message = f"what it is given cannot be sent to another machine: {fault.message}"
            self._done.put(Outcome(task.id, fault=fault))
            return
        with self._lock:
            self._logs[task.id] = StepLog(task.node, self._show, task.secrets)
            self._refs[ref] = task.id

    def _message(self, task: Task) -> bytes:
        self._source.check(dict(task.code))
        blobs: dict[str, bytes | Any] | None = None if self._shared else {}
        args, kwargs = (task.sent or task.arguments)()
        function = task.function
        facts = {
            "id": task.id,
            "node": task.node,
            "version": __version__,
            "python": node.python(),
            "source": self._source.digest,
            "folder": self._source.place(os.getcwd()) or ".",  # noqa: PTH109
            "paths": [place for path in sys.path if (place := self._source.place(path or ".")) is not None],
            "workspace": self._workspace(),
            "module": function.__module__,
            "qualname": function.__qualname__,
            "file": self._at(function.__code__.co_filename),
            "options": task.options,
            "arguments": sending.dump((args, kwargs), self._source, blobs),
            "items": sending.dump(task.items, self._source, blobs),
            "parts": task.parts,
            "allowed": [self._at(path) for path in task.allowed],
            "code": [place for file in task.code if (place := self._source.place(file)) is not None],
            "secrets": task.secrets,
            "place": task.place,
            "observed": task.observed,
            "environment": {name: os.environ.get(name) for name in task.options.env},
        }
        if blobs and self._door is not None:
            sending.keep(self._door, blobs)
        return pickle.dumps(facts, protocol=5)

    def _at(self, path: str) -> tuple[bool, str]:
        """A path as it is called there: below the source's root, or as here."""
        place = self._source.place(path)
        return (True, place) if place is not None else (False, path)

    def _workspace(self) -> tuple[str, str, str | None] | None:
        if self._door is None:
            return None
        token = getattr(self._door, "token", None)
        return self._door.place, self._door.project, token.reveal() if token is not None else None

    def _look_for_room(self, task: Task) -> None:
        """No machine may be large enough, and then Ray waits for one: said at once, or refused if none can come."""
        if time.monotonic() - self._counted > COUNT_SECONDS:
            self._machines = [one["Resources"] for one in self._ray.nodes() if one["Alive"]]
            self._counted = time.monotonic()
        options = task.options
        asked = {"CPU": options.cpu, "GPU": options.gpu, "memory": float(options.memory)}
        if any(all(one.get(name, 0) >= much for name, much in asked.items()) for one in self._machines):
            return
        most = {name: max((one.get(name, 0) for one in self._machines), default=0) for name in asked}
        text = ", ".join(
            f"{name.lower()} {_amount(name, much)} and the largest has {_amount(name, most[name])}"
            for name, much in asked.items()
            if much > most[name]
        )
        text = f"asks for {text}" if text else "asks for more together than any machine of the cluster has"
        if self._local:
            raise Invalid(f"it {text}", hint="a cluster on this machine does not grow")
        if self._show is not None:
            self._show(task.node, f"tarmac: it {text}: it waits until such a machine joins the cluster\n")

    # ------------------------------------------------------------------------------------------------------- outcomes

    def _listen(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                refs = list(self._refs)
            if not refs:
                self._closed.wait(LOOK_SECONDS / 5)
                continue
            try:
                done, _ = self._ray.wait(refs, num_returns=1, timeout=LOOK_SECONDS)
                self._hear()
            except Exception as error:  # noqa: BLE001 - whatever it is, the cluster does not answer
                self._all_lost(error)
                continue
            for ref in done:
                self._end(ref)

    def _hear(self) -> None:
        """What steps have printed since."""
        try:
            told = self._ray.get(self._mailbox.take.remote(), timeout=LOOK_SECONDS * 20)
        except self._ray.exceptions.RayError:
            return  # its machine is lost, or busy: it comes again, and logs come with outcomes
        for id, text in told:
            log = self._logs.get(id)
            if log is not None:
                log.write(text)

    def _end(self, ref: Any) -> None:
        with self._lock:
            id = self._refs.pop(ref, None)
            log = self._logs.pop(id, None) if id is not None else None
        if id is None or log is None:
            return  # it was given up
        try:
            outcome: Outcome = pickle.loads(self._ray.get(ref))  # noqa: S301 - what our own task returned
        except Exception as error:  # noqa: BLE001 - errors of Ray and of whatever it could not load there
            outcome = Outcome(id, fault=_fault(error), log=log.text())
        if outcome.fault is not None and outcome.fault.lost:
            self._counted = 0.0
            self._earlier[id] = f"{self._earlier.get(id, '')}{outcome.log}\ntarmac: {outcome.fault.message}\n"
            outcome.log = self._earlier[id]
        elif id in self._earlier:
            outcome.log = self._earlier.pop(id) + outcome.log
        self._done.put(outcome)

    def _all_lost(self, error: Exception) -> None:
        if self._closed.is_set():
            return
        with self._lock:
            ids, self._refs = list(self._refs.values()), {}
            texts = {id: log.text() for id, log in self._logs.items()}
            self._logs = {}
        for id in ids:
            fault = fault_of(_unreachable(self._address, error))
            self._done.put(Outcome(id, fault=fault, log=texts.get(id, "")))

    def next(self, seconds: float) -> list[Outcome]:
        found = []
        try:
            found.append(self._done.get(timeout=max(0.0, seconds)))
            while True:
                found.append(self._done.get_nowait())
        except queue.Empty:
            return found

    def stop(self, id: str, why: Fault) -> None:
        """Its process is killed, wherever it is."""
        with self._lock:
            ref = next((ref for ref, one in self._refs.items() if one == id), None)
            if ref is None:
                return
            del self._refs[ref]
            log = self._logs.pop(id)
        self._done.put(Outcome(id, fault=why, log=self._earlier.pop(id, "") + log.text()))
        self._cancel(ref)

    def _cancel(self, ref: Any) -> None:
        try:
            self._ray.cancel(ref, force=True)
        except Exception:  # noqa: BLE001, S110 - it has ended, or the cluster is gone: both are as good
            pass

    def log(self, id: str) -> str:
        log = self._logs.get(id)
        return log.text() if log is not None else ""

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            refs, self._refs = list(self._refs), {}
        for ref in refs:
            self._cancel(ref)
        try:
            self._ray.kill(self._mailbox)
        except Exception:  # noqa: BLE001, S110 - it goes with the connection in any case
            pass
        self._leave()

    def _leave(self) -> None:
        if self._mine:
            self._ray.shutdown()


# --------------------------------------------------------------------------------------------------------- the cluster


def check_address(text: str) -> str:
    """An address of `--on`."""
    if text in LOCAL:
        return text
    parts = urlsplit(text)
    try:
        good = parts.scheme == "ray" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        good = False
    if not good or parts.username or parts.path.strip("/") or parts.query:
        raise Invalid(
            f"`{bounded(text)}` is no place where a pipeline can run",
            hint="--on ray://HOST:PORT is a Ray cluster (its client port, 10001 by default); --on ray is one made here",
        )
    return text


def _library(address: str) -> Any:
    if address in LOCAL and "ray" not in sys.modules:  # which reads this when it is imported
        # who else is on this machine may not run code in our name, and nobody is told that we use it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise Invalid("ray is not installed", hint="pip install 'tarmac[ray]', of the cluster's version") from None
    return ray


def connect(ray: Any, address: str) -> None:
    """Reach a cluster, or make one here. A process has one at a time; who has one already keeps it."""
    try:
        if address in LOCAL:
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="error")
        else:
            _join(ray, address)
    except Exception as error:
        raise _unreachable(address, error) from error


def _join(ray: Any, address: str) -> None:
    """Ray starts a process for each client by a fork beside running threads, which fails now and then: another try."""
    parts = urlsplit(address)
    socket.create_connection((parts.hostname or "", parts.port or 0), REACH_SECONDS).close()  # ray would try for 30 s
    for tries in range(TRIES):
        try:
            ray.init(address, log_to_driver=False, logging_level="error")
            return
        except ConnectionAbortedError:
            if tries == TRIES - 1:
                raise


def _unreachable(address: str, error: Exception) -> Unreachable:
    where = "the Ray cluster on this machine" if address in LOCAL else f"the Ray cluster at {address}"
    return Unreachable(
        f"{where} does not answer: {bounded(_first_line(error), 300)}",
        hint="is it up, is that its client port, and are the versions of ray and Python the same on both sides? A "
        "cluster that asks for a token gets it by RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
    )


def _fault(error: Exception) -> Fault:
    """What an error of Ray says about a step."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = bounded(_first_line(error), 300)
    if kinds.intersection(LOST):
        how = "had no memory left" if "OutOfMemoryError" in kinds else "is gone"
        return Fault("Lost", f"the machine or process that ran it {how} ({type(error).__name__})", lost=True)
    cause = getattr(error, "cause", None)
    missing = next((one for one in (cause, error) if isinstance(one, ModuleNotFoundError)), None)
    if missing is not None or "No module named 'tarmac" in str(error):
        name = missing.name if missing is not None else "tarmac"
        return Fault(
            "ModuleNotFoundError", f"a machine of the cluster has no {name}",
            hint="tarmac and the packages of the steps are installed on every machine, in the Python that Ray runs in",
        )  # fmt: skip
    return Fault(type(error).__name__, text)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _amount(name: str, much: float) -> str:
    return f"{much / 2**30:.1f} GiB" if name == "memory" else f"{much:g}"
