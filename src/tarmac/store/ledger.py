"""The ledger: what was changed, when and by whom, in a chain that shows if anything in it was changed later.

Events are written in the transaction of the change they record. A *seal* gives a batch of them their positions and
binds it to the seal before: on SQLite at the end of each group commit, on Postgres by whichever server holds the
sealer's lock, a moment later. Readers see sealed events only, so a position that was read is final and the next one
is always higher. Seals are signed with a key kept outside the database, so that who can write the tables alone cannot
write a history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
from blake3 import blake3

from tarmac.core.clock import now
from tarmac.core.digest import digest
from tarmac.store.sql import Batch, Connection, Event, Row

GENESIS = "0" * 64
EVENT_COLUMNS = ("position", "project", "at", "actor", "operation", "subject", "payload", "payload_digest")
SEAL_COLUMNS = (
    "number", "first_position", "events", "sealed_at", "batch_digest", "previous", "digest", "signature",
)  # fmt: skip
PENDING_COLUMNS = ("project", "at", "actor", "operation", "subject", "payload", "payload_digest")
SEAL_AT_ONCE = 2000
PIECE = 2000
SEALER_LOCK = 0x7A12_0001

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Head:
    """The newest seal: whoever has written it down elsewhere can prove that nothing before it was changed."""

    number: int
    last_position: int
    digest: str


class Ledger:
    """Seals batches and proves the chain, with the workspace's key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, seal_digest: str) -> str:
        return blake3(seal_digest.encode(), key=self._key).hexdigest()

    def seal_batch(self, batch: Batch) -> None:
        """At the end of a group commit: seal its events here, or leave them for the sealer."""
        if not batch.events:
            return
        rows = [_pending_row(event) for event in batch.events]
        if batch.connection.kind == "sqlite":
            self._append(batch.connection, rows, batch.now)
        else:
            batch.connection.insert("pending_events", PENDING_COLUMNS, rows)

    def seal_pending(self, connection: Connection, *, wait: bool = False) -> int:
        """In an open transaction: seal what waits, unless another sealer is at it. Returns how many were sealed.

        A row is visible here only after its transaction is over, so whatever is visible may be sealed: an event that
        another one could have seen is visible before it and has the lower key.
        """
        if wait:
            connection.run("SELECT pg_advisory_xact_lock(:lock)", lock=SEALER_LOCK)
        elif not connection.value("SELECT pg_try_advisory_xact_lock(:lock)", lock=SEALER_LOCK):
            return 0
        rows = connection.all(
            "DELETE FROM pending_events WHERE key IN (SELECT key FROM pending_events ORDER BY key LIMIT :n) "
            "RETURNING key, project, at, actor, operation, subject, payload, payload_digest",
            n=SEAL_AT_ONCE,
        )
        if rows:
            rows.sort()
            self._append(connection, [row[1:] for row in rows], now())
        return len(rows)

    def _append(self, connection: Connection, rows: Sequence[Row], at: int) -> None:
        before = head(connection)
        first = before.last_position + 1
        positioned = [(first + index, *row) for index, row in enumerate(rows)]
        batch_digest = _batch_digest(positioned)
        number = before.number + 1
        seal_digest = _seal_digest(number, first, len(rows), at, batch_digest, before.digest)
        connection.insert("events", EVENT_COLUMNS, positioned)
        seal = (number, first, len(rows), at, batch_digest, before.digest, seal_digest, self.sign(seal_digest))
        connection.insert("seals", SEAL_COLUMNS, [seal])

    def faults(self, connection: Connection, progress: Callable[[int], None] = lambda done: None) -> Iterator[str]:
        """Walk the whole chain in fixed memory and name everything that is not as it was sealed."""
        number, position, previous = 0, 0, GENESIS
        events = _Walk(connection)
        for piece in connection.pieces(f"SELECT {', '.join(SEAL_COLUMNS)} FROM seals ORDER BY number", PIECE):
            for seal in piece:
                found, first, count, at, batch_digest, link, seal_digest, signature = seal
                if found != number + 1:
                    yield f"seal {number + 1} is missing" + (f" (up to {found - 1})" if found > number + 2 else "")
                elif link != previous:
                    yield f"seal {found} does not follow seal {number}: one of them was replaced"
                if first != position + 1 and found == number + 1:
                    yield f"seal {found} starts at event {first}, not {position + 1}"
                if _seal_digest(found, first, count, at, batch_digest, link) != seal_digest:
                    yield f"seal {found} was edited"
                elif self.sign(seal_digest) != signature:
                    yield f"seal {found} is not signed with this workspace's key"
                stray = events.until(first)
                if stray:
                    yield f"event {stray[0][0]} has no seal" + (f" and {len(stray) - 1} more" if stray[1:] else "")
                yield from _event_faults(events.until(first + count), found, first, count, batch_digest)
                number, position, previous = found, first + count - 1, seal_digest
                progress(position)
        beyond = connection.one("SELECT count(*), min(position) FROM events WHERE position > :last", last=position)
        if beyond and beyond[0]:
            yield f"{beyond[0]} events from {beyond[1]} on have no seal: the last seals were removed"


