"""Garbage collection beside writers: condemn, wait, mark as deleting, delete the file, delete the row.

Each step is its own short transaction and may be the last one that happens: the next collection goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tarmac.core.clock import now
from tarmac.store.blobs.folder import FolderBlobs
from tarmac.store.records import Garbage
from tarmac.store.sql import Batch, Database, Row
from tarmac.store.writer import Writer

AT_ONCE = 500
LOOK_AGAIN_SECONDS = 0.25
Progress = Callable[[int, str], None]


@contextmanager
def alone(database: Database, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold off every other gc and backup: a blob must not go between the copy of its row and the copy of its bytes.

    `waiting` is called again and again until it is our turn; it may raise to give up.
    """
    while True:
        with database.exclusive("gc", wait=False) as held:
            if held:
                yield
                return
        waiting()
        time.sleep(LOOK_AGAIN_SECONDS)


@dataclass(slots=True)
class _Tally:
    count: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.count += 1
        self.bytes += size


class Collector:
    """One collection over one workspace."""

    def __init__(self, database: Database, writer: Writer, blobs: FolderBlobs, grace: int) -> None:
        self._database = database
        self._writer = writer
        self._blobs = blobs
        self._grace = grace

    def collect(self, *, dry_run: bool, progress: Progress) -> Garbage:
        with alone(self._database, lambda: progress(0, "waits for a backup or another gc to end")):
            condemned, deleted, strays = _Tally(), _Tally(), _Tally()
            if dry_run:
                self._weigh(condemned, deleted)
            else:
                self._condemn(condemned, progress)
                self._delete(deleted, progress)
            self._sweep(strays, dry_run, progress)
        return Garbage(
            dry_run=dry_run,
            condemned=condemned.count,
            condemned_bytes=condemned.bytes,
            deleted=deleted.count,
            deleted_bytes=deleted.bytes,
            strays=strays.count,
            stray_bytes=strays.bytes,
        )

    def _weigh(self, condemned: _Tally, deleted: _Tally) -> None:
        with self._database.read() as connection:
            for state, tally in (("present", condemned), ("condemned", deleted)):
                row = connection.one(
                    "SELECT count(*), coalesce(sum(size), 0) FROM blobs "
                    "WHERE refs = 0 AND state = :state AND touched_at <= :before",
                    state=state,
                    before=now() - self._grace,
                )
                assert row is not None
                tally.count, tally.bytes = int(row[0]), int(row[1])

    def _condemn(self, tally: _Tally, progress: Progress) -> None:
        while True:
            rows = self._move("present", "condemned")
            for row in rows:
                tally.add(row[3])
            progress(tally.count, "condemned")
            if len(rows) < AT_ONCE:
                return

    def _delete(self, tally: _Tally, progress: Progress) -> None:
        while True:
            moved = self._move("condemned", "deleting")
            with self._database.read() as connection:  # a killed collection may have left some too
                rows = connection.all("SELECT project, digest, place, size FROM blobs WHERE state = 'deleting'")
            for _, _, place, size in rows:
                self._blobs.delete(place)
                tally.add(size)
            self._writer.call(partial(_drop, rows))
            progress(tally.count, "deleted")
            if len(moved) < AT_ONCE:
                return

    def _move(self, before: str, after: str) -> list[Row]:
        """The next portion of unneeded blobs, moved from one state to the next and returned as they were."""

        def move(batch: Batch) -> list[Row]:
            return batch.connection.all(
                "UPDATE blobs SET state = :after, touched_at = :now WHERE (project, digest) IN "
                "(SELECT project, digest FROM blobs WHERE refs = 0 AND state = :before AND touched_at <= :at LIMIT :n) "
                "AND refs = 0 AND state = :before RETURNING project, digest, place, size",
                before=before,
                after=after,
                now=batch.now,
                at=batch.now - self._grace,
                n=AT_ONCE,
            )

        rows: list[Row] = self._writer.call(move)
        return rows

    def _sweep(self, tally: _Tally, dry_run: bool, progress: Progress) -> None:
        """Files that no row points to: uploads that were cut off before their row was written."""
        for file in self._blobs.lying():
            if file.modified_at > now() - self._grace:
                continue
            with self._blobs.hold(file.place) as free:
                if free and not self._has_row(file.place):
                    if not dry_run:
                        self._blobs.delete(file.place)
                    tally.add(file.size)
                    progress(tally.count, "strays")

    def _has_row(self, place: str) -> bool:
        with self._database.read() as connection:
            return bool(connection.value("SELECT 1 FROM blobs WHERE place = :place LIMIT 1", place=place))


def _drop(rows: list[Row], batch: Batch) -> None:
    for project, digest, place, _ in rows:
        batch.connection.run(
            "DELETE FROM blobs WHERE project = :project AND digest = :digest AND place = :place AND state = 'deleting'",
            project=project,
            digest=digest,
            place=place,
        )
