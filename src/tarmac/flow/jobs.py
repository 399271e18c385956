"""A job while it runs: its heartbeat, progress, log and checkpoint, from inside the process that does the work."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.actor import Actor
from tarmac.core.clock import now
from tarmac.core.errors import Cancelled, Internal, TarmacError
from tarmac.flow import queries
from tarmac.store import Store
from tarmac.store.sql import Batch

BEAT_SECONDS = 1.0


class RunningJob:
    """What a job's handler is given (`JobContext`), and what ends the job."""

    def __init__(self, store: Store, id: str, attempt: int) -> None:
        self.store = store
        self.id = id
        self._attempt = attempt
        row = store.writer.call(lambda batch: queries.claim(batch.connection, id, attempt, batch.now))
        if row is None:
            raise Internal(f"job {id} is not waiting to be done")
        self.project, self.operation, self.request, signature, saved = row
        self.actor = Actor.signed(signature)
        self.saved: dict[str, Any] = msgspec.json.decode(saved)
        with store.database.read() as connection:
            self.project_name: str = connection.value("SELECT name FROM projects WHERE key = :key", key=self.project)
        self._log = LogFile(store, id, log_path(store, id, attempt))
        self._done, self._total, self._message = 0, 0, ""
        self._cancelled = False
        self._interrupted = False
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="tarmac-heartbeat", daemon=True)
        self._heart.start()

    def progress(self, done: int, total: int = 0, message: str = "") -> None:
        self._done, self._total, self._message = done, total, message
        if self._cancelled:
            raise Cancelled(f"job {self.id} was asked to stop")
        if self._interrupted:
            raise Cancelled(f"job {self.id} was interrupted; it can be resumed")

    def log(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")  # the process's output is the log
        sys.stdout.flush()

    def checkpoint(self, values: dict[str, Any]) -> None:
        text = msgspec.json.encode(values).decode()
        self.store.writer.call(lambda batch: queries.checkpoint(batch.connection, self.id, text))
        self.saved = values

    def interrupt(self) -> None:
        """Stop at the next clean place, to be resumed later."""
        self._interrupted = True

    def end(self, answer: Any, error: TarmacError | None) -> None:
        self._over.set()
        self._heart.join()
        state = "done"
        if error is not None:
            state = "failed"
            if isinstance(error, Cancelled):
                state = "cancelled" if self._cancelled else "interrupted"
        self._log.ship(last=True)
        answer_text = msgspec.json.encode(answer).decode() if error is None else ""
        error_text = msgspec.json.encode(error.to_json()).decode() if error is not None else ""
        self.store.writer.call(lambda batch: self._finish(batch, state, answer_text, error_text))

    def _finish(self, batch: Batch, state: str, answer: str, error: str) -> None:
        self._tell(batch)
        queries.finish(batch.connection, self.id, self._attempt, state, answer, error, batch.now)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self._log.ship()
                self._cancelled |= self.store.writer.call(self._tell)
            except TarmacError:
                continue  # a store that is away for a moment does not end the work

    def _tell(self, batch: Batch) -> bool:
        return queries.beat(batch.connection, self.id, self._attempt, self._done, self._total, self._message, batch.now)


def log_path(store: Store, id: str, attempt: int) -> Path:
    """Where the process of one attempt writes what it prints."""
    return store.folder.jobs / f"{id}.{attempt}.log"


class LogFile:
    """The output of a job's process, carried into the store as it grows.

    How far it was carried stands in a file beside it: whoever goes on after a killed process repeats nothing.
    """

    def __init__(self, store: Store, id: str, path: Path) -> None:
        self._store = store
        self._id = id
        self._path = path
        self._mark = path.with_suffix(".shipped")
        self._at = self._shipped()

    def _shipped(self) -> int:
        try:
            return int(self._mark.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def ship(self, *, last: bool = False) -> None:
        while data := self._next(last):
            text = data.decode("utf-8", "replace").replace("\x00", "")
            self._append(text)
            self._at += len(data)
            self._mark.write_text(str(self._at), encoding="ascii")

    def _append(self, text: str) -> None:
        self._store.writer.call(lambda batch: queries.append_log(batch.connection, self._id, text))

    def _next(self, last: bool) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read(queries.LOG_PART)
        except OSError:
            return b""
        # whole lines where there are any, so that no character is cut in two
        whole = data.rfind(b"\n") + 1
        return data[:whole] if whole and not (last and len(data) < queries.LOG_PART) else data if last else b""

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)


def end_lost(store: Store, id: str, attempt: int, exit_code: int) -> None:
    """The process is gone: if the job did not end itself, say so."""
    error = Internal(
        f"the job's process ended with {exit_code}" + (" (killed)" if exit_code < 0 else ""),
        hint=f"`tarmac jobs resume {id}` goes on from its last checkpoint",
    )
    text = msgspec.json.encode(error.to_json()).decode()
    log = LogFile(store, id, log_path(store, id, attempt))
    log.ship(last=True)  # first: whoever sees the job ended reads its whole log
    store.writer.call(lambda batch: queries.finish(batch.connection, id, attempt, "interrupted", "", text, now()))
    log.remove()
