"""How experiments and runs come to be and end."""

from __future__ import annotations

from tarmac.core.errors import Conflict
from tarmac.core.ids import decimal, time_ordered
from tarmac.core.operation import handles
from tarmac.store.lineage import link
from tarmac.store.sql import Reader, Tx
from tarmac.track import operations as ops
from tarmac.track import queries
from tarmac.track.records import Experiment, Run


@handles(ops.CreateExperiment)
def create_experiment(request: ops.CreateExperiment, tx: Tx) -> Experiment:
    experiment = _new_experiment(tx, request.name, request.note)
    if queries.add_experiment(tx, experiment) is None:
        raise Conflict.exists("experiment", request.name)
    return experiment


@handles(ops.GetExperiment)
def get_experiment(request: ops.GetExperiment, read: Reader) -> Experiment:
    return queries.experiment(read, request.name)


@handles(ops.ListExperiments)
def list_experiments(request: ops.ListExperiments, read: Reader) -> ops.ExperimentPage:
    found = queries.experiments(read, request.after, request.limit)
    return ops.ExperimentPage(experiments=found, next=found[-1].name if len(found) == request.limit else None)


@handles(ops.CreateRun)
def create_run(request: ops.CreateRun, tx: Tx) -> Run:
    experiment, experiment_name = _experiment(tx, request.experiment)
    new = time_ordered()
    run = Run(
        id=new,
        name=request.name or f"run-{new[6:12]}",
        experiment=experiment_name,
        status="running",
        parent=request.parent,
        actor=tx.actor.signature,
        started_at=tx.now,
        ended_at=None,
    )
    parent = queries.run_key(tx, request.parent) if request.parent else None
    queries.add_run(tx, run, experiment, parent)
    if request.parent:
        link(tx, f"runs/{request.parent}", f"runs/{new}", "started")
    return run


def _experiment(tx: Tx, name: str) -> tuple[int, str]:
    found = queries.experiment_key(tx, name)
    if found is None:
        key = queries.add_experiment(tx, _new_experiment(tx, name, ""))
        # on Postgres another server may have made it in this moment
        found = (key, name) if key is not None else queries.experiment_key(tx, name)
    if found is None:
        raise queries.unknown_experiment(tx, name)
    return found


def _new_experiment(tx: Tx, name: str, note: str) -> Experiment:
    return Experiment(id=decimal(), name=name, note=note, created_at=tx.now)


@handles(ops.GetRun)
def get_run(request: ops.GetRun, read: Reader) -> Run:
    return queries.run(read, request.id)


@handles(ops.ListRuns)
def list_runs(request: ops.ListRuns, read: Reader) -> ops.RunPage:
    experiment = None
    if request.experiment is not None:
        found = queries.experiment_key(read, request.experiment)
        if found is None:
            raise queries.unknown_experiment(read, request.experiment)
        experiment = found[0]
    runs, following = queries.runs(read, experiment, request.status, request.before, request.limit)
    return ops.RunPage(runs=runs, next=following)


@handles(ops.EndRun)
def end_run(request: ops.EndRun, tx: Tx) -> Run:
    run = queries.run(tx, request.id)
    if run.status == request.status:
        tx.unchanged()
        return run
    if run.status != "running":
        raise Conflict(f"run {run.id} has ended already: {run.status}", hint="start a new run for new work")
    queries.end_run(tx, run.id, request.status)
    return queries.run(tx, run.id)
