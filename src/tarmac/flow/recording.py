"""What a run of a pipeline leaves in the store: one transaction for whatever has gathered since the last."""

from __future__ import annotations

import msgspec

from tarmac.core.clock import now
from tarmac.core.errors import Conflict
from tarmac.core.operation import handles
from tarmac.flow import operations as ops
from tarmac.flow import queries_results as queries
from tarmac.flow import typed
from tarmac.flow.records import Item, StepResult, StepRun
from tarmac.store import manifests
from tarmac.store.lineage import link
from tarmac.store.records import File
from tarmac.store.sql import Event, Reader, Tx
from tarmac.track import operations as runs
from tarmac.track.handlers.runs import create_run, end_run, log_run, write_log
from tarmac.track.queries import rows

DAY = 86_400_000


@handles(ops.NewestResults)
def newest_results(request: ops.NewestResults, read: Reader) -> ops.Results:
    found = queries.newest(read, request.pipeline, request.after, request.limit)
    return ops.Results(results=found, next=found[-1].node if len(found) == request.limit else None)


@handles(ops.FindResults)
def find_results(request: ops.FindResults, read: Reader) -> ops.Results:
    return ops.Results(results=queries.find(read, request.keys))


@handles(ops.ListResults)
def list_results(request: ops.ListResults, read: Reader) -> ops.Results:
    found = queries.page(read, request.pipeline, request.before or now() + DAY, request.limit)
    return ops.Results(results=found, next=str(found[-1].used_at) if len(found) == request.limit else None)


@handles(ops.ListItems)
def list_items(request: ops.ListItems, read: Reader) -> ops.Items:
    found = queries.items(read, request.group, bytes.fromhex(request.after), request.limit)
    return ops.Items(items=found, next=found[-1].key if len(found) == request.limit else None)


@handles(ops.ReadCode)
def read_code(request: ops.ReadCode, read: Reader) -> ops.Code:
    return ops.Code(parts=queries.code(read, request.digests))


@handles(ops.ShowPipeline)
def show_pipeline(request: ops.ShowPipeline, read: Reader) -> ops.PipelineSteps:
    key = rows.run_row(read, request.run)[0]
    run = rows.runs_by_key(read, [key], now())[0]
    tags = rows.texts(read, "tags", [key], ["tarmac.pipeline"])[key]
    return ops.PipelineSteps(run=run[1], pipeline=tags.get("tarmac.pipeline", ""), steps=queries.steps(read, key))


@handles(ops.PruneResults)
def prune_results(request: ops.PruneResults, tx: Tx) -> ops.Dropped:
    before = tx.now - int(request.days * DAY)
    dropped = queries.drop(tx, "used_at < :before", before=before) + queries.drop_groups(tx, before)
    if not dropped:
        tx.unchanged()
    tx.subject = "results/unused"
    return ops.Dropped(results=dropped)


@handles(ops.RecordSteps)
def record_steps(request: ops.RecordSteps, tx: Tx) -> ops.Recorded:
    tx.unchanged()  # the end of each run leaves its event; this is how the rest comes here in batches
    if missing := _missing(request, tx):
        return ops.Recorded(missing=missing)
    whole = rows.whole_row(tx, request.run)
    parent, id = whole[0], whole[1]
    if request.code:
        queries.keep_code(tx, request.code)
    for new in request.steps:
        _step(request, new, id, tx)
    for run, start, text in request.logs:
        write_log(runs.WriteLog(id=run, start=start, text=text), tx)
    for batch in request.items:
        group = queries.group_key(tx, batch.group, request.pipeline, batch.node)
        if batch.new:
            queries.keep_items(tx, group, batch.new, _files_of(batch.new))
        if batch.gone:
            queries.drop_items(tx, group, batch.gone)
    for number, one in request.reused:
        queries.put_steps(tx, parent, number, [one])
        if one.run:
            link(tx, f"runs/{one.run}", f"runs/{id}", "reused")
    queries.touch(tx, [one.key for _, one in request.reused if one.key])
    if request.alive:
        rows.update_runs(
            tx, rows.known_run_keys(tx, request.alive).values(),
            "SET heartbeat_at = :now WHERE key IN ({keys}) AND status = 'running'", now=tx.now,
        )  # fmt: skip
    return ops.Recorded(steps=len(request.steps))


def _missing(request: ops.RecordSteps, tx: Tx) -> list[str]:
    """The blobs that results need and that are not here."""
    files = [file for new in request.steps if new.result for file in _result_files(new.result)]
    files += [file for batch in request.items for some in _files_of(batch.new).values() for file in some]
    return manifests.absent(tx, files) if files else []


def _result_files(result: StepResult) -> list[File]:
    parts = [(number, file) for number, output in enumerate(result.outputs) for file in typed.files_of(output)]
    return [msgspec.structs.replace(file, path=f"{number}/{file.path}") for number, file in parts]


def _files_of(items: list[Item]) -> dict[str, list[File]]:
    return {item.key: found for item in items if (found := list(typed.files_of(item.output)))}


def _step(request: ops.RecordSteps, new: ops.NewStep, parent: str, tx: Tx) -> None:
    """A step's own run: made when it is first heard of, ended when it has ended."""
    step = new.step
    if rows.run_key(tx, step.run) is None:
        create_run(
            runs.CreateRun(
                id=step.run,
                experiment=request.experiment,
                name=step.node[:250],
                parent=parent,
                params=new.params,
                started_at=step.started_at,
                beats=True,
            ),
            tx,
        )
        for thing in new.used:
            link(tx, thing, f"runs/{step.run}", "used")
    if new.status != "running":
        if new.metrics:
            values = {name: [(0, new.ended_at or tx.now, value)] for name, value in new.metrics.items()}
            log_run(runs.LogRun(id=step.run, ended=True), tx, values)
        _end(new, tx)
    if new.result is not None:
        queries.keep(tx, new.result, _result_files(new.result))
    queries.put_steps(tx, rows.run_row(tx, parent)[0], new.number, [_shown(step)])


def _shown(step: StepRun) -> StepRun:
    return msgspec.structs.replace(step, why=step.why[:2000])


def _end(new: ops.NewStep, tx: Tx) -> None:
    request = runs.EndRun(id=new.step.run, status=new.status, at=new.ended_at)  # type: ignore[arg-type]
    try:
        end_run(request, tx)
    except Conflict:
        return  # it has an end already: the step gave it one
    payload = msgspec.json.encode({**msgspec.to_builtins(request), "evidence": tx.evidence})
    tx.evidence = None
    event = Event(tx.project_name, tx.now, tx.actor.signature, "runs.end", f"runs/{new.step.run}", payload)
    tx.batch.events.append(event)
