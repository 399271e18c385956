"""How experiments and runs come to be, change and end."""

from __future__ import annotations

import msgspec

from tarmac.core.clock import now
from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, bounded
from tarmac.core.ids import decimal, time_ordered
from tarmac.core.operation import handles
from tarmac.data.queries import named_exactly
from tarmac.store import manifests
from tarmac.store.lineage import link
from tarmac.store.sql import Tx
from tarmac.track import operations as ops
from tarmac.track import points
from tarmac.track.points import Point
from tarmac.track.queries import appending, rows
from tarmac.track.queries.rows import Carried
from tarmac.track.queries.search import SILENT_AFTER
from tarmac.track.records import Experiment, Logged, Run

_encode = msgspec.json.Encoder().encode

# --- experiments ---


@handles(ops.CreateExperiment)
def create_experiment(request: ops.CreateExperiment, tx: Tx) -> Experiment:
    experiment = _new_experiment(tx, request.name, request.note, request.tags, request.location, request.id)
    if rows.add_experiment(tx, experiment) is None:
        found = rows.experiment_key(tx, request.name)
        if found is not None and found[2] is not None:
            raise Conflict(
                f"experiment `{bounded(request.name)}` is in the trash and keeps its name",
                hint="`tarmac experiments restore`, or `experiments rename` it, or `runs purge`",
            )
        raise Conflict.exists("experiment", request.name if found is not None else experiment.id)
    return experiment


@handles(ops.DeleteExperiment)
def delete_experiment(request: ops.DeleteExperiment, tx: Tx) -> Experiment:
    key, name, deleted_at = rows.known_experiment(tx, request.name)
    if deleted_at is not None:
        tx.unchanged()
    else:
        rows.set_experiment_deleted(tx, key, None, rows.moment_of_its_own(tx, key))
    return rows.experiment(tx, name)


@handles(ops.RestoreExperiment)
def restore_experiment(request: ops.RestoreExperiment, tx: Tx) -> Experiment:
    key, name, deleted_at = rows.known_experiment(tx, request.name)
    if deleted_at is None:
        tx.unchanged()
    else:
        rows.set_experiment_deleted(tx, key, deleted_at, None)
    return rows.experiment(tx, name)


@handles(ops.RenameExperiment)
def rename_experiment(request: ops.RenameExperiment, tx: Tx) -> Experiment:
    key, name, _ = rows.known_experiment(tx, request.name)
    if name == request.to:
        tx.unchanged()
    elif rows.experiment_key(tx, request.to) is not None:
        raise Conflict.exists("experiment", request.to)
    else:
        tx.run(
            "UPDATE experiments SET name = :name, updated_at = :now WHERE key = :key",
            name=request.to,
            now=tx.now,
            key=key,
        )
    return rows.experiment(tx, request.to)


# --- runs ---


@handles(ops.CreateRun)
def create_run(request: ops.CreateRun, tx: Tx) -> Run:
    if request.id is not None and (known := rows.run_key(tx, request.id)) is not None:
        tx.unchanged()  # sent again, because the answer was lost
        return _run(tx, known)
    new = request.id or time_ordered()
    parent_key, parent = _parent(tx, request.parent) if request.parent else (None, None)
    experiment = request.experiment
    if experiment.isdecimal():  # an id
        experiment = _experiment(tx, experiment, make=not request.exists)[1]
    run = Run(
        id=new,
        name=request.name or f"run-{new[6:12]}",
        experiment=experiment,
        status="running",
        parent=parent,
        actor=tx.actor.signature,
        started_at=request.started_at or tx.now,
        ended_at=None,
        note=request.note,
        params=request.params,
        tags=request.tags,
    )
    beat = tx.now if request.beats else None
    key = rows.add_run(tx, run, parent_key, beat)
    if key is None:  # the experiment is new, or has another name by now
        run = msgspec.structs.replace(run, experiment=_experiment(tx, experiment, make=not request.exists)[1])
        key = rows.add_run(tx, run, parent_key, beat)
    assert key is not None
    if request.params:
        rows.add_params(tx, key, request.params)
    if request.tags:
        rows.put_tags(tx, key, request.tags)
    if parent:
        link(tx, f"runs/{parent}", f"runs/{new}", "started")
    return run


