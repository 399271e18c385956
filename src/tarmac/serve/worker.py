"""One process that answers: `python -m tarmac.serve.worker FOLDER NUMBER DESCRIPTOR`, started by a supervisor.

It listens on the socket it was given, follows the routes document, and says in a file how it does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tarmac.core.errors import Damaged, Internal, TarmacError
from tarmac.core.files import write_private
from tarmac.serve import logs, metrics
from tarmac.serve import routes as documents
from tarmac.serve.fleet import Fleet
from tarmac.serve.http import Limits, Server
from tarmac.serve.journal import MIB, Journal
from tarmac.serve.roads import Roads

if TYPE_CHECKING:
    from tarmac.serve.rpc import Port

LOOK_SECONDS = 0.1
STATE_SECONDS = 0.5
DRAIN_SECONDS = 10.0
HANG_SECONDS = 60.0
"""A model that is at one call for so long is taken to hang; its process is replaced."""
GARBAGE_AFTER = 50_000

log = logging.getLogger("tarmac.serve")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`runtime.json` in the runtime's folder: what the supervisor tells its workers."""

    routes: str
    log: bool = True
    segments: str = ""
    """Where the log goes; by default below the runtime's own folder."""
    log_bytes: int = 1024 * MIB
    body_bytes: int = 64 * MIB
    hang_seconds: float = HANG_SECONDS
    memory_bytes: int = 0
    """What models may take in one worker; zero is no limit."""
    json_logs: bool = False
    grpc: str = ""
    """The address of the second port; none without one."""


