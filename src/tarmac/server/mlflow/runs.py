"""Runs: how they come to be, change, go and are shown."""

from __future__ import annotations

from itertools import starmap

from tarmac.core.errors import Conflict, NotFound, TarmacError
from tarmac.registry.operations import ListPackageRuns
from tarmac.server.mlflow import checks
from tarmac.server.mlflow.errors import invalid, invalid_value, is_absent
from tarmac.server.mlflow.experiments import DEFAULT_ID, ShownTag, Tag
from tarmac.server.mlflow.inputs import ModelInput, ShownInputs, shown_inputs
from tarmac.server.mlflow.messages import Answer, Long, Request
from tarmac.server.mlflow.routes import Call, method
from tarmac.track import operations as ops
from tarmac.track.records import Number, WholeRun

NAME_TAG, NOTE_TAG, USER_TAG, PARENT_TAG = "mlflow.runName", "mlflow.note.content", "mlflow.user", "mlflow.parentRunId"
LONGEST_NOTE = 20_000
SHOWN_STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
STATUS = {
    "RUNNING": "running", "SCHEDULED": "running", "FINISHED": "finished", "FAILED": "failed", "KILLED": "killed",
    1: "running", 2: "running", 3: "finished", 4: "failed", 5: "killed",
}  # fmt: skip


class Info(Answer, kw_only=True):
    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: int | None = None
    artifact_uri: str
    lifecycle_stage: str


class ShownMetric(Answer, gc=False):
    key: str
    value: Number
    timestamp: int
    step: int


class ShownParam(Answer, gc=False):
    key: str
    value: str


class Data(Answer):
    metrics: list[ShownMetric] = []
    params: list[ShownParam] = []
    tags: list[ShownTag] = []


class ModelOutput(Answer):
    model_id: str
    step: int


class Outputs(Answer):
    model_outputs: list[ModelOutput] = []


class ShownRun(Answer):
    info: Info
    data: Data
    inputs: ShownInputs
    outputs: Outputs | None = None


class One(Answer):
    run: ShownRun


class Updated(Answer):
    run_info: Info


class ByRun(Request):
    """A run by its id, which old clients call `run_uuid`."""

    run_id: str | None = None
    run_uuid: str | None = None

    @property
    def run(self) -> str:
        return checks.run_id(self.run_id, self.run_uuid)


class Create(Request):
    experiment_id: str | None = None
    user_id: str | None = None
    run_name: str | None = None
    start_time: Long | None = None
    tags: list[Tag] | None = None


class Update(ByRun):
    status: str | int | None = None
    end_time: Long | None = None
    run_name: str | None = None


@method("POST", "runs/create")
async def create(call: Call, request: Create) -> One:
    experiment = checks.experiment_id(request.experiment_id)
    tags = tags_of(request.tags or [])
    if request.user_id and request.user_id != "unknown":
        tags.setdefault(USER_TAG, request.user_id)
    named = tags.pop(NAME_TAG, "")
    if named and request.run_name and named != request.run_name:
        raise invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{request.run_name}', mlflow.runName='{named}')."
        )
    wanted = ops.CreateRun(
        experiment="default" if experiment == DEFAULT_ID else experiment,
        exists=experiment != DEFAULT_ID,
        name=request.run_name or named or None,
        note=_note(tags.pop(NOTE_TAG, "")),
        parent=parent if checks.is_run_id(parent := tags.get(PARENT_TAG, "")) else None,
        tags=tags,
        started_at=max(0, request.start_time or 0),
    )
    try:
        made = await call(wanted)
    except (NotFound, Conflict) as error:
        if wanted.parent is None or is_absent(error, "experiment") or "experiment" in error.detail:
            raise _no_experiment(experiment, error) from None
        # MLflow's parents need not exist: the tag says who it was
        try:
            made = await call(ops.CreateRun(**{**_fields(wanted), "parent": None}))  # type: ignore[arg-type]
        except (NotFound, Conflict) as second:
            raise _no_experiment(experiment, second) from None
    return One(
        run=shown(
            WholeRun(
                id=made.id,
                name=made.name,
                experiment=made.experiment,
                status=made.status,
                parent=made.parent,
                actor=made.actor,
                started_at=made.started_at,
                ended_at=made.ended_at,
                note=made.note,
                params=made.params,
                tags=made.tags,
                experiment_id=experiment,
            )
        )
    )


@method("GET", "runs/get")
async def get(call: Call, request: ByRun) -> One:
    return One(run=(await with_models(call, [shown(await read(call, request.run))]))[0])


