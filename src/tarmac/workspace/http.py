"""One server over HTTP: connections that are kept, proxies and certificates as the machine has them."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import queue
import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec
from blake3 import blake3

from tarmac import __version__
from tarmac.core.errors import (
    Busy,
    Conflict,
    Damaged,
    Invalid,
    TarmacError,
    Unreachable,
    bounded,
    from_json,
)
from tarmac.core.secrets import Secret

TIMEOUT_SECONDS = 60.0
PIECE = 1024 * 1024
READ_AT_ONCE = 4 * PIECE
FEW_PIECES = 4
TRIES = 5
PAUSE_SECONDS = 0.2


class Remote:
    """Requests to one address; each thread keeps a connection of its own."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url: SplitResult = urlsplit(url)
        self._shown = url
        self.token = Secret(token) if token else None
        self._kept = threading.local()
        self._all: weakref.WeakSet[http.client.HTTPConnection] = weakref.WeakSet()
        self._owner = os.getpid()

    def get(self, path: str, query: str = "") -> bytes:
        return self._ask("GET", f"{path}?{query}" if query else path, None, {}, repeat=True)

    def post(self, path: str, body: bytes) -> bytes:
        return self._ask("POST", path, body, {"Content-Type": "application/json"}, repeat=False)

    def upload(self, path: str, stream: IO[bytes]) -> str:
        """Send bytes under their digest; sent again, they are the same bytes. A large one that was cut off goes on."""
        start, (digest, size) = stream.tell(), self._measure(stream)
        sent = 0
        for attempt in range(TRIES):
            stream.seek(start + sent)
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - sent)}
            if sent:
                headers["Content-Range"] = f"bytes {sent}-{size - 1}/{size}"
            try:
                self._ask("PUT", f"{path}/{digest}", Span(stream, size - sent), headers, repeat=False)
                break
            except Unreachable:
                if attempt + 1 == TRIES:
                    raise
                time.sleep(PAUSE_SECONDS * 2**attempt)
                sent = self._parked(f"{path}/{digest}/parked")
            except (Busy, Conflict):
                if not sent:
                    raise
                sent = 0
        return digest

    def _parked(self, path: str) -> int:
        size: int = msgspec.json.decode(self.get(path))["size"]
        return size

    def download(self, path: str, digest: str, start: int, end: int | None) -> Iterator[bytes]:
        """The bytes asked for; a whole blob is verified, a range was verified by the server."""
        headers = {}
        if start or end is not None:
            if end is not None and end <= start:
                return
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        response = self._send("GET", path, None, headers, repeat=True)
        if response.status not in (200, 206):
            raise self._refusal(response)
        hasher, expected, got = blake3(), response.length, 0

        connection = self._kept.connection

        def fetched() -> Generator[bytes, None, None]:
            while piece := response.read(PIECE):
                hasher.update(piece)
                yield piece

        try:
            large = expected is None or expected > FEW_PIECES * PIECE
            with contextlib.closing(_ahead(fetched(), partial(_cut, connection)) if large else fetched()) as pieces:
                for piece in pieces:
                    got += len(piece)
                    yield piece
        except (OSError, http.client.HTTPException) as error:
            raise self._gone(error) from None
        finally:
            if not response.isclosed():  # somebody wanted no more of it
                _cut(connection)
        if expected is not None and got != expected:  # http.client says nothing of it
            self._drop()
            raise Damaged(f"blob {digest[:16]}… did not arrive whole from {self._shown}", hint="ask for it again")
        if response.status == 200 and hasher.hexdigest() != digest:
            raise Damaged(f"blob {digest[:16]}… did not arrive whole from {self._shown}", hint="ask for it again")

    def close(self) -> None:
        """Let go of every thread's connection."""
        for connection in list(self._all):
            connection.close()

    def leave(self) -> None:
        """Close this thread's connection."""
        self._drop()

    def interrupt(self) -> None:
        """End every thread's request: it fails as if the server were gone."""
        for connection in list(self._all):
            if connection.sock is not None:
                try:
                    connection.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # it is gone already

    def _drop(self) -> None:
        """Close this thread's connection: what comes next starts with a new one."""
        connection = getattr(self._kept, "connection", None)
        if connection is not None:
            connection.close()
            self._kept.connection = None

    def _measure(self, stream: IO[bytes]) -> tuple[str, int]:
        if not stream.seekable():
            raise Invalid("an upload needs a file that can be read twice", hint="write it to a file first")
        at = stream.tell()
        hasher, size = blake3(max_threads=blake3.AUTO), 0
        while piece := stream.read(READ_AT_ONCE):
            hasher.update(piece)
            size += len(piece)
        stream.seek(at)
        return hasher.hexdigest(), size

    def _ask(self, method: str, path: str, body: Any, headers: dict[str, str], *, repeat: bool) -> bytes:
        response = self._send(method, path, body, headers, repeat=repeat)
        try:
            if response.status >= 300:
                raise self._refusal(response)
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise self._gone(error) from None

    def _send(
        self, method: str, path: str, body: Any, headers: dict[str, str], *, repeat: bool
    ) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"tarmac/{__version__}", "Accept": "application/json", **headers}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token.reveal()}"
        for attempt in (1, 2):
            connection = self._connection()
            try:
                if isinstance(body, Span):
                    connection.request(method, self._target(path), headers=headers)
                    body.send(connection.sock)
                else:
                    connection.request(method, self._target(path), body=body, headers=headers)
                return connection.getresponse()
            except Conflict:  # in the middle of a body
                self._drop()
                raise
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                # what reads may be asked again; what changes may not: the answer may have been lost on its way back
                if not repeat or attempt == 2:
                    raise self._gone(error) from None
        raise AssertionError("unreachable")

    def _connection(self) -> http.client.HTTPConnection:
        if os.getpid() != self._owner:  # a forked child leaves the parent's connection alone
            self._kept, self._owner = threading.local(), os.getpid()
        kept: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if kept is not None and kept.sock is not None and not _is_stale(kept):
            return kept
        if kept is not None:
            kept.close()
        opened = self._kept.connection = self._open()
        self._all.add(opened)
        return opened

    def _open(self) -> http.client.HTTPConnection:
        host, secure = self._url.hostname or "", self._url.scheme == "https"
        port = self._url.port or (443 if secure else 80)
        proxy = None if proxy_bypass(host) else getproxies().get(self._url.scheme)
        at_host, at_port = host, port
        if proxy:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            at_host, at_port = parts.hostname or "", parts.port or 80
        if secure:
            context = ssl.create_default_context()  # honours SSL_CERT_FILE and SSL_CERT_DIR
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                at_host, at_port, timeout=TIMEOUT_SECONDS, context=context
            )
            if proxy:
                connection.set_tunnel(host, port)
        else:
            connection = http.client.HTTPConnection(at_host, at_port, timeout=TIMEOUT_SECONDS, blocksize=PIECE)
        self._through_proxy = bool(proxy) and not secure
        return connection

    def _target(self, path: str) -> str:
        whole = self._url.path + path
        return f"{self._url.scheme}://{self._url.netloc}{whole}" if self._through_proxy else whole

    def _refusal(self, response: http.client.HTTPResponse) -> TarmacError:
        body = response.read(PIECE)
        self._drop() if response.will_close else None
        try:
            return from_json(msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self.not_ours(f"{response.status} {response.reason}")

    def not_ours(self, what: str) -> Unreachable:
        return Unreachable(
            f"{self._shown} answered {bounded(what)}, and not as tarmac does",
            hint="is this the address of a tarmac server?",
        )

    def _gone(self, error: Exception) -> Unreachable:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(
            f"{self._shown} does not answer: {bounded(why.strip())}",
            hint="is the server up? start one with `tarmac up`",
        )


@dataclass(frozen=True, slots=True)
class Span:
    """So many bytes of a file, from where it stands: they need not come into this process to be sent."""

    stream: IO[bytes]
    size: int

    def send(self, sock: socket.socket) -> None:
        plain = isinstance(self.stream, io.BufferedReader) and isinstance(self.stream.raw, io.FileIO)
        if plain and hasattr(os, "sendfile") and not isinstance(sock, ssl.SSLSocket):
            sent = sock.sendfile(self.stream, self.stream.tell(), self.size) if self.size else 0
        else:
            sent = 0
            while sent < self.size and (piece := self.stream.read(min(PIECE, self.size - sent))):
                sock.sendall(piece)
                sent += len(piece)
        if sent < self.size:
            raise Conflict("the file became shorter while it was sent", hint="send it again when nobody writes to it")


def _cut(connection: http.client.HTTPConnection) -> None:
    """End a connection in the middle of an answer: whoever reads from it, in any thread, hears of it at once."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _ahead(pieces: Iterator[bytes], stop: Callable[[], None]) -> Generator[bytes, None, None]:
    """The same pieces, the next ones made in a thread while one is used. `stop` ends what the thread may wait for."""
    made: queue.Queue[bytes | BaseException | None] = queue.Queue(FEW_PIECES)
    over = threading.Event()

    def make() -> None:
        end: BaseException | None = None
        try:
            for piece in pieces:
                made.put(piece)
                if over.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised where the pieces are used
            end = error
        made.put(end)

    thread = threading.Thread(target=make, name="tarmac-download", daemon=True)
    thread.start()
    try:
        while isinstance(piece := made.get(), bytes):
            yield piece
        if piece is not None:
            raise piece
    finally:
        over.set()
        if thread.is_alive():
            stop()
            while thread.is_alive():  # it may stand before a queue that is full
                with contextlib.suppress(queue.Empty):
                    made.get_nowait()
                thread.join(0.01)


def _is_stale(connection: http.client.HTTPConnection) -> bool:
    """A kept connection that the server has closed is readable: what it says is its end."""
    assert connection.sock is not None
    readable, _, _ = select.select([connection.sock], [], [], 0)
    return bool(readable)
