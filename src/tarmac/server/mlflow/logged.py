"""Logged models: packages under MLflow's name, from the first file to what is measured of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from tarmac.core.errors import Conflict
from tarmac.core.ids import time_ordered
from tarmac.registry import operations as ops
from tarmac.registry.records import Number, Package, PackageMetric
from tarmac.server.mlflow import checks, packages
from tarmac.server.mlflow.errors import Refusal, absent, invalid, invalid_value, missing_value
from tarmac.server.mlflow.experiments import ShownTag, Tag, find
from tarmac.server.mlflow.messages import Answer, Long, Request
from tarmac.server.mlflow.routes import Call, method
from tarmac.server.mlflow.runs import ByRun, guarded, read, tags_of
from tarmac.track import operations as track

STATES = {"pending": "LOGGED_MODEL_PENDING", "ready": "LOGGED_MODEL_READY", "failed": "LOGGED_MODEL_UPLOAD_FAILED"}
ENDS = {"LOGGED_MODEL_READY": "ready", "LOGGED_MODEL_UPLOAD_FAILED": "failed", 2: "ready", 3: "failed"}
FILTERED = {"PENDING": "pending", "READY": "ready", "FAILED": "failed"}
MODELS_TAG, VERSIONS_TAG = "mlflow.log-model.history", "mlflow.modelVersions"
MODEL_FIELDS = ("artifact_path", "flavors", "utc_time_created", "run_id")
BAD_CHARACTERS = ("/", ":", ".", "%", '"', "'")
PAGE, MOST_RESULTS = 100, 1000
SORTED = {
    "name": "name", "model_id": "id", "model_type": "kind", "status": "state", "source_run_id": "run",
    "creation_timestamp": "created", "creation_time": "created", "creation_timestamp_ms": "created",
    "last_updated_timestamp": "updated", "last_updated_time": "updated", "last_updated_timestamp_ms": "updated",
}  # fmt: skip


class Param(Answer):
    key: str
    value: str


class ShownMetric(Answer):
    key: str
    value: Number
    timestamp: int
    step: int
    model_id: str
    run_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class Registration(Answer):
    name: str
    version: str


class Info(Answer, kw_only=True):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    model_type: str = ""
    source_run_id: str = ""
    tags: list[ShownTag] = []
    registrations: list[Registration] = []


class Data(Answer):
    params: list[Param] = []
    metrics: list[ShownMetric] = []


class Shown(Answer):
    info: Info
    data: Data


class One(Answer):
    model: Shown


class Page(Answer):
    models: list[Shown] = []
    next_page_token: str | None = None


class GivenParam(Request):
    key: str | None = None
    value: str | None = None


class Create(Request):
    required: ClassVar[Sequence[str]] = ("experiment_id",)
    experiment_id: str | None = None
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: list[GivenParam] | None = None
    tags: list[Tag] | None = None


class Finalize(Request):
    required: ClassVar[Sequence[str]] = ("status",)
    status: str | int | None = None


class Dataset(Request):
    dataset_name: str | None = None
    dataset_digest: str | None = None


class OrderBy(Request):
    field_name: str | None = None
    ascending: bool | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Search(Request):
    experiment_ids: list[str] | None = None
    filter: str | None = None
    datasets: list[Dataset] | None = None
    max_results: Long | None = None
    order_by: list[OrderBy] | None = None
    page_token: str | None = None


class SetTags(Request):
    tags: list[Tag] | None = None


class LogParams(Request):
    params: list[GivenParam] | None = None


class ListFiles(Request):
    artifact_directory_path: str | None = None
    page_token: str | None = None


class Linked(Request):
    model_id: str | None = None
    step: Long | None = None


class LogOutputs(ByRun):
    models: list[Linked] | None = None


class LogModel(ByRun):
    required = ("model_json",)
    model_json: str | None = None


@method("POST", "logged-models")
async def create(call: Call, request: Create) -> One:
    experiment = await find(call, checks.experiment_id(request.experiment_id))
    if experiment.deleted_at is not None:
        raise invalid(
            f"The experiment {experiment.id} must be in the 'active' state. Current state is deleted. "
            f"(`tarmac experiments restore {experiment.id}`)"
        )
    id = time_ordered()
    wanted = ops.CreatePackage(
        id=id,
        name=_name(request.name, id),
        kind=(request.model_type or "")[:250],
        run=request.source_run_id or None,
        experiment=experiment.id,
        params=_params(request.params or []),
        tags=tags_of(request.tags or []),
    )
    made = (await call(wanted)).package
    assert made is not None
    return One(model=shown(made))


@method("GET", "logged-models/{model_id}")
async def get(call: Call, request: Request) -> One:
    return One(model=shown(await packages.read(call, _id(call))))


@method("PATCH", "logged-models/{model_id}")
async def finalize(call: Call, request: Finalize) -> One:
    state = ENDS.get(request.status or "")
    if state is None:
        raise invalid_value("status", request.status, "Expected LOGGED_MODEL_READY or LOGGED_MODEL_UPLOAD_FAILED")
    with packages.guarded(id := _id(call)):
        return One(model=shown(await call(ops.SealPackage(id=id, state=state, reopen=True))))  # type: ignore[arg-type]


@method("DELETE", "logged-models/{model_id}")
async def delete(call: Call, request: Request) -> None:
    id = (await packages.read(call, _id(call))).id
    try:
        await call(ops.DeletePackage(id=id))
    except Conflict as error:
        raise Refusal("INVALID_STATE", f"{error.message} ({error.hint})") from None


@method("PATCH", "logged-models/{model_id}/tags")
async def set_tags(call: Call, request: SetTags) -> One:
    with packages.guarded(id := _id(call)):
        return One(model=shown(await call(ops.TagPackage(id=id, set=tags_of(request.tags or [])))))


@method("DELETE", "logged-models/{model_id}/tags/{tag_key}")
async def delete_tag(call: Call, request: Request) -> None:
    found = await packages.read(call, _id(call))
    key = call.path["tag_key"]
    if key not in found.tags:
        raise absent(f"No tag with key '{key[:250]}' found for model with ID '{packages.shown_id(found.id)}'.")
    await call(ops.TagPackage(id=found.id, unset=[key]))


@method("POST", "logged-models/{model_id}/params")
async def log_params(call: Call, request: LogParams) -> None:
    with packages.guarded(id := _id(call)):
        await call(ops.LogPackage(id=id, params=_params(request.params or [])))


@method("GET", "logged-models/{model_id}/artifacts/directories")
async def list_files(call: Call, request: ListFiles) -> Any:
    from tarmac.server.mlflow.artifacts import Listed, listed, safe

    found = await packages.read(call, _id(call))
    folder = safe(request.artifact_directory_path or "", may_be_root=True)
    files = packages.direct(await packages.files(call, found.id, folder), folder)
    return Listed(root_uri=packages.artifact_uri(found), files=listed(files))


@method("POST", "logged-models/search")
async def search(call: Call, request: Search) -> Page:
    limit = min(checks.most(request.max_results, PAGE, 2**31), MOST_RESULTS)
    experiments = [id for id in request.experiment_ids or [] if id.isascii() and id.isdecimal()]
    if not experiments:
        return Page()
    found = await call(
        ops.ListPackages(
            filter=_in_our_words(request.filter or ""),
            order=_order(request.order_by or []),
            experiment=experiments,
            data=[_data(one) for one in request.datasets or []],
            limit=limit,
            cursor=request.page_token or "",
        )
    )
    return Page(models=[shown(one) for one in found.packages], next_page_token=found.next)


@method("POST", "runs/outputs")
async def log_outputs(call: Call, request: LogOutputs) -> None:
    await link(call, request.run, request.models or [], "output")


async def link(call: Call, run: str, models: Sequence[Linked], part: str) -> None:
    """A run made these, or was given them."""
    await read(call, run)
    for model in models:
        if not model.model_id:
            raise missing_value("models.model_id")
        with packages.guarded(id := packages.own_id(model.model_id)):
            await call(ops.LinkPackage(id=id, run=run, part=part, step=model.step or 0))  # type: ignore[arg-type]


@method("POST", "runs/log-model")
async def log_model(call: Call, request: LogModel) -> None:
    """What clients before 3.0 say of a model whose files they have logged: a list in a tag of the run."""
    run, text = request.run, request.model_json or ""
    try:
        model = msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise invalid("Malformed model info: it is not valid JSON.") from None
    lacks = [name for name in MODEL_FIELDS if not isinstance(model, dict) or name not in model]
    if lacks:
        raise invalid(f"Model json is missing mandatory fields: {lacks}")
    found = await read(call, run)
    try:
        before = msgspec.json.decode(found.tags.get(MODELS_TAG, "[]"), type=list[msgspec.Raw])
    except msgspec.DecodeError:
        before = []  # somebody set the tag by hand
    history = msgspec.json.encode([*before, msgspec.Raw(text.encode())]).decode()
    with guarded(run):
        await call(track.TagRun(id=run, set={MODELS_TAG: checks.value(history, "model_json")}))


async def measured(call: Call, run: str, metrics: Sequence[tuple[str | None, PackageMetric]]) -> None:
    """Metrics of a run that name the model they were measured of."""
    by_model: dict[str, list[PackageMetric]] = {}
    for model, metric in metrics:
        if model:
            by_model.setdefault(packages.own_id(model), []).append(msgspec.structs.replace(metric, run=run))
    for id, those in by_model.items():
        with packages.guarded(id):
            await call(ops.LogPackage(id=id, metrics=those))


def shown(package: Package) -> Shown:
    registered = [(name, number[1:]) for name, _, number in (version.rpartition("@") for version in package.versions)]
    tags = dict(package.tags)
    if registered:
        tags[VERSIONS_TAG] = json.dumps([{"name": name, "version": int(number)} for name, number in registered])
    return Shown(
        info=Info(
            model_id=packages.shown_id(package.id),
            experiment_id=package.experiment or packages.NO_EXPERIMENT,
            name=package.name,
            creation_timestamp_ms=package.created_at,
            last_updated_timestamp_ms=package.updated_at,
            artifact_uri=packages.artifact_uri(package),
            status=STATES[package.state],
            model_type=package.kind,
            source_run_id=package.run or "",
            tags=[ShownTag(key=key, value=value) for key, value in tags.items()],
            registrations=[Registration(name=name, version=number) for name, number in registered],
        ),
        data=Data(
            params=[Param(key=key, value=value) for key, value in package.params.items()],
            metrics=shown_metrics(package),
        ),
    )


def shown_metrics(package: Package) -> list[ShownMetric]:
    return [
        ShownMetric(
            key=one.name,
            value=one.value,
            timestamp=one.at,
            step=one.step,
            model_id=packages.shown_id(package.id),
            run_id=one.run,
            dataset_name=one.data,
            dataset_digest=one.data_digest,
        )
        for one in package.metrics
    ]


def _id(call: Call) -> str:
    return packages.own_id(call.path["model_id"])


def _name(given: str | None, id: str) -> str:
    if given is None:
        return f"model-{id[6:12]}"
    if not given or any(character in given for character in BAD_CHARACTERS):
        raise invalid(
            f"Invalid model name ({given[:250]!r}) provided. Model name must be a non-empty string and cannot contain "
            f"the following characters: {BAD_CHARACTERS}"
        )
    return given


def _params(given: Sequence[GivenParam]) -> dict[str, str]:
    return {
        checks.key(param.key, f"params[{index}].key"): checks.value(param.value, f"params[{index}].value")
        for index, param in enumerate(given)
    }


def _data(given: Dataset) -> str:
    if not given.dataset_name:
        raise invalid("`dataset_name` in the `datasets` clause must be specified.")
    return f"{given.dataset_name}@{given.dataset_digest}" if given.dataset_digest else given.dataset_name


def _in_our_words(text: str) -> str:
    """States and ids are written differently; the grammar is the same."""
    for theirs, ours in FILTERED.items():
        text = text.replace(f"'{theirs}'", f"'{ours}'")
    return text.replace("'m-", "'")


def _order(given: Sequence[OrderBy]) -> list[str]:
    order = []
    for one in given:
        name = (one.field_name or "").strip()
        if not name:
            raise invalid("`field_name` in the `order_by` clause must be specified.")
        if one.dataset_name or one.dataset_digest:
            raise invalid("sorting by a metric on one data set is not there yet: ask for `datasets`, and sort by it")
        if name.startswith("metrics."):
            field = f'metrics."{name.removeprefix("metrics.").strip("`")}"'
        elif name in SORTED:
            field = SORTED[name]
        else:
            raise invalid(f"Invalid order by field name: {name[:250]}.")
        order.append(f"{field} {'ASC' if one.ascending in (None, True) else 'DESC'}")
    return order
