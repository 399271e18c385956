"""HTTP/1.1 as the runtime speaks it: requests of a connection in order, each answered at once or later.

A framework's objects cost several times what a small model does, so there are none: `data_received` parses, the
request's road is one look into a dictionary, and the answer is one write. What a stranger sends is bounded in time and
in bytes before anything is made of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
import msgspec

from tarmac.core.errors import Busy, Internal, Invalid, NotFound, TarmacError, TooLarge, TooSlow

MIB = 1024 * 1024
LONGEST_HEAD = 64 * 1024
MOST_WAITING = 16
"""Requests that a connection may send before the first of them is answered."""
LOOK_EVERY = 2.0
LEAST_PER_SECOND = 1024

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"
BINARY = b"application/octet-stream"

_HEADS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: ".encode() for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = logging.getLogger("tarmac.serve")


@dataclass(slots=True)
class Limits:
    """What one process takes from all callers together, and from each of them."""

    body: int = 64 * MIB
    bodies: int = 512 * MIB
    connections: int = 8000
    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    unread_seconds: float = 30.0


class Request:
    """One request. `reply` is called once, now or later; when the caller is `gone` nobody needs the answer."""

    __slots__ = ("_connection", "body", "gone", "headers", "held", "keep", "method", "path", "query", "started")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.method = b"GET"
        self.path = b""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}
        """By their names in lower case; of one that came twice the last."""
        self.body: bytes | bytearray = b""
        self.keep = True
        self.gone = False
        self.held = 0
        """Bytes that are counted for its body."""
        self.started = 0.0

    def reply(self, status: int, body: bytes, kind: bytes = JSON, extra: bytes = b"") -> None:
        """`extra` are whole header lines, each with its end."""
        self._connection.answer(self, status, body, kind, extra)

    def refuse(self, error: TarmacError, extra: bytes = b"") -> None:
        if error.status == 503 and not extra:
            extra = b"retry-after: 1\r\n"
        self.reply(error.status, msgspec.json.encode(error.to_json()), JSON, extra)


class Server:
    """All connections of this process, and the road that each request takes."""

    def __init__(self, answer: Callable[[Request], None], limits: Limits) -> None:
        self.answer = answer
        self.limits = limits
        self.connections: set[Connection] = set()
        self.bytes_held = 0
        self.stopping = False
        self.empty = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self._look = self.loop.call_later(LOOK_EVERY, self._look_around)

    def protocol(self) -> Connection:
        return Connection(self)

    def _look_around(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections):
            connection.look(now)
        self._look = self.loop.call_later(LOOK_EVERY, self._look_around)

    async def drain(self, seconds: float) -> None:
        """Answer what was asked, take nothing new, and hang up."""
        self.stopping = True
        self.empty.clear()
        for connection in list(self.connections):
            connection.hang_up_when_idle()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.empty.wait(), seconds)
        self._look.cancel()
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    __slots__ = (
        "_body_size", "_head_size", "_parser", "_pieces", "_refused", "_request", "_seen", "_server", "_since",
        "_state", "_transport", "_unread", "_waiting", "_working",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._request: Request | None = None
        self._pieces: list[bytes] = []
        self._body_size = self._head_size = self._seen = 0
        self._waiting: deque[Request] = deque()
        self._working: Request | None = None
        self._refused: TarmacError | None = None
        self._state = "idle"
        self._since = 0.0
        self._unread = 0.0

    # --- what the loop calls ---

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._since = self._server.loop.time()
        self._server.connections.add(self)
        if len(self._server.connections) > self._server.limits.connections or self._server.stopping:
            self._turn_away(Busy("this process has as many connections as it may have", hint="try again, or elsewhere"))

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        if not self._server.connections:
            self._server.empty.set()
        for request in (self._working, self._request, *self._waiting):
            if request is not None:
                request.gone = True
                self._give_back(request)
        self._waiting.clear()
        self._request = None
        self._pieces = []

    def pause_writing(self) -> None:
        self._unread = self._server.loop.time()

    def resume_writing(self) -> None:
        self._unread = 0.0
        self._next()

    def data_received(self, data: bytes) -> None:
        if self._refused is not None:
            return
        if self._state != "body":
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the request is answered as if nothing had been said of another protocol
        except httptools.HttpParserError:
            self._turn_away(Invalid("this is no HTTP request", hint="speak HTTP/1.1"))
        else:
            if self._refused is not None:
                self._turn_away(self._refused)
            elif self._state == "head" and self._head_size > LONGEST_HEAD:
                self._turn_away(Invalid(f"the head of a request may have {LONGEST_HEAD:,} bytes at most"))

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        self._request = Request(self)
        self._state, self._since = "head", self._server.loop.time()

    def on_url(self, url: bytes) -> None:
        request = self._request
        assert request is not None
        request.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request
        assert request is not None
        request.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        self._state, self._head_size, self._body_size, self._seen = "body", 0, 0, 0
        request.method = self._parser.get_method()
        request.keep = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        path, mark, query = request.path.partition(b"?")
        if mark:
            request.path, request.query = path, query
        headers = request.headers
        said = headers.get(b"content-length")
        if said is not None and int(said) > self._server.limits.body:
            self._weigh(request, int(said))
        if b"expect" in headers and self._refused is None:
            self._transport.write(_CONTINUE)

    def on_body(self, piece: bytes) -> None:
        request = self._request
        assert request is not None
        self._body_size += len(piece)
        if self._body_size > request.held:
            self._weigh(request, self._body_size)
        if self._refused is None:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        if self._refused is not None:
            return
        pieces = self._pieces
        if pieces:
            request.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._pieces = []
        self._state = "idle"
        request.started = self._since
        if self._working is None and not self._unread:
            self._work(request)
        else:
            self._waiting.append(request)
            if len(self._waiting) == MOST_WAITING:
                self._transport.pause_reading()

    # --- our own ---

    def _weigh(self, request: Request, size: int) -> None:
        """May this process hold a body of `size` bytes, beside all others it holds?"""
        limits, server = self._server.limits, self._server
        if size > limits.body:
            self._refused = TooLarge(
                f"the request body has {size:,} bytes or more; at most {limits.body:,} are taken",
                hint="send fewer rows in one request, or use `tarmac predict` for files",
            )
        elif server.bytes_held + size - request.held > limits.bodies:
            self._refused = Busy("this process holds as many bytes of requests as it may", hint="try again in a second")
        else:
            server.bytes_held += size - request.held
            request.held = size

    def _give_back(self, request: Request) -> None:
        self._server.bytes_held -= request.held
        request.held = 0
        request.body = b""

    def _work(self, request: Request) -> None:
        self._working = request
        try:
            self._server.answer(request)
        except TarmacError as error:
            request.refuse(error)
        except Exception:
            log.exception("a request failed")
            request.refuse(Internal("the runtime failed at this request", hint="its log has the rest"))

    def answer(self, request: Request, status: int, body: bytes, kind: bytes, extra: bytes) -> None:
        if request is not self._working:
            return
        self._working = None
        self._give_back(request)
        if request.gone:
            return
        if self._state == "idle":
            self._since = self._server.loop.time()
        keep = request.keep and not self._server.stopping
        self._transport.write(
            b"%b%b\r\ncontent-length: %d\r\n%b%b\r\n%b"
            % (
                _HEADS.get(status) or b"HTTP/1.1 %d Unknown\r\ncontent-type: " % status,
                kind,
                len(body),
                extra,
                b"" if keep else b"connection: close\r\n",
                b"" if request.method == b"HEAD" else body,
            )
        )
        if not keep:
            self._transport.close()
        elif self._waiting:
            self._server.loop.call_soon(self._next)

    def _next(self) -> None:
        if self._working is None and self._waiting and not self._unread:
            if len(self._waiting) == MOST_WAITING:
                self._transport.resume_reading()
            self._work(self._waiting.popleft())

    def _turn_away(self, error: TarmacError) -> None:
        """An answer to what is not even a whole request, and the end of the connection."""
        self._refused = error
        if self._working is not None or self._transport.is_closing():
            self.abort()
            return
        request = self._working = self._request or Request(self)
        request.keep = False
        request.refuse(error)

    def look(self, now: float) -> None:
        """Called every now and then: nobody is waited for without end."""
        limits = self._server.limits
        if self._unread:
            if now - self._unread > limits.unread_seconds:
                self.abort()
        elif self._state == "head" and now - self._since > limits.head_seconds:
            self._turn_away(TooSlow.head(limits.head_seconds))
        elif self._state == "body":
            least = int(LEAST_PER_SECOND * LOOK_EVERY)
            if self._body_size - self._seen < least and now - self._since > limits.head_seconds:
                self._turn_away(TooSlow.body(limits.head_seconds, least))
            self._seen = self._body_size
        elif self._state == "idle" and self._working is None and now - self._since > limits.idle_seconds:
            self._transport.close()

    def hang_up_when_idle(self) -> None:
        if self._working is None and self._state == "idle":
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


def split_path(path: bytes) -> list[str]:
    """The parts of a path, decoded; what is no UTF-8 is no name of anything."""
    from urllib.parse import unquote_to_bytes

    try:
        return [unquote_to_bytes(part).decode() for part in path.strip(b"/").split(b"/")]
    except UnicodeDecodeError:
        raise NotFound("there is nothing at this path") from None
