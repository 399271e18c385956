"""Bytes that were received become a blob: a new one, one that is there already, or a damaged one that is healed."""

from __future__ import annotations

import logging
from functools import partial

from tarmac.core.actor import Actor
from tarmac.core.errors import NotFound
from tarmac.store import Store
from tarmac.store.blobs import rows
from tarmac.store.blobs.folder import Stored
from tarmac.store.blobs.rows import Blob
from tarmac.store.sql import Batch, Reader, Tx

log = logging.getLogger("tarmac")


def keep(store: Store, stored: Stored, key: int, project: str, actor: Actor) -> None:
    """Make uploaded bytes exist. Bytes alone leave no event; what binds them does."""
    try:
        if unneeded := _keep(store, stored, key, project, actor):
            store.blobs.delete(unneeded)
    finally:
        stored.settle()


def find(store: Store, digest: str, key: int, project: str, actor: Actor) -> Blob:
    with store.database.read() as connection:
        return rows.find(Reader(connection, store.names, key, project, actor), digest)


def _keep(store: Store, stored: Stored, key: int, project: str, actor: Actor) -> str:
    """Make the bytes exist, and say which file is not needed then: if what was there is damaged, that one goes."""
    while True:
        if store.writer.call(lambda batch: rows.add(Tx(batch, key, project, actor), stored)):
            return ""
        try:
            there = find(store, stored.digest, key, project, actor)
        except NotFound:
            continue  # gc took it in this moment
        if store.blobs.is_whole(there.digest, there.place, there.size, there.blocks):
            return stored.place
        log.warning("blob %s was damaged and is healed by an upload", stored.digest)
        place = there.place
        if store.writer.call(partial(_replace, stored, place, key, project, actor)):
            return place


def _replace(stored: Stored, place: str, key: int, project: str, actor: Actor, batch: Batch) -> bool:
    return rows.replace(Tx(batch, key, project, actor), stored, place)
