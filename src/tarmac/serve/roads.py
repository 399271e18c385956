"""Which function answers which path: one dictionary for the exact paths of what is served, and a few for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from tarmac import __version__
from tarmac.core.digest import digest
from tarmac.core.errors import Busy, Invalid, NotFound, TarmacError, Unauthenticated, WrongMethod
from tarmac.serve import feedback, inference, pages, rows
from tarmac.serve.endpoints import Endpoint
from tarmac.serve.fleet import Fleet
from tarmac.serve.http import HTML, TEXT, Request, split_path

Road = Callable[[Request], None]
MOST_REMEMBERED = 1000
OPEN = frozenset({b"/v2/health/live", b"/v2/health/ready", b"/ping", b"/health", b"/version"})
"""What answers without a token: whoever watches over processes has none."""


class Roads:
    """Every request of this process comes by here."""

    def __init__(self, fleet: Fleet, metrics: Callable[[], bytes], order: Callable[[str, bool], None]) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._order = order
        self._exact: dict[bytes, Road] = {}
        self._tokens: frozenset[str] = frozenset()
        self._remembered: dict[bytes, bool] = {}
        self.ready = False
        self.unloaded: frozenset[str] = frozenset()

    def lay(self, tokens: list[str]) -> None:
        """After the fleet has changed: the paths of what it serves now, all at once."""
        self._tokens, self._remembered = frozenset(tokens), {}
        exact: dict[bytes, Road] = {
            b"/v2": _get(inference.server),
            b"/v2/health/live": _get(lambda: {"live": True}),
            b"/v2/health/ready": self._is_ready,
            b"/v2/repository/index": self._index,
            b"/ping": self._is_ready,
            b"/health": self._is_ready,
            b"/version": lambda request: request.reply(200, __version__.encode(), TEXT),
            b"/metrics": lambda request: request.reply(200, self._metrics(), TEXT),
            b"/openapi.json": _get(lambda: pages.openapi(self._fleet.endpoints)),
            b"/": lambda request: request.reply(200, pages.front(self._fleet.endpoints), HTML, pages.SAFE),
        }
        endpoints = self._fleet.endpoints
        for name, endpoint in endpoints.items():
            quoted = quote(name, safe="").encode()
            exact |= _roads_of(quoted, endpoint)
        if len(endpoints) == 1:
            only = next(iter(endpoints.values()))
            exact[b"/invocations"] = _post(lambda request: rows.invocations(request, only))
        self._exact = exact

    def lay_again(self) -> None:
        """The fleet has changed by itself; who may ask has not."""
        self.lay(list(self._tokens))

    def answer(self, request: Request) -> None:
        path = request.path
        if self._tokens and path not in OPEN and not self.admits(request.headers):
            raise Unauthenticated("this runtime wants a token", hint="send `Authorization: Bearer TOKEN`")
        road = self._exact.get(path)
        speaks_v2 = path.startswith(b"/v2/")
        try:
            if road is not None:
                road(request)
            else:
                self._other(request)
        except TarmacError as error:
            if not speaks_v2:
                raise
            inference.fail(request, error)

    def admits(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether these headers have a token that is known, if one is wanted."""
        if not self._tokens:
            return True
        given = headers.get(b"authorization", b"")
        found = self._remembered.get(given)
        if found is None:
            kind, _, token = given.partition(b" ")
            found = kind.lower() == b"bearer" and digest(token.strip()) in self._tokens
            if len(self._remembered) < MOST_REMEMBERED:
                self._remembered[given] = found
        return found

    # --- single questions ---

    def _is_ready(self, request: Request) -> None:
        if not self.ready:
            raise Busy("models are being loaded", hint="ask again in a second")
        request.reply(200, b'{"ready":true}')

    def _index(self, request: Request) -> None:
        found = inference.index(self._fleet.endpoints)
        away = [*((name, "unloaded") for name in self.unloaded), *((name, "put aside") for name in self._fleet.resting)]
        found += [{"name": name, "version": "", "state": "UNAVAILABLE", "reason": why} for name, why in away]
        request.reply(200, msgspec.json.encode(found))

    def _other(self, request: Request) -> None:
        """Paths that are asked seldom, written otherwise than they are listed, or wrong."""
        parts = split_path(request.path)
        match parts:
            case ["v2", "models", name, "versions", version, *rest]:
                endpoint = self.endpoint(name)
                endpoint.version(version)
                _v2(request, endpoint, version, rest)
            case ["v2", "models", name, *rest]:
                _v2(request, self.endpoint(name), None, rest)
            case ["v2", "repository", "models", name, ("load" | "unload") as order]:
                _only(request, b"POST")
                if not any(name in known for known in (self._fleet.endpoints, self._fleet.resting, self.unloaded)):
                    raise inference.unknown(name, self._fleet.endpoints)
                self._order(name, order == "load")
                request.reply(200, b"{}")
            case ["predict", name]:
                _only(request, b"POST")
                rows.predict(request, self.endpoint(name))
            case ["explain", name]:
                _only(request, b"POST")
                rows.explain(request, self.endpoint(name))
            case ["invocations", name]:
                _only(request, b"POST")
                rows.invocations(request, self.endpoint(name))
            case ["invocations"]:
                raise Invalid(
                    "several endpoints are served here: say which",
                    hint=f"POST /invocations/NAME; there are: {', '.join(self._fleet.endpoints)}",
                )
            case ["feedback", id]:
                _only(request, b"POST")
                feedback.take(request, id, self._fleet)
            case ["try", name]:
                request.reply(200, pages.form(self.endpoint(name)), HTML, pages.SAFE)
            case _:
                raise NotFound(
                    "there is nothing at this path", hint="GET / lists what is served, /openapi.json all paths"
                )

    def endpoint(self, name: str) -> Endpoint:
        found = self._fleet.endpoints.get(name)
        if found is None:
            if name in self._fleet.resting:
                raise self._fleet.wake(name, self.lay_again)
            if name in self.unloaded:
                raise Busy(f"`{name}` was unloaded", hint=f"POST /v2/repository/models/{name}/load")
            raise inference.unknown(name, self._fleet.endpoints)
        return found


