"""How questions about runs are answered."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Any

import msgspec

from tarmac.core.clock import now
from tarmac.core.errors import Invalid, NotFound
from tarmac.core.operation import handles
from tarmac.store.sql import Reader
from tarmac.track import compare, points
from tarmac.track import operations as ops
from tarmac.track.filter import Both, Compare, Field, Node, parse, parse_field, parse_order
from tarmac.track.queries import curves, files, group, rows, search, whole
from tarmac.track.queries.search import Order, Wanted
from tarmac.track.records import Curve, Experiment, LogPart, Run

LOG_PART = 200_000


@handles(ops.GetExperiment)
def get_experiment(request: ops.GetExperiment, read: Reader) -> Experiment:
    return rows.experiment(read, request.name)


@handles(ops.ListExperiments)
def list_experiments(request: ops.ListExperiments, read: Reader) -> ops.ExperimentPage:
    found = rows.experiments(read, request.after, request.limit, deleted=request.deleted)
    return ops.ExperimentPage(experiments=found, next=found[-1].name if len(found) == request.limit else None)


@handles(ops.GetRun)
def get_run(request: ops.GetRun, read: Reader) -> Run:
    key = rows.run_row(read, request.id)[0]
    return _runs(read, [key], None)[0]


@handles(ops.ReadRuns)
def read_runs(request: ops.ReadRuns, read: Reader) -> ops.WholeRuns:
    if request.ids:
        if request.filter or request.experiment or request.cursor:
            raise Invalid("runs.read: runs are named by ids or found by a filter, not both")
        known = rows.known_run_keys(read, request.ids)
        return ops.WholeRuns(runs=whole.runs(read, [known[id] for id in request.ids if id in known]))
    wanted = _wanted(read, parse(request.filter), request.experiment, request.deleted)
    orders = [Order(*parse_order(text)) for text in request.order]
    found = search.page(read, wanted, orders, request.limit, request.cursor)
    return ops.WholeRuns(runs=whole.runs(read, found.keys), next=found.next)


@handles(ops.GetDetails)
def get_details(request: ops.GetDetails, read: Reader) -> ops.Details:
    key = rows.run_row(read, request.id)[0]
    count, size = files.totals(read, key)
    row = rows.facts(read, key)
    return ops.Details(
        run=_runs(read, [key], None)[0],
        metrics=rows.metrics(read, key),
        inputs=rows.inputs(read, key),
        artifacts=count,
        artifact_bytes=size,
        facts=msgspec.json.decode(row[0]) if row else {},
        source=row[1] if row else None,
    )


@handles(ops.ListRuns)
def list_runs(request: ops.ListRuns, read: Reader) -> ops.RunPage:
    node = parse(request.filter)
    if request.status is not None:
        state = Compare(Field("attribute", "status"), "=", request.status)
        node = state if node is None else Both((*node.parts, state) if isinstance(node, Both) else (node, state))
    wanted = _wanted(read, node, request.experiment, request.deleted)
    orders = [Order(*parse_order(text)) for text in request.order]
    found = search.page(read, wanted, orders, request.limit, request.cursor)
    fields = None if request.columns is None else [parse_field(text) for text in request.columns]
    return ops.RunPage(runs=_runs(read, found.keys, fields), next=found.next)


@handles(ops.CountRuns)
def count_runs(request: ops.CountRuns, read: Reader) -> ops.Count:
    wanted = _wanted(read, parse(request.filter), request.experiment, request.deleted)
    return ops.Count(count=search.count(read, wanted))


@handles(ops.GroupRuns)
def group_runs(request: ops.GroupRuns, read: Reader) -> ops.Groups:
    wanted = _wanted(read, parse(request.filter), request.experiment, "no")
    fields = [parse_field(text) for text in request.by]
    return ops.Groups(groups=group.group(read, wanted, request.by, fields, request.metrics, request.limit))


@handles(ops.CompareRuns)
def compare_runs(request: ops.CompareRuns, read: Reader) -> ops.Comparison:
    keys = rows.run_keys(read, request.ids)
    ordered = [keys[id] for id in request.ids]
    found = compare.compare(read, ordered, _runs(read, ordered, None), same=request.same)
    return ops.Comparison(runs=list(request.ids), differences=found)


@handles(ops.GetHistory)
def get_history(request: ops.GetHistory, read: Reader) -> Curve:
    run = rows.run_row(read, request.run)[0]
    key = read.names.number(read, request.key)
    curve = curves.whole(read, run, key) if key is not None else None
    if curve is None or not curve[0]:
        known = [metric.key for metric in rows.metrics(read, run)]
        raise NotFound.named("metric", request.key, known)
    return _curve(request.run, request.key, len(curve[0]), _portion(request, curve))


def _portion(request: ops.GetHistory, curve: points.Columns) -> points.Columns:
    """The points that were asked for, without making an object of any other."""
    start, end = 0, len(curve[0])
    if request.steps is not None:  # a curve is in the order of its steps
        start, end = bisect_left(curve[0], request.steps[0]), bisect_right(curve[0], request.steps[1])
    start = min(end, start + request.first)
    if request.limit is not None:
        end = min(end, start + request.limit)
    steps, times, values = curve[0][start:end], curve[1][start:end], curve[2][start:end]
    count = len(steps)
    if request.evenly is None or count <= request.evenly:
        return steps, times, values
    keep = [index * count // request.evenly for index in range(request.evenly - 1)] + [count - 1]
    return (
        array("q", [steps[index] for index in keep]),
        array("q", [times[index] for index in keep]),
        array("d", [values[index] for index in keep]),
    )


@handles(ops.SampleCurves)
def sample_curves(request: ops.SampleCurves, read: Reader) -> ops.Curves:
    runs = rows.run_keys(read, request.runs)
    numbers = [read.names.number(read, name) for name in request.keys]
    found = []
    for id in request.runs:
        totals = rows.lengths(read, runs[id], numbers)
        names = read.names.names(read, totals)
        sampled = curves.sampled(read, runs[id], totals, request.points)
        found += [_curve(id, names[key], totals[key], sampled[key]) for key in sorted(sampled, key=names.__getitem__)]
    return ops.Curves(curves=found)


@handles(ops.ListArtifacts)
def list_artifacts(request: ops.ListArtifacts, read: Reader) -> ops.ArtifactPage:
    run = rows.run_row(read, request.id)[0]
    if request.all:
        found = files.every(read, run, request.after, request.limit)
    else:
        found = files.folder(read, run, request.folder, request.after, request.limit)
    return ops.ArtifactPage(artifacts=found, next=found[-1].path if len(found) == request.limit else None)


@handles(ops.ReadLog)
def read_log(request: ops.ReadLog, read: Reader) -> LogPart:
    key, status, *_ = rows.run_row(read, request.id)
    pieces = rows.log_pieces(read, key, request.start)
    at, parts, size = request.start, list[str](), 0
    for start, text in pieces:
        part = text[max(0, at - start) :]
        parts.append(part)
        at = max(at, start) + len(part)
        size += len(part)
        if size > LOG_PART:
            break
    return LogPart(text="".join(parts), next=at, ended=status != "running")


def _wanted(read: Reader, node: Node | None, experiments: list[str], deleted: str) -> Wanted:
    keys = None
    if experiments:
        keys = tuple(rows.known_experiment(read, name)[0] for name in experiments)
    return Wanted(keys, node, search.DELETED_IS[deleted], now())


def _runs(read: Reader, keys: list[int], fields: list[Field] | None) -> list[Run]:
    """Runs with what they carry: everything, or the fields asked for."""
    found = rows.runs_by_key(read, keys, now())
    params = _carried(read, keys, fields, "param")
    tags = _carried(read, keys, fields, "tag")
    metrics: dict[int, Any] = {}
    names = None if fields is None else rows.field_names(fields, "metric")
    if names is None or names:
        metrics = rows.last_values(read, keys, names)
    return [rows.as_run(row, metrics.get(row[0]), params.get(row[0]), tags.get(row[0])) for row in found]


def _carried(read: Reader, keys: list[int], fields: list[Field] | None, kind: str) -> rows.Texts:
    names = None if fields is None else rows.field_names(fields, kind)
    if names is not None and not names:
        return {}
    return rows.texts(read, f"{kind}s", keys, names)


def _curve(run: str, key: str, total: int, curve: points.Columns) -> Curve:
    steps, times, values = curve
    numbers: list[Any] = values.tolist()
    if not all(value - value == 0.0 for value in numbers):
        numbers = [points.text(value) for value in numbers]
    return Curve(run=run, key=key, total=total, steps=steps.tolist(), times=times.tolist(), values=numbers)
