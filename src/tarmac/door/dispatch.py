"""The one door: every question and every change passes here, from Python, the command line and HTTP alike.

Authorise, run, record the event, and turn every failure into one error shape.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from tarmac.core.actor import EVERYWHERE, Actor, Permission
from tarmac.core.errors import Forbidden, Internal, NotFound, TarmacError, bounded
from tarmac.core.ids import time_ordered
from tarmac.core.operation import Operation, Spec, Started, spec_of
from tarmac.data.depot import Depot
from tarmac.data.inside import Inside
from tarmac.data.listing import PROGRAM, Entry
from tarmac.data.listing import decode as decode_listing
from tarmac.data.operations import GetListing, Listed
from tarmac.data.reading import find_entry
from tarmac.door import catalog
from tarmac.door.jobs import Spawner
from tarmac.flow import queries as job_rows
from tarmac.flow.records import Job
from tarmac.store import Store
from tarmac.store.blobs import keeping
from tarmac.store.blobs.folder import Incoming, Stored
from tarmac.store.blobs.rows import Blob
from tarmac.store.commands import carry_out
from tarmac.store.sql import Batch, Event, Reader, Tx
from tarmac.store.writer import Done, Work
from tarmac.track.queries import files as run_files
from tarmac.track.queries import loose as loose_files

log = logging.getLogger("tarmac")

_encode = msgspec.json.Encoder().encode


class Door:
    """Dispatch for one open store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.jobs = Spawner(store)

    def dispatch(self, request: Operation[Any], actor: Actor, project: str) -> Any:
        """Do it now, in this thread, and answer."""
        spec = spec_of(request)
        if spec.kind == "query":
            return self.query(spec, request, actor, project)
        ready = threading.Event()
        outcome: list[Any] = [None, None]

        def done(answer: Any, error: BaseException | None) -> None:
            outcome[:] = answer, error
            ready.set()

        self.submit(spec, request, actor, project, done)
        ready.wait()
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def query(self, spec: Spec, request: Operation[Any], actor: Actor, project: str) -> Any:
        authorise(spec, actor, project)
        key = self.store.project_key(project)
        try:
            with self.store.database.read() as connection:
                return catalog.handler(spec).apply(request, Reader(connection, self.store.names, key, project, actor))
        except Exception as error:
            raise in_our_words(spec.name, error) from error

    def submit(self, spec: Spec, request: Operation[Any], actor: Actor, project: str, done: Done) -> None:
        """Start a command or a job; `done(answer, error)` is called once what it changed is durable."""
        authorise(spec, actor, project)
        key = self.store.project_key(project)
        work = (
            self._command(spec, request, actor, project, key)
            if spec.kind == "command"
            else self._job(spec, request, actor, project, key)
        )

        def finished(answer: Any, error: BaseException | None) -> None:
            if error is not None:
                done(None, in_our_words(spec.name, error))
                return
            try:
                if isinstance(answer, Started):
                    self.jobs.start(answer.id, 1)
                elif isinstance(answer, Job) and answer.state == "queued":
                    self.jobs.start(answer.id, answer.tries)
            except OSError as fault:
                done(None, in_our_words(spec.name, fault))
                return
            done(answer, None)

        self.store.writer.submit(work, finished)

    def _command(self, spec: Spec, request: Operation[Any], actor: Actor, project: str, key: int) -> Work:
        handler = catalog.handler(spec)
        extra: tuple[Any, ...] = ()
        if handler.prepare is not None:
            try:
                extra = (self._prepare(spec, handler.prepare, request, actor, project, key),)
            except Exception as error:
                raise in_our_words(spec.name, error) from error
        payload = _encode(request)
        return partial(carry_out, spec, handler, request, payload, extra, key, project, actor)

    def _prepare(
        self, spec: Spec, prepare: Callable[..., Any], request: Operation[Any], actor: Actor, project: str, key: int
    ) -> Any:
        if spec.quick:  # asks nothing of the database
            return prepare(request)
        with self.store.database.read() as connection:
            return prepare(request, Reader(connection, self.store.names, key, project, actor))

    def _job(self, spec: Spec, request: Operation[Any], actor: Actor, project: str, key: int) -> Work:
        payload = _encode(request)
        job = time_ordered()

        def work(batch: Batch) -> Started[Any]:
            job_rows.add(Tx(batch, key, project, actor), job, spec.name, payload.decode())
            batch.events.append(Event(project, batch.now, actor.signature, spec.name, f"jobs/{job}", payload))
            return Started(job)

        return work

    def keep_blob(self, stored: Stored, actor: Actor, project: str) -> None:
        """Make uploaded bytes exist."""
        _allow("upload blobs", "write", actor, project)
        keeping.keep(self.store, stored, self.store.project_key(project), project, actor)

    def receive_blob(self, actor: Actor, project: str, digest: str = "", offset: int = 0) -> Incoming:
        """Where uploaded bytes go; from an offset on, the rest of an upload that was cut off."""
        _allow("upload blobs", "write", actor, project)
        key = self.store.project_key(project)
        return self.store.blobs.resume(key, digest, offset) if offset else self.store.blobs.receive()

    def park_blob(self, incoming: Incoming, digest: str, project: str) -> None:
        """The sender is gone: keep what came for a while."""
        incoming.park(self.store.project_key(project), digest)

    def parked_blob(self, digest: str, actor: Actor, project: str) -> int:
        _allow("upload blobs", "write", actor, project)
        return self.store.blobs.parked(self.store.project_key(project), digest)

    def find_file(self, run: str | None, path: str, actor: Actor, project: str) -> str:
        """The digest of a run's file, or of one that belongs to no run."""
        _allow("read files", "read", actor, project)
        key = self.store.project_key(project)
        with self.store.database.read() as connection:
            read = Reader(connection, self.store.names, key, project, actor)
            return loose_files.digest_of(read, path) if run is None else run_files.digest_of(read, run, path)

    def find_blob(self, digest: str, actor: Actor, project: str) -> Blob:
        _allow("read blobs", "read", actor, project)
        return keeping.find(self.store, digest, self.store.project_key(project), project, actor)

    def read_blob(self, blob: Blob, start: int, end: int) -> Iterator[bytes]:
        return self.store.blobs.read(blob.digest, blob.place, blob.size, blob.blocks, start, end)

    def find_data(self, ref: str, path: str, actor: Actor, project: str) -> tuple[Depot, Entry]:
        """A file of a version of data, and where its bytes are read."""
        _allow("read data", "read", actor, project)
        key = self.store.project_key(project)
        depot = Inside(self.store, key, project, actor)
        listed: Listed = self.query(catalog.find("data.listing"), GetListing(ref=ref), actor, project)
        entry = find_entry(depot, decode_listing(listed.listing).parts, path)
        if entry is None or entry.kind > PROGRAM:
            shown = bounded(ref)
            raise NotFound(f"`{shown}` has no file `{bounded(path)}`", hint=f"`tarmac data files {shown}` lists them")
        return depot, entry

    def close(self) -> None:
        self.jobs.close()
        self.store.close()


def authorise(spec: Spec, actor: Actor, project: str) -> None:
    _allow(spec.name, spec.needs, actor, EVERYWHERE if spec.scope == "workspace" else project)


def _allow(doing: str, needs: Permission, actor: Actor, where: str) -> None:
    if not actor.may(needs, where):
        raise Forbidden.to(actor.name, doing, needs, "the whole workspace" if where == EVERYWHERE else where)


def in_our_words(doing: str, error: BaseException) -> TarmacError:
    """Every failure as one of the tree; what nobody foresaw goes to the log with its traceback."""
    if isinstance(error, TarmacError):
        return error
    log.error("%s failed", doing, exc_info=error)
    return Internal(f"{doing} failed: {type(error).__name__}", hint="the server's log says more; please report it")
