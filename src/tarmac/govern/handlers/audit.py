"""How the ledger answers."""

from __future__ import annotations

from itertools import chain

import msgspec

from tarmac.core.operation import handles
from tarmac.govern import operations as ops
from tarmac.govern import proofs, queries
from tarmac.govern.records import Export, Verification
from tarmac.store import ledger
from tarmac.store.blobs import rows as blobs
from tarmac.store.job import JobContext
from tarmac.store.queries import ledger_facts
from tarmac.store.sql import Batch, Reader, Tx

MOST_FAULTS = 1000
ROWS_AT_ONCE = 2000


@handles(ops.ListEvents)
def list_events(request: ops.ListEvents, read: Reader) -> ops.AuditPage:
    wanted = {"actor": request.actor, "operation": request.operation, "subject": request.subject}
    found = queries.events(read, request.after, request.before, wanted, request.limit)
    return ops.AuditPage(events=found, next=found[-1].position if len(found) == request.limit else None)


@handles(ops.VerifyLedger)
def verify_ledger(request: ops.VerifyLedger, job: JobContext) -> Verification:
    faults: list[str] = []
    with job.store.database.read(snapshot=True) as connection:
        facts = ledger_facts(connection)
        in_chain = job.store.ledger.faults(connection, lambda done: job.progress(done, facts.events, "events"))
        for fault in chain(in_chain, proofs.faults(connection)):
            faults.append(fault)
            if len(faults) == MOST_FAULTS:
                faults.append("… and more")
                break
        if request.expect:
            number, _, digest = request.expect.partition(":")
            if ledger.seal_at(connection, int(number)) != digest:
                faults.append(f"seal {number} is not the one that was written down")
    head = f"{facts.seals}:{facts.head}" if facts.seals else ""
    return Verification(events=facts.events, seals=facts.seals, head=head, faults=faults)


@handles(ops.ExportEvents)
def export_events(request: ops.ExportEvents, job: JobContext) -> Export:
    incoming = job.store.blobs.receive()
    count = 0
    encode = msgspec.json.Encoder().encode
    try:
        with job.store.database.read(snapshot=True) as connection:
            facts = ledger_facts(connection)
            pieces = connection.pieces(
                queries.ALL_AFTER,
                ROWS_AT_ONCE,
                project=job.project_name,
                after=request.after,
            )
            for rows in pieces:
                incoming.write(b"".join(encode(queries.event(row)) + b"\n" for row in rows))
                count += len(rows)
                job.progress(count, facts.events - request.after, "events")
    except BaseException:
        incoming.abandon()
        raise
    stored = incoming.finish()

    def keep(batch: Batch) -> bool:
        return blobs.add(Tx(batch, job.project, job.project_name, job.actor), stored)

    used = job.store.writer.call(keep)
    stored.settle()
    if not used:
        job.store.blobs.delete(stored.place)
    return Export(events=count, bytes=stored.size, blob=stored.digest, head=f"{facts.seals}:{facts.head}")