def _roads_of(name: bytes, endpoint: Endpoint) -> dict[bytes, Road]:
    found: dict[bytes, Road] = {
        b"/predict/" + name: _post(lambda request: rows.predict(request, endpoint)),
        b"/v2/models/" + name + b"/infer": _post(lambda request: inference.infer(request, endpoint, None)),
    }
    for version in endpoint.versions:
        place = b"/v2/models/%b/versions/%b/infer" % (name, quote(version, safe="").encode())
        found[place] = _post(partial(inference.infer, endpoint=endpoint, version=version))
    return found


def _v2(request: Request, endpoint: Endpoint, version: str | None, rest: list[str]) -> None:
    if rest == ["infer"]:
        _only(request, b"POST")
        inference.infer(request, endpoint, version)
    elif rest == ["explain"]:
        _only(request, b"POST")
        inference.explain(request, endpoint, version)
    elif rest == ["ready"]:
        request.reply(200, b'{"ready":true}')
    elif not rest:
        request.reply(200, msgspec.json.encode(inference.metadata(endpoint, version)))
    else:
        raise NotFound(
            "there is nothing at this path", hint="…/infer, …/explain, …/ready, or nothing behind the model's name"
        )


def _only(request: Request, method: bytes) -> None:
    if request.method != method:
        raise WrongMethod.of(request.method, method)


def _post(road: Road) -> Road:
    def checked(request: Request) -> None:
        if request.method != b"POST":
            raise WrongMethod.of(request.method, b"POST")
        road(request)

    return checked


def _get(made: Callable[[], Any]) -> Road:
    return lambda request: request.reply(200, msgspec.json.encode(made()))
