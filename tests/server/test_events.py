"""Events as they happen: from any position on, none missed, none twice, whoever writes meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import CreateProject
from tarmac.track.operations import CreateExperiment, CreateRun
from tarmac.workspace import connect
from tests.conftest import Server
from tests.server.calls import PATIENCE, Line

EVENTS = "/api/v1/p/default/events"


def follow(line: Line, after: int, how: str = "after", stop_at: int | None = None) -> Iterator[tuple[int, Any]]:
    """Position and event, until `stop_at` or the end of the stream."""
    header = [f"Last-Event-ID: {after}"] if how == "header" else []
    query = f"?after={after}" if how == "after" else "?after=999999" if how == "header" else ""
    with line.plug(line.head("GET", EVENTS + query, *header)) as plug, plug.makefile("rb") as file:
        assert file.readline().startswith(b"HTTP/1.1 200")
        while file.readline().strip():
            pass
        position = None
        for raw in file:
            text = raw.strip()
            if text.startswith(b"id: "):
                position = int(text[4:])
            elif text.startswith(b"data: "):
                assert position is not None
                yield position, json.loads(text[6:])
                if position == stop_at:
                    return
            elif text == b"0":  # the last chunk
                return


def read_on(url: str, total: int, seen: list[tuple[int, str]], at_once: int) -> None:
    """A reader that leaves after so many events and comes back for what follows the last it saw."""
    line = Line(url)
    while len(seen) < total:
        last = seen[-1][0] if seen else 0
        for count, (position, event) in enumerate(follow(line, last, "header"), 1):
            seen.append((position, event["subject"]))
            if count == at_once or len(seen) == total:
                break


def test_none_is_missed_or_doubled_while_writing(server: Server) -> None:
    """Readers that stay, and readers that come and go, see what the ledger holds, in its order."""
    writers, each = 3, 40
    total = writers * each

    def write(number: int) -> None:
        with connect(server.url) as workspace:
            for index in range(each):
                workspace(CreateExperiment(name=f"{number}-{index}"))

    steady: list[tuple[int, str]] = []
    restless: list[tuple[int, str]] = []
    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    threads += [threading.Thread(target=read_on, args=(server.url, total, steady, total))]
    threads += [threading.Thread(target=read_on, args=(server.url, total, restless, 7))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    line = Line(server.url)
    ledger, after = [], 0
    while page := line.get("audit.ls", f"after={after}&limit=100").json()["events"]:
        ledger += [(event["position"], event["subject"]) for event in page]
        after = page[-1]["position"]
    assert len(ledger) == total
    assert steady == ledger
    assert restless == ledger
    line.close()


def test_where_a_stream_starts(line: Line) -> None:
    for name in ("a", "b", "c"):
        assert line.post("experiments.create", {"name": name}).status == 200
    last = line.get("audit.ls", "limit=1").json()["events"][0]["position"]
    whole = [position for position, _ in follow(line, 0, stop_at=last)]
    assert whole == sorted(set(whole))
    assert [position for position, _ in follow(line, 0, "default", stop_at=last)] == whole
    assert [position for position, _ in follow(line, whole[0], stop_at=last)] == whole[1:]
    assert [position for position, _ in follow(line, whole[-2], "header", stop_at=last)] == whole[-1:]


def test_positions_that_are_none(line: Line) -> None:
    for wrong in ("-1", "x", "1.5", "", "9" * 30, "%00", "1%0a", "0x1", "%F0%9F%98%80"):
        assert line.ask("GET", f"{EVENTS}?after={wrong}").error()["code"] == "invalid", wrong
    assert line.ask("GET", EVENTS, headers={"Last-Event-ID": "\x00"}).status == 400
    assert line.ask("GET", f"{EVENTS}?after=1&limit=3").error()["code"] == "unknown_key"


def test_a_project_hears_its_own_events_only(folder: WorkspaceFolder, server: Server) -> None:
    with connect(server.url) as workspace:
        workspace(CreateProject(name="other"))
        workspace(CreateRun(experiment="mine"))
        with connect(server.url, "other") as other:
            other(CreateRun(experiment="theirs"))
        last = workspace(CreateRun(experiment="mine"))
    line = Line(server.url)
    found = []
    for _, event in follow(line, 0):
        found.append(event)
        if event["subject"] == f"runs/{last.id}":
            break
    assert {event["project"] for event in found} == {"default"}


def test_streams_end_when_the_server_stops(server: Server) -> None:
    """Nobody's open browser tab keeps a server from stopping."""
    line = Line(server.url)
    plugs = [line.plug(line.head("GET", f"{EVENTS}?after=0")) for _ in range(3)]
    for plug in plugs:
        assert plug.recv(50).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    server.process.terminate()
    assert server.process.wait(PATIENCE) == 0
    assert time.monotonic() - began < 3
    for plug in plugs:
        plug.settimeout(1)
        rest = b""
        while piece := plug.recv(65536):
            rest += piece
        assert rest.endswith(b"0\r\n\r\n")
        plug.close()