@method("POST", "runs/update")
async def update(call: Call, request: Update) -> Updated:
    id = request.run
    status = None
    if request.status is not None:
        status = STATUS.get(request.status.upper() if isinstance(request.status, str) else request.status)
        if status is None:
            raise invalid_value("status", request.status)
    with_name = ops.EditRun(id=id, name=checks.value(request.run_name, "run_name")) if request.run_name else None
    with guarded(id):
        if with_name is not None:
            await call(with_name)
        if status == "running":
            await call(ops.ResumeRun(id=id))
        elif status is not None:
            await _end(call, ops.EndRun(id=id, status=status, at=max(0, request.end_time or 0)))  # type: ignore[arg-type]
    return Updated(run_info=shown(await read(call, id)).info)


async def _end(call: Call, end: ops.EndRun) -> None:
    try:
        await call(end)
    except Conflict as error:
        if "state" in error.detail:
            raise
        await call(ops.ResumeRun(id=end.id))  # it had ended otherwise; MLflow lets that be corrected
        await call(end)


@method("POST", "runs/delete")
async def delete(call: Call, request: ByRun) -> None:
    with guarded(id := request.run):
        await call(ops.DeleteRuns(ids=[id]))


@method("POST", "runs/restore")
async def restore(call: Call, request: ByRun) -> None:
    with guarded(id := request.run):
        await call(ops.RestoreRuns(ids=[id]))


async def with_models(call: Call, runs: list[ShownRun]) -> list[ShownRun]:
    """The runs, with the models that they made or were given."""
    if not runs:
        return runs
    links = (await call.unchecked(ListPackageRuns(runs=[run.info.run_id for run in runs]))).links
    if links:
        by_id = {run.info.run_id: run for run in runs}
        for run in runs:
            run.outputs = Outputs()
        for link in links:
            run, model = by_id[link.run], f"m-{link.package}"
            if link.part == "input":
                run.inputs.model_inputs.append(ModelInput(model_id=model))
            elif run.outputs is not None:
                run.outputs.model_outputs.append(ModelOutput(model_id=model, step=link.step))
    return runs


async def read(call: Call, id: str) -> WholeRun:
    found = await call(ops.ReadRuns(ids=[id]))
    if not found.runs:
        raise checks.no_run(id)
    return found.runs[0]


class guarded:  # noqa: N801
    """Says in MLflow's words that a run is not there, or was deleted. (A class, because it is entered very often.)"""

    __slots__ = ("_id",)

    def __init__(self, id: str) -> None:
        self._id = id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TarmacError):
            if is_absent(error, "run"):
                raise checks.no_run(self._id) from None
            if isinstance(error, Conflict) and error.detail.get("state") == "deleted":
                raise invalid(
                    f"The run {self._id} must be in the 'active' state. Current state is deleted."
                    f"{f' ({error.hint})' if error.hint else ''}"
                ) from None


def tags_of(given: list[Tag], path: str = "tags") -> dict[str, str]:
    return {
        checks.key(tag.key, f"{path}[{index}].key"): checks.value(tag.value, f"{path}[{index}].value")
        for index, tag in enumerate(given)
    }


def shown(run: WholeRun) -> ShownRun:
    tags = dict(run.tags)
    tags[NAME_TAG] = run.name
    if run.note:
        tags[NOTE_TAG] = run.note
    return ShownRun(
        info=Info(
            run_id=run.id,
            run_uuid=run.id,
            run_name=run.name,
            experiment_id=run.experiment_id,
            user_id=run.tags.get(USER_TAG, "unknown"),
            status=SHOWN_STATUS[run.status],
            start_time=run.started_at,
            end_time=run.ended_at,
            artifact_uri=artifact_uri(run),
            lifecycle_stage="active" if run.deleted_at is None else "deleted",
        ),
        data=Data(
            metrics=[ShownMetric(key, run.metrics[key], at, step) for key, (step, at) in run.moments.items()],
            params=list(starmap(ShownParam, run.params.items())),
            tags=list(starmap(ShownTag, tags.items())),
        ),
        inputs=shown_inputs(run.inputs),
    )


def artifact_uri(run: WholeRun) -> str:
    return f"mlflow-artifacts:/{run.experiment_id}/{run.id}/artifacts"


def _note(text: str) -> str:
    if len(text) > LONGEST_NOTE:
        raise invalid(f"'{NOTE_TAG}' exceeds the maximum length of {LONGEST_NOTE} characters")
    return text


def _no_experiment(id: str, error: TarmacError) -> Exception:
    if is_absent(error, "experiment"):
        return checks.no_experiment(id)
    if error.detail.get("state") == "deleted":
        hint = f" ({error.hint})" if error.hint else ""
        return invalid(f"The experiment {id} must be in the 'active' state. Current state is deleted.{hint}")
    return error


def _fields(request: ops.CreateRun) -> dict[str, object]:
    return {name: getattr(request, name) for name in request.__struct_fields__}
