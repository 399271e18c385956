"""How requests reach a model: at once, gathered within one turn of the loop, or by a thread that takes what waits.

Nobody waits for a batch to fill. A model that is busy finds more callers when it comes back, and takes them together;
a lone caller finds it idle. Rows of several callers are one array for the model and each caller's own again after it.
When such a batch fails, every caller's rows are tried by themselves, so that only who sent the bad row hears of it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tarmac.core.errors import Busy, Internal, TarmacError, bounded

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]
    Predict = Callable[[Arrays], dict[str, np.ndarray[Any, Any]]]

AT_ONCE_SECONDS = 300e-6
"""What a request may cost to be worked on in the loop itself: others wait meanwhile."""
GATHER_SECONDS = 12e-6
"""Models whose call costs less than this gain nothing from company."""

log = logging.getLogger("tarmac.serve")


class Leaving(Protocol):
    """Who may hang up while their rows wait."""

    gone: bool


class Work:
    """One caller's rows. `done` gets the outputs or an error, in the loop, once; when `caller` is gone nobody waits."""

    __slots__ = ("_caller", "_done", "deadline", "inputs", "rows", "shape")

    def __init__(
        self,
        inputs: Arrays,
        rows: int,
        deadline: float,
        done: Callable[[Any, TarmacError | None], None],
        caller: Leaving | None = None,
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.deadline = deadline
        self._caller = caller
        self._done: Callable[[Any, TarmacError | None], None] | None = done
        self.shape = [(name, array.dtype, array.shape[1:]) for name, array in inputs.items()]

    def finish(self, outputs: Any, error: TarmacError | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(outputs, error)

    @property
    def gone(self) -> bool:
        return self._caller is not None and self._caller.gone

    @property
    def over(self) -> bool:
        return self._done is None


class Cost:
    """What a call costs: a part of its own and a part for each row, as measured when the model was warmed."""

    __slots__ = ("call", "row")

    def __init__(self, call: float, row: float) -> None:
        self.call = call
        self.row = row

    def of(self, rows: int) -> float:
        return self.call + self.row * rows


class Lane:
    """The one way to one loaded version."""

    def __init__(
        self, predict: Predict, *, cost: Cost, rows: int, waiting: int, row_wise: bool, own_thread: bool, name: str
    ) -> None:
        self._predict = predict
        self._rows = rows
        self._most_waiting = waiting
        self._row_wise = row_wise
        self._own_thread = own_thread
        self._cost = cost
        self._gathers = row_wise and cost.call > GATHER_SECONDS
        self._most_at_once = 0 if own_thread else _rows_within(cost, AT_ONCE_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Work] = deque()
        self._waits: deque[Work] = deque()
        self._running: list[Work] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self.name = name
        self.waiting = 0
        """Rows that no engine has yet."""
        self.since: float | None = None
        """When the engine began with what it is at now."""
        self.batches: dict[int, int] = {}
        """How often it was given how many rows."""

    def submit(self, work: Work) -> None:
        if self.waiting + work.rows > self._most_waiting and self.waiting:
            work.finish(None, Busy(f"{self.waiting:,} rows wait for {self.name} already", hint="try again in a second"))
            return
        if work.rows > self._most_at_once:
            self._hand_over(work)
        elif self._gathers:
            self.waiting += work.rows
            self._pending.append(work)
            if len(self._pending) == 1:
                self._loop.call_soon(self._flush)
        else:
            self._count(work.rows)
            self._work([work], _deliver)

    def _flush(self) -> None:
        pending, self._pending = self._pending, deque()
        while pending:
            batch = self._take(pending)
            self.waiting -= sum(work.rows for work in batch)
            self._run(batch, _deliver)

    # --- the thread ---

    def _hand_over(self, work: Work) -> None:
        self.waiting += work.rows
        with self._wake:
            self._waits.append(work)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"engine {self.name}", daemon=True)
                self._thread.start()
            self._wake.notify()

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not self._waits and not self._stopped:
                    self._wake.wait()
                if not self._waits:
                    return
                batch = self._take(self._waits)
                self._running = batch
                self.since = time.monotonic()
            results: list[tuple[Work, Any, TarmacError | None]] = []

            def keep(work: Work, outputs: Any, error: TarmacError | None, into: Any = results) -> None:
                into.append((work, outputs, error))

            self._run(batch, keep)
            with self._wake:
                self._running, self.since = [], None
            try:
                self._loop.call_soon_threadsafe(self._give_out, batch, results)
            except RuntimeError:  # the loop has ended meanwhile
                return

    def _give_out(self, batch: list[Work], results: list[tuple[Work, Any, TarmacError | None]]) -> None:
        self.waiting -= sum(work.rows for work in batch)
        for work, outputs, error in results:
            work.finish(outputs, error)

    # --- batches ---

    def _take(self, queue: deque[Work]) -> list[Work]:
        """From the front: as many callers as fit into one call, and never more rows than allowed."""
        first = queue.popleft()
        batch, rows = [first], first.rows
        while queue and self._row_wise:
            following = queue[0]
            if rows + following.rows > self._rows or following.shape != first.shape:
                break
            batch.append(queue.popleft())
            rows += following.rows
        return batch

    def _run(self, batch: list[Work], deliver: Deliver) -> None:
        now = time.monotonic()
        alive: list[Work] = []
        for work in batch:
            if work.gone or work.over:
                deliver(work, None, Busy("the caller is gone"))
            elif now > work.deadline:
                deliver(work, None, Busy(f"it was not {self.name}'s turn in time", hint="try again in a second"))
            else:
                alive.append(work)
        if alive:
            self._count(sum(work.rows for work in alive))
            self._work(alive, deliver)

    def _work(self, batch: list[Work], deliver: Deliver) -> None:
        if len(batch) == 1:
            work = batch[0]
            try:
                outputs = self._predict(self._own(work.inputs)) if work.rows <= self._rows else self._in_parts(work)
            except Exception as error:  # noqa: BLE001 - whatever a model raises is the answer to its caller
                deliver(work, None, _fault(self.name, error))
            else:
                deliver(work, outputs, None)
            return
        try:
            parts = self._together(batch)
        except Exception:  # noqa: BLE001 - who caused it is found by asking one by one
            for work in batch:
                self._work([work], deliver)
            return
        for work, outputs in zip(batch, parts, strict=True):
            deliver(work, outputs, None)

    def _together(self, batch: list[Work]) -> list[dict[str, Any]]:
        import numpy as np

        joined = {name: np.concatenate([work.inputs[name] for work in batch]) for name in batch[0].inputs}
        total = sum(work.rows for work in batch)
        outputs = self._predict(joined)
        for name, array in outputs.items():
            if array.ndim == 0 or array.shape[0] != total:
                self._row_wise = self._gathers = False
                raise Internal(f"output `{bounded(name)}` of {self.name} does not have a row for each row")
        parts, at = [], 0
        for work in batch:
            parts.append({name: array[at : at + work.rows] for name, array in outputs.items()})
            at += work.rows
        return parts

    def _in_parts(self, work: Work) -> dict[str, Any]:
        """More rows than go into the model at once: in pieces."""
        import numpy as np

        if not self._row_wise:
            return self._predict(self._own(work.inputs))
        pieces = [
            self._predict(self._own({name: array[at : at + self._rows] for name, array in work.inputs.items()}))
            for at in range(0, work.rows, self._rows)
        ]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _own(self, inputs: Arrays) -> Arrays:
        """Code of the model's own may write into what it is given; what is kept of the request must not change."""
        return {name: array.copy() for name, array in inputs.items()} if self._own_thread else inputs

    def _count(self, rows: int) -> None:
        self.batches[rows] = self.batches.get(rows, 0) + 1

    # --- from outside ---

    def give_up_late(self, now: float) -> None:
        """Answer those who waited long enough, though the engine is still at them."""
        for work in (*self._running, *self._waits):
            if now > work.deadline and not work.over:
                work.finish(None, Busy(f"{self.name} takes too long", hint="try again in a second"))

    def stop(self) -> None:
        """No more will come; the thread ends when it has done what waits."""
        with self._wake:
            self._stopped = True
            self._wake.notify()


Deliver = Callable[[Work, Any, "TarmacError | None"], None]


def _deliver(work: Work, outputs: Any, error: TarmacError | None) -> None:
    work.finish(outputs, error)


def _rows_within(cost: Cost, seconds: float) -> int:
    if cost.call >= seconds:
        return 0
    return int((seconds - cost.call) / cost.row) if cost.row > 0 else 1 << 30


def _fault(name: str, error: Exception) -> TarmacError:
    if isinstance(error, TarmacError):
        return error
    log.warning("%s failed", name, exc_info=error)
    return Internal(f"{name} failed at these rows: {type(error).__name__}: {bounded(error, 300)}")
