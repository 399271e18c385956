"""A running MLflow server, or whatever answers as one: read through its REST API, files through its proxy."""

from __future__ import annotations

import base64
import http.client
import math
import os
import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec

from tarmac import __version__
from tarmac.core.errors import Invalid, TarmacError, Unreachable, bounded
from tarmac.core.secrets import Secret
from tarmac.start.artifacts import PROXY
from tarmac.start.folders import DEEPEST
from tarmac.start.mlflow_database import LARGEST
from tarmac.start.mlruns import NO_REGISTRY
from tarmac.start.source import (
    PARENT_TAG,
    RUN_ID,
    FoundExperiment,
    FoundFile,
    FoundInput,
    FoundPoint,
    FoundRun,
    Head,
    Missed,
)

API = "/api/2.0/mlflow"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
TIMEOUT_SECONDS = 60.0
LARGEST_ANSWER = 256 * 1024 * 1024
AT_ONCE = 1000
POINTS_AT_ONCE = 10_000
TRIES = 3
T = TypeVar("T")


class Pair(msgspec.Struct):
    key: str = ""
    value: str = ""


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


class Inputs(msgspec.Struct):
    dataset_inputs: list[Used] = []


class Run(msgspec.Struct):
    info: Info
    data: Data = msgspec.field(default_factory=Data)
    inputs: Inputs = msgspec.field(default_factory=Inputs)


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


class Models(msgspec.Struct):
    registered_models: list[Any] = []


