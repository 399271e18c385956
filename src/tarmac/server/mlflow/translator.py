"""The door to MLflow's part of the server: from an address to a method, and its answer or error as MLflow's JSON."""

from __future__ import annotations

import logging

from tarmac import __version__
from tarmac.core.actor import Actor
from tarmac.core.errors import TarmacError
from tarmac.door.dispatch import Door, in_our_words
from tarmac.server.api import Api
from tarmac.server.guard import check_json
from tarmac.server.inflow import Lender
from tarmac.server.mlflow import routes
from tarmac.server.mlflow.artifacts import Files
from tarmac.server.mlflow.errors import Refusal, translate
from tarmac.server.wire import Gone, Receive, Scope, Send, answer, body, encode

LARGEST_BODY = 32 * 1024 * 1024
PREFIXES = ("/api/2.0/", "/api/3.0/", "/ajax-api/2.0/", "/ajax-api/3.0/")
PAGES = ("/get-artifact", "/model-versions/get-artifact", "/graphql")

log = logging.getLogger("tarmac")


def split(path: str) -> tuple[str, str] | None:
    """Project and address within MLflow's API, if it is in there: at the server's URL or below /p/NAME."""
    project, rest = "default", path
    if path.startswith("/p/"):
        project, mark, rest = path[3:].partition("/")
        rest = mark + rest
    if rest.startswith("//"):  # of a base address that ends with a slash
        rest = f"/{rest.lstrip('/')}"
    if rest.startswith(PREFIXES) or rest in PAGES or (rest is not path and rest in ("/health", "/version")):
        return project, rest
    return None


class Mlflow:
    """MLflow's API of one server."""

    def __init__(self, door: Door, api: Api) -> None:
        self._api = api
        self._files = Files(door)

    async def serve(
        self,
        project: str,
        path: str,
        actor: Actor,
        scope: Scope,
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        verb = scope["method"]
        if path == "/health":
            await _text(send, b"OK")
        elif path == "/version":
            await _text(send, __version__.encode())
        else:
            await self._method(verb, path, project, actor, scope, headers, receive, send)

    async def _method(
        self,
        verb: str,
        path: str,
        project: str,
        actor: Actor,
        scope: Scope,
        headers: dict[bytes, bytes],
        receive: Receive,
        send: Send,
    ) -> None:
        below = path[1:] if path in PAGES else path.split("/", 3)[-1].removeprefix("preview/")  # as R's client asks
        if self._files.serves(below):
            call = routes.Call(self._api, actor, project, {})
            base = f"{scope.get('scheme', 'http')}://{headers.get(b'host', b'').decode('latin-1')}"
            if project != "default" or scope["path"].startswith("/p/"):
                base += f"/p/{project}"
            lender: Lender | None = scope.get("tarmac.lender")
            await self._files.serve(call, verb, below, base, scope["query_string"], headers, lender, receive, send)
            return
        found, fields = routes.find(verb, below.removeprefix("mlflow/"))
        if verb in ("GET", "HEAD"):
            request = found.read.query(scope["query_string"])
        else:
            content = await body(receive, headers, LARGEST_BODY)
            if content:
                check_json(headers)
            request = found.read.body(content)
        result = await found.apply(routes.Call(self._api, actor, project, fields), request)
        await answer(send, b"{}" if result is None else result if isinstance(result, bytes) else encode(result))


async def refuse(send: Send, where: str, fault: Exception) -> None:
    """An error in MLflow's shape."""
    if isinstance(fault, Gone):
        return
    error = fault if isinstance(fault, (Refusal, TarmacError)) else in_our_words(where, fault)
    status, code, message = translate(error)
    extra: tuple[tuple[bytes, bytes], ...] = ()
    if status == 503:
        extra = ((b"retry-after", b"1"),)
    elif status == 401:
        extra = ((b"www-authenticate", b'Basic realm="mlflow"'),)
    await answer(send, encode({"error_code": code, "message": message}), status, extra)


async def _text(send: Send, content: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
