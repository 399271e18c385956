"""Data sets that a run was given: name and digest as tarmac knows them, all else as a document beside them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tarmac.server.mlflow import checks
from tarmac.server.mlflow.errors import invalid, missing_value, too_long
from tarmac.server.mlflow.messages import Answer, Request
from tarmac.track import operations as ops
from tarmac.track.records import Input

CONTEXT_TAG = "mlflow.data.context"
MOST = 1000
LIMITS = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
LONGEST_TAG_KEY, LONGEST_TAG = 255, 500


class InputTag(Answer):
    key: str
    value: str


class Dataset(Answer):
    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class ShownInput(Answer, kw_only=True):
    tags: list[InputTag] = []
    dataset: Dataset


class ModelInput(Answer):
    model_id: str


class ShownInputs(Answer):
    dataset_inputs: list[ShownInput] = []
    model_inputs: list[ModelInput] = []


class GivenTag(Request):
    key: str | None = None
    value: str | None = None


class GivenDataset(Request):
    name: str | None = None
    digest: str | None = None
    source_type: str | None = None
    source: str | None = None
    schema: str | None = None
    profile: str | None = None


class GivenInput(Request):
    tags: list[GivenTag] | None = None
    dataset: GivenDataset | None = None


class Document(msgspec.Struct, omit_defaults=True):
    """What of a data set has no column."""

    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str] = {}


_decode = msgspec.json.Decoder(Document).decode


def uses(run: str, given: Sequence[GivenInput]) -> list[ops.UseInput]:
    """What is to be recorded, all of it checked before any of it is."""
    if len(given) > MOST:
        raise invalid(f"A batch logging request can contain at most {MOST} datasets. Got {len(given)} datasets.")
    return [_use(run, one, f"datasets[{index}]") for index, one in enumerate(given)]


def _use(run: str, given: GivenInput, path: str) -> ops.UseInput:
    dataset = given.dataset
    if dataset is None:
        raise missing_value(f"{path}.dataset")
    for name in ("name", "digest", "source_type", "source"):
        if not getattr(dataset, name):
            raise missing_value(f"{path}.dataset.{name}")
    for name, limit in LIMITS.items():
        text = getattr(dataset, name)
        if text is not None and len(text) > limit:
            raise too_long(name, text, limit)
    tags: dict[str, str] = {}
    for tag in given.tags or []:
        if not tag.key:
            raise missing_value(f"{path}.tags.key")
        if len(tag.key) > LONGEST_TAG_KEY:
            raise too_long("key", tag.key, LONGEST_TAG_KEY)
        if len(tag.value or "") > LONGEST_TAG:
            raise too_long("value", tag.value or "", LONGEST_TAG)
        tags[tag.key] = checks.value(tag.value, "value")
    about = Document(
        source_type=dataset.source_type or "",
        source=dataset.source or "",
        schema=dataset.schema,
        profile=dataset.profile,
        tags=tags,
    )
    return ops.UseInput(
        id=run,
        name=dataset.name or "",
        version=dataset.digest or "",
        about=msgspec.json.encode(about).decode(),
        context=tags.get(CONTEXT_TAG, "")[:250],
    )


def shown_inputs(inputs: Sequence[Input]) -> ShownInputs:
    return ShownInputs(dataset_inputs=[_shown(one) for one in inputs])


def _shown(one: Input) -> ShownInput:
    try:
        about = _decode(one.about)
    except msgspec.DecodeError:  # recorded by other means: text for people
        about = Document(source_type="tarmac", source=one.about or f"{one.name}@{one.version}")
    tags = dict(about.tags)
    if one.context:
        tags.setdefault(CONTEXT_TAG, one.context)
    return ShownInput(
        tags=[InputTag(key=key, value=value) for key, value in sorted(tags.items())],
        dataset=Dataset(
            name=one.name,
            digest=one.version,
            source_type=about.source_type,
            source=about.source,
            schema=about.schema,
            profile=about.profile,
        ),
    )
