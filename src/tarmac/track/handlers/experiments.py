"""Finding experiments, and what they carry."""

from __future__ import annotations

from tarmac.core.clock import now
from tarmac.core.operation import handles
from tarmac.store.sql import Reader, Tx
from tarmac.track import operations as ops
from tarmac.track.queries import experiments, rows
from tarmac.track.records import Experiment


@handles(ops.SearchExperiments)
def search_experiments(request: ops.SearchExperiments, read: Reader) -> ops.ExperimentPage:
    found, following = experiments.search(
        read, request.filter, request.order, request.deleted, request.default, request.limit, request.cursor, now()
    )
    return ops.ExperimentPage(experiments=found, next=following)


@handles(ops.TagExperiment)
def tag_experiment(request: ops.TagExperiment, tx: Tx) -> Experiment:
    key, name, deleted_at = rows.known_experiment(tx, request.name)
    rows.refuse_deleted_experiment(name, deleted_at)
    if request.set:
        rows.put_experiment_tags(tx, key, request.set)
    gone = rows.drop_experiment_tags(tx, key, request.unset)
    if request.set or gone:
        tx.run("UPDATE experiments SET updated_at = :now WHERE key = :key", now=tx.now, key=key)
    else:
        tx.unchanged()
    return rows.experiment(tx, name)


@handles(ops.ListInputs)
def list_inputs(request: ops.ListInputs, read: Reader) -> ops.InputPage:
    keys = [rows.known_experiment(read, name)[0] for name in request.experiments]
    return ops.InputPage(inputs=experiments.inputs(read, keys, request.limit))
