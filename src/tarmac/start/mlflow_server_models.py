"""Models of a running MLflow server, as its REST API tells of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tarmac.core.errors import Invalid, bounded
from tarmac.start.mlflow_rest import Pair, Rest, number, time, whole
from tarmac.start.source import PROMPT_TAG, FoundMeasure, FoundModel, FoundPackage, FoundVersion, Missed

STATES = {"LOGGED_MODEL_PENDING": "pending", "LOGGED_MODEL_READY": "ready", "LOGGED_MODEL_UPLOAD_FAILED": "failed"}
PROMPTS = f"tags.`{PROMPT_TAG}` = 'true'"
"""Whoever asks for models is not shown prompts, which are models too, unless it asks for them."""
AT_ONCE, EXPERIMENTS_AT_ONCE = 50, 100


class Measure(msgspec.Struct):
    key: str
    value: float | str
    timestamp: int | str = 0
    step: int | str = 0
    run_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class PackageInfo(msgspec.Struct):
    model_id: str
    experiment_id: str = ""
    name: str = ""
    creation_timestamp_ms: int | str | None = None
    last_updated_timestamp_ms: int | str | None = None
    artifact_uri: str = ""
    status: str = ""
    model_type: str = ""
    source_run_id: str = ""
    tags: list[Pair] = []


class PackageData(msgspec.Struct):
    params: list[Pair] = []
    metrics: list[Measure] = []


class Package(msgspec.Struct):
    info: PackageInfo
    data: PackageData = msgspec.field(default_factory=PackageData)


class PackagePage(msgspec.Struct):
    models: list[Package] = []
    next_page_token: str = ""


class Alias(msgspec.Struct):
    alias: str
    version: int | str


class Model(msgspec.Struct):
    name: str
    description: str = ""
    creation_timestamp: int | str | None = None
    last_updated_timestamp: int | str | None = None
    tags: list[Pair] = []
    aliases: list[Alias] = []


class ModelPage(msgspec.Struct):
    registered_models: list[Model] = []
    next_page_token: str = ""


class OneModel(msgspec.Struct):
    registered_model: Model


class Version(msgspec.Struct):
    version: int | str
    source: str = ""
    run_id: str = ""
    run_link: str = ""
    description: str = ""
    current_stage: str = ""
    status: str = ""
    user_id: str = ""
    model_id: str = ""
    creation_timestamp: int | str | None = None
    last_updated_timestamp: int | str | None = None
    tags: list[Pair] = []


class VersionPage(msgspec.Struct):
    model_versions: list[Version] = []
    next_page_token: str = ""


class Place(msgspec.Struct):
    artifact_uri: str = ""


def packages(rest: Rest, experiments: Sequence[str], missed: Missed) -> Iterator[FoundPackage]:
    """Logged models that are not in the trash; a server before 3.0 has none."""
    for start in range(0, len(experiments), EXPERIMENTS_AT_ONCE):
        body: dict[str, Any] = {
            "experiment_ids": experiments[start : start + EXPERIMENTS_AT_ONCE],
            "max_results": AT_ONCE,
            "order_by": [{"field_name": "creation_timestamp", "ascending": True}],
        }
        try:
            for page in rest.pages("logged-models/search", body, PackagePage):
                yield from map(_package, page.models)
        except Invalid as error:
            if "answers 404" not in error.message:
                missed.add("logged models", error.message)
            return


def value(given: float | str) -> float:
    try:
        return number(given)
    except ValueError:
        raise Invalid(f"the server says `{bounded(given)}` where a number belongs") from None


def _package(found: Package) -> FoundPackage:
    info = found.info
    return FoundPackage(
        id=info.model_id,
        experiment=info.experiment_id,
        name=info.name,
        kind=info.model_type,
        state=STATES.get(info.status, ""),
        run=info.source_run_id,
        created_at=time(info.creation_timestamp_ms),
        updated_at=time(info.last_updated_timestamp_ms),
        location=info.artifact_uri,
        params={param.key: param.value for param in found.data.params},
        tags={tag.key: tag.value for tag in info.tags},
        measures=[
            FoundMeasure(
                one.key,
                value(one.value),
                whole(one.step),
                whole(one.timestamp),
                one.run_id,
                one.dataset_name,
                one.dataset_digest,
            )
            for one in found.data.metrics
        ],
    )


def models(rest: Rest, missed: Missed) -> list[FoundModel]:
    """Whole, one after the other: what a search answers with may lack the aliases."""
    names: set[str] = set()
    try:
        for condition in ("", PROMPTS):
            for page in rest.get_pages("registered-models/search", ModelPage, max_results=1000, filter=condition):
                names.update(model.name for model in page.registered_models)
    except Invalid as error:
        if "answers 404" not in error.message:
            missed.add("registered models", error.message)
    found = []
    for name in sorted(names):
        try:
            model = rest.get("registered-models/get", OneModel, name=name).registered_model
        except Invalid as error:
            missed.add(f"model {name}", error.message)
            continue
        found.append(
            FoundModel(
                name=name,
                note=model.description,
                created_at=time(model.creation_timestamp),
                updated_at=time(model.last_updated_timestamp),
                tags={tag.key: tag.value for tag in model.tags},
                aliases={alias.alias: whole(alias.version) for alias in model.aliases},
            )
        )
    return found


def versions(rest: Rest, model: FoundModel, missed: Missed) -> list[FoundVersion]:
    quote = '"' if "'" in model.name else "'"
    found: dict[int, Version] = {}
    condition = f"name = {quote}{model.name}{quote}"
    if model.tags.get(PROMPT_TAG) == "true":
        condition = f"{condition} AND {PROMPTS}"
    try:
        for page in rest.get_pages("model-versions/search", VersionPage, max_results=1000, filter=condition):
            found.update({whole(version.version): version for version in page.model_versions})
    except Invalid as error:
        missed.add(f"versions of model {model.name}", error.message)
    return [_version(rest, model, number, found[number]) for number in sorted(found)]


def _version(rest: Rest, model: FoundModel, number: int, found: Version) -> FoundVersion:
    try:
        place = rest.get("model-versions/get-download-uri", Place, name=model.name, version=number).artifact_uri
    except Invalid:
        place = ""  # a prompt, or a source that is gone
    return FoundVersion(
        number=number,
        source=found.source,
        location=place or found.source,
        package=found.model_id,
        run=found.run_id,
        link=found.run_link,
        note=found.description,
        stage=found.current_stage,
        status=found.status,
        user=found.user_id,
        created_at=time(found.creation_timestamp),
        updated_at=time(found.last_updated_timestamp),
        tags={tag.key: tag.value for tag in found.tags},
    )
