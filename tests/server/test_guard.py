"""Loopback is no wall: what a page elsewhere, another user of the machine or the network may not do."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tarmac.people.operations import AddPerson
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import connect
from tests.conftest import Ran, Server
from tests.server.calls import Answer, Line

ME = "/api/v1/p/default/people.me"
NOBODY = 65534


def no_cors(answer: Answer) -> Answer:
    assert [name for name, _ in answer.headers if name.lower().startswith("access-control")] == []
    return answer


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        # DNS rebinding: a page's own name that now points here
        ({"Host": "evil.example"}, "untrusted_request"),
        ({"Host": "evil.example:5000"}, "untrusted_request"),
        ({"Host": "127.0.0.1.evil.example"}, "untrusted_request"),
        ({"Host": "localhost.evil.example"}, "untrusted_request"),
        ({"Host": "localhost@evil.example"}, "untrusted_request"),
        ({"Host": "evil.example#localhost"}, "untrusted_request"),
        ({"Host": "0.0.0.0"}, "untrusted_request"),
        ({"Host": "[::2]"}, "untrusted_request"),
        ({"Host": ""}, "untrusted_request"),
        ({"Host": "l\u00f6calhost"}, "untrusted_request"),
        ({"Host": "x" * 5000}, "untrusted_request"),
        # cross-origin requests
        ({"Origin": "https://evil.example"}, "untrusted_request"),
        ({"Origin": "null"}, "untrusted_request"),
        ({"Origin": ""}, "untrusted_request"),
        ({"Origin": "http://localhost:1"}, "untrusted_request"),
        ({"Origin": "file://"}, "untrusted_request"),
        ({"Sec-Fetch-Site": "cross-site"}, "untrusted_request"),
        ({"Sec-Fetch-Site": "same-site"}, "untrusted_request"),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "untrusted_request"),
        ({"Sec-Fetch-Site": "made-up"}, "untrusted_request"),
        # the person here, and names that are ours
        ({}, None),
        ({"Host": "LOCALHOST:99"}, None),
        ({"Host": "[::1]:99"}, None),
        ({"Sec-Fetch-Site": "same-origin"}, None),
        ({"Sec-Fetch-Site": "none"}, None),
    ],
)
def test_requests_come_from_where_they_should(line: Line, headers: dict[str, str], code: str | None) -> None:
    asked = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    for method, path in (("GET", ME), ("POST", "/api/v1/p/default/runs.create"), ("GET", "/api/v1/openapi.json")):
        answer = no_cors(line.ask(method, path, {} if method == "POST" else None, asked))
        if code is None:
            assert answer.status == 200, answer
        else:
            error = answer.error()
            assert (answer.status, error["code"]) == (403, code)


def test_an_own_page_may_call_with_its_origin(line: Line) -> None:
    origin = f"http://{line.host}:{line.port}"
    assert line.ask("POST", "/api/v1/p/default/runs.create", {}, {"Origin": origin}).status == 200


def test_a_preflight_gets_no_permission(line: Line) -> None:
    """Without CORS headers a browser sends nothing after it; whatever it asks for."""
    for origin in ("https://evil.example", f"http://{line.host}:{line.port}"):
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        answer = no_cors(line.ask("OPTIONS", "/api/v1/p/default/runs.create", None, asked))
        assert answer.status in (400, 403)


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/jsonp",
     "text/plain; application/json", "text/plain, application/json"],
)  # fmt: skip
def test_what_a_form_can_send_is_no_command(line: Line, kind: str) -> None:
    for operation in ("runs.create", "store.gc"):
        answer = line.post(operation, {}, {"Content-Type": kind})
        assert (answer.status, answer.error()["code"]) == (415, "wrong_content_type")
    assert line.post("runs.create", {}, {"Content-Type": "Application/JSON; charset=utf-8"}).status == 200


def test_requests_of_old_or_broken_kind(line: Line) -> None:
    """No Host, two of them, HTTP/1.0 and 0.9, an absolute address: refused in the error shape, or closed."""
    host = f"Host: {line.host}:{line.port}\r\n".encode()
    refused = {
        b"GET %s HTTP/1.1\r\n\r\n": "untrusted_request",
        b"GET %s HTTP/1.0\r\n\r\n": "untrusted_request",
        b"GET %s HTTP/1.1\r\n" + host + b"Host: evil.example\r\n\r\n": "untrusted_request",
        b"GET %s HTTP/1.1\r\n" + host + b"bad header\r\n\r\n": "invalid",
        b"GET %s HTTP/1.1\r\n" + host + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello": "invalid",
        b"GET %s HTTP/1.1\r\n" + host + b"Content-Length: -5\r\n\r\n": "invalid",
        b"GET %s HTTP/1.1\r\n" + host + b"Content-Length: 99999999999999999999999\r\n\r\n": "invalid",
        b"GET %s HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n": "invalid",
        b"FROBNICATE %s HTTP/1.1\r\n" + host + b"\r\n": "invalid",
        b"\x16\x03\x01\x02\x00 %s": "invalid",  # TLS
        b"GET %s HTTP/1.1\r\n" + host + b"X-Long: " + b"x" * 300_000: "invalid",
        b"GET %s?" + b"x" * 300_000: "invalid",
    }
    for data, code in refused.items():
        answer = no_cors(line.raw(data.replace(b"%s", ME.encode())))
        assert answer.error()["code"] == code, data[:80]
    assert line.raw(b"GET %s HTTP/1.0\r\n%s\r\n" % (ME.encode(), host)).status == 200
    # an absolute address does not replace the Host header
    assert line.raw(b"GET http://evil.example%s HTTP/1.1\r\n%s\r\n" % (ME.encode(), host)).status == 200
    assert line.raw(b"GET http://localhost%s HTTP/1.1\r\nHost: evil.example\r\n\r\n" % ME.encode()).status == 403


def test_pages_are_safe_and_shared_with_nobody(line: Line) -> None:
    for path in ("/", "/p/default", "/docs", "/docs/page.js", "/health", "/version"):
        answer = no_cors(line.ask("GET", path))
        assert answer.status == 200, path
        (policy,) = answer.all("content-security-policy")
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.all("x-content-type-options") == ["nosniff"]
        assert answer.all("referrer-policy") == ["no-referrer"]
    # a link elsewhere may lead here; a frame, an image or a script elsewhere may not
    assert line.ask("GET", "/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}).status == 200
    assert line.ask("GET", "/", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}).status == 403


def test_answers_are_not_kept_by_caches(line: Line) -> None:
    assert line.get("people.me").all("cache-control") == ["no-store"]
    assert line.get("runs.show", "id=ab").all("cache-control") == ["no-store"]


def test_the_one_time_key_works_once(shared_server: Server, line: Line) -> None:
    assert line.ask("GET", "/?key=made-up").all("set-cookie") == []
    first = line.ask("GET", f"/?key={shared_server.key}")
    assert (first.status, first.all("location")) == (303, ["/"])
    (cookie,) = first.all("set-cookie")
    facts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= facts
    assert line.ask("GET", f"/?key={shared_server.key}").all("set-cookie") == []
    assert shared_server.key not in cookie


def test_a_session_is_the_owner_also_when_people_are_known(folder: WorkspaceFolder, server: Server) -> None:
    line = Line(server.url)
    cookie = line.ask("GET", f"/?key={server.key}").all("set-cookie")[0].partition(";")[0]
    assert line.get("people.me").status == 200  # the same user on the same machine
    with connect(server.url) as workspace:
        workspace(AddPerson(name="ada", role="admin"))
    answer = line.get("people.me")
    assert (answer.status, answer.error()["code"]) == (401, "unauthenticated")
    assert answer.all("www-authenticate") == ['Bearer realm="tarmac"']
    assert line.get("people.me", headers={"Cookie": f"other=1; {cookie}"}).json()["verified"] is False
    assert line.get("people.me", headers={"Cookie": cookie[:-1]}).status == 401
    line.close()


def test_the_token_file_is_the_owners_and_goes_with_the_server(
    folder: WorkspaceFolder, serve: Callable[..., Server], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    server = serve(folder, TARMAC_STATE=str(state))
    (file,) = (state / "servers").iterdir()
    assert file.name == f"{urlsplit(server.url).port}.token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    line = Line(server.url, file.read_text())
    assert line.get("people.me").status == 200
    line.close()
    assert json.loads((folder.path / "server.json").read_text())["url"] == server.url
    assert server.stop() == 0
    assert list((state / "servers").iterdir()) == []
    assert not (folder.path / "server.json").exists()


def test_another_user_of_this_machine_is_nobody(shared_server: Server) -> None:
    if os.geteuid() != 0:
        pytest.skip("not run: only root can start a process as another user")
    code = f"""
