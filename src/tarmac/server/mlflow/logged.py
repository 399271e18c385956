"""Logged models: until packages are translated there are none, and clients that list a run's files are told so."""

from __future__ import annotations

import msgspec

from tarmac.server.mlflow import checks
from tarmac.server.mlflow.errors import invalid
from tarmac.server.mlflow.messages import Answer, Request
from tarmac.server.mlflow.routes import Call, method
from tarmac.server.mlflow.runs import ByRun, guarded, read
from tarmac.track import operations as ops

MODELS_TAG = "mlflow.log-model.history"
MODEL_FIELDS = ("artifact_path", "flavors", "utc_time_created", "run_id")


class LogModel(ByRun):
    required = ("model_json",)
    model_json: str | None = None


class LoggedModels(Answer):
    models: list[str] = []


@method("POST", "logged-models/search")
async def search_logged_models(call: Call, request: Request) -> LoggedModels:
    return LoggedModels()


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
        await call(ops.TagRun(id=run, set={MODELS_TAG: checks.value(history, "model_json")}))
