"""What a client can get wrong over HTTP, and what a hostile one tries: an error in our shape, and nothing half-done."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tarmac.core.digest import digest
from tarmac.core.errors import Damaged
from tarmac.core.settings import Settings
from tarmac.door import catalog
from tarmac.store.operations import FindMissing
from tarmac.workspace import connect
from tests.conftest import Server
from tests.server.calls import Answer, Line, answer_on

API = "/api/v1/p/default"
MEGABYTE = 1024 * 1024


# ------------------------------------------------------------------------------------------------------ requests


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b'"text"', "Expected `object`"),
        (b"17", "Expected `object`"),
        (b"\xff\xfe{", "not valid JSON"),
        (b'{"experiment": "\xff"}', "not valid JSON"),
        (b'{"experiment": "a", }', "not valid JSON"),
        (b'{"experiment": NaN}', "not valid JSON"),
        (b'{"experiment": 1}', "Expected `str`, got `int`"),
        (b'{"experiment": null}', "Expected `str`, got `null`"),
        (b'{"experiment": ["a"]}', "Expected `str`, got `array`"),
        (b'{"experiment": ""}', "length >= 1"),
        (b'{"experiment": "%s"}' % (b"x" * 501), "length <= 500"),
        (b'{"experiment": "a\\u0000b"}', "no control characters"),
        (b'{"experiment": "a\\nb"}', "no control characters"),
        (b'{"experiment": "end\\n"}', "no control characters"),
        (b'{"experiment": "a\\u2028b"}', "no control characters"),
        (b'{"experiment": "\\ud800"}', "not valid JSON"),
        (b'{"experiment": "\\ud800x"}', "not valid JSON"),
        (b'{"experimnt": "a"}', "no key `experimnt`"),
        (b'{"parent": "../../etc"}', "hex digits"),
        (b"[" * 100_000, "runs.create"),
        (b'{"experiment":' * 50_000, "runs.create"),
        (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "runs.create"),
        (b'{"' + b"k" * 100_000 + b'": 1}', "no key"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
def test_bodies_that_are_wrong(line: Line, body: bytes, says: str) -> None:
    answer = line.post("runs.create", body)
    error = answer.error()
    assert answer.status == 400, error
    assert says in error["message"], error


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("limit=true", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=-1", "limit"),
        ("limit=NaN", "limit"),
        ("limit=1&limit=2", "given twice"),
        ("limt=1", "no key `limt`"),
        ("status=done", "status"),
        ("experiment=%ff", "cannot be read"),
        ("experiment=a%00b", "experiment"),
        ("&".join(f"a{i}=1" for i in range(200)), "cannot be read"),
        ("experiment=" + "x" * 62_000, "too long"),
        ("experiment=" + "x" * 70_000, "longer than 64 KiB"),
        ("%", "no key"),
    ],
    ids=lambda value: value[:20],
)
def test_query_strings_that_are_wrong(line: Line, query: str, says: str) -> None:
    answer = line.get("runs.ls", query)
    error = answer.error()
    assert answer.status == 400, error
    assert says in error["message"], error


def test_the_nearest_name_is_offered(line: Line) -> None:
    def hint(answer: Answer) -> str:
        return str(answer.error()["hint"])

    assert hint(line.post("runs.create", {"experimnt": "a"})) == "did you mean `experiment`?"
    assert hint(line.get("runs.ls", "limt=1")) == "did you mean `limit`?"
    assert hint(line.get("runs.lss")) == "did you mean `runs.ls`?"
    assert hint(line.get("runs.ls", project="defualt")) == "did you mean `default`?"
    assert hint(line.get("events", "aftr=1")) == "did you mean `after`?"


def test_the_wrong_method_is_named(line: Line) -> None:
    for spec in catalog.operations().values():
        right = "GET" if spec.kind == "query" else "POST"
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - {right}:
            answer = line.ask(method, f"{API}/{spec.name}", {} if method == "POST" else None)
            error = answer.error()
            assert answer.status == 400, (spec.name, method)
            assert f"ask with {right}, not {method}" in error["message"]
    assert line.ask("HEAD", f"{API}/people.me").body == b""
    for method, path in (("POST", "events"), ("DELETE", f"blobs/{'0' * 64}"), ("POST", f"blobs/{'0' * 64}")):
        assert line.ask(method, f"{API}/{path}", {}).error()["code"] == "invalid"
    for path in ("/", "/docs", "/nothing"):
        assert line.ask("POST", path, {}).error()["code"] == "invalid"


@pytest.mark.parametrize(
    "path",
    [
        "/api", "/api/", "/api/v1", "/api/v1/", "/api/v2/p/default/runs.ls", "/api/v1/p", "/api/v1/p/", f"{API}",
        f"{API}/", f"{API}/runs", f"{API}/runs.ls/", f"{API}/runs.ls/x", f"{API}//runs.ls", f"/{API}/runs.ls",
        "/api//v1/p/default/runs.ls", "/api/v1/p//runs.ls", "/api/v1/p/../p/default/runs.ls",
        f"{API}/../default/runs.ls", f"{API}/..%2fruns.ls", f"{API}/%2e%2e/x", f"{API}/runs.ls%00",
        f"{API}/runs%00.ls", "/api/v1/p/%00/runs.ls", "/api/v1/p/de%66ault%2f/runs.ls", "/api/v1/p/%ff%fe/runs.ls",
        f"{API}/__class__", f"{API}/RUNS.LS", f"{API}/blobs", f"{API}/blobs/", f"{API}/blobs/x",
        f"{API}/blobs/..%2f..%2fkeys%2fledger.key", f"{API}/blobs/{'A' * 64}", f"{API}/blobs/{'0' * 63}%0a",
        f"{API}/blobs/{'0' * 64}%0a", f"{API}/blobs/{'0' * 64}/", f"{API}/events/", f"{API}/{'x' * 20_000}",
        "/api/v1/p/" + "x" * 20_000 + "/runs.ls", "/docs/../app.py", "/docs/..%2fapp.py", "/docs/%2e%2e/app.py",
        "/docs/%00", "/docs/", "/docs//etc/passwd", "/..%2f..%2fcli/up.py", "/%2e%2e/%2e%2e/app.py", "/%00", "/a%00b",
        "//etc/passwd", "/%2fetc%2fpasswd", "/C:%5cboot.ini", "/..%5c..%5capp.py", "/index.html/x", "/assets",
        "/assets/", "/" + "x" * 5000, "/" + "a/" * 5000, "/%ff", "/.git/config", "/__init__.py",
    ],
    ids=lambda path: path[:60],
)  # fmt: skip
def test_paths_that_lead_nowhere(line: Line, path: str) -> None:
    answer = line.ask("GET", path)
    error = answer.error()
    assert (answer.status, error["code"]) == (404, "not_found"), error
    line.get("people.me").json()


def test_an_encoded_path_is_the_path_it_encodes(line: Line) -> None:
    assert line.ask("GET", "/api/v1/p/d%65fault/people%2eme").status == 200


# -------------------------------------------------------------------------------------------------------- bodies


def test_bodies_that_are_too_large(line: Line) -> None:
    limit = 32 * MEGABYTE
    head = line.head("POST", f"{API}/runs.create", "Content-Type: application/json", f"Content-Length: {limit + 1}")
    with line.plug(head) as plug:  # known from the head: nothing of the body is waited for
        assert answer_on(plug).error()["code"] == "too_large"
    with line.plug(line.head("POST", f"{API}/runs.create", "Content-Type: application/json",
                             "Transfer-Encoding: chunked")) as plug:  # fmt: skip
        chunk = b"%x\r\n" % MEGABYTE + b" " * MEGABYTE + b"\r\n"
        sent = 0
        try:
            while sent < 40:
                plug.sendall(chunk)
                sent += 1
        except OSError:
            pass
        answer = answer_on(plug)
        assert (answer.status, answer.error()["code"]) == (413, "too_large")
    assert line.get("people.me").status == 200


def test_a_large_body_is_taken_without_holding_others_up(line: Line) -> None:
    """Thirty megabytes in small pieces cost one copy, not one for each piece."""
    body = b'{"experiment": "a"' + b" " * (30 * MEGABYTE) + b"}"
    slowest, over = 0.0, threading.Event()

    def others() -> None:
        nonlocal slowest
        other = Line(f"http://{line.host}:{line.port}")
        while not over.is_set():
            began = time.monotonic()
            assert other.get("people.me").status == 200
            slowest = max(slowest, time.monotonic() - began)
        other.close()

    thread = threading.Thread(target=others)
    thread.start()
    answer = line.post("runs.create", body)
    over.set()
    thread.join()
    assert answer.status == 200
    assert slowest < 2.0


def test_a_client_that_leaves_in_the_middle(line: Line, shared_server: Server) -> None:
    """Of its head, its body, its upload, its answer: the server goes on and nothing half-done stays."""
    runs = line.get("runs.count").json()["count"]
    data = b"never whole"
    starts = [
        b"GET /api/v1/p/def",
        line.head("GET", f"{API}/people.me")[:-2],
        line.head("POST", f"{API}/runs.create", "Content-Type: application/json", "Content-Length: 100") + b'{"exp',
        line.head("PUT", f"{API}/blobs/{digest(data)}", "Content-Length: 11") + data[:5],
        line.head("PUT", f"{API}/blobs/{digest(data)}", "Transfer-Encoding: chunked") + b"5\r\nnever\r\n",
        line.head("GET", f"{API}/events?after=0"),
        line.head("GET", f"{API}/runs.ls"),
    ]
    for start in starts:
        for way in ("close", "reset", "half"):
            plug = line.plug(start)
            if way == "reset":
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if way == "half":
                plug.shutdown(socket.SHUT_WR)
            plug.close()
    assert line.get(f"blobs/{digest(data)}").status == 404
    assert line.get("runs.count").json()["count"] == runs
    assert eventually(lambda: list((shared_server.folder.path / "blobs" / "incoming").iterdir()) == [])


def test_many_connections_and_slow_clients(line: Line) -> None:
    """Clients that never finish their request, or never read, cost others nothing."""
    slow = [line.plug(line.head("GET", f"{API}/people.me")[:40]) for _ in range(150)]
    kept = [Line(f"http://{line.host}:{line.port}") for _ in range(150)]
    for _ in range(3):
        assert [each.get("people.me").status for each in kept] == [200] * len(kept)
    pipelined = line.head("GET", f"{API}/people.me") * 50
    with line.plug(pipelined) as plug:
        assert [answer_on_kept(plug).status for _ in range(50)] == [200] * 50
    for plug in slow:
        plug.close()
    for each in kept:
        each.close()


def memory_of(process: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="not run: reads /proc")
def test_a_client_that_does_not_read_is_not_buffered_for(line: Line, shared_server: Server) -> None:
    data = bytes(range(256)) * 4096 * 48
    assert line.ask("PUT", f"{API}/blobs/{digest(data)}", data).status == 200
    before = memory_of(shared_server.process.pid)
    plugs = [line.plug(line.head("GET", f"{API}/blobs/{digest(data)}")) for _ in range(6)]
    time.sleep(0.5)
    assert line.get("people.me").status == 200
    assert memory_of(shared_server.process.pid) - before < 100 * MEGABYTE
    for plug in plugs:
        plug.close()


# --------------------------------------------------------------------------------------------------------- blobs


def test_a_blob_is_what_its_digest_says_or_nothing(line: Line, shared_server: Server) -> None:
    data = b"the right bytes"
    wrong = line.ask("PUT", f"{API}/blobs/{digest(data)}", b"the wrong bytes")
    assert (wrong.status, wrong.error()["code"]) == (400, "invalid")
    assert line.get(f"blobs/{digest(data)}").error()["code"] == "not_found"
    assert line.ask("PUT", f"{API}/blobs/{'0' * 63}", data).error()["code"] == "not_found"
    for _ in range(2):
        assert line.ask("PUT", f"{API}/blobs/{digest(data)}", data).json() == {
            "digest": digest(data),
            "size": len(data),
        }
    empty = line.ask("PUT", f"{API}/blobs/{digest(b'')}", b"")
    assert empty.json()["size"] == 0
    assert line.get(f"blobs/{digest(b'')}").body == b""
    assert line.ask("HEAD", f"{API}/blobs/{digest(data)}").all("content-length") == [str(len(data))]
    assert list((shared_server.folder.path / "blobs" / "incoming").iterdir()) == []


def test_an_upload_goes_on_only_where_it_stopped(line: Line) -> None:
    data = b"0123456789"
    path = f"{API}/blobs/{digest(data)}"
    for wrong in (
        *("bytes 5-9/10", "bytes 1-", "bytes -5-9/10", "bytes 0", "lines 5-9/10", "", "bytes 0x5-9/10"),
        *("bytes 9" + "9" * 5000 + "-", "bytes 999999999999999999-/1"),
    ):
        answer = line.ask("PUT", path, data[5:], {"Content-Range": wrong})
        assert 400 <= answer.status < 500, (wrong, answer)
        answer.error()
    assert line.get(f"blobs/{digest(data)}/parked").json() == {"size": 0}
    assert line.get(f"blobs/{digest(data)}").status == 404
    for odd in (f"blobs/{digest(data)}/parked/x", "blobs/../parked", f"blobs/{'Z' * 64}/parked"):
        assert line.get(odd).error()["code"] == "not_found"
    assert line.ask("PUT", path, data, {"Content-Range": "bytes 0-9/10"}).status == 200


def test_files_of_runs_do_not_lead_elsewhere(line: Line) -> None:
    run = line.post("runs.create", {}).json()["id"]
    for odd in ("", "..", "../../x", "a//b", "/etc/passwd", "%2e%2e/x", "a%00b", "x" * 5000, "a\\b", "nothing.txt"):
        answer = line.ask("GET", f"{API}/runs/{run}/files/{odd}")
        assert answer.status in (400, 404), (odd, answer)
        answer.error()
    for odd in ("zz", "0" * 32, "x" * 5000, "..", "%00"):
        answer = line.ask("GET", f"{API}/runs/{odd}/files/a")
        assert answer.status in (400, 404), (odd, answer)
        answer.error()
    assert line.ask("PUT", f"{API}/runs/{run}/files/a", b"x").error()["code"] == "not_found"


def test_bytes_from_elsewhere_are_never_shown_as_a_page(line: Line) -> None:
    data = b"<script>alert(1)</script>"
    line.ask("PUT", f"{API}/blobs/{digest(data)}", data, {"Content-Type": "text/html"})
    answer = line.get(f"blobs/{digest(data)}")
    assert answer.all("content-type") == ["application/octet-stream"]
    assert answer.all("content-disposition") == ["attachment"]
    assert answer.all("x-content-type-options") == ["nosniff"]


def test_ranges(line: Line) -> None:
    data = bytes(range(256)) * 40_000  # three blocks, the last one short
    size = len(data)
    line.ask("PUT", f"{API}/blobs/{digest(data)}", data)

    def ask(wanted: str) -> Answer:
        return line.get(f"blobs/{digest(data)}", headers={"Range": wanted})

    block = 4 * MEGABYTE
    for wanted, start, end in (
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=-{size * 2}", 0, size),
        (f"bytes=0-{size * 2}", 0, size),
        (f"bytes={block - 1}-{block}", block - 1, block + 1),
        (f"bytes={size - 1}-", size - 1, size),
        ("bytes=00000-00009", 0, 10),
    ):
        answer = ask(wanted)
        assert (answer.status, answer.body) == (206, data[start:end]), wanted
        assert answer.all("content-range") == [f"bytes {start}-{end - 1}/{size}"]
    for wanted in ("bytes=-0", f"bytes={size}-", f"bytes={size}-{size + 5}", f"bytes={size * 7}-"):
        answer = ask(wanted)
        assert (answer.status, answer.error()["code"]) == (416, "outside_range"), wanted
        assert answer.all("content-range") == [f"bytes */{size}"]
        assert answer.error()["detail"] == {"size": size}
    for wanted in ("bytes=", "bytes=-", "bytes=9-3", "bytes=0-1,5-6", "bytes=a-b",
                   "lines=0-1", "0-1", "bytes=" + "9" * 6000 + "-", "bytes=--5", "bytes=1-" + "9" * 6000):  # fmt: skip
        answer = ask(wanted)
        assert (answer.status, answer.error()["code"]) == (400, "invalid"), wanted


def test_a_remote_workspace_reads_what_it_wrote(shared_server: Server, state: Path) -> None:
    data = bytes(range(251)) * 30_000
    with connect(shared_server.url, settings=Settings(state=state)) as workspace:
        name = workspace.put(data)
        assert b"".join(workspace.read(name)) == data
        assert b"".join(workspace.read(name, 100, 5_000_000)) == data[100:5_000_000]
        assert b"".join(workspace.read(name, 7, 7)) == b""
        assert workspace.put(b"") == digest(b"")
        assert b"".join(workspace.read(digest(b""))) == b""


def test_as_many_digests_through_a_server_as_in_a_folder(shared_server: Server, state: Path) -> None:
    digests = [f"{number:064x}" for number in range(500)]  # as many as the operation takes
    with connect(shared_server.url, settings=Settings(state=state)) as workspace:
        assert workspace(FindMissing(digests=digests)).missing == digests


@pytest.mark.parametrize("status", ["200 OK", "206 Partial Content"])
def test_a_download_that_is_cut_off_is_noticed(status: str) -> None:
    """Also of a range, whose bytes the client cannot verify by the digest."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            plug, _ = listening.accept()
            with plug:
                plug.recv(65536)
                plug.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 100\r\n\r\n".encode() + b"x" * 50)

        thread = threading.Thread(target=serve)
        thread.start()
        with connect(f"http://127.0.0.1:{listening.getsockname()[1]}") as workspace, pytest.raises(Damaged):
            list(workspace.read(digest(b"x" * 100), 0, 100 if "206" in status else None))
        thread.join()


def eventually(true: Any, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def answer_on_kept(plug: socket.socket) -> Answer:
    """The next answer on a connection that carries several; bodies here have a length."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = plug.recv(1)
        assert byte, head
        head += byte
    lines = head.decode().split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)]
    length = int(dict(headers)["content-length"])
    body = b""
    while len(body) < length:
        body += plug.recv(length - len(body))
    return Answer(int(lines[0].split(" ")[1]), headers, body)