def _parent(tx: Tx, id: str) -> tuple[int, str]:
    """Key and whole id of the run below which another starts. It is held, so that nobody purges it meanwhile."""
    row = rows.whole_row(tx, id)
    if row[9] is not None:
        raise Conflict(
            f"run {row[1]} is in the trash: nothing can be started below it", hint=f"`tarmac runs restore {row[1]}`"
        )
    return row[0], row[1]


def _experiment(tx: Tx, name: str, *, make: bool = True) -> tuple[int, str]:
    found = rows.experiment_key(tx, name)
    if found is None and make:
        key = rows.add_experiment(tx, _new_experiment(tx, name, ""))
        # on Postgres another server may have made it in this moment
        found = (key, name, None) if key is not None else rows.experiment_key(tx, name)
    if found is None:
        raise rows.unknown_experiment(tx, name)
    rows.refuse_deleted_experiment(name, found[2])
    return found[0], found[1]


def _new_experiment(
    tx: Tx, name: str, note: str, tags: dict[str, str] | None = None, location: str = "", id: str | None = None
) -> Experiment:
    id = rows.DEFAULT_ID if name == rows.DEFAULT else id or decimal()
    return Experiment(id=id, name=name, note=note, created_at=tx.now, location=location, tags=tags or {})


def shape_points(request: ops.LogRun) -> dict[str, list[Point]]:
    """The part of logging that needs no database: it is done before the transaction."""
    return points.group(request.metrics, 0 if request.dated else now())


@handles(ops.LogRun, prepare=shape_points)
def log_run(request: ops.LogRun, tx: Tx, groups: dict[str, list[Point]]) -> Logged:
    tx.unchanged()  # points leave no event; the end of the run seals what they came to
    key, status, *_ = row = rows.run_row(tx, request.id)
    _refuse_deleted(request.id, row[2])
    position = 0
    if request.spool is not None:
        position = rows.spool_position(tx, request.spool)
        if request.position <= position:  # taken in before
            return Logged(points=0, repeated=len(request.metrics), position=position)
        position = request.position
        rows.put_spool_position(tx, request.spool, key, position)
    if status != "running" and not request.ended:
        raise Conflict(
            f"run {request.id} has ended: {status}", hint="`tarmac runs resume ID` lets it go on, or send `ended: true`"
        )
    if request.params:
        changed = rows.put_params(tx, key, request.params)
        if changed:
            name, (old, new) = next(iter(changed.items()))
            raise Conflict(
                f"param `{bounded(name)}` of run {request.id} is `{bounded(old)}` and cannot become `{bounded(new)}`",
                hint="a param says how a run was started; what changes is a metric or a tag",
                detail={"params": {bounded(k): [bounded(a), bounded(b)] for k, (a, b) in list(changed.items())[:20]}},
            )
    if request.tags:
        rows.put_tags(tx, key, request.tags)
    if not groups:
        return Logged(points=0, repeated=0, position=position)
    numbers = tx.names.numbers(tx, groups)
    written = appending.write(tx, key, {numbers[name]: group for name, group in groups.items()})
    return Logged(points=written.new, repeated=written.repeated, position=position)


@handles(ops.BeatRun)
def beat_run(request: ops.BeatRun, tx: Tx) -> ops.Changed:
    tx.unchanged()
    key, status, *_ = rows.run_row(tx, request.id)
    if status != "running":
        return ops.Changed(runs=0)
    return ops.Changed(runs=rows.update_runs(tx, [key], "SET heartbeat_at = :now WHERE key IN ({keys})", now=tx.now))


