"""Ways to call a server: through its app in this process, over one kept connection, and byte by byte."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tarmac.core.operation import Operation, Spec
from tarmac.core.settings import Settings
from tarmac.door.dispatch import Door
from tarmac.server.api import decode_query
from tarmac.server.app import App
from tarmac.server.auth import Peer
from tarmac.server.guard import Guard
from tarmac.store import open_store
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import query_string

Headers = Mapping[str, str]
PATIENCE = 20.0


@dataclass
class Answer:
    """What came back, over whichever road."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """The error, after a look at its shape: nothing more, nothing less, and bounded."""
        assert self.status >= 400, self
        assert self.all("content-type") == ["application/json"], self
        document = self.json()
        assert list(document) == ["error"], document
        found: dict[str, Any] = document["error"]
        assert list(found) == ["code", "message", "hint", "detail"], found
        assert isinstance(found["code"], str), found
        assert re.fullmatch(r"[a-z_]+", found["code"]), found
        assert isinstance(found["message"], str), found
        assert 0 < len(found["message"]) <= 2000, found
        assert found["hint"] is None or isinstance(found["hint"], str), found
        assert isinstance(found["detail"], dict), found
        assert len(self.body) < 16_000, found
        for text in (found["message"], found["hint"] or ""):
            assert text.isprintable(), found
            assert "Traceback" not in text, found
            assert "Error(" not in text, found
        return found


class StubPeer(Peer):
    """Somebody at the other end of a connection that does not exist."""

    def __init__(self, *, same_user: bool) -> None:
        super().__init__(None, None)
        self._same = same_user


@dataclass
class Inside:
    """A server's app, called in this process: no socket, no JSON client, everything else real."""

    folder: WorkspaceFolder
    door: Door = field(init=False)
    app: App = field(init=False)
    _runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def __post_init__(self) -> None:
        self.door = Door(open_store(self.folder, Settings.from_environment()))
        self.app = App(self.door, Guard(()))

    def ask(
        self,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        headers: Headers | None = None,
        *,
        same_user: bool = False,
    ) -> Answer:
        given = {"host": "localhost", "content-type": "application/json", **(headers or {})}
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "tarmac.peer": StubPeer(same_user=same_user),
        }
        return self._runner.run(self._call(scope, body))

    async def _call(self, scope: dict[str, Any], body: bytes) -> Answer:
        sent: list[Any] = []
        left = asyncio.Event()
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await left.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)
            if (b"content-type", b"text/event-stream") in message.get("headers", ()):
                left.set()  # the stream has begun: that is all these tests want to know

        await self.app(scope, receive, send)
        start = sent[0]
        headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
        return Answer(start["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))

    def do(self, spec: Spec, fields: Any, project: str = "default", headers: Headers | None = None) -> Answer:
        """One operation, as its declaration says it is sent."""
        path = f"/api/v1/p/{project}/{spec.name}"
        if spec.kind == "query":
            return self.ask("GET", path, query_string(as_request(spec, fields)), headers=headers)
        return self.ask("POST", path, body=msgspec.json.encode(fields), headers=headers)

    def close(self) -> None:
        self._runner.run(self._lifespan())
        self._runner.close()
        self.door.close()

    async def _lifespan(self) -> None:
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            assert message["type"].endswith(".complete")

        await self.app({"type": "lifespan"}, receive, send)


def as_request(spec: Spec, fields: Any) -> Operation[Any]:
    made: Operation[Any] = msgspec.convert(fields, spec.request)
    assert spec.kind != "query" or decode_query(spec, query_string(made).encode()) == made
    return made


class Line:
    """One kept connection to a server."""

    def __init__(self, url: str, token: str | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.host, self.port = parts.hostname, parts.port
        self.token = token
        self.connection = HTTPConnection(self.host, self.port, timeout=PATIENCE)

    def ask(self, method: str, path: str, body: Any = None, headers: Headers | None = None) -> Answer:
        given = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if method == "POST":
            given["Content-Type"] = "application/json"
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        self.connection.request(method, path, content, {**given, **(headers or {})})
        return read_answer(self.connection.getresponse())

    def get(self, operation: str, query: str = "", headers: Headers | None = None, project: str = "default") -> Answer:
        return self.ask("GET", f"/api/v1/p/{project}/{operation}{'?' if query else ''}{query}", headers=headers)

    def post(self, operation: str, body: Any, headers: Headers | None = None, project: str = "default") -> Answer:
        return self.ask("POST", f"/api/v1/p/{project}/{operation}", body, headers)

    def raw(self, data: bytes, method: str = "GET") -> Answer:
        """Bytes as they are, on a connection of their own, and the first answer to them."""
        with self.plug(data) as plug:
            return answer_on(plug, method)

    def plug(self, data: bytes = b"") -> socket.socket:
        made = socket.create_connection((self.host, self.port), timeout=PATIENCE)
        if data:
            made.sendall(data)
        return made

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """A request's head with a host and this line's token, ready to be followed by anything."""
        given = [f"Authorization: Bearer {self.token}"] if self.token else []
        return "\r\n".join(
            [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", *given, *lines, "", ""]
        ).encode()

    def close(self) -> None:
        self.connection.close()


def answer_on(plug: socket.socket, method: str = "GET") -> Answer:
    response = HTTPResponse(plug, method=method)
    response.begin()
    try:
        return read_answer(response)
    finally:
        response.close()


def read_answer(response: HTTPResponse) -> Answer:
    return Answer(response.status, response.getheaders(), response.read())


def token_of(state: Path, url: str) -> str:
    return (state / "servers" / f"{urlsplit(url).port}.token").read_text(encoding="ascii")