class _Walk:
    """All events in order, handed out up to a position: one pass beside the pass over the seals."""

    def __init__(self, connection: Connection) -> None:
        self._pieces = connection.pieces(f"SELECT {', '.join(EVENT_COLUMNS)} FROM events ORDER BY position", PIECE)
        self._rows: list[Row] = []
        self._at = 0

    def until(self, end: int) -> list[Row]:
        taken: list[Row] = []
        while True:
            while self._at < len(self._rows):
                if self._rows[self._at][0] >= end:
                    return taken
                taken.append(self._rows[self._at])
                self._at += 1
            self._rows, self._at = next(self._pieces, []), 0
            if not self._rows:
                return taken


def _event_faults(rows: list[Row], seal: int, first: int, count: int, batch_digest: str) -> Iterator[str]:
    if len(rows) < count:
        have = {row[0] for row in rows}
        gone = next(position for position in range(first, first + count) if position not in have)
        more = count - len(rows) - 1
        yield f"event {gone} is missing" + (f" and {more} more" if more else "")
        return
    for row in rows:
        if row[6] is not None and digest(as_bytes(row[6])) != row[7]:
            yield f"event {row[0]} was edited: its payload is not the one that was sealed"
    if _batch_digest(rows) != batch_digest:
        names = f"event {first}" if count == 1 else f"an event in {first}–{first + count - 1}"
        yield f"{names} was edited: seal {seal} does not fit"


def as_bytes(payload: bytes | str) -> bytes:
    """What stands in a payload; who edits one in SQLite's shell writes text there."""
    return payload.encode() if isinstance(payload, str) else bytes(payload)


def head(connection: Connection) -> Head:
    row = connection.one("SELECT number, first_position + events - 1, digest FROM seals ORDER BY number DESC LIMIT 1")
    return Head(*row) if row else Head(0, 0, GENESIS)


def seal_at(connection: Connection, number: int) -> str | None:
    """The digest of one seal: what an anchor kept elsewhere is compared with."""
    found: str | None = connection.value("SELECT digest FROM seals WHERE number = :number", number=number)
    return found


def _pending_row(event: Event) -> Row:
    return (
        event.project, event.at, event.actor, event.operation, event.subject, event.payload, digest(event.payload),
    )  # fmt: skip


def _batch_digest(rows: Sequence[Row]) -> str:
    hasher = blake3()
    for position, project, at, actor, operation, subject, _, payload_digest in rows:
        # JSON ends each value, so that no two different rows can give the same bytes
        hasher.update(_encode((position, project, at, actor, operation, subject, payload_digest)))
    return hasher.hexdigest()


def _seal_digest(number: int, first: int, count: int, at: int, batch_digest: str, previous: str) -> str:
    return blake3(_encode((number, first, count, at, batch_digest, previous))).hexdigest()