@handles(ops.EndRun)
def end_run(request: ops.EndRun, tx: Tx) -> Run:
    *row, status = rows.whole_row(tx, request.id)
    key, deleted_at = row[0], row[9]
    _refuse_deleted(request.id, deleted_at)
    carried = rows.carried(tx, key)
    fell_silent = status == "killed" and rows.fell_silent(tx, key)
    if status == request.status and not fell_silent:
        tx.unchanged()
    elif status != "running" and not fell_silent:
        raise Conflict(f"run {request.id} has ended already: {status}", hint="start a new run for new work")
    else:
        row[4], row[8] = request.status, request.at or tx.now
        _end(tx, key, request.status, row[8])
        tx.evidence = seal(carried)
    return rows.as_run(
        tuple(row), {name: metric[0] for name, metric in carried.metrics.items()}, carried.params, carried.tags
    )


def _end(tx: Tx, key: int, status: str, at: int) -> None:
    tx.do("UPDATE runs SET status = :status, ended_at = :at WHERE key = :key", status=status, at=at, key=key)
    appending.settle(tx, key)


def seal(run: Carried) -> dict[str, str]:
    """Digests of what a run came to: who has the event can prove that nothing of it was changed later."""
    metrics = [(name, *metric) for name, metric in sorted(run.metrics.items())]
    parts = {"params": sorted(run.params.items()), "metrics": metrics, "artifacts": run.files}
    return {name: digest(_encode(part)) for name, part in parts.items()}


@handles(ops.ResumeRun)
def resume_run(request: ops.ResumeRun, tx: Tx) -> Run:
    key, status, *_ = row = rows.run_row(tx, request.id)
    _refuse_deleted(request.id, row[2])
    if status == "running" and _run(tx, key).status == "running":
        tx.unchanged()
    else:  # also one that only shows as killed, because it fell silent
        tx.run(
            "UPDATE runs SET status = 'running', ended_at = NULL, heartbeat_at = "
            "CASE WHEN heartbeat_at IS NULL THEN NULL ELSE :now END WHERE key = :key",
            now=tx.now,
            key=key,
        )
    return _run(tx, key)


@handles(ops.TagRun)
def tag_run(request: ops.TagRun, tx: Tx) -> ops.Changed:
    row = rows.run_row(tx, request.id)
    _refuse_deleted(request.id, row[2])
    if request.set:
        rows.put_tags(tx, row[0], request.set)
    if request.unset:
        rows.drop_tags(tx, row[0], request.unset)
    tx.subject = f"runs/{request.id}"
    return ops.Changed(runs=1)


@handles(ops.EditRun)
def edit_run(request: ops.EditRun, tx: Tx) -> Run:
    row = rows.run_row(tx, request.id)
    _refuse_deleted(request.id, row[2])
    for column, value in (("name", request.name), ("note", request.note)):
        if value is not None:
            tx.run(f"UPDATE runs SET {column} = :value WHERE key = :key", value=value, key=row[0])  # noqa: S608
    return _run(tx, row[0])


@handles(ops.MoveRuns)
def move_runs(request: ops.MoveRuns, tx: Tx) -> ops.Changed:
    experiment, _ = _experiment(tx, request.to)
    keys = rows.run_keys(tx, request.ids)
    moved = rows.update_runs(
        tx,
        keys.values(),
        "SET experiment = :experiment WHERE key IN ({keys}) AND experiment <> :experiment",
        experiment=experiment,
    )
    return _changed(tx, moved)


@handles(ops.DeleteRuns)
def delete_runs(request: ops.DeleteRuns, tx: Tx) -> ops.Changed:
    keys = rows.run_keys(tx, request.ids)
    at = rows.moment_for_runs(tx, keys.values())
    gone = rows.update_runs(
        tx, keys.values(), "SET deleted_at = :at WHERE key IN ({keys}) AND deleted_at IS NULL", at=at
    )
    return _changed(tx, gone)