class Worker:
    def __init__(self, folder: Path, number: int, listening: socket.socket, config: Config) -> None:
        self._folder = folder
        self._number = number
        self._listening = listening
        self._config = config
        self._routes = Path(self._config.routes)
        self._stop = asyncio.Event()
        segments = Path(self._config.segments) if self._config.segments else folder / "segments"
        journal = Journal(segments, self._config.log_bytes) if self._config.log else None
        self._fleet = Fleet(journal, self._config.memory_bytes)
        self._roads = Roads(self._fleet, self._exposition, self._order)
        self._seen: tuple[Any, ...] = ()
        self._fault = ""
        self._status = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        if self._fleet.journal is not None:
            self._fleet.journal.start()
        server = Server(self._roads.answer, Limits(body=self._config.body_bytes))
        self._roads.lay([])
        listening = await loop.create_server(server.protocol, sock=self._listening, backlog=2048)
        rpc = self._second_port()
        gc.set_threshold(GARBAGE_AFTER, 20, 50)
        tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._tell())]
        await self._stop.wait()
        listening.close()
        self._roads.ready = False
        await asyncio.gather(server.drain(DRAIN_SECONDS), *([rpc.stop(DRAIN_SECONDS)] if rpc is not None else []))
        for task in tasks:
            task.cancel()
        if self._fleet.journal is not None:
            await asyncio.to_thread(self._fleet.journal.close)
        self._say()
        return self._status

    def _second_port(self) -> Port | None:
        if not self._config.grpc:
            return None
        from tarmac.serve.rpc import Port

        return Port(self._config.grpc, self._roads, self._config.body_bytes)

    # --- the routes document ---

    async def _follow(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        seen = (_stamp(self._routes), _stamp(self._folder / "unloaded.json"))
        if seen == self._seen:
            return
        self._seen = seen
        try:
            found = documents.read(self._routes)
            unloaded = frozenset(_names(self._folder / "unloaded.json"))
            await self._fleet.change(found, unloaded)
        except TarmacError as error:
            self._fault = error.message
            log.warning("the routes stay as they were: %s", error)
            self._say()
            return
        self._fault = ""
        self._roads.unloaded = unloaded
        self._roads.lay(found.tokens)
        self._roads.ready = not self._fleet.faults or bool(self._fleet.endpoints)
        self._say()

    def _order(self, name: str, load: bool) -> None:
        """What the V2 protocol calls load and unload: for all workers, so by a file."""
        path = self._folder / "unloaded.json"
        names = set(_names(path))
        if load:
            names.discard(name)
        else:
            names.add(name)
        write_private(path, json.dumps(sorted(names)))

    # --- how it does ---

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(STATE_SECONDS)
            now = time.monotonic()
            for version in self._fleet.versions():
                version.lane.give_up_late(now)
                since = version.lane.since
                if since is not None and now - since > self._config.hang_seconds:
                    log.error("%s hangs since %.0f s; this process ends", version.lane.name, now - since)
                    self._status = 75
                    self._stop.set()
            self._say()

    def _say(self) -> None:
        journal = self._fleet.journal
        state = {
            "pid": os.getpid(),
            "at": time.time(),
            "ready": self._roads.ready,
            "generation": self._fleet.generation,
            "fault": self._fault,
            "faults": self._fleet.faults,
            "resting": sorted(self._fleet.resting),
            "endpoints": {name: list(endpoint.versions) for name, endpoint in self._fleet.endpoints.items()},
            "tallies": self._fleet.tallies.facts(),
            "refused": self._fleet.tallies.refused,
            "waiting": {version.lane.name: version.lane.waiting for version in self._fleet.versions()},
            "batches": {version.lane.name: version.lane.batches for version in self._fleet.versions()},
            "logged": journal.written if journal is not None else 0,
            "lost": journal.lost if journal is not None else 0,
        }
        path = self._folder / f"worker-{self._number}.json"
        beside = path.with_suffix(".new")
        try:
            beside.write_bytes(msgspec.json.encode(state))
            beside.replace(path)  # not synced: it is of this moment only
        except OSError:
            pass  # a full disk must not end what answers

    def _exposition(self) -> bytes:
        """Of all workers: their files are half a second old at most, and its own numbers are now's."""
        others = [state for state in states(self._folder) if state.get("pid") != os.getpid()]
        facts = metrics.merged([self._fleet.tallies.facts(), *(state["tallies"] for state in others)])
        journal = self._fleet.journal
        lost = (journal.lost if journal else 0) + sum(state["lost"] for state in others)
        waiting = sum(version.lane.waiting for version in self._fleet.versions())
        waiting += sum(sum(state["waiting"].values()) for state in others)
        return metrics.exposition(
            facts,
            self._fleet.tallies.refused,
            {
                "tarmac_predictions_lost_total": ("counter", "Predictions left out of the log.", lost),
                "tarmac_rows_waiting": ("gauge", "Rows that wait for a model.", waiting),
                "tarmac_workers": ("gauge", "Processes that answer.", 1 + len(others)),
            },
        )


def states(folder: Path) -> list[dict[str, Any]]:
    """What the workers said last."""
    found = []
    for path in sorted(folder.glob("worker-*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]))
        except (OSError, msgspec.DecodeError):
            continue  # it is just ending
    return found


def _be_calm() -> None:
    """Numbers that overflow are looked for where they matter; a warning for each would only cost."""
    import numpy as np

    np.seterr(all="ignore")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _names(path: Path) -> list[str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[str])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise Damaged(f"{path} cannot be read: {error}", hint="delete it: then everything is loaded") from None


def main(arguments: list[str]) -> int:
    folder, number, descriptor = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    config = msgspec.json.decode((folder / "runtime.json").read_bytes(), type=Config)
    logs.begin(as_json=config.json_logs)
    _be_calm()
    listening = socket.socket(fileno=descriptor)
    listening.setblocking(False)

    async def work() -> int:
        return await Worker(folder, number, listening, config).run()

    try:
        if sys.platform != "win32":
            import uvloop

            return uvloop.run(work())
        return asyncio.run(work())
    except TarmacError as error:
        log.warning("%s", error)
        return error.exit_code
    except Exception:
        log.exception("the worker failed")
        return Internal.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
