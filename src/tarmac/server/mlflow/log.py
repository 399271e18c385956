"""What is added to a run: metrics, params, tags, inputs, one or many at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tarmac.core.errors import Conflict
from tarmac.registry.records import PackageMetric
from tarmac.server.mlflow import checks
from tarmac.server.mlflow.errors import absent, invalid, invalid_value, missing_value
from tarmac.server.mlflow.experiments import Tag
from tarmac.server.mlflow.inputs import GivenInput, uses
from tarmac.server.mlflow.logged import Linked, link, measured
from tarmac.server.mlflow.messages import Long
from tarmac.server.mlflow.routes import Call, method
from tarmac.server.mlflow.runs import NAME_TAG, NOTE_TAG, ByRun, guarded, read, tags_of
from tarmac.track import operations as ops
from tarmac.track import points

MOST_METRICS, MOST_PARAMS, MOST_TAGS, MOST_TOGETHER = 1000, 100, 100, 1000


class Metric(msgspec.Struct):
    key: str | None = None
    value: float | None = None
    timestamp: Long | None = None
    step: Long | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Param(msgspec.Struct):
    key: str | None = None
    value: str | None = None


class LogMetric(ByRun):
    key: str | None = None
    value: float | None = None
    timestamp: Long | None = None
    step: Long | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogParam(ByRun):
    key: str | None = None
    value: str | None = None


class DeleteTag(ByRun):
    key: str | None = None


class LogBatch(ByRun):
    metrics: list[Metric] | None = None
    params: list[Param] | None = None
    tags: list[Tag] | None = None


class LogInputs(ByRun):
    datasets: list[GivenInput] | None = None
    models: list[Linked] | None = None


@method("POST", "runs/log-metric")
async def log_metric(call: Call, request: LogMetric) -> None:
    one = Metric(
        request.key, request.value, request.timestamp, request.step, request.model_id, request.dataset_name,
        request.dataset_digest,
    )  # fmt: skip
    await _log(call, request.run, [_point(one, "")])
    await _measured(call, request.run, [one])


@method("POST", "runs/log-parameter")
async def log_param(call: Call, request: LogParam) -> None:
    await _log(call, request.run, params={checks.key(request.key, "key"): checks.value(request.value, "value")})


@method("POST", "runs/set-tag")
async def set_tag(call: Call, request: LogParam) -> None:
    run, key, value = request.run, checks.key(request.key, "key"), checks.value(request.value, "value")
    await _tag(call, run, {key: value})


@method("POST", "runs/delete-tag")
async def delete_tag(call: Call, request: DeleteTag) -> None:
    run, key = request.run, checks.key(request.key, "key")
    found = await read(call, run)
    with guarded(run):
        if key == NOTE_TAG and found.note:
            await call(ops.EditRun(id=run, note=""))
        elif key in found.tags or found.deleted_at is not None:
            await call(ops.TagRun(id=run, unset=[key]))
        else:
            raise absent(f"No tag with name: {key} in run with id {run}")


@method("POST", "runs/log-batch")
async def log_batch(call: Call, request: LogBatch) -> None:
    run = request.run
    metrics, params, tags = request.metrics or [], request.params or [], request.tags or []
    _limit("metrics", MOST_METRICS, len(metrics))
    _limit("params", MOST_PARAMS, len(params))
    _limit("tags", MOST_TAGS, len(tags))
    _limit("metrics, params, and tags", MOST_TOGETHER, len(metrics) + len(params) + len(tags))
    points = _points(metrics)
    given: dict[str, str] = {}
    twice = []
    for index, param in enumerate(params):
        name = checks.key(param.key, f"params[{index}].key")
        if name in given:
            twice.append(name)
        given[name] = checks.value(param.value, f"params[{index}].value")
    if twice:
        raise invalid(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one param "
            "value per param key."
        )
    await _log(call, run, points, given, tags_of(tags))
    await _measured(call, run, metrics)


@method("POST", "runs/log-inputs")
async def log_inputs(call: Call, request: LogInputs) -> None:
    run = request.run
    if request.models:
        await link(call, run, request.models, "input")
    with guarded(run):
        for one in uses(run, request.datasets or []):
            await call(one)


async def _measured(call: Call, run: str, metrics: list[Metric]) -> None:
    """Metrics that name a model are said of it too, with the data they were measured on."""
    if any(metric.model_id for metric in metrics):
        await measured(call, run, [(metric.model_id, _said(metric)) for metric in metrics])


def _said(metric: Metric) -> PackageMetric:
    assert metric.key is not None
    assert metric.value is not None
    return PackageMetric(
        name=metric.key,
        value=points.text(metric.value),  # type: ignore[arg-type]
        step=metric.step or 0,
        at=metric.timestamp or 0,
        data=metric.dataset_name or "",
        data_digest=metric.dataset_digest or "",
    )


def _points(metrics: list[Metric]) -> list[ops.Point]:
    """Nearly every batch is in order: it is looked at as a whole, and point by point only to say what is wrong."""
    points: list[Any] = [(m.key, m.value, m.step or 0, m.timestamp) for m in metrics]
    try:
        sound = all(map(checks.is_key, {m.key for m in metrics})) and not any(m.timestamp < 0 for m in metrics)  # type: ignore[operator]
        sound = sound and None not in {m.value for m in metrics}
    except TypeError:  # a time is missing
        sound = False
    return points if sound else [_point(metric, f"metrics[{index}].") for index, metric in enumerate(metrics)]


def _point(metric: Metric, path: str) -> ops.Point:
    key = checks.key(metric.key, f"{path}name" if path else "key")
    if metric.value is None:
        raise missing_value(f"{path}value")
    if metric.timestamp is None:
        raise missing_value(f"{path}timestamp")
    if metric.timestamp < 0:
        raise invalid_value(
            f"{path}timestamp",
            metric.timestamp,
            f"metric '{key}' (value={metric.value}). Timestamp must be a nonnegative long (64-bit integer) ",
        )
    return key, metric.value, metric.step or 0, metric.timestamp


def _limit(what: str, most: int, given: int) -> None:
    if given > most:
        raise invalid(
            f"A batch logging request can contain at most {most} {what}. Got {given} {what}. Please split up {what} "
            "across multiple requests and try again."
        )


async def _log(
    call: Call,
    run: str,
    points: list[ops.Point] | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    rest = dict(tags or {})
    special = {key: rest.pop(key) for key in (NAME_TAG, NOTE_TAG) if key in rest}
    request = ops.LogRun(id=run, metrics=points or [], params=dict(params or {}), tags=rest, ended=True, dated=True)
    with guarded(run):
        try:
            await call.unchecked(request)
        except Conflict as error:
            if "params" not in error.detail:
                raise
            key, (old, new) = next(iter(error.detail["params"].items()))
            raise invalid(
                f"Changing param values is not allowed. Param with key='{key}' was already logged with value='{old}' "
                f"for run ID='{run}'. Attempted logging new value '{new}'."
            ) from None
    if special:
        await _tag(call, run, special)


async def _tag(call: Call, run: str, tags: dict[str, str]) -> None:
    """Name and note of a run are tags to MLflow; here they have places of their own."""
    with guarded(run):
        if NAME_TAG in tags or NOTE_TAG in tags:
            await call(ops.EditRun(id=run, name=tags.pop(NAME_TAG, None) or None, note=tags.pop(NOTE_TAG, None)))
        if tags:
            await call(ops.TagRun(id=run, set=tags))
