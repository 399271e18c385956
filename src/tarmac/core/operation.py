"""The one way to declare something that can be asked of tarmac.

    @operation("runs.create", needs="write")
    class CreateRun(Command[Run], frozen=True, kw_only=True):
        '''Start a run in an experiment.'''
        experiment: Name

    @handles(CreateRun)
    def create_run(request: CreateRun, tx: Tx) -> Run: ...

The door authorises, runs and records it; the HTTP route, its OpenAPI entry, the command line and the typed call on a
workspace all come from this declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

import msgspec

from tarmac.core.actor import Permission
from tarmac.core.errors import Invalid, UnknownKey

T = TypeVar("T")
Declared = TypeVar("Declared", bound="Operation[Any]")
F = TypeVar("F", bound=Callable[..., Any])

Kind = Literal["query", "command", "job"]
Scope = Literal["project", "workspace"]


class Operation(msgspec.Struct, Generic[T], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A typed request that has one typed answer."""


class Query(Operation[T], Generic[T], frozen=True, kw_only=True):
    """Reads; changes nothing and leaves no event."""


class Command(Operation[T], Generic[T], frozen=True, kw_only=True):
    """Changes tables in one short transaction and leaves an event."""


class Started(msgspec.Struct, Generic[T], frozen=True):
    """The answer to a job: where to follow it."""

    id: str


class Job(Operation[Started[T]], Generic[T], frozen=True, kw_only=True):
    """Answers with an id at once and works in a process of its own."""


@dataclass(frozen=True, slots=True)
class Spec:
    """All that is known of one operation."""

    name: str
    request: type[Operation[Any]]
    answer: Any
    kind: Kind
    needs: Permission
    scope: Scope
    quick: bool
    positional: tuple[str, ...]

    @property
    def summary(self) -> str:
        return (self.request.__doc__ or "").strip().split("\n")[0]

    @property
    def reply(self) -> Any:
        """The type that crosses the wire at once: the answer, or for a job where to follow it."""
        return Started if self.kind == "job" else self.answer


@dataclass(frozen=True, slots=True)
class Handler:
    apply: Callable[..., Any]
    prepare: Callable[..., Any] | None


SPECS: dict[str, Spec] = {}
HANDLERS: dict[str, Handler] = {}


def operation(
    name: str,
    *,
    needs: Permission,
    scope: Scope = "project",
    quick: bool = False,
    positional: tuple[str, ...] = (),
) -> Callable[[type[Declared]], type[Declared]]:
    """Declare `name`. A `quick` query touches a few rows by key, and a quick command prepares without asking the
    database: a server does both without a thread. `positional` fields need no option name on the command line."""

    def declare(request: type[Declared]) -> type[Declared]:
        kind, answer = _kind_and_answer(request)
        if name in SPECS and SPECS[name].request.__qualname__ != request.__qualname__:
            raise TypeError(f"operation {name} is declared twice")
        SPECS[name] = Spec(name, request, answer, kind, needs, scope, quick, positional)
        request.__operation__ = name  # type: ignore[attr-defined]
        return request

    return declare


def handles(request: type[Operation[Any]], *, prepare: Callable[..., Any] | None = None) -> Callable[[F], F]:
    """Mark the one function that carries out `request`. `prepare(request, read)` does a command's slow part before the
    transaction, `prepare(request)` if the command is quick: what it returns is the handler's third argument."""

    def mark(function: F) -> F:
        HANDLERS[spec_of(request).name] = Handler(function, prepare)
        return function

    return mark


def spec_of(request: Operation[Any] | type[Operation[Any]]) -> Spec:
    name = getattr(request, "__operation__", None)
    if name is None:
        raise TypeError(f"{request!r} is no operation: it lacks the @operation declaration")
    return SPECS[name]


def _kind_and_answer(request: type[Operation[Any]]) -> tuple[Kind, Any]:
    kinds: dict[Any, Kind] = {Query: "query", Command: "command", Job: "job"}
    for base in getattr(request, "__orig_bases__", ()):
        origin = getattr(base, "__origin__", None)
        if origin in kinds:
            return kinds[origin], get_args(base)[0]
    raise TypeError(f"{request.__qualname__} must derive from Query[...], Command[...] or Job[...]")


def decode_request(spec: Spec, decode: Callable[[], Any]) -> Any:
    """Run a msgspec decoding of a request and say what is wrong in the words of the request."""
    try:
        return decode()
    except msgspec.ValidationError as error:
        raise explain(spec, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{spec.name}: the body is not valid JSON: {error}") from None
    except RecursionError:
        raise Invalid(f"{spec.name}: the body is nested too deeply") from None


def explain(spec: Spec, error: msgspec.ValidationError) -> Invalid:
    text = str(error)
    fields = spec.request.__struct_fields__
    if "unknown field `" in text:
        return UnknownKey.at(spec.name, text.split("unknown field `")[1].split("`", maxsplit=1)[0], fields)
    what, _, path = text.partition(" - at `$.")
    field = path.rstrip("`").split(".")[0].split("[")[0]
    hint = None
    for info in msgspec.inspect.type_info(spec.request).fields:  # type: ignore[attr-defined]
        if info.encode_name == field:
            hint = _description(info.type)
            break
    if hint and "regex" in what:
        what = f"not {hint}"
    where = f"`{path.rstrip('`')}`: " if path else ""
    return Invalid(f"{spec.name}: {where}{what}", hint=hint)


def _description(node: Any) -> str | None:
    if isinstance(node, msgspec.inspect.Metadata):
        return (node.extra_json_schema or {}).get("description")
    for inner in getattr(node, "types", ()):  # a union with None
        if found := _description(inner):
            return found
    return None


def check(request: Operation[Any]) -> Operation[Any]:
    """A request made in Python, checked as strictly as one that came over the wire."""
    spec = spec_of(request)
    wire = msgspec.json.encode(request)
    checked: Operation[Any] = decode_request(spec, lambda: msgspec.json.decode(wire, type=spec.request))
    return checked
