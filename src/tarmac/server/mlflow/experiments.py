"""Experiments, as MLflow sees them: by an id of digits, the project's default being `0` and called `Default`."""

from __future__ import annotations

from tarmac.core.errors import NotFound
from tarmac.server.mlflow.errors import absent
from tarmac.server.mlflow.messages import Answer, Request
from tarmac.server.mlflow.routes import Call, method
from tarmac.track import operations as ops
from tarmac.track.records import Experiment


class Shown(Answer):
    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    creation_time: int
    last_update_time: int


class One(Answer):
    experiment: Shown


class ById(Request):
    required = ("experiment_id",)
    experiment_id: str | None = None


@method("GET", "experiments/get")
async def get_experiment(call: Call, request: ById) -> One:
    assert request.experiment_id is not None
    try:
        found = await call(ops.GetExperiment(name=request.experiment_id))
    except NotFound:
        raise absent(f"No Experiment with id={request.experiment_id} exists") from None
    return One(experiment=shown(found))


def shown(experiment: Experiment) -> Shown:
    return Shown(
        experiment_id=experiment.id,
        name=experiment.name,
        artifact_location=f"mlflow-artifacts:/{experiment.id}",
        lifecycle_stage="active" if experiment.deleted_at is None else "deleted",
        creation_time=experiment.created_at,
        last_update_time=experiment.created_at,
    )
