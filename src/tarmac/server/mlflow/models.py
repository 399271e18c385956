"""Registered models and their aliases."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import ClassVar

from tarmac.core.errors import Conflict, NotFound, TarmacError
from tarmac.registry import operations as ops
from tarmac.registry import references
from tarmac.registry.records import Model, Version
from tarmac.server.mlflow import checks
from tarmac.server.mlflow.errors import Refusal, absent, invalid, invalid_value, is_absent, missing_value, too_long
from tarmac.server.mlflow.experiments import ShownTag, Tag
from tarmac.server.mlflow.messages import Answer, Long, Request
from tarmac.server.mlflow.routes import Call, method
from tarmac.server.mlflow.runs import tags_of

PAGE, MOST_RESULTS, AT_ONCE = 100, 1000, 1000
PROMPT_TAG = "mlflow.prompt.is_prompt"
LONGEST_ALIAS, LONGEST_NAME = 255, 256
_ALIAS = re.compile(r"[\w\-]*")
_NO_PROMPT = re.compile(
    rf"""\btags?\.[`"]?{re.escape(PROMPT_TAG)}[`"]?\s*(?:!=\s*['"]true['"]|=\s*['"]false['"])""", re.IGNORECASE
)


class ShownAlias(Answer):
    alias: str
    version: str


class ShownVersion(Answer, kw_only=True):
    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str = ""
    current_stage: str
    description: str
    source: str
    run_id: str = ""
    status: str
    tags: list[ShownTag] = []
    run_link: str = ""
    aliases: list[str] = []
    model_id: str = ""


class Shown(Answer, kw_only=True):
    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str = ""
    description: str = ""
    latest_versions: list[ShownVersion] = []
    tags: list[ShownTag] = []
    aliases: list[ShownAlias] = []


class One(Answer):
    registered_model: Shown


class Page(Answer):
    registered_models: list[Shown] = []
    next_page_token: str | None = None


class Versions(Answer):
    model_versions: list[ShownVersion] = []


class ByName(Request):
    required: ClassVar[Sequence[str]] = ("name",)
    name: str | None = None

    @property
    def model(self) -> str:
        return model_name(self.name)


class Create(ByName):
    tags: list[Tag] | None = None
    description: str | None = None


class Rename(ByName):
    new_name: str | None = None


class Update(ByName):
    description: str | None = None


class Search(Request):
    filter: str | None = None
    max_results: Long | None = None
    order_by: list[str] | None = None
    page_token: str | None = None


class Latest(ByName):
    stages: list[str] | None = None


class SetTag(ByName):
    required: ClassVar[Sequence[str]] = ("name", "key")
    key: str | None = None
    value: str | None = None


class Alias(ByName):
    required: ClassVar[Sequence[str]] = ("name", "alias")
    alias: str | None = None


class SetAlias(Alias):
    required: ClassVar[Sequence[str]] = ("name", "alias", "version")
    version: str | None = None


class OneVersion(Answer):
    model_version: ShownVersion


@method("POST", "registered-models/create")
async def create(call: Call, request: Create) -> One:
    name, tags = request.model, tags_of(request.tags or [])
    try:
        made = await call(ops.CreateModel(name=name, note=request.description or "", tags=tags))
    except Conflict:
        raise await _taken(call, name, is_prompt=PROMPT_TAG in tags) from None
    return await _one(call, made)


@method("GET", "registered-models/get")
async def get(call: Call, request: ByName) -> One:
    with guarded(name := request.model):
        return await _one(call, await call(ops.GetModel(name=name)))


@method("PATCH", "registered-models/update")
async def update(call: Call, request: Update) -> One:
    with guarded(name := request.model):
        return await _one(call, await call(ops.EditModel(name=name, note=request.description or "")))


@method("POST", "registered-models/rename")
async def rename(call: Call, request: Rename) -> One:
    if not (request.new_name or "").strip():
        raise missing_value("new_name")
    name, new = request.model, model_name(request.new_name)
    with guarded(name):
        try:
            return await _one(call, await call(ops.RenameModel(name=name, to=new)))
        except Conflict:
            raise Refusal("RESOURCE_ALREADY_EXISTS", f"Registered Model (name={new}) already exists.") from None


@method("DELETE", "registered-models/delete")
async def delete(call: Call, request: ByName) -> None:
    with guarded(name := request.model):
        await call(ops.DeleteModel(name=name, with_aliases=True))


@method("GET", "registered-models/search")
async def search(call: Call, request: Search) -> Page:
    limit = checks.most(request.max_results, PAGE, MOST_RESULTS)
    page = await call(
        ops.ListModels(
            filter=without_prompts(request.filter or ""),
            order=[*(request.order_by or []), "name ASC"],
            limit=limit,
            cursor=request.page_token or "",
        )
    )
    return Page(registered_models=await _with_latest(call, page.models), next_page_token=page.next)


@method("POST", "registered-models/search")
async def search_by_body(call: Call, request: Search) -> Page:
    """As R's client asks."""
    return await search(call, request)


