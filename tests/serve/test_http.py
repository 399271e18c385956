"""What strangers send: slowly, without end, too much, twice, or not HTTP at all. Others are answered meanwhile."""

from __future__ import annotations

import socket
import time

import pytest

from tests.serve.conftest import Running

GET = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def connect(running: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=30)


def answer(connection: socket.socket) -> bytes:
    """Until the other side hangs up."""
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (b"POST /v2 HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /v2 HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /v2 HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", b"400"),
        (b"POST /v2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nlong: " + b"x" * 100_000, b"400"),
        (b"POST /predict/add HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n", b"413"),
        (b"GET /nothing HTTP/1.0\r\n\r\n", b"404"),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b"200"),
    ],
)
def test_what_is_wrong_is_refused_and_hung_up_on(quiet: Running, sent: bytes, status: bytes) -> None:
    with connect(quiet) as connection:
        connection.sendall(sent)
        found = answer(connection)
    assert found.split(b" ", 2)[1] == status, found
    assert quiet.json("GET", "/v2/health/live")[0] == 200


def test_requests_sent_ahead_are_answered_in_order(quiet: Running) -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[%d,0,0,0]}]}'
    asked = b""
    for number in range(40):
        one = body % number
        asked += b"POST /v2/models/add/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(one), one)
    with connect(quiet) as connection:
        connection.sendall(asked + b"GET /v2/health/live HTTP/1.1\r\nConnection: close\r\n\r\n")
        found = answer(connection)
    sums = [int(float(part.split(b"]")[0])) for part in found.split(b'"data":[')[1:]]
    assert sums == [1000 + number for number in range(40)]


def test_a_body_in_chunks(quiet: Running) -> None:
    body = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
    with connect(quiet) as connection:
        connection.sendall(
            b"POST /v2/models/add/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        for at in range(0, len(body), 10):
            piece = body[at : at + 10]
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        assert b"1010.0" in answer(connection)


def test_chunks_without_end_are_cut_off(quiet: Running) -> None:
    with connect(quiet) as connection:
        connection.sendall(b"POST /predict/add HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            for _ in range(1000):
                connection.sendall(piece)
            found = answer(connection)
        except OSError:  # it has hung up already
            return
    assert b" 413 " in found


@pytest.mark.slow
def test_who_sends_slowly_is_hung_up_on_and_disturbs_nobody(quiet: Running) -> None:
    slow = [connect(quiet) for _ in range(200)]
    for connection in slow:
        connection.sendall(b"POST /predict/add HTTP/1.1\r\nContent-Length: 1000\r\n\r\n[")
    for _ in range(20):
        assert quiet.json("GET", "/v2/health/live")[0] == 200
    began = time.monotonic()
    assert all(b" 408 " in answer(connection) for connection in slow)
    assert time.monotonic() - began < 29
    for connection in slow:
        connection.close()


def test_a_caller_who_leaves_harms_nobody(quiet: Running) -> None:
    for _ in range(50):
        with connect(quiet) as connection:
            connection.sendall(GET[:20])
        with connect(quiet) as connection:
            connection.sendall(GET)
    assert quiet.add("add", [1, 2, 3, 4])[0] == 200
