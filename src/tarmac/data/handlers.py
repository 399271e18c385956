"""What is done about data sets and their versions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from tarmac.core.clock import now
from tarmac.core.errors import Conflict, Damaged, Invalid, bounded
from tarmac.core.operation import handles
from tarmac.data import listing as listings
from tarmac.data import operations as ops
from tarmac.data import queries as rows
from tarmac.data import references
from tarmac.data.check import faults as version_faults
from tarmac.data.inside import Inside
from tarmac.data.listing import Listing
from tarmac.data.records import DataVersion
from tarmac.data.repack import Repacked, repack
from tarmac.data.tables import jobs
from tarmac.formats.records import ContractReport
from tarmac.store.blobs import rows as blobs
from tarmac.store.check import CHECKS
from tarmac.store.job import JobContext
from tarmac.store.sql import Batch, Event, Reader, Tx

CHECKS.append(version_faults)

DAY = 24 * 3_600_000
MOST_BYTES = 2**62
AT_ONCE = 50
MOST_NAMED = 100


def _read_listing(request: ops.CommitData, read: Reader) -> Listing:
    """The list of files as its sender made it; what is wrong in it is found before anything is written."""
    try:
        found = listings.decode(request.listing)
    except Damaged as error:
        raise Invalid(f"data.commit: {error.message}", hint="it is made by `tarmac data log`") from None
    packs = set(found.packs)
    if not packs or any(len(pack) != 32 or pack == listings.HERE for pack in packs):
        raise Invalid("data.commit: the listing names packs that cannot be")
    if any(part.items < 0 or part.total < 0 or len(part.tree) != 32 for part in found.parts):
        raise Invalid("data.commit: a page of the listing has numbers that cannot be")
    if found.size > MOST_BYTES or found.files > MOST_BYTES:
        raise Invalid("data.commit: the listing tells of more bytes than there can be")
    return found


@handles(ops.CommitData, prepare=_read_listing)
def commit_data(request: ops.CommitData, tx: Tx, found: Listing) -> ops.Logged:
    packs = sorted({pack.hex() for pack in found.packs})
    if missing := sorted(set(packs) - blobs.lock_sizes(tx, packs).keys()):
        tx.unchanged()
        return ops.Logged(missing=missing)
    key, layout, highest = rows.make_set(tx, request.name, request.layout or "packed")
    if request.layout is not None and layout != request.layout:
        raise Conflict(
            f"data set `{bounded(request.name)}` has the layout `{layout}`",
            hint="a layout is chosen when a name is new",
        )
    same = rows.latest(tx, key) if request.number is None else rows.numbered(tx, key, request.number)
    if same is not None and same[1] == found.digest:
        tx.unchanged()
        return ops.Logged(version=rows.version(tx, same[0]))
    if same is not None and request.number is not None:
        raise rows.refuse_taken(request.name, request.number)
    made = DataVersion(
        name=request.name,
        number=request.number or highest + 1,
        digest=found.digest,
        files=found.files,
        size=found.size,
        added=rows.unneeded_bytes(tx, packs),
        message=request.message,
        actor=tx.actor.signature,
        layout=layout,
        created_at=tx.now,
        origin=request.origin,
        tags=request.tags,
        document=request.document,
    )
    rows.add(tx, key, made, request.listing, packs)
    tx.subject = f"data/{made.name}@v{made.number}"
    tx.evidence = {"version": made.number, "digest": made.digest, "files": made.files, "size": made.size}
    return ops.Logged(version=made, made=True)


@handles(ops.ListData)
def list_data(request: ops.ListData, read: Reader) -> ops.DataSets:
    found = rows.sets(read, request.after, request.limit)
    return ops.DataSets(data=found, next=found[-1].name if len(found) == request.limit else None)


@handles(ops.ListDataVersions)
def list_versions(request: ops.ListDataVersions, read: Reader) -> ops.DataVersions:
    found = rows.versions(read, request.name, request.before, request.limit, deleted=request.deleted)
    return ops.DataVersions(versions=found, next=found[-1].number if len(found) == request.limit else None)


@handles(ops.GetData)
def get_data(request: ops.GetData, read: Reader) -> DataVersion:
    return rows.version(read, rows.find(read, references.parse(request.ref)))


@handles(ops.GetListing)
def get_listing(request: ops.GetListing, read: Reader) -> ops.Listed:
    key = rows.find(read, references.parse(request.ref))
    return ops.Listed(version=rows.version(read, key, with_document=False), listing=rows.listing(read, key))


@handles(ops.TagData)
def tag_data(request: ops.TagData, tx: Tx) -> DataVersion:
    key = rows.find(tx, references.parse(request.ref))
    before = rows.version(tx, key, with_document=False)
    rows.put_tags(tx, key, request.set)
    rows.drop_tags(tx, key, request.unset)
    after = rows.version(tx, key, with_document=False)
    if after.tags == before.tags:
        tx.unchanged()
    return _answer(tx, after)


@handles(ops.DeleteData)
def delete_data(request: ops.DeleteData, tx: Tx) -> DataVersion:
    key = rows.find(tx, _numbered(request.ref))
    rows.set_deleted(tx, key, tx.now)
    return _answer(tx, rows.version(tx, key, with_document=False))


@handles(ops.RestoreData)
def restore_data(request: ops.RestoreData, tx: Tx) -> DataVersion:
    key = rows.find(tx, _numbered(request.ref), deleted=True)
    rows.set_deleted(tx, key, None)
    return _answer(tx, rows.version(tx, key, with_document=False))


@handles(ops.PurgeData)
def purge_data(request: ops.PurgeData, job: JobContext) -> ops.DataPurged:
    before, after, size = now() - int(request.days * DAY), 0, 0
    gone: list[str] = []
    kept: list[str] = []
    while True:
        with job.store.database.read() as connection:
            found = rows.in_trash(connection, job.project, before, after, AT_ONCE)
            if not found:
                break
            after = found[-1][0]
            free = {key: name for key, name, used in found if request.used or not used}
            kept += [f"{name}: {used}" for key, name, used in found if key not in free]
            size += rows.freed_bytes(connection, job.project, list(free))
        keys = list(free) if request.dry_run else job.store.writer.call(partial(_delete, job, free))
        gone += [free[key] for key in keys]
        job.progress(len(gone), 0, "versions")
    repacked = Repacked(0, 0) if request.dry_run else repack(job)
    for names in (gone, kept):
        if len(names) > MOST_NAMED:
            names[MOST_NAMED:] = [f"… and {len(names) - MOST_NAMED} more"]
    return ops.DataPurged(versions=gone, bytes=size, kept=kept, repacked=repacked.packs)


def _delete(job: JobContext, free: dict[int, str], batch: Batch) -> Sequence[int]:
    gone = rows.delete(Tx(batch, job.project, job.project_name, job.actor), list(free))
    if gone:
        payload = msgspec.json.encode({"versions": [free[key] for key in gone]})
        batch.events.append(
            Event(job.project_name, batch.now, job.actor.signature, "data.purge", f"jobs/{job.id}", payload)
        )
    return gone


def _numbered(text: str) -> references.Reference:
    """What is deleted is named by its number: `latest` may be another one a moment later."""
    reference = references.parse(text)
    if reference.number is None:
        raise Invalid(f"`{bounded(text)}` has to be named by its number", hint=f"like {bounded(reference.name)}@v3")
    return reference


def _answer(tx: Tx, version: DataVersion) -> DataVersion:
    tx.subject = f"data/{version.name}@v{version.number}"
    return version


@handles(ops.ValidateData)
def validate_data(request: ops.ValidateData, job: JobContext) -> ContractReport:
    return jobs.validate(request, _listed(request.ref, job), _depot(job), partial(job.progress, message="rows"))


@handles(ops.DiffData)
def diff_data(request: ops.DiffData, job: JobContext) -> ops.DataDiff:
    sides = _listed(request.one, job), _listed(request.other, job)
    return jobs.diff(request, sides, _depot(job))


def _listed(ref: str, job: JobContext) -> jobs.Side:
    """A version with its document, and its list of files."""
    with job.store.database.read() as connection:
        read = Reader(connection, job.store.names, job.project, job.project_name, job.actor)
        key = rows.find(read, references.parse(ref))
        return jobs.Side(rows.version(read, key), listings.decode(rows.listing(read, key)))


def _depot(job: JobContext) -> Inside:
    return Inside(job.store, job.project, job.project_name, job.actor)
