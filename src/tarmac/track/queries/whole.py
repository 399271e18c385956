"""Runs with all they carry, a thousand at a time: each value is touched once on its way from its row to its record."""

from __future__ import annotations

from collections.abc import Sequence

from tarmac.core.clock import now
from tarmac.store.sql import Reader
from tarmac.track import points
from tarmac.track.queries import rows
from tarmac.track.queries.search import SILENT_AFTER
from tarmac.track.records import WholeRun

Value = float | str
Latest = dict[int, tuple[dict[str, Value], dict[str, tuple[int, int]]]]


def runs(read: Reader, keys: Sequence[int]) -> list[WholeRun]:
    """The runs in the order of their keys."""
    if not keys:
        return []
    params, tags = rows.texts(read, "params", keys, None), rows.texts(read, "tags", keys, None)
    latest, inputs = _latest(read, keys), rows.inputs_of(read, keys)
    found: dict[int, WholeRun] = {}
    for row in rows.runs_in_experiments(read, keys, now() - SILENT_AFTER):
        key, id, name, experiment, status, parent, actor, started_at, ended_at, deleted_at, note, experiment_id = row
        metrics, moments = latest[key]
        found[key] = WholeRun(
            id=id,
            name=name,
            experiment=experiment,
            status=status,
            parent=parent,
            actor=actor,
            started_at=started_at,
            ended_at=ended_at,
            deleted_at=deleted_at,
            note=note,
            metrics=metrics,  # type: ignore[arg-type]
            params=params[key],
            tags=tags[key],
            experiment_id=experiment_id,
            moments=moments,
            inputs=inputs.get(key, []),
        )
    return [found[key] for key in keys]


def _latest(read: Reader, keys: Sequence[int]) -> Latest:
    """The newest value of each metric of runs; and the step and time of each."""
    found: Latest = {key: ({}, {}) for key in keys}
    summaries = rows.summaries(read, keys)
    called = read.names.names(read, [row[1] for row in summaries])
    for run, key, last, step, at in summaries:
        metrics, moments = found[run]
        name = called[key]
        # nearly every value is an ordinary number, and lists are long
        metrics[name] = last if last is not None and last - last == 0.0 else points.text(last)
        moments[name] = (step, at)
    return found