import os, socket
plug = socket.create_connection(("127.0.0.1", {urlsplit(shared_server.url).port}), timeout=10)
def ask(plug):
    plug.sendall(b"GET {ME} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    said = b""
    while piece := plug.recv(65536):
        said += piece
    print(said.split(b" ")[1].decode())
ask(plug)
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
ask(socket.create_connection(("127.0.0.1", {urlsplit(shared_server.url).port}), timeout=10))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["200", "401"], done.stderr


def test_a_public_address_needs_people(
    folder: WorkspaceFolder, serve: Callable[..., Server], tarmac: Callable[..., Ran]
) -> None:
    for host in ("0.0.0.0", "::"):
        refused = tarmac("up", "-w", str(folder.path), "--host", host, "--port", "0")
        assert refused.code == 1
        assert "knows no people" in refused.err
        assert "tarmac people add" in refused.err
    with connect(folder.path) as workspace:
        workspace(AddPerson(name="ada", role="admin"))
    server = serve(folder, "--host", "0.0.0.0", "--allow-host", "model-box")
    line = Line(f"http://127.0.0.1:{urlsplit(server.url).port}")
    assert line.get("people.me").error()["code"] == "unauthenticated"
    assert line.get("people.me", headers={"Host": "model-box:80"}).error()["code"] == "unauthenticated"
    assert line.get("people.me", headers={"Host": "other-box"}).error()["code"] == "untrusted_request"
    line.close()