@handles(ops.RestoreRuns)
def restore_runs(request: ops.RestoreRuns, tx: Tx) -> ops.Changed:
    keys = rows.run_keys(tx, request.ids)
    back = rows.update_runs(tx, keys.values(), "SET deleted_at = NULL WHERE key IN ({keys}) AND deleted_at IS NOT NULL")
    return _changed(tx, back)


@handles(ops.SweepRuns)
def sweep_runs(request: ops.SweepRuns, tx: Tx) -> ops.Changed:
    silent = rows.silent(tx, tx.now - SILENT_AFTER)
    for key, heartbeat_at in silent:
        _end(tx, key, "killed", heartbeat_at)
    return _changed(tx, len(silent))


def _changed(tx: Tx, count: int) -> ops.Changed:
    if not count:
        tx.unchanged()
    return ops.Changed(runs=count)


# --- what belongs to a run ---


@handles(ops.UseInput)
def use_input(request: ops.UseInput, tx: Tx) -> ops.Changed:
    row = rows.run_row(tx, request.id)
    _refuse_deleted(request.id, row[2])
    version, about = request.version, request.about
    if data := named_exactly(tx, request.name, version):  # `latest` is another one tomorrow
        facts = {"digest": data.digest, "files": data.files, "bytes": data.size}
        version, about = f"v{data.number}", about or msgspec.json.encode(facts).decode()
    made = tx.run(
        "INSERT INTO run_inputs (run, name, version, document, context) "
        "VALUES (:run, :name, :version, :about, :context) ON CONFLICT DO NOTHING",
        run=row[0],
        name=request.name,
        version=version,
        about=about,
        context=request.context,
    )
    at = f"@{version}" if version else ""
    link(tx, f"data/{request.name}{at}", f"runs/{request.id}", "used")
    tx.subject = f"runs/{request.id}"
    return _changed(tx, made)


@handles(ops.DescribeRun)
def describe_run(request: ops.DescribeRun, tx: Tx) -> ops.Changed:
    row = rows.run_row(tx, request.id)
    _refuse_deleted(request.id, row[2])
    if request.source is not None:
        manifests.get(tx, request.source)
    tx.run(
        "INSERT INTO run_facts (run, document, source) VALUES (:run, :document, :source) "
        "ON CONFLICT (run) DO UPDATE SET document = excluded.document, "
        "source = coalesce(excluded.source, run_facts.source)",
        run=row[0],
        document=msgspec.json.encode(request.facts).decode(),
        source=request.source,
    )
    tx.subject = f"runs/{request.id}"
    return ops.Changed(runs=1)


@handles(ops.WriteLog)
def write_log(request: ops.WriteLog, tx: Tx) -> ops.Changed:
    tx.unchanged()
    row = rows.run_row(tx, request.id)
    _refuse_deleted(request.id, row[2])
    written = tx.run(
        "INSERT INTO run_logs (run, start, text) VALUES (:run, :start, :text) ON CONFLICT (run, start) "
        "DO UPDATE SET text = excluded.text WHERE length(excluded.text) > length(run_logs.text)",
        run=row[0],
        start=request.start,
        text=request.text,
    )
    return ops.Changed(runs=written)


def _refuse_deleted(id: str, deleted_at: int | None) -> None:
    if deleted_at is not None:
        raise Conflict(
            f"run {id} is in the trash", hint=f"`tarmac runs restore {id}`", detail={"state": "deleted", "run": id}
        )


def _run(tx: Tx, key: int) -> Run:
    """A run with all it carries, as this transaction sees it."""
    row = rows.runs_by_key(tx, [key], tx.now)[0]
    carried = (
        rows.last_values(tx, [key], None),
        rows.texts(tx, "params", [key], None),
        rows.texts(tx, "tags", [key], None),
    )
    return rows.as_run(row, *(values[key] for values in carried))  # type: ignore[arg-type]
