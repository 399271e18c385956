"""A running MLflow server, or whatever answers as one: read through its REST API, files through its proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec

from tarmac.core.errors import Invalid, bounded
from tarmac.start import mlflow_server_models
from tarmac.start.artifacts import PROXY
from tarmac.start.folders import DEEPEST
from tarmac.start.mlflow_rest import Pair, Rest, number, time, whole
from tarmac.start.source import (
    PARENT_TAG,
    RUN_ID,
    FoundExperiment,
    FoundFile,
    FoundInput,
    FoundModel,
    FoundPackage,
    FoundPoint,
    FoundRun,
    FoundVersion,
    Head,
    Missed,
)

FILES = "/api/2.0/mlflow-artifacts/artifacts"
MODEL_FILES = "/ajax-api/2.0/mlflow/logged-models"
AT_ONCE = 1000
POINTS_AT_ONCE = 10_000


class Info(msgspec.Struct):
    run_id: str = ""
    run_uuid: str = ""
    experiment_id: str = ""
    run_name: str = ""
    status: str = ""
    user_id: str = ""
    start_time: int | str | None = None
    end_time: int | str | None = None
    artifact_uri: str = ""
    lifecycle_stage: str = ""


class Named(msgspec.Struct):
    """A metric of which only the name is asked."""

    key: str = ""


class Data(msgspec.Struct):
    metrics: list[Named] = []
    params: list[Pair] = []
    tags: list[Pair] = []


class Dataset(msgspec.Struct):
    name: str = ""
    digest: str = ""
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class Used(msgspec.Struct):
    dataset: Dataset
    tags: list[Pair] = []


class UsedModel(msgspec.Struct):
    model_id: str = ""


class MadeModel(msgspec.Struct):
    model_id: str = ""
    step: int | str = 0


class Inputs(msgspec.Struct):
    dataset_inputs: list[Used] = []
    model_inputs: list[UsedModel] = []


class Outputs(msgspec.Struct):
    model_outputs: list[MadeModel] = []


class Run(msgspec.Struct):
    info: Info
    data: Data = msgspec.field(default_factory=Data)
    inputs: Inputs = msgspec.field(default_factory=Inputs)
    outputs: Outputs = msgspec.field(default_factory=Outputs)


class OneRun(msgspec.Struct):
    run: Run


class RunPage(msgspec.Struct):
    runs: list[Run] = []
    next_page_token: str = ""


class Experiment(msgspec.Struct):
    experiment_id: str
    name: str
    lifecycle_stage: str = ""
    artifact_location: str = ""
    tags: list[Pair] = []
    creation_time: int | str | None = None
    last_update_time: int | str | None = None


class ExperimentPage(msgspec.Struct):
    experiments: list[Experiment] = []
    next_page_token: str = ""


class Point(msgspec.Struct):
    key: str
    value: float | str
    timestamp: int | str = 0
    step: int | str = 0


class History(msgspec.Struct):
    metrics: list[Point] = []
    next_page_token: str = ""


class Listed(msgspec.Struct):
    path: str
    is_dir: bool = False


class Listing(msgspec.Struct):
    files: list[Listed] = []
    next_page_token: str = ""


class MlflowServer:
    """What MLflow's client could see of it."""

    def __init__(self, url: str, missed: Missed) -> None:
        self.missed = missed
        self._rest = Rest(url)
        self._get, self._pages = self._rest.get, self._rest.pages

    def experiments(self) -> list[FoundExperiment]:
        found: dict[str, FoundExperiment] = {}
        body: dict[str, Any] = {"max_results": AT_ONCE, "view_type": "ALL"}
        for page in self._pages("experiments/search", body, ExperimentPage):
            for one in page.experiments:
                found[one.experiment_id] = FoundExperiment(
                    id=one.experiment_id,
                    name=one.name,
                    deleted=one.lifecycle_stage == "deleted",
                    location=one.artifact_location,
                    tags={tag.key: tag.value for tag in one.tags},
                    created_at=time(one.creation_time),
                    updated_at=time(one.last_update_time),
                )
        self._experiments = sorted(found)
        return [found[id] for id in self._experiments]

    def heads(self) -> list[Head]:
        found: dict[str, Head] = {}
        for experiment in self._experiments:
            body = {"experiment_ids": [experiment], "max_results": AT_ONCE, "run_view_type": "ALL"}
            for page in self._pages("runs/search", body, RunPage):
                for run in page.runs:
                    id = run.info.run_id or run.info.run_uuid
                    if not RUN_ID.fullmatch(id):
                        self.missed.add(f"run {id}", "that is not the id of a run")
                        continue
                    parent = next((tag.value for tag in run.data.tags if tag.key == PARENT_TAG), "")
                    found[id] = Head(id, experiment, parent)
        return [found[id] for id in sorted(found)]

    def run(self, head: Head) -> FoundRun | None:
        self._run = run = self._get("runs/get", OneRun, run_id=head.id).run
        info = run.info
        return FoundRun(
            id=head.id,
            name=info.run_name,
            status=info.status,
            started_at=time(info.start_time),
            ended_at=time(info.end_time),
            deleted=info.lifecycle_stage == "deleted",
            user=info.user_id,
            params={param.key: param.value for param in run.data.params},
            tags={tag.key: tag.value for tag in run.data.tags},
            inputs=[_input(used) for used in run.inputs.dataset_inputs],
            used=[used.model_id for used in run.inputs.model_inputs],
            made=[(made.model_id, whole(made.step)) for made in run.outputs.model_outputs],
        )

    def points(self, head: Head) -> Iterator[FoundPoint]:
        for key in sorted({metric.key for metric in self._run.data.metrics}):
            token, wrong = "", 0
            while True:
                given = {"page_token": token} if token else {}
                page = self._get(
                    "metrics/get-history", History, run_id=head.id, metric_key=key, max_results=POINTS_AT_ONCE, **given
                )
                for point in page.metrics:
                    try:
                        yield FoundPoint(key, number(point.value), int(point.step), int(point.timestamp))
                    except ValueError:
                        wrong += 1
                if page.next_page_token in ("", token):
                    break
                token = page.next_page_token
            if wrong:
                self.missed.add(f"run {head.id}: metric {key}", f"{wrong} points are not numbers")

    def files(self, head: Head) -> Iterator[FoundFile]:
        def list_folder(**query: str) -> Listing:
            return self._get("artifacts/list", Listing, run_id=head.id, **query)

        def address(path: str) -> str:
            return f"/get-artifact?{urlencode({'path': path, 'run_uuid': head.id})}"

        return self._files(f"run {head.id}", self._run.info.artifact_uri, list_folder, address)

    def _files(
        self, what: str, uri: str, list_folder: Callable[..., Listing], address: Callable[[str], str]
    ) -> Iterator[FoundFile]:
        try:
            parts = urlsplit(uri)
            for path in self._listed(what, "", 0, list_folder):
                place = address(path)
                if parts.scheme == PROXY:
                    place = f"{FILES}/{quote(unquote(parts.path).strip('/'))}/{quote(path)}"
                yield FoundFile(path, partial(self._rest.download, place))
        except (Invalid, ValueError) as error:
            self.missed.add(f"{what}: files", f"{bounded(uri)}: {error}")

    def _listed(self, what: str, folder: str, depth: int, list_folder: Callable[..., Listing]) -> Iterator[str]:
        if depth > DEEPEST:
            self.missed.add(f"{what}: files", f"more than {DEEPEST} folders deep")
            return
        token = ""
        while True:
            given = {name: value for name, value in (("path", folder), ("page_token", token)) if value}
            page = list_folder(**given)
            for one in page.files:
                if folder and not one.path.startswith(f"{folder}/"):
                    self.missed.add(f"{what}: file {one.path}", f"listed below {folder}, where it is not")
                elif one.is_dir:
                    yield from self._listed(what, one.path, depth + 1, list_folder)
                else:
                    yield one.path
            if page.next_page_token in ("", token):
                return
            token = page.next_page_token

    # --- models ---

    def packages(self) -> Iterator[FoundPackage]:
        return mlflow_server_models.packages(self._rest, self._experiments, self.missed)

    def package_files(self, package: FoundPackage) -> Iterator[FoundFile]:
        def list_folder(path: str = "", page_token: str = "") -> Listing:
            query = {
                name: value for name, value in (("artifact_directory_path", path), ("page_token", page_token)) if value
            }
            return self._get(f"logged-models/{quote(package.id)}/artifacts/directories", Listing, **query)

        def address(path: str) -> str:
            return f"{MODEL_FILES}/{quote(package.id)}/artifacts/files?{urlencode({'artifact_file_path': path})}"

        return self._files(f"logged model {package.id}", package.location, list_folder, address)

    def models(self) -> list[FoundModel]:
        return mlflow_server_models.models(self._rest, self.missed)

    def versions(self, model: FoundModel) -> list[FoundVersion]:
        return mlflow_server_models.versions(self._rest, model, self.missed)

    def close(self) -> None:
        self._rest.close()


def _input(used: Used) -> FoundInput:
    given = used.dataset
    return FoundInput(
        name=given.name,
        digest=given.digest,
        source_type=given.source_type,
        source=given.source,
        schema=given.schema,
        profile=given.profile,
        tags={tag.key: tag.value for tag in used.tags},
    )
