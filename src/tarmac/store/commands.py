"""How a command is carried out in a batch: by its handler, with its event. The door does it, and so does a job."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import msgspec

from tarmac.core.actor import Actor
from tarmac.core.operation import HANDLERS, Command, Handler, Operation, Spec, check, spec_of
from tarmac.store.job import JobContext
from tarmac.store.sql import Batch, Event, Tx

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


def do(job: JobContext, request: Command[T]) -> T:
    """A command from inside a job: same limits, same handler, same event as from outside, durable when it returns.

    Who may start the job was asked when it was started; the handler of the command has to be imported."""
    spec = spec_of(check(request))
    handler = HANDLERS[spec.name]
    extra: tuple[Any, ...] = ()
    if handler.prepare is not None:
        assert spec.quick, "only what is prepared without a look at the database can be done from a job"
        extra = (handler.prepare(request),)
    work = partial(carry_out, spec, handler, request, _encode(request), extra, job.project, job.project_name, job.actor)
    answer: T = job.store.writer.call(work)
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
) -> Any:
    tx = Tx(batch, key, project, actor)
    answer = handler.apply(request, tx, *extra)
    if tx.changed:
        subject = tx.subject or _subject(spec, answer)
        content = payload if tx.evidence is None else _with_evidence(payload, tx.evidence)
        batch.events.append(Event(project, batch.now, actor.signature, spec.name, subject, content))
    return answer


def _with_evidence(payload: bytes, evidence: dict[str, Any]) -> bytes:
    """What was asked, and what the handler found worth proving later."""
    return _encode({**msgspec.json.decode(payload), "evidence": evidence})


def _subject(spec: Spec, answer: Any) -> str:
    name = getattr(answer, "id", None) or getattr(answer, "name", "")
    return f"{spec.name.partition('.')[0]}/{name}"
