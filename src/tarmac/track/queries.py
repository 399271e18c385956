"""The tables of experiments and runs."""

from __future__ import annotations

from typing import Any

from tarmac.core.errors import Invalid, NotFound
from tarmac.store.sql import Reader, Row, Tx
from tarmac.track.records import Experiment, Run

_EXPERIMENT = "SELECT id, name, note, created_at FROM experiments"
_RUN = (
    "SELECT r.id, r.name, e.name, r.status, p.id, r.actor, r.started_at, r.ended_at, r.key "
    "FROM runs r JOIN experiments e ON e.key = r.experiment LEFT JOIN runs p ON p.key = r.parent"
)
NEAREST_AMONG = 1000


def add_experiment(tx: Tx, experiment: Experiment) -> int | None:
    """The new row's key, or None if the name is taken."""
    key: int | None = tx.value(
        "INSERT INTO experiments (project, id, name, note, created_at) "
        "VALUES (:project, :id, :name, :note, :created_at) ON CONFLICT DO NOTHING RETURNING key",
        project=tx.project,
        id=experiment.id,
        name=experiment.name,
        note=experiment.note,
        created_at=experiment.created_at,
    )
    return key


def experiment_key(read: Reader, name: str) -> tuple[int, str] | None:
    """Key and name of the experiment called so, by name first and by id second."""
    for column in ("name", "id"):
        row = read.one(
            f"SELECT key, name FROM experiments WHERE project = :project AND {column} = :value",
            project=read.project,
            value=name,
        )
        if row:
            return row[0], row[1]
    return None


def experiment(read: Reader, name: str) -> Experiment:
    found = experiment_key(read, name)
    if found is None:
        raise unknown_experiment(read, name)
    row = read.one(f"{_EXPERIMENT} WHERE key = :key", key=found[0])
    assert row is not None
    return _experiment(row)


def unknown_experiment(read: Reader, name: str) -> NotFound:
    rows = read.all(
        "SELECT name FROM experiments WHERE project = :project LIMIT :n", project=read.project, n=NEAREST_AMONG
    )
    return NotFound.named("experiment", name, [row[0] for row in rows], hint="`tarmac experiments ls` lists them")


def experiments(read: Reader, after: str, limit: int) -> list[Experiment]:
    rows = read.all(
        f"{_EXPERIMENT} WHERE project = :project AND name > :after ORDER BY name LIMIT :n",
        project=read.project,
        after=after,
        n=limit,
    )
    return [_experiment(row) for row in rows]


def add_run(tx: Tx, run: Run, experiment: int, parent: int | None) -> None:
    tx.run(
        "INSERT INTO runs (project, id, experiment, parent, name, status, actor, started_at) "
        "VALUES (:project, :id, :experiment, :parent, :name, :status, :actor, :started_at)",
        project=tx.project,
        id=run.id,
        experiment=experiment,
        parent=parent,
        name=run.name,
        status=run.status,
        actor=run.actor,
        started_at=run.started_at,
    )


def run_key(read: Reader, id: str) -> int:
    key: int | None = read.value(
        "SELECT key FROM runs WHERE project = :project AND id = :id", project=read.project, id=id
    )
    if key is None:
        raise unknown_run(id)
    return key


def run(read: Reader, id: str) -> Run:
    row = read.one(f"{_RUN} WHERE r.project = :project AND r.id = :id", project=read.project, id=id)
    if row is None:
        raise unknown_run(id)
    return _run(row)


def unknown_run(id: str) -> NotFound:
    return NotFound.named("run", id, hint="`tarmac runs ls` lists them")


def runs(
    read: Reader, experiment: int | None, status: str | None, before: str, limit: int
) -> tuple[list[Run], str | None]:
    """A page of runs, newest first, and where the next one starts."""
    where, values = ["r.project = :project"], dict[str, Any](project=read.project, n=limit)
    if experiment is not None:
        where.append("r.experiment = :experiment")
        values["experiment"] = experiment
    if status is not None:
        where.append("r.status = :status")
        values["status"] = status
    if before:
        values["at"], values["key"] = _cursor(before)
        where.append("(r.started_at, r.key) < (:at, :key)")
    rows = read.all(f"{_RUN} WHERE {' AND '.join(where)} ORDER BY r.started_at DESC, r.key DESC LIMIT :n", **values)
    following = f"{rows[-1][6]}.{rows[-1][8]}" if len(rows) == limit else None
    return [_run(row) for row in rows], following


def end_run(tx: Tx, id: str, status: str) -> None:
    tx.run(
        "UPDATE runs SET status = :status, ended_at = :now WHERE project = :project AND id = :id",
        status=status,
        now=tx.now,
        project=tx.project,
        id=id,
    )


def _cursor(text: str) -> tuple[int, int]:
    at, _, key = text.partition(".")
    if not (at.isdecimal() and key.isdecimal() and len(text) < 40):
        raise Invalid("`before` is not a page's `next`", hint="pass on what the page before said, unchanged")
    return int(at), int(key)


def _experiment(row: Row) -> Experiment:
    return Experiment(id=row[0], name=row[1], note=row[2], created_at=row[3])


def _run(row: Row) -> Run:
    return Run(
        id=row[0],
        name=row[1],
        experiment=row[2],
        status=row[3],
        parent=row[4],
        actor=row[5],
        started_at=row[6],
        ended_at=row[7],
    )
