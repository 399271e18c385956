"""Group commit: one thread turns what many callers want written into few durable transactions.

One piece of work that fails takes nothing else with it: if it had changed something, the group is undone and done
again with a savepoint around each. An answer is given only after the transaction is on the disk.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tarmac.core.clock import now
from tarmac.core.errors import Busy, Internal, TarmacError
from tarmac.store.sql import Batch, Database, Names, Retry, Unclean, Writing

log = logging.getLogger("tarmac")

GROUP = 64
WAIT_SECONDS = 120.0
TRIES = 5

Work = Callable[[Batch], Any]
Done = Callable[[Any, BaseException | None], None]
Seal = Callable[[Batch], None]


@dataclass(slots=True)
class Item:
    """One caller's work and what came of it."""

    work: Work
    done: Done
    state: str = "waiting"
    result: Any = None
    error: BaseException | None = None


class Writer:
    """The only road by which a process writes to its store."""

    def __init__(self, database: Database, names: Names, seal: Seal) -> None:
        self._database = database
        self._names = names
        self._seal = seal
        self.when_told: Callable[[], None] = _nothing
        """Called when everybody of a group was told: who has to wake others does it once."""
        self._reset()

    def _reset(self) -> None:
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self.wrote = False

    def submit(self, work: Work, done: Done) -> Item:
        """Do `work` in the next group; `done(result, error)` is called in the writer's thread after the commit."""
        item = Item(work, done)
        self._queue.put(item)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._loop, name="tarmac-writer", daemon=True)
                    self._thread.start()
        return item

    def call(self, work: Work, *, timeout: float = WAIT_SECONDS) -> Any:
        """Do `work` and wait for it to be durable."""
        ready = threading.Event()
        item = self.submit(work, lambda result, error: ready.set())
        if not ready.wait(timeout) and item.state == "waiting":
            item.state = "abandoned"
            raise Busy(
                f"{self._database.place}: waited {timeout:.0f} s for another writer; nothing was changed",
                hint="find the process that holds the write lock; a stopped one (Ctrl-Z) keeps it",
            )
        ready.wait()
        if item.error is not None:
            raise item.error
        return item.result

    def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def forget(self) -> None:
        """In a forked child: the parent's thread and queue are not here."""
        self._reset()

    def _loop(self) -> None:
        ending = False
        while not ending:
            first = self._queue.get()
            if first is None:
                return
            group = [first]
            while len(group) < GROUP:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    ending = True
                    break
                group.append(item)
            self._write(group)

    def _write(self, group: list[Item]) -> None:
        # SIGSTOP'd or slow holders of the lock are waited for inside `write()`; who gave up meanwhile is left out
        tries, careful = 0, False
        while True:
            try:
                self._transaction(group, careful=careful)
                break
            except TarmacError as error:
                self._fail(group, error)
                break
            except Unclean:
                careful = True
            except Retry:
                tries += 1
                if tries == TRIES:
                    self._fail(group, Busy(f"{self._database.place}: other writers were in the way {TRIES} times"))
                    break
            except Exception as error:  # noqa: BLE001 - the thread outlives every fault, and every caller hears of it
                fault = Internal(f"{self._database.place}: {type(error).__name__}: {error}")
                fault.__cause__ = error
                self._fail(group, fault)
                break
        for item in group:
            if item.state != "abandoned":
                item.state = "done"
                try:
                    item.done(item.result, item.error)
                except Exception:
                    log.exception("somebody could not be told what came of a command")
        try:
            self.when_told()
        except Exception:
            log.exception("those who wait for a command could not be woken")

    def _fail(self, group: list[Item], error: TarmacError) -> None:
        for item in group:
            item.result = None
            item.error = item.error or error

    def _transaction(self, group: list[Item], *, careful: bool) -> None:
        with self._database.write() as connection:
            batch = Batch(connection, now(), self._names)
            connection.begin(hurried=not careful)
            try:
                for item in group:
                    if item.state == "abandoned":
                        continue
                    item.state = "started"
                    if careful:
                        self._carefully(item, batch, connection)
                    else:
                        self._one(item, batch, connection)
                self._finish(batch, connection, careful=careful)
            except BaseException:
                connection.rollback()
                raise
        self._names.learn(batch.learned)
        self.wrote = True

    def _one(self, item: Item, batch: Batch, connection: Writing) -> None:
        """Without a savepoint: nearly all that fails is refused before it has changed anything."""
        recorded, learned, changes = len(batch.events), len(batch.learned), connection.changes()
        item.result = item.error = None
        try:
            item.result = item.work(batch)
        except TarmacError as error:
            if connection.changes() != changes:
                raise Unclean from error
            item.error = error
            del batch.events[recorded:]
            del batch.learned[learned:]
        except Exception as error:
            raise Unclean from error

    def _finish(self, batch: Batch, connection: Writing, *, careful: bool) -> None:
        try:
            self._seal(batch)
        except TarmacError:
            raise
        except Exception as error:
            if careful:
                raise
            raise Unclean from error  # the error of an item's statement, which was not waited for
        connection.commit()

    def _carefully(self, item: Item, batch: Batch, connection: Writing) -> None:
        recorded, learned = len(batch.events), len(batch.learned)
        item.result = item.error = None
        connection.savepoint()
        try:
            item.result = item.work(batch)
        except Exception as error:  # noqa: BLE001 - whatever one caller did, the others go on
            item.error = connection.recover(error)
            del batch.events[recorded:]
            del batch.learned[learned:]
        else:
            connection.release()


def _nothing() -> None:
    pass
