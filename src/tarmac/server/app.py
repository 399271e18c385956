"""The ASGI application: guard, who asks, then the API, a stream or a page. Raw ASGI, because every layer costs."""

from __future__ import annotations

import logging
from urllib.parse import parse_qsl

from tarmac.core.actor import Actor
from tarmac.core.errors import Invalid, NotFound
from tarmac.door.dispatch import Door, in_our_words
from tarmac.server import stream
from tarmac.server.api import Api, split_path
from tarmac.server.auth import Authenticator, Peer
from tarmac.server.guard import Guard
from tarmac.server.inflow import Lender
from tarmac.server.mlflow import translator
from tarmac.server.pages import Pages
from tarmac.server.wire import Gone, Receive, Scope, Send, refuse

log = logging.getLogger("tarmac")


class App:
    """One server's front door."""

    def __init__(self, door: Door, guard: Guard) -> None:
        self.auth = Authenticator(door.store)
        self.stopping = False
        """Set when the server is told to stop: streams, which have no end of their own, then end."""
        self._door = door
        self._guard = guard
        self._api = Api(door)
        self._mlflow = translator.Mlflow(door, self._api)
        self._pages = Pages(self.auth)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        started = False

        async def watched(message: dict[str, object]) -> None:  # once an answer has begun it cannot become an error
            nonlocal started
            started = True
            await send(message)

        try:
            await self._http(scope, receive, watched)  # type: ignore[arg-type]
        except Gone:
            return
        except Exception as fault:
            if not started and translator.split(scope["path"]) is not None:
                await translator.refuse(send, f"{scope['method']} {scope['path'][:200]}", fault)
                return
            error = in_our_words(f"{scope['method']} {scope['path'][:200]}", fault)
            if started:
                log.warning("an answer was cut off: %s", error.message)
                raise
            await refuse(send, error)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self._guard.check(method, path, headers)
        theirs = translator.split(path)
        if theirs is None and not path.startswith("/api/"):
            await self._pages.serve(scope, receive, send)
            return
        peer: Peer = scope.get("tarmac.peer") or Peer(scope.get("client"), scope.get("server"))
        actor = self.auth.actor(headers, peer)
        if theirs is not None:
            await self._mlflow.serve(*theirs, actor, scope, headers, receive, send)
            return
        if path == "/api/v1/openapi.json":
            await self._pages.openapi(send)
            return
        project, rest = split_path(path)
        if rest.startswith(("blobs/", "runs/", "data/")):
            await self._bytes(rest, project, method, headers, actor, scope.get("tarmac.lender"), receive, send)
        elif rest == "events":
            await self._events(project, method, scope["query_string"], headers, peer, receive, send)
        elif "/" in rest or not rest:
            raise NotFound.named("address", path, hint="operations are at /api/v1/p/PROJECT/OPERATION")
        else:
            spec = await self._api.call(rest, project, method, scope["query_string"], headers, actor, receive, send)
            if spec.kind == "command" and spec.name.startswith(("people.", "tokens.")):
                self.auth.forget()

    async def _bytes(
        self,
        rest: str,
        project: str,
        method: str,
        headers: dict[bytes, bytes],
        actor: Actor,
        lender: Lender | None,
        receive: Receive,
        send: Send,
    ) -> None:
        """`blobs/DIGEST`, `blobs/DIGEST/parked`, `runs/ID/files/PATH` and `data/REF/files/PATH`."""
        kind, name, *more = rest.split("/", 3)
        reads = method in ("GET", "HEAD")
        if kind == "runs" and more[:1] == ["files"] and len(more) == 2 and reads:
            await stream.get_file(self._door, name, more[1], project, actor, method, headers, send)
        elif kind == "data" and more[:1] == ["files"] and len(more) == 2 and reads:
            await stream.get_data(self._door, name, more[1], project, actor, method, headers, send)
        elif kind == "blobs" and more == ["parked"] and reads:
            await stream.tell_parked(self._door, name, project, actor, send)
        elif kind == "blobs" and not more and method == "PUT":
            await stream.put_blob(self._door, name, project, actor, headers, lender, receive, send)
        elif kind == "blobs" and not more and reads:
            await stream.get_blob(self._door, name, project, actor, method, headers, send)
        elif kind == "blobs" and not more:
            raise Invalid(f"blobs are sent with PUT and read with GET, not {method}")
        else:
            raise NotFound.named("address", rest, hint="runs/ID/files/PATH, data/REF/files/PATH, blobs/DIGEST")

    async def _events(
        self,
        project: str,
        method: str,
        query: bytes,
        headers: dict[bytes, bytes],
        peer: Peer,
        receive: Receive,
        send: Send,
    ) -> None:
        if method != "GET":
            raise Invalid(f"events are followed with GET, not {method}")
        fields = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
        following = stream.follow_events(
            self._door,
            project,
            lambda: self.auth.actor(headers, peer),
            fields,
            headers,
            send,
            lambda: self.stopping,
        )
        await stream.until_gone(receive, following)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self._api.close()
                await send({"type": "lifespan.shutdown.complete"})
                return
