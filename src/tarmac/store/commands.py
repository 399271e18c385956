"""How a command is carried out in a batch: by its handler, with its event. The door does it, and so does a job."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import msgspec

from tarmac.core.actor import Actor
from tarmac.core.operation import HANDLERS, Command, Handler, Operation, Query, Spec, check, spec_of
from tarmac.store.job import Placed
from tarmac.store.sql import Batch, Event, Reader, Tx

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


def do(job: Placed, request: Command[T], as_of: int | None = None) -> T:
    """A command from inside a job: same limits, same handler, same event as from outside, durable when it returns.

    Who may start the job was asked when it was started; the handler of the command has to be imported. With `as_of`
    the rows say that it happened then, which is for what happened elsewhere; the event says when it was done here, and
    as of when."""
    spec = spec_of(check(request))
    handler = HANDLERS[spec.name]
    extra: tuple[Any, ...] = ()
    if handler.prepare is not None:
        assert spec.quick, "only what is prepared without a look at the database can be done from a job"
        extra = (handler.prepare(request),)
    work = partial(carry_out, spec, handler, request, _encode(request), extra, job.project, job.project_name, job.actor)
    if as_of is not None:
        work = partial(work, as_of=as_of)
    answer: T = job.store.writer.call(work)
    return answer


def ask(job: Placed, request: Query[T]) -> T:
    """A question from inside a job."""
    spec = spec_of(check(request))
    with job.store.database.read() as connection:
        read = Reader(connection, job.store.names, job.project, job.project_name, job.actor)
        answer: T = HANDLERS[spec.name].apply(request, read)
    return answer


def carry_out(
    spec: Spec,
    handler: Handler,
    request: Operation[Any],
    payload: bytes,
    extra: tuple[Any, ...],
    key: int,
    project: str,
    actor: Actor,
    batch: Batch,
    as_of: int | None = None,
) -> Any:
    tx = Tx(batch, key, project, actor)
    if as_of is not None:
        tx.now = as_of
    answer = handler.apply(request, tx, *extra)
    if tx.changed:
        subject = tx.subject or _subject(spec, answer)
        evidence = tx.evidence if as_of is None else {**(tx.evidence or {}), "as_of": as_of}
        content = payload if evidence is None else _with_evidence(payload, evidence)
        batch.events.append(Event(project, batch.now, actor.signature, spec.name, subject, content))
    return answer


def _with_evidence(payload: bytes, evidence: dict[str, Any]) -> bytes:
    """What was asked, and what the handler found worth proving later."""
    return _encode({**msgspec.json.decode(payload), "evidence": evidence})


def _subject(spec: Spec, answer: Any) -> str:
    name = getattr(answer, "id", None) or getattr(answer, "name", "")
    return f"{spec.name.partition('.')[0]}/{name}"
