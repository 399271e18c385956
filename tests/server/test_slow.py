"""Slow senders are given up, wherever they are slow; slow but steady ones and large uploads are not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tarmac.core.digest import digest
from tarmac.store.folder import WorkspaceFolder
from tests.conftest import tarmac_environment
from tests.server.calls import Line

API = "/api/v1/p/default"
PATIENCE = 0.6
START = f"""
from tarmac.server import inflow
inflow.PATIENCE_SECONDS, inflow.LEAST_BYTES = {PATIENCE}, 1000
from tarmac.cli import main
main()
"""


@pytest.fixture
def hasty(folder: WorkspaceFolder) -> Iterator[Line]:
    """A server with little patience."""
    process = subprocess.Popen(
        [sys.executable, "-c", START, "up", "-w", str(folder.path), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=tarmac_environment(),
    )
    assert process.stdout
    found = re.search(r"(http://\S+?)/\?key=", process.stdout.readline())
    assert found
    line = Line(found[1])
    yield line
    line.close()
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


def until_closed(plug: socket.socket) -> bytes:
    plug.settimeout(20)
    said = b""
    try:
        while part := plug.recv(65536):
            said += part
    except ConnectionResetError:
        pass
    return said


def dribble(plug: socket.socket, pieces: bytes, seconds: float) -> float:
    """Send byte by byte until the other side has closed; how long it took."""
    start = time.monotonic()
    try:
        for byte in pieces:
            plug.sendall(bytes([byte]))
            time.sleep(0.1)
            plug.setblocking(False)
            try:
                if plug.recv(1, socket.MSG_PEEK) is not None:
                    break
            except BlockingIOError:
                pass
            finally:
                plug.setblocking(True)
            if time.monotonic() - start > seconds:
                break
    except OSError:
        pass
    return time.monotonic() - start


def test_who_sends_a_byte_at_a_time_is_given_up(hasty: Line) -> None:
    data = os.urandom(6_000_000)
    head = hasty.head("GET", f"{API}/people.me")
    command = hasty.head("POST", f"{API}/runs.create", "Content-Type: application/json", "Content-Length: 5000")
    upload = hasty.head("PUT", f"{API}/blobs/{digest(data)}", f"Content-Length: {len(data)}")
    chunked = hasty.head("PUT", f"{API}/blobs/{digest(data)}", "Transfer-Encoding: chunked") + b"fffff\r\n"
    for start, code in ((b"", b"head"), (command, b"body"), (upload, b"body"), (chunked, b"body")):
        with hasty.plug(start) as plug:
            took = dribble(plug, head[:-2] if not start else b"x" * 4000, 15)
            said = until_closed(plug)
        assert took < 10, start
        assert b" 408 " in said.split(b"\r\n")[0], (start, said)
        assert b"too_slow" in said
        assert code in said
    assert hasty.get(f"blobs/{digest(data)}").status == 404
    assert hasty.get("people.me").status == 200


def test_who_says_nothing_is_given_up(hasty: Line) -> None:
    with hasty.plug(b"") as plug:
        start = time.monotonic()
        assert until_closed(plug) == b""
        assert time.monotonic() - start < 10
    with hasty.plug(
        hasty.head("POST", f"{API}/runs.create", "Content-Type: application/json", "Content-Length: 9")
    ) as p:
        assert b" 408 " in until_closed(p)


def test_who_is_slow_but_steady_is_heard(hasty: Line) -> None:
    data = os.urandom(5_000_000)
    with hasty.plug(hasty.head("PUT", f"{API}/blobs/{digest(data)}", f"Content-Length: {len(data)}")) as plug:
        for start in range(0, len(data), 250_000):
            plug.sendall(data[start : start + 250_000])
            time.sleep(0.15)
        plug.settimeout(20)
        assert plug.recv(65536).startswith(b"HTTP/1.1 200")
        plug.sendall(hasty.head("GET", f"{API}/people.me"))  # the connection goes on after a body that went past it
        assert plug.recv(65536).startswith(b"HTTP/1.1 200")
    assert hasty.get(f"blobs/{digest(data)}").body == data
    time.sleep(2 * PATIENCE)
    assert hasty.get("people.me").status == 200  # a kept connection may rest
    body = b'{"experiment": "' + b"x" * 60 + b'"}'
    create = hasty.head("POST", f"{API}/runs.create", "Content-Type: application/json", f"Content-Length: {len(body)}")
    with hasty.plug(create + body[:30]) as plug:
        time.sleep(PATIENCE / 2)
        plug.sendall(body[30:])
        assert plug.recv(65536).startswith(b"HTTP/1.1 200")


def test_an_upload_that_became_too_slow_goes_on_where_it_stopped(hasty: Line) -> None:
    data = os.urandom(20_000_000)
    path = f"{API}/blobs/{digest(data)}"
    with hasty.plug(hasty.head("PUT", path, f"Content-Length: {len(data)}") + data[:12_000_000]) as plug:
        assert b"too_slow" in until_closed(plug)
    have = hasty.get(f"blobs/{digest(data)}/parked").json()["size"]
    assert have == 12_000_000
    rest = {"Content-Range": f"bytes {have}-{len(data) - 1}/{len(data)}"}
    assert hasty.ask("PUT", path, data[have:], rest).status == 200
    assert hasty.get(f"blobs/{digest(data)}").body == data


def test_a_large_upload_that_is_refused_hears_why(hasty: Line) -> None:
    data = os.urandom(12_000_000)
    wrong = hasty.ask("PUT", f"{API}/blobs/{'0' * 64}", data)
    assert wrong.error()["code"] == "invalid"
    assert hasty.get("people.me").status == 200
