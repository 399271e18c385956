"""The client of these benchmarks: a process of its own, one thread, plain sockets, N connections in a closed loop.

    python bench/tracking/client.py SPEC.json   ->  one JSON line

A *group* is one operation: a few requests in a row, timed as a whole. In their text `@RUN@` stands for the connection's
run, `@ID@` for the id in the answer to the group's first request, and `@@@@@@` for a number that grows with each group,
so that nothing is sent twice. It stops after its seconds, at the end of its groups (`once`), or when it is terminated.
"""

from __future__ import annotations

import itertools
import json
import re
import selectors
import signal
import socket
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import machine

ID = re.compile(rb'"(?:id|run_id)": ?"([0-9a-f]{32})"')
FIRST = 100_000
Spec = dict[str, Any]


class Connection:
    """One keep-alive connection and where it is in its work."""

    def __init__(self, address: tuple[str, int], groups: Iterator[list[list[str]]], run: str) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = f"{address[0]}:{address[1]}"
        self.held = bytearray()
        self.needed = 0
        self.groups = 0
        self.last = False
        self.times: list[float] = []
        self.begun = 0.0
        self._work = self._requests(groups, run.encode())
        self.over = False

    def go_on(self, answer: bytes | None) -> None:
        """Send the next request."""
        try:
            content = next(self._work) if answer is None else self._work.send(answer)
        except StopIteration:
            self.over = True
            return
        self.held.clear()
        self.needed = 0
        self.socket.sendall(content)

    def _requests(self, groups: Iterator[list[list[str]]], run: bytes) -> Generator[bytes, bytes, None]:
        templates: dict[int, list[tuple[bytes, bytes]]] = {}
        for number, group in enumerate(groups, FIRST):
            steps = templates.get(id(group))
            if steps is None:
                steps = templates[id(group)] = [self._template(*step, run) for step in group]
            digits, found = b"%06d" % number, b""
            self.begun = time.perf_counter()
            for head, body in steps:
                path = head.replace(b"@ID@", found).replace(b"@@@@@@", digits)
                content = body.replace(b"@ID@", found).replace(b"@@@@@@", digits)
                length = b"Content-Length: %d\r\n" % len(content) if content else b""
                answer = yield b"%s%s\r\n%s" % (path, length, content)
                if not found and (match := ID.search(answer)):
                    found = match[1]
            self.times.append(time.perf_counter() - self.begun)
            self.groups += 1
            if self.last:
                return

    def _template(self, method: str, path: str, body: str, run: bytes) -> tuple[bytes, bytes]:
        kind = "Content-Type: application/json\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{kind}".encode()
        return head.replace(b"@RUN@", run), body.encode().replace(b"@RUN@", run)

    def finish(self) -> None:
        """Do the group that was begun to its end, so that what was sent is what is there."""
        self.last = True
        while not self.over:
            answer = self.arrived()
            if answer is not None:
                self.go_on(answer)

    def arrived(self) -> bytes | None:
        """The whole answer, once it is here."""
        part = self.socket.recv(1 << 18)
        if not part:
            raise SystemExit("the server closed a connection")
        held = self.held
        held += part
        if not self.needed:
            end = held.find(b"\r\n\r\n")
            if end < 0:
                return None
            head = bytes(held[:end]).lower()
            at = head.find(b"content-length:")
            self.needed = -1 if at < 0 else end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if self.needed < 0:
            return bytes(held) if held.endswith(b"0\r\n\r\n") else None
        return bytes(held) if len(held) >= self.needed else None


def cpu(accounts: dict[str, list[int]]) -> dict[str, float]:
    """CPU seconds so far of whole process trees."""
    return {
        name: sum(machine.cpu_seconds(member) for pid in pids for member in machine.tree(pid))
        for name, pids in accounts.items()
    }


def open_connections(spec: Spec, selector: selectors.BaseSelector) -> list[Connection]:
    """All of them, each with the groups from another one on."""
    groups, runs = spec["groups"], spec["runs"]
    connections = []
    for index in range(spec["clients"]):
        turned = groups[index % len(groups) :] + groups[: index % len(groups)]
        work = iter(turned) if spec["once"] else itertools.cycle(turned)
        host, port = spec["address"]
        connection = Connection((host, port), work, runs[index] if runs else "")
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connections.append(connection)
    return connections


def run(spec: Spec) -> dict[str, Any]:
    """Warm up, then count."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    selector = selectors.DefaultSelector()
    connections = open_connections(spec, selector)
    refused: list[str] = []
    for connection in connections:
        connection.go_on(None)

    def until(end: float) -> None:
        while not stopping and time.perf_counter() < end and not all(connection.over for connection in connections):
            for key, _ in selector.select(0.2):
                connection = key.data
                answer = connection.arrived()
                if answer is None:
                    continue
                if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
                    refused.append(answer[:600].decode("latin-1"))
                connection.go_on(answer)
                if connection.over:
                    selector.unregister(connection.socket)

    until(time.perf_counter() + spec["warm"])
    for connection in connections:
        connection.times.clear()
    before, start = cpu(spec["accounts"]), time.perf_counter()
    until(start + spec["seconds"])
    took, after = time.perf_counter() - start, cpu(spec["accounts"])
    times = sorted(each for connection in connections for each in connection.times)
    if not times:
        raise SystemExit(f"nothing was answered; {refused[:1]}")
    for connection in connections:
        connection.finish()
    count = len(times)
    return {
        "count": count,
        "failed": len(refused),
        "why": refused[:1],
        "rate": count / took,
        "sent": [connection.groups for connection in connections],
        "cpu_us": {name: (after[name] - before[name]) / count * 1e6 for name in after},
        "p50_ms": times[count // 2] * 1e3,
        "p95_ms": times[int(count * 0.95)] * 1e3,
        "p99_ms": times[int(count * 0.99)] * 1e3,
        "max_ms": times[-1] * 1e3,
    }


if __name__ == "__main__":
    print(json.dumps(run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