class MlflowServer:
    """Who asks is known to it by `MLFLOW_TRACKING_TOKEN`, or `…_USERNAME` and `…_PASSWORD`, as to MLflow's client."""

    def __init__(self, url: str, missed: Missed) -> None:
        self.missed = missed
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise Invalid(
                "an address must not carry a password: it would be kept in the ledger",
                hint="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )
        if not parts.hostname:
            raise Invalid(f"{bounded(url, 300)} is no address of a server")
        self._url = url
        self._host, self._port, self._path = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._authorization = _authorization()
        self._kept: http.client.HTTPConnection | None = None

    def experiments(self) -> list[FoundExperiment]:
        try:
            if self._get("registered-models/search", Models, max_results=1).registered_models:
                self.missed.add("registered models", NO_REGISTRY)
        except Invalid:
            pass  # a server without a registry
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
            started_at=_time(info.start_time),
            ended_at=_time(info.end_time),
            deleted=info.lifecycle_stage == "deleted",
            user=info.user_id,
            params={param.key: param.value for param in run.data.params},
            tags={tag.key: tag.value for tag in run.data.tags},
            inputs=[_input(used) for used in run.inputs.dataset_inputs],
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
                        yield FoundPoint(key, _number(point.value), int(point.step), int(point.timestamp))
                    except ValueError:
                        wrong += 1
                if page.next_page_token in ("", token):
                    break
                token = page.next_page_token
            if wrong:
                self.missed.add(f"run {head.id}: metric {key}", f"{wrong} points are not numbers")

    def files(self, head: Head) -> Iterator[FoundFile]:
        uri = self._run.info.artifact_uri
        try:
            parts = urlsplit(uri)
            for path in self._listed(head, "", 0):
                if parts.scheme == PROXY:
                    address = f"{FILES}/{quote(unquote(parts.path).strip('/'))}/{quote(path)}"
                else:
                    address = f"/get-artifact?{urlencode({'path': path, 'run_uuid': head.id})}"
                yield FoundFile(path, partial(self._download, address))
        except (Invalid, ValueError) as error:
            self.missed.add(f"run {head.id}: files", f"{bounded(uri)}: {error}")

    def _listed(self, head: Head, folder: str, depth: int) -> Iterator[str]:
        if depth > DEEPEST:
            self.missed.add(f"run {head.id}: files", f"more than {DEEPEST} folders deep")
            return
        token = ""
        while True:
            given = {name: value for name, value in (("path", folder), ("page_token", token)) if value}
            page = self._get("artifacts/list", Listing, run_id=head.id, **given)
            for one in page.files:
                if folder and not one.path.startswith(f"{folder}/"):
                    self.missed.add(f"run {head.id}: file {one.path}", f"listed below {folder}, where it is not")
                elif one.is_dir:
                    yield from self._listed(head, one.path, depth + 1)
                else:
                    yield one.path
            if page.next_page_token in ("", token):
                return
            token = page.next_page_token

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()

    # --- asking ---

    def _pages(self, method: str, body: dict[str, Any], kind: type[T]) -> Iterator[T]:
        token = ""
        while True:
            asked = {**body, "page_token": token} if token else body
            page = self._ask("POST", f"{API}/{method}", kind, msgspec.json.encode(asked))
            yield page
            following = page.next_page_token  # type: ignore[attr-defined]
            if following in ("", token):
                return
            token = following

    def _get(self, method: str, kind: type[T], **query: Any) -> T:
        return self._ask("GET", f"{API}/{method}?{urlencode(query)}", kind)

    def _ask(self, verb: str, path: str, kind: type[T], body: bytes | None = None) -> T:
        """A question; it is repeated when the connection is gone, because all of them only read."""
        status, data = self._answer(verb, path, body)
        if status != 200:
            raise self._refusal(status, data)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Invalid(f"{bounded(self._url)}{path.partition('?')[0]} does not answer as MLflow: {error}") from None

    def _answer(self, verb: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        tries = 0
        while True:
            connection, self._kept = self._kept or self._connect(), None
            tries += 1
            try:
                response = self._send(connection, verb, path, body)
                data = response.read(LARGEST_ANSWER)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if tries == TRIES:
                    raise self._away(error) from error
                continue
            if response.isclosed():
                self._kept = connection
            else:  # more than we take
                connection.close()
            return response.status, data

    def _download(self, path: str) -> BinaryIO:
        connection = self._connect()
        try:
            response = self._send(connection, "GET", path, None)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._away(error) from error
        if response.status != 200:
            connection.close()
            raise OSError(f"the server answers {response.status}")
        return cast("BinaryIO", Download(connection, response))

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_SECONDS, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)

    def _send(
        self, connection: http.client.HTTPConnection, verb: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"tarmac/{__version__}", "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._authorization is not None:
            headers["Authorization"] = self._authorization.reveal()
        connection.request(verb, f"{self._path}{path}", body, headers)
        return connection.getresponse()

    def _away(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"no answer from {bounded(self._url)}: {type(error).__name__}: {error}",
            hint="repeat the import, or resume its job: it goes on where it was",
        )

    def _refusal(self, status: int, data: bytes) -> TarmacError:
        said = bounded(data[:1000].decode("utf-8", "replace"), 200)
        if status in (401, 403):
            return Invalid(
                f"{bounded(self._url)} does not let us in ({status}): {said}",
                hint="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            )
        if status in (429, 502, 503, 504):
            return Unreachable(f"{bounded(self._url)} answers {status}: {said}", hint="look at its log, then repeat")
        return Invalid(f"{bounded(self._url)} answers {status}: {said}")


class Download:
    """The body of an answer as a file; one that was cut off is an error and not a shorter file."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def read(self, size: int) -> bytes:
        try:
            data = self._response.read(size)
        except http.client.HTTPException as error:
            raise OSError(f"cut off: {type(error).__name__}") from error
        if not data and self._response.length:
            raise OSError(f"cut off: {self._response.length} bytes are missing")
        return data

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *exception: object) -> None:
        self._response.close()
        self._connection.close()


def _authorization() -> Secret | None:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return Secret(f"Bearer {token}")
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    if user or password:
        return Secret(f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")
    return None


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


def _time(value: int | str | None) -> int | None:
    try:
        number = int(value) if value is not None else -1
    except ValueError:
        return None
    return number if 0 <= number <= 2**62 else None


def _number(value: float | str) -> float:
    number = float(value)
    return math.copysign(math.inf, number) if abs(number) >= LARGEST else number
