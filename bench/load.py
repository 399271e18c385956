"""A closed-loop HTTP client that costs little itself: one thread, plain sockets, N connections.

    python bench/load.py URL PATH BODY CONNECTIONS SECONDS   ->  one JSON line

Each connection sends its request, waits for the whole answer, and sends the next one.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from itertools import cycle


@dataclass
class Caller:
    socket: socket.socket
    sent_at: float = 0.0
    held: bytes = b""
    latencies: list[float] = field(default_factory=list)


def request(host: str, path: str, body: str, token: str = "") -> bytes:
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {host}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n{body}".encode()


def whole(held: bytes) -> bool:
    """Whether a whole answer with a Content-Length has arrived."""
    end = held.find(b"\r\n\r\n")
    if end < 0:
        return False
    at = held.lower().find(b"content-length:", 0, end)
    return len(held) >= end + 4 + int(held[at + 15 : held.find(b"\r\n", at)])


def run(
    addresses: list[tuple[str, int]], requests: bytes | list[bytes], connections: int, seconds: float
) -> dict[str, float]:
    """Closed loop on all connections for some seconds; rates and latencies in milliseconds. Of several requests each
    connection sends one after the other."""
    bodies = cycle([requests] if isinstance(requests, bytes) else requests)
    selector = selectors.DefaultSelector()
    callers = []
    for index in range(connections):
        opened = socket.create_connection(addresses[index % len(addresses)])
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller = Caller(opened)
        selector.register(opened, selectors.EVENT_READ, caller)
        callers.append(caller)
    start = time.perf_counter()
    for caller in callers:
        caller.sent_at = time.perf_counter()
        caller.socket.sendall(next(bodies))
    failed = 0
    while (now := time.perf_counter()) - start < seconds:
        for key, _ in selector.select(1.0):
            caller = key.data
            caller.held += caller.socket.recv(1 << 18)
            if not whole(caller.held):
                continue
            failed += not caller.held.startswith(b"HTTP/1.1 200")
            caller.held = b""
            now = time.perf_counter()
            caller.latencies.append(now - caller.sent_at)
            caller.sent_at = now
            caller.socket.sendall(next(bodies))
    took = time.perf_counter() - start
    for caller in callers:
        caller.socket.close()
    all_latencies = sorted(latency for caller in callers for latency in caller.latencies)
    count = len(all_latencies)
    return {
        "count": count,
        "failed": failed,
        "rate": count / took,
        "p50_ms": all_latencies[count // 2] * 1e3,
        "p99_ms": all_latencies[int(count * 0.99)] * 1e3,
        "max_ms": all_latencies[-1] * 1e3,
    }


if __name__ == "__main__":
    urls, path, body, connections, seconds = sys.argv[1:6]
    addresses = [
        (host, int(port)) for host, port in (url.removeprefix("http://").split(":") for url in urls.split(","))
    ]
    print(
        json.dumps(
            run(
                addresses,
                request(urls.split(",")[0].removeprefix("http://"), path, body),
                int(connections),
                float(seconds),
            )
        )
    )
