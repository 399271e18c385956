"""Experiments, as MLflow sees them: by an id of digits, the project's default being `0` and called `Default`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tarmac.core.actor import os_user
from tarmac.core.errors import Conflict, NotFound, bounded
from tarmac.server.mlflow import checks
from tarmac.server.mlflow.errors import Refusal, absent, invalid, invalid_value, too_long
from tarmac.server.mlflow.messages import Answer, Long, Request
from tarmac.server.mlflow.routes import Call, method
from tarmac.track import operations as ops
from tarmac.track.records import Experiment

DEFAULT, DEFAULT_ID = "Default", "0"
LONGEST_LOCATION = 2048
MOST_RESULTS = 50_000
PAGE = 1000
VIEWS: dict[Any, str] = {
    None: "no", "ACTIVE_ONLY": "no", "DELETED_ONLY": "only", "ALL": "also", 1: "no", 2: "only", 3: "also",
}  # fmt: skip


class Tag(Request):
    key: str | None = None
    value: str | None = None


class ShownTag(Answer, gc=False):
    key: str
    value: str


class Shown(Answer):
    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    creation_time: int
    last_update_time: int
    tags: list[ShownTag] = []


class One(Answer):
    experiment: Shown


class Page(Answer):
    experiments: list[Shown] = []
    next_page_token: str | None = None


class Made(Answer):
    experiment_id: str


class ById(Request):
    required: ClassVar[Sequence[str]] = ("experiment_id",)
    experiment_id: str | None = None


class ByName(Request):
    required: ClassVar[Sequence[str]] = ("experiment_name",)
    experiment_name: str | None = None


class Create(Request):
    required: ClassVar[Sequence[str]] = ("name",)
    name: str | None = None
    artifact_location: str | None = None
    tags: list[Tag] | None = None


class Update(ById):
    required: ClassVar[Sequence[str]] = ("experiment_id", "new_name")
    new_name: str | None = None


class SetTag(ById):
    required: ClassVar[Sequence[str]] = ("experiment_id", "key")
    key: str | None = None
    value: str | None = None


class DeleteTag(ById):
    required: ClassVar[Sequence[str]] = ("experiment_id", "key")
    key: str | None = None


class Search(Request):
    max_results: Long | None = None
    page_token: str | None = None
    filter: str | None = None
    order_by: list[str] | None = None
    view_type: str | int | None = None


class SearchDatasets(Request):
    experiment_ids: list[str] | None = None


class Summary(Answer):
    experiment_id: str
    name: str
    digest: str
    context: str


class Summaries(Answer):
    dataset_summaries: list[Summary] = []


@method("POST", "experiments/create")
async def create(call: Call, request: Create) -> Made:
    name = _name(request.name or "", "name")
    tags = {checks.key(tag.key, "tags.key"): checks.value(tag.value, "tags.value") for tag in request.tags or []}
    location = _location(request.artifact_location or "")
    try:
        if name == DEFAULT:
            await find(call, DEFAULT_ID)  # it is there always
            raise Conflict.exists("experiment", name)
        made = await call(ops.CreateExperiment(name=name, tags=tags, location=location))
    except Conflict as error:
        raise Refusal("RESOURCE_ALREADY_EXISTS", _taken(name, error)) from None
    return Made(experiment_id=made.id)


@method("GET", "experiments/get")
async def get(call: Call, request: ById) -> One:
    return One(experiment=shown(await find(call, checks.experiment_id(request.experiment_id))))


@method("GET", "experiments/get-by-name")
async def get_by_name(call: Call, request: ByName) -> One:
    name = request.experiment_name or ""
    try:
        if name == DEFAULT:
            return One(experiment=shown(await find(call, DEFAULT_ID)))
        found = await call(ops.GetExperiment(name=name[:500]))
        if name in (found.name, _called(found)):
            return One(experiment=shown(found))
    except NotFound:
        pass
    raise absent(f"Could not find experiment with name '{bounded(name)}'")


@method("POST", "experiments/search")
async def search(call: Call, request: Search) -> Page:
    limit = checks.most(request.max_results, PAGE, MOST_RESULTS)
    await find(call, DEFAULT_ID)
    found: list[Experiment] = []
    cursor = request.page_token or ""
    while True:
        page = await call(
            ops.SearchExperiments(
                filter=request.filter or "",
                order=request.order_by or [],
                deleted=view(request.view_type, "view_type"),  # type: ignore[arg-type]
                default=DEFAULT,
                limit=min(PAGE, limit - len(found)),
                cursor=cursor,
            )
        )
        found += page.experiments
        cursor = page.next or ""
        if not cursor or len(found) >= limit:
            return Page(experiments=[shown(one) for one in found], next_page_token=cursor or None)


@method("GET", "experiments/search")
async def search_by_address(call: Call, request: Search) -> Page:
    return await search(call, request)


@method("POST", "experiments/delete")
async def delete(call: Call, request: ById) -> None:
    await call(ops.DeleteExperiment(name=(await find(call, checks.experiment_id(request.experiment_id))).id))


@method("POST", "experiments/restore")
async def restore(call: Call, request: ById) -> None:
    await call(ops.RestoreExperiment(name=(await find(call, checks.experiment_id(request.experiment_id))).id))


@method("POST", "experiments/update")
async def update(call: Call, request: Update) -> None:
    id, name = (await find(call, checks.experiment_id(request.experiment_id))).id, _name(request.new_name or "", "name")
    try:
        await call(ops.RenameExperiment(name=id, to="default" if (id, name) == (DEFAULT_ID, DEFAULT) else name))
    except Conflict as error:
        raise Refusal("RESOURCE_ALREADY_EXISTS", _taken(name, error)) from None


@method("POST", "experiments/set-experiment-tag")
async def set_tag(call: Call, request: SetTag) -> None:
    id = (await find(call, checks.experiment_id(request.experiment_id))).id
    await _tag(
        call, ops.TagExperiment(name=id, set={checks.key(request.key, "key"): checks.value(request.value, "value")})
    )


@method("POST", "experiments/delete-experiment-tag")
async def delete_tag(call: Call, request: DeleteTag) -> None:
    key = checks.key(request.key, "key")
    found = await find(call, checks.experiment_id(request.experiment_id))
    if key not in found.tags:
        raise absent(f"No tag with name: {key} in experiment with id {found.id}")
    await _tag(call, ops.TagExperiment(name=found.id, unset=[key]))


@method("POST", "experiments/search-datasets")
async def search_datasets(call: Call, request: SearchDatasets) -> Summaries:
    ids = request.experiment_ids or []
    if not ids:
        raise invalid("SearchDatasets request must specify at least one experiment_id.")
    if len(ids) > 20:
        raise invalid(f"SearchDatasets request cannot specify more than 20 experiment_ids. Received {len(ids)}.")
    found = await call(ops.ListInputs(experiments=[checks.experiment_id(id) for id in ids]))
    return Summaries(
        dataset_summaries=[
            Summary(experiment_id=one.experiment, name=one.name, digest=one.version, context=one.context)
            for one in found.inputs
        ]
    )


async def find(call: Call, id: str) -> Experiment:
    """The experiment of this id; the default one is made when somebody asks for it first."""
    try:
        found = await call(ops.GetExperiment(name=id))
        if found.id == id:  # and not one that is only called so
            return found
    except NotFound:
        pass
    if id != DEFAULT_ID:
        raise checks.no_experiment(id)
    try:
        await call.as_server(ops.CreateExperiment(name="default"), os_user())
    except Conflict:
        pass  # somebody else was faster
    return await call(ops.GetExperiment(name=id))


def view(given: str | int | None, path: str) -> str:
    key = given.upper() if isinstance(given, str) else given
    if key not in VIEWS:
        raise invalid_value(path, given)
    return VIEWS[key]


def shown(experiment: Experiment) -> Shown:
    tags = dict(experiment.tags)
    if experiment.note:
        tags.setdefault("mlflow.note.content", experiment.note)
    return Shown(
        experiment_id=experiment.id,
        name=_called(experiment),
        artifact_location=experiment.location or f"mlflow-artifacts:/{experiment.id}",
        lifecycle_stage="active" if experiment.deleted_at is None else "deleted",
        creation_time=experiment.created_at,
        last_update_time=experiment.updated_at or experiment.created_at,
        tags=[ShownTag(key=key, value=value) for key, value in tags.items()],
    )


def _called(experiment: Experiment) -> str:
    return DEFAULT if (experiment.id, experiment.name) == (DEFAULT_ID, "default") else experiment.name


def _name(name: str, path: str) -> str:
    if len(name) > checks.LONGEST_EXPERIMENT_NAME:
        raise too_long(path, name, checks.LONGEST_EXPERIMENT_NAME)
    return name


def _location(given: str) -> str:
    """Where files are wanted. It is only told again: what runs log comes to the blob store, through this server."""
    if len(given) > LONGEST_LOCATION:
        raise too_long("artifact_location", given, LONGEST_LOCATION)
    parts = urlsplit(given)
    if parts.scheme == "runs":
        raise invalid(f"Artifact location cannot be a runs:/ URI. Given: '{bounded(given)}'")
    if parts.fragment or ".." in parts.path.split("/") or "\x00" in given:
        raise invalid_value("artifact_location", given, "a fragment or a step upwards has no place in it")
    return str(Path.cwd() / given) if given and not parts.scheme else given


def _taken(name: str, error: Conflict) -> str:
    return f"Experiment(name={bounded(name)}) already exists. {error.message}{f' ({error.hint})' if error.hint else ''}"


async def _tag(call: Call, request: ops.TagExperiment) -> None:
    try:
        await call(request)
    except Conflict:
        raise invalid(
            f"The experiment {request.name} must be in the 'active' state. Current state is deleted."
        ) from None
