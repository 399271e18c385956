"""Which method answers which address; everything is in the files of its noun."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

from tarmac.core.actor import Actor
from tarmac.core.errors import Forbidden
from tarmac.core.operation import Operation, check, spec_of
from tarmac.server.api import Api
from tarmac.server.mlflow.errors import Refusal
from tarmac.server.mlflow.messages import Reader, Request

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

NOUNS = (
    "artifacts", "experiments", "log", "logged", "metrics", "models", "runs", "search", "server", "versions",
)  # fmt: skip
# what MLflow has and tarmac does not speak (yet): a client is told so at once
NOT_YET = (
    "assessments", "datasets", "demo", "gateway", "gateway-proxy",
    "get-online-trace-details", "get-trace-artifact", "graphql", "issues", "jobs", "label-schemas", "mcp-servers",
    "prompt-optimization", "prompts", "review-queues", "runs/create-promptlab-run", "scorers", "traces", "ui-telemetry",
    "unified-traces", "webhooks", "workspaces",
)  # fmt: skip


class Call:
    """One request: who asks, in which project, and the way to the door."""

    __slots__ = ("_api", "actor", "path", "project")

    def __init__(self, api: Api, actor: Actor, project: str, path: dict[str, str]) -> None:
        self.actor = actor
        self.project = project
        self.path = path
        """Parts of the address that are fields, like `{model_id}`."""
        self._api = api

    async def __call__(self, request: Operation[T]) -> T:
        return await self.unchecked(check(request))

    async def as_server(self, request: Operation[T], actor: Actor) -> T:
        """For what a project has by itself, whoever came first."""
        if not self.actor.may("read", self.project):
            raise Forbidden.to(self.actor.name, "ask", "read", self.project)
        answer: T = await self._api.perform(spec_of(request), request, actor, self.project)
        return answer

    async def unchecked(self, request: Operation[T]) -> T:
        """For what comes often and was checked while it was translated."""
        answer: T = await self._api.perform(spec_of(request), request, self.actor, self.project)
        return answer


@dataclass(frozen=True, slots=True)
class Method:
    verb: str
    path: str
    read: Reader[Any]
    apply: Callable[[Call, Any], Awaitable[Any]]


_METHODS: dict[tuple[str, str], Method] = {}


def method(verb: str, path: str) -> Callable[[F], F]:
    """Declare the coroutine that answers `verb /api/2.0/mlflow/PATH`; a part of the path may be `{field}`."""

    def declare(function: F) -> F:
        hints = get_type_hints(function)
        request = hints.get("request", Request)
        _METHODS[verb, path] = Method(verb, path, Reader(request), function)
        return function

    return declare


@lru_cache(maxsize=1)
def methods() -> dict[tuple[str, str], Method]:
    """All there are; imports the files that declare them."""
    from importlib import import_module

    for noun in NOUNS:
        import_module(f"tarmac.server.mlflow.{noun}")
    return _METHODS


def find(verb: str, path: str) -> tuple[Method, dict[str, str]]:
    """The method behind `/api/2.0/mlflow/PATH`, and the fields in its path."""
    known = methods()
    if verb == "HEAD":
        verb = "GET"
    found = known.get((verb, path))
    if found is not None:
        return found, {}
    parts = path.split("/")
    others = False
    for (its_verb, pattern), candidate in known.items():
        fields = _fields(pattern.split("/"), parts)
        if fields is not None and its_verb == verb:
            return candidate, fields
        others = others or fields is not None
    if others:
        raise Refusal("BAD_REQUEST", f"{path[:200]} is not called with {verb}")
    if any(path == name or path.startswith(f"{name}/") for name in NOT_YET):
        raise Refusal("NOT_IMPLEMENTED", f"tarmac does not speak {parts[0][:100]} of MLflow's API (yet): {path[:200]}")
    raise Refusal("ENDPOINT_NOT_FOUND", f"MLflow's API has nothing at {path[:200]}")


def _fields(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(parts):
        return None
    fields: dict[str, str] = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            fields[wanted[1:-1]] = part
        elif wanted != part:
            return None
    return fields