@method("POST", "registered-models/get-latest-versions")
async def get_latest(call: Call, request: Latest) -> Versions:
    stages = [stage(one) for one in request.stages or []]
    with guarded(name := request.model):
        found = await call(ops.ListLatest(models=[name], stages=stages))  # type: ignore[arg-type]
    return Versions(model_versions=[shown_version(one) for one in found.versions])


@method("GET", "registered-models/get-latest-versions")
async def get_latest_by_address(call: Call, request: Latest) -> Versions:
    return await get_latest(call, request)


@method("POST", "registered-models/set-tag")
async def set_tag(call: Call, request: SetTag) -> None:
    key, value = checks.key(request.key, "key"), checks.value(request.value, "value")
    with guarded(name := request.model):
        await call(ops.TagModel(name=name, set={key: value}))


@method("DELETE", "registered-models/delete-tag")
async def delete_tag(call: Call, request: SetTag) -> None:
    key = checks.key(request.key, "key")
    with guarded(name := request.model):
        await call(ops.TagModel(name=name, unset=[key]))


@method("POST", "registered-models/alias")
async def set_alias(call: Call, request: SetAlias) -> None:
    name, alias, number = request.model, _alias(request.alias or ""), version_number(request.version)
    if alias.lower() == references.LATEST:
        raise invalid("'latest' alias name (case insensitive) is reserved.")
    if references.reserved(alias):
        raise invalid(f"Version alias name '{alias}' is reserved.")
    with guarded(name, number):
        await call(ops.PromoteVersion(ref=f"{name}@v{number}", to=alias))


@method("DELETE", "registered-models/alias")
async def delete_alias(call: Call, request: Alias) -> None:
    name, alias = request.model, _alias(request.alias or "")
    if references.reserved(alias):  # never there, and MLflow does not mind
        return
    with guarded(name):
        try:
            await call(ops.RetireAlias(ref=f"{name}@{alias}"))
        except NotFound as error:
            if not is_absent(error, "alias"):
                raise


@method("GET", "registered-models/alias")
async def get_by_alias(call: Call, request: Alias) -> OneVersion:
    name, alias = request.model, _alias(request.alias or "")
    if references.reserved(alias) and alias.lower() != references.LATEST:
        raise invalid(f"Registered model alias {alias} not found.")
    with guarded(name):
        try:
            found = await call(ops.GetVersion(ref=f"{name}@{alias}"))
        except NotFound as error:
            if is_absent(error, "alias"):
                raise invalid(f"Registered model alias {alias} not found.") from None
            if "kind" not in error.detail:
                raise absent(f"Latest version not found for model {name}.") from None
            raise
    return OneVersion(model_version=shown_version(found))


async def _one(call: Call, model: Model) -> One:
    return One(registered_model=(await _with_latest(call, [model]))[0])


async def _with_latest(call: Call, models: Sequence[Model]) -> list[Shown]:
    latest: dict[str, list[ShownVersion]] = {}
    if models:
        for version in (await call(ops.ListLatest(models=[model.name for model in models]))).versions:
            latest.setdefault(version.model, []).append(shown_version(version))
    return [_shown(model, latest.get(model.name, [])) for model in models]


