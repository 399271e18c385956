"""The verdicts on runs, as they were found."""

from __future__ import annotations

from typing import Any

import msgspec

from tarmac.flow.reproduce.records import Reproduction
from tarmac.store.sql import Event, Reader, Tx


def add(tx: Tx, found: Reproduction) -> None:
    """Keep a verdict, with its event; kept before, it stays as it is."""
    document = msgspec.json.encode(found)
    made = tx.run(
        "INSERT INTO reproductions (project, id, run, verdict, document, actor, at) "
        "VALUES (:project, :id, :run, :verdict, :document, :actor, :at) ON CONFLICT DO NOTHING",
        project=tx.project,
        id=found.id,
        run=found.run,
        verdict=found.verdict,
        document=document.decode(),
        actor=found.actor,
        at=found.at,
    )
    if made:
        event = Event(tx.project_name, tx.now, tx.actor.signature, "reproduce", f"runs/{found.run}", document)
        tx.batch.events.append(event)


def latest(read: Reader, run: str) -> Reproduction | None:
    """The newest verdict on a run, by its whole id: what a gate asks that wants runs to be reproducible."""
    row = read.one(
        "SELECT document FROM reproductions WHERE project = :project AND run = :run ORDER BY id DESC LIMIT 1",
        project=read.project,
        run=run,
    )
    return None if row is None else msgspec.json.decode(row[0], type=Reproduction)


def newest(read: Reader, run: str | None, verdict: str | None, before: str, limit: int) -> list[Reproduction]:
    where, values = "", dict[str, Any]()
    for name, value in (("run", run), ("verdict", verdict)):
        if value is not None:
            where += f" AND {name} = :{name}"
            values[name] = value
    rows = read.all(
        "SELECT document FROM reproductions "
        f"WHERE project = :project AND id < :before {where} ORDER BY id DESC LIMIT :n",
        project=read.project,
        before=before or "~",
        n=limit,
        **values,
    )
    return [msgspec.json.decode(row[0], type=Reproduction) for row in rows]
