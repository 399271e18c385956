"""`tarmac up`: one process that answers, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tarmac.core.actor import os_user
from tarmac.core.clock import now
from tarmac.core.errors import Busy, Invalid, Refused, TarmacError, TooSlow
from tarmac.core.files import write_private
from tarmac.core.locks import acquire_or_refuse
from tarmac.core.settings import Settings
from tarmac.door.dispatch import Door
from tarmac.people.queries import anybody
from tarmac.server import inflow
from tarmac.server.app import App
from tarmac.server.auth import Peer
from tarmac.server.guard import Guard, is_loopback
from tarmac.server.scheduler import Scheduler
from tarmac.server.wire import encode
from tarmac.store import Store
from tarmac.store.operations import ListProjects
from tarmac.track.operations import PurgeRuns, SweepRuns
from tarmac.workspace import token_file

LONGEST_HEAD = 128 * 1024
GARBAGE_AFTER = 50_000
IDLE_SECONDS = 75
STOP_SECONDS = 10
SWEEP_SECONDS = 10.0
FIRST_EMPTYING_SECONDS = 600.0
DAY_SECONDS = 24 * 3600.0

log = logging.getLogger("tarmac")


class Joining:
    """A connection's transport that sends the head of an answer together with what follows it in the same moment.

    uvicorn writes them one by one, and each would be a packet for which the client wakes up.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines([head, data])
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._send_head)
        else:
            self._transport.write(data)

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self._send_head()
        self._transport.close()