def _shown(model: Model, latest: list[ShownVersion]) -> Shown:
    return Shown(
        name=model.name,
        creation_timestamp=model.created_at,
        last_updated_timestamp=model.updated_at,
        description=model.note,
        latest_versions=latest,
        tags=[ShownTag(key=key, value=value) for key, value in model.tags.items()],
        aliases=[ShownAlias(alias=alias, version=str(number)) for alias, number in model.aliases.items()],
    )


def shown_version(version: Version) -> ShownVersion:
    package = f"m-{version.package}" if version.package else ""
    return ShownVersion(
        name=version.model,
        version=str(version.number),
        creation_timestamp=version.created_at,
        last_updated_timestamp=version.updated_at,
        current_stage=version.stage,
        description=version.note,
        source=version.source or f"models:/{package}",
        run_id=version.run or "",
        # a version whose files are still to come is one to MLflow's clients: they wait for minutes for any other
        status="FAILED_REGISTRATION" if version.state == "failed" else "READY",
        tags=[ShownTag(key=key, value=value) for key, value in version.tags.items()],
        run_link=version.link,
        aliases=version.aliases,
        model_id=package,
    )


class guarded:  # noqa: N801
    """Says in MLflow's words that a model or a version is not there."""

    __slots__ = ("_name", "_number")

    def __init__(self, name: str, number: int | None = None) -> None:
        self._name = name
        self._number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, TarmacError):
            return
        if is_absent(error, "model"):
            raise absent(f"Registered Model with name={self._name} not found") from None
        if is_absent(error, "version"):
            raise absent(f"Model Version (name={self._name}, version={self._number}) not found") from None


async def _taken(call: Call, name: str, *, is_prompt: bool) -> Refusal:
    found = await call(ops.GetModel(name=name))
    old, new = ("Prompt" if prompt else "Registered Model" for prompt in (PROMPT_TAG in found.tags, is_prompt))
    if old == new:
        return Refusal("RESOURCE_ALREADY_EXISTS", f"{new} (name={name}) already exists.")
    return Refusal(
        "RESOURCE_ALREADY_EXISTS",
        f"Tried to create a {new.lower()} with name {name!r}, but the name is already taken by a {old.lower()}. "
        "MLflow does not allow creating a model and a prompt with the same name.",
    )


def model_name(given: str | None) -> str:
    name = given or ""
    if not name.strip():
        raise missing_value("name")
    if "/" in name or ":" in name:
        raise invalid(f"Invalid model name '{name[:250]}'. Names cannot contain '/' or ':'.")
    if len(name) > LONGEST_NAME:
        raise too_long("name", name, LONGEST_NAME)
    if posixpath.normpath(name) != name or name in (".", "..") or name.startswith(".."):
        raise invalid_value("name", name, f"This name would resolve to {posixpath.normpath(name)!r}")
    return name


def version_number(given: str | None) -> int:
    text = (given or "").strip()
    if not (text.isascii() and text.isdecimal()):
        raise invalid(f"Parameter 'version' must be an integer, got '{(given or '')[:100]}'.")
    return min(int(text[:20]), references.HIGHEST)


def stage(given: str | None) -> str:
    found = {"none": "None", "staging": "Staging", "production": "Production", "archived": "Archived"}.get(
        (given or "").lower()
    )
    if found is None:
        raise invalid(
            f"Invalid Model Version stage: {(given or '')[:100]}. "
            "Value must be one of None, Staging, Production, Archived."
        )
    return found


def _alias(given: str) -> str:
    if not _ALIAS.fullmatch(given):
        raise invalid(
            f"Invalid alias name: '{given[:250]}'. "
            "Names may only contain alphanumerics, underscores (_), and dashes (-)."
        )
    if len(given) > LONGEST_ALIAS:
        raise too_long("Registered model alias name", given, LONGEST_ALIAS)
    return given


def without_prompts(text: str) -> str:
    """MLflow's clients leave out prompts, which are models with a tag. To MLflow a model without the tag passes that
    condition; to tarmac a comparison with what is not there is false."""
    return _NO_PROMPT.sub(f"NOT tags.`{PROMPT_TAG}` = 'true'", text)
