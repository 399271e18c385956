"""What falls due goes into the queue: exactly once, however many servers look at one store, and whatever clocks do.

A time is put there by who moves the schedule on to its next one, in one transaction; what that time was is a unique
mark, so neither a clock that is put back nor another server does it again. Of times that passed while nobody looked,
the last is made up for; the others are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial

from msgspec.structs import replace

from tarmac.core import cron
from tarmac.core.clock import iso
from tarmac.core.errors import Invalid, bounded, nearest
from tarmac.flow.schedules import queries
from tarmac.flow.schedules.queries import Happened, Row
from tarmac.store import Store
from tarmac.store.sql import Batch, Connection

JUMP_MILLISECONDS = 1000
MOST_COUNTED = 10_000
MOST_EVENTS = 10_000
NEW_DATA = "data.commit"
OURS = ("runs.", "jobs.", "pipelines.", "schedules.", "results.", "manifests.", "reproduce")
"""Events that pipelines themselves leave: started by those, one would never end."""


class Ticker:
    """Looks at all schedules of a store, whenever it is asked to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: int | None = None

    def tick(self, now: int) -> int:
        """Put into the queue what is due by now; how much that was."""
        went_back = self._seen is None or now < self._seen - JUMP_MILLISECONDS
        self._seen = now
        with self._store.database.read() as connection:
            rows = queries.every(connection)
            head = queries.head(connection) if any(row.triggers for row in rows) else 0
        count = 0
        for row in rows:
            if row.cron and row.next_at is not None:
                if row.next_at <= now:
                    count += self._store.writer.call(partial(fire, row=row, now=now))
                elif went_back:
                    self._nearer(row, now)
            if row.triggers and row.position < head:
                count += self._store.writer.call(partial(look, row=row, head=head, now=now))
        return count

    def _nearer(self, row: Row, now: int) -> None:
        """The clock is earlier than it was: so is the next time. What ran already has its mark and runs no more."""
        following = cron.parse(row.cron, row.zone).after(now)
        if following is not None and row.next_at is not None and following < row.next_at:
            self._store.writer.call(lambda batch: queries.move_on(batch.connection, row, following, None, 0))


def fire(batch: Batch, row: Row, now: int) -> bool:
    assert row.next_at is not None
    line = cron.parse(row.cron, row.zone)
    due, missed = line.last(row.next_at, now, MOST_COUNTED)
    if not queries.move_on(batch.connection, row, line.after(now), due, missed):
        return False
    why = f"{row.cron} ({row.zone})" + (f", made up for {iso(due)}" if now - due > cron.MINUTE else "")
    return queries.queue(batch.connection, row, f"at {due}", why, due, batch.now)


def look(batch: Batch, row: Row, head: int, now: int) -> bool:
    """Whether anything happened that starts it. Many events that are found together start it once."""
    upto = min(head, row.position + MOST_EVENTS)
    hit = _newest(batch.connection, row, upto)
    if not queries.look_on(batch.connection, row, upto) or hit is None:
        return False
    queries.ran(batch.connection, row.key, now)
    why = bounded(f"{hit.operation} {hit.about[-1]}", 500)
    return queries.queue(batch.connection, row, f"event {hit.position}", why, now, batch.now)


def _newest(connection: Connection, row: Row, upto: int) -> Happened | None:
    found = queries.events(connection, row.project_name, row.position, upto)
    return next((event for event in reversed(found) if starts(row.triggers, event.operation, event.about)), None)


def starts(triggers: Sequence[str], operation: str, about: Sequence[str]) -> bool:
    for trigger in triggers:
        kind, _, rest = trigger.partition(":")
        wanted, _, pattern = rest.partition(" ")
        if kind == "data":
            wanted, pattern = NEW_DATA, f"data/{rest}@*"
        if kind != "webhook" and operation == wanted and any(fnmatchcase(one, pattern or "*") for one in about):
            return True
    return False


def checked(row: Row, operations: Sequence[str], now: int) -> Row:
    """A new schedule with its next time; what could never start, or would never stop, is refused."""
    if not row.cron and not row.triggers:
        raise Invalid(f"schedule `{row.name}` has neither a cron line nor a trigger: it would never start")
    for trigger in row.triggers:
        kind, _, rest = trigger.partition(":")
        operation = rest.partition(" ")[0]
        if kind == "event" and operation.startswith(OURS):
            raise Invalid(f"`{trigger}` is what pipelines do themselves: started by it, one would never end")
        if kind == "event" and operation not in operations:
            raise _unknown(operation, operations)
    return replace(row, next_at=cron.parse(row.cron, row.zone).after(now) if row.cron else None)


def _unknown(operation: str, operations: Sequence[str]) -> Invalid:
    near = nearest(operation, operations)
    return Invalid(f"there is no event `{bounded(operation)}`", hint=f"did you mean `{near}`?" if near else None)