class Protocol(HttpToolsProtocol):
    """uvicorn's, with each connection's peer passed on: who they are is asked once for each connection.

    And with a limit for a request's head, which uvicorn would collect without end, a limit of patience with who sends
    slowly, and our shape for its refusals. It lends its socket to whoever reads a large body.
    """

    _head = 0
    _in_head = True
    _in_body = False
    _lent = False
    _received = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Joining(transport, self.loop))  # type: ignore[arg-type]
        self._peer = Peer(self.client, self.server)  # type: ignore[arg-type]
        self._timer = self.loop.call_later(inflow.PATIENCE_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head or self._in_body:
            self._received += len(data)
            if self._timer is None:
                self._timer = self.loop.call_later(inflow.PATIENCE_SECONDS, self._look)
        elif self._timer is not None:
            self._rest()
        if self._in_head:
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self._in_head = False
                self._refuse(Invalid(f"the head of a request may have {LONGEST_HEAD:,} bytes at most"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head, self._in_head, self._received = 0, True, 0
        self.scope["tarmac.peer"] = self._peer  # type: ignore[typeddict-unknown-key]
        self.scope["tarmac.lender"] = self  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def lend(self) -> tuple[bytes, int] | None:
        """What is here of the body, and a descriptor to read the rest from; nobody else reads until it is back."""
        opened = self.transport.get_extra_info("socket")
        if opened is None or not self._in_body:
            return None
        self.flow.pause_reading()
        here = bytes(self.cycle.body)
        self.cycle.body = bytearray()
        self._lent = True
        return here, os.dup(opened.fileno())

    def take_back(self, *, whole: bool) -> None:
        self._lent = False
        if self.transport.is_closing():
            return
        if whole:  # the parser still waits for a body that went past it
            self.parser = httptools.HttpRequestParser(self)
            self.on_message_complete()
        else:
            self.cycle.keep_alive, self.cycle.more_body = False, False

    def _look(self) -> None:
        """Some time has passed: is this sender still worth waiting for?"""
        self._timer = None
        seconds, least = inflow.PATIENCE_SECONDS, inflow.LEAST_BYTES
        if not self._in_head and not self._in_body:
            return  # it was whole in the meantime
        if self._lent or self.flow.read_paused or (self._received >= least and not self._in_head):
            self._received = 0  # it is not the sender who is slow
            self._timer = self.loop.call_later(seconds, self._look)
        elif self.transport.is_closing():
            return
        elif self._in_head and not self._head and not self._received:
            self.transport.close()  # nothing was ever asked
        elif self._in_head or not self.cycle.response_started:
            self._refuse(TooSlow.head(seconds) if self._in_head else TooSlow.body(seconds, least))
        else:
            self.transport.close()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(Invalid("the request is not HTTP/1.1, or its address is longer than 64 KiB"))

    def _refuse(self, why: TarmacError) -> None:
        content = encode(why.to_json())
        head = f"HTTP/1.1 {why.status} {HTTPStatus(why.status).phrase}\r\ncontent-type: application/json\r\n"
        self.transport.write(f"{head}content-length: {len(content)}\r\nconnection: close\r\n\r\n".encode() + content)
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's raises the signal again when it has stopped; that would end us before the store is closed."""

    def __init__(self, config: uvicorn.Config, app: App, when_up: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._when_up = when_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_up()  # not earlier: who reads it may tell us to stop, and signals are ours only now

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.stopping = True
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        previous = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


class Sweeper(threading.Thread):
    """Ends runs whose heartbeats have stopped, every few seconds, and empties the trash of what is old, once a day."""

    def __init__(self, door: Door, trash_days: int) -> None:
        super().__init__(name="tarmac-sweeper", daemon=True)
        self._door = door
        self._trash_days = trash_days
        self._empty_at = time.monotonic() + FIRST_EMPTYING_SECONDS
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(SWEEP_SECONDS):
            try:
                self._door.dispatch(SweepRuns(), os_user(), "default")
                if self._trash_days and time.monotonic() >= self._empty_at:
                    self._empty_at = time.monotonic() + DAY_SECONDS
                    self._empty_trash()
            except TarmacError as error:
                log.warning("runs that were killed could not be ended: %s", error.message)

    def _empty_trash(self) -> None:
        for project in self._door.dispatch(ListProjects(), os_user(), "default").projects:
            self._door.dispatch(PurgeRuns(days=self._trash_days), os_user(), project.name)

    def stop(self) -> None:
        self._over.set()
        self.join()


def up(
    store: Store,
    settings: Settings,
    *,
    host: str,
    port: int,
    allow_hosts: tuple[str, ...],
    trash_days: int,
    at_once: int,
    ready: Callable[[str, str], None],
) -> None:
    """Serve the store until SIGINT or SIGTERM. `ready` hears the address, and a key to go in with once."""
    _refuse_open_door(store, host)
    lock = acquire_or_refuse(
        store.folder.path / "server.lock",
        f"a server is up already for {store.folder.path}{_where(store)}",
        "use that one, or stop it first",
    )
    try:
        listening = _listen(host, port)
        port = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}"
        door = Door(store)
        app = App(door, Guard({shown, *allow_hosts}))
        store.start_sealing()
        scheduler = Scheduler(door, at_once)
        scheduler.read_file()  # what is wrong in it is said now, to who starts the server
        sweeper = Sweeper(door, trash_days)
        sweeper.start()
        scheduler.start()
        own_token = token_file(settings, url)
        own_token.parent.mkdir(parents=True, exist_ok=True)
        write_private(own_token, app.auth.local_token)
        facts = store.folder.path / "server.json"
        facts.write_text(json.dumps({"url": url, "pid": os.getpid(), "started_at": now()}), encoding="utf-8")
        try:
            _run(app, listening, lambda: ready(url, app.auth.one_time_key()))
        finally:
            scheduler.stop()
            sweeper.stop()
            own_token.unlink(missing_ok=True)
            facts.unlink(missing_ok=True)
            door.close()
    finally:
        lock.release()
        lock.close()


def _run(app: App, listening: socket.socket, when_up: Callable[[], None]) -> None:
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nobody is trusted for what a proxy says of them
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    # a request makes thousands of tuples and no cycles: looking for those at every 700th costs a twentieth of its time
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER)
    Server(config, app, when_up).run(sockets=[listening])


def _refuse_open_door(store: Store, host: str) -> None:
    if is_loopback(host):
        return
    with store.database.read() as connection:
        known = anybody(connection)
    if not known:
        raise Refused(
            f"{host} can be reached from elsewhere, and this workspace knows no people: anybody could do anything",
            hint="make an admin first: `tarmac people add NAME --role admin` and `tarmac tokens create NAME`",
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there it would let two servers have one port
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except socket.gaierror as error:
        raise Invalid(f"`{host}` is no address of this machine: {error.strerror}") from None
    except (OSError, OverflowError) as error:
        listening.close()
        raise Busy(
            f"port {port} of {host} cannot be used: {getattr(error, 'strerror', error)}",
            hint="choose another: `tarmac up --port 0` takes any free one",
        ) from None
    return listening


def _where(store: Store) -> str:
    try:
        facts = json.loads((store.folder.path / "server.json").read_text(encoding="utf-8"))
        return f" at {facts['url']} (process {facts['pid']})"
    except (OSError, ValueError, KeyError):
        return ""
