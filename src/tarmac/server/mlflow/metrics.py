"""Curves: all of one, of many runs, or some points of each."""

from __future__ import annotations

from tarmac.core.errors import NotFound
from tarmac.server.mlflow import checks
from tarmac.server.mlflow.errors import invalid, is_absent, missing_value
from tarmac.server.mlflow.messages import Answer, Long, Request
from tarmac.server.mlflow.routes import Call, method
from tarmac.server.mlflow.runs import ByRun
from tarmac.track import operations as ops
from tarmac.track.records import Curve, Number

MOST_RUNS, MOST_BULK, MOST_SAMPLED = 100, 25_000, 2500
LARGEST = 2**31 - 1


class Point(Answer):
    key: str
    value: Number
    timestamp: int
    step: int
    run_id: str | None = None


class Points(Answer):
    metrics: list[Point] = []
    next_page_token: str | None = None


class GetHistory(ByRun):
    required = ("metric_key",)
    metric_key: str | None = None
    max_results: Long | None = None
    page_token: str | None = None


class GetBulk(Request):
    run_id: list[str] | None = None
    metric_key: str | None = None
    max_results: Long | None = None


class GetInterval(Request):
    run_ids: list[str] | None = None
    metric_key: str | None = None
    start_step: Long | None = None
    end_step: Long | None = None
    max_results: Long | None = None


@method("GET", "metrics/get-history")
async def get_history(call: Call, request: GetHistory) -> Points:
    run, first = request.run, 0
    limit = None if request.max_results is None else checks.most(request.max_results, 1, LARGEST)
    if request.page_token:
        if not (request.page_token.isascii() and request.page_token.isdecimal() and len(request.page_token) < 18):
            raise invalid(f"Invalid page token: '{request.page_token[:100]}'")
        first = int(request.page_token)
    wanted = ops.GetHistory(run=run, key=request.metric_key or "", first=first, limit=limit)
    curve = await _curve(call, wanted, strict=True)
    if curve is None:
        return Points()
    following = first + len(curve.steps)
    return Points(metrics=_points(curve, None), next_page_token=str(following) if following < curve.total else None)


@method("GET", "metrics/get-history-bulk")
async def get_bulk(call: Call, request: GetBulk) -> Points:
    runs = request.run_id or []
    if not runs:
        raise invalid("GetMetricHistoryBulk request must specify at least one run_id.")
    if len(runs) > MOST_RUNS:
        raise invalid(
            f"GetMetricHistoryBulk request cannot specify more than {MOST_RUNS} run_ids. Received {len(runs)} run_ids."
        )
    if not request.metric_key:
        raise invalid("GetMetricHistoryBulk request must specify a metric_key.")
    left = min(checks.most(request.max_results, MOST_BULK, LARGEST), MOST_BULK)
    found: list[Point] = []
    for run in sorted(set(runs)):
        if left and checks.is_run_id(run):
            curve = await _curve(call, ops.GetHistory(run=run, key=request.metric_key, limit=left))
            if curve is not None:
                found += _points(curve, run)
                left -= len(curve.steps)
    return Points(metrics=found)


@method("GET", "metrics/get-history-bulk-interval")
async def get_interval(call: Call, request: GetInterval) -> Points:
    runs = request.run_ids or []
    if not runs:
        raise missing_value("run_ids")
    if len(runs) > MOST_RUNS:
        raise invalid(
            f"GetMetricHistoryBulkInterval request must specify at most {MOST_RUNS} run_ids. "
            f"Received {len(runs)} run_ids."
        )
    if not request.metric_key:
        raise missing_value("metric_key")
    most = MOST_SAMPLED if request.max_results is None else request.max_results
    if not 1 <= most <= MOST_SAMPLED:
        raise invalid(f"max_results must be between 1 and {MOST_SAMPLED}.")
    if (request.start_step is None) != (request.end_step is None):
        raise invalid("If either start step or end step are specified, both must be specified.")
    steps = None
    if request.start_step is not None and request.end_step is not None:
        if request.start_step > request.end_step:
            raise invalid(
                "end_step must be greater than start_step. "
                f"Found start_step={request.start_step} and end_step={request.end_step}."
            )
        steps = (request.start_step, request.end_step)
    found: list[Point] = []
    for run in runs:
        if checks.is_run_id(run):
            wanted = ops.GetHistory(run=run, key=request.metric_key, steps=steps, evenly=most)
            curve = await _curve(call, wanted)
            if curve is not None:
                found += _points(curve, run)
    return Points(metrics=found)


async def _curve(call: Call, wanted: ops.GetHistory, *, strict: bool = False) -> Curve | None:
    try:
        return await call(wanted)
    except NotFound as error:
        if strict and is_absent(error, "run"):
            raise checks.no_run(wanted.run) from None
        return None


def _points(curve: Curve, run: str | None) -> list[Point]:
    return [
        Point(key=curve.key, value=value, timestamp=at, step=step, run_id=run)
        for step, at, value in zip(curve.steps, curve.times, curve.values, strict=True)
    ]
