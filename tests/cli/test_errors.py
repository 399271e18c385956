"""What a person gets wrong at the command line: one line and a hint, an exit code, never a traceback."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tarmac import store
from tarmac.core.settings import Settings
from tarmac.store.folder import WorkspaceFolder
from tests.conftest import Ran, tarmac_environment

Tarmac = Callable[..., Ran]


@pytest.fixture
def folder(tmp_path: Path) -> WorkspaceFolder:
    made = WorkspaceFolder(tmp_path / ".tarmac")
    store.create(made, Settings.from_environment()).close()
    return made


def refused(ran: Ran, code: int, *says: str) -> Ran:
    """One line that says what, maybe one that says what next, and nothing where answers go."""
    assert ran.code == code, ran
    assert ran.out == "", ran
    lines = ran.err.splitlines()
    assert 1 <= len(lines) <= 2, ran
    assert lines[0].startswith("error: "), ran
    assert len(lines) == 1 or lines[1].startswith("  hint: "), ran
    assert max(map(len, lines)) < 600, ran
    for text in says:
        assert text in ran.err, ran
    for never in ("Traceback", "fault of tarmac", "Errno", "\x1b"):
        assert never not in ran.err, ran
    return ran


def test_wrong_words(tarmac: Tarmac, folder: WorkspaceFolder) -> None:
    refused(tarmac("statsu"), 2, "no command `statsu`", "did you mean `status`?")
    refused(tarmac("runs", "crate"), 2, "no command `crate`", "did you mean `create`?", "`tarmac runs --help`")
    refused(tarmac("x" * 3000), 2, "no command")
    refused(tarmac("runs", "ls", "--limt", "3"), 2, "--limt", "--limit")
    refused(tarmac("runs", "ls", "--limit", "three"), 2, "'three' is not a valid integer")
    refused(tarmac("runs", "ls", "--limit", "1001"), 2, "limit", "1 to 1000")
    refused(tarmac("runs", "show"), 2, "missing argument 'ID'")
    refused(tarmac("runs", "show", "00", "11"), 2, "unexpected extra argument")
    refused(tarmac("runs", "create", "--params", "depth"), 2, "`depth` is not KEY=VALUE")
    refused(tarmac("runs", "create", "--params", "a=1", "--params", "a=2"), 2, "one key twice")
    refused(tarmac("runs", "create", "a\nb\x1b[31mred"), 2, "control characters")
    refused(tarmac("runs", "create", "x" * 5000), 2, "experiment")
    refused(tarmac("runs", "ls", "--cursor", os.fsdecode(b"a\xff")), 2, "not text in UTF-8")
    refused(tarmac("runs", "create", os.fsdecode(b"a\xff")), 2, "not text in UTF-8")
    refused(tarmac("status", "--project", "Bad Name"), 2, "`Bad Name` cannot be the name of a project")
    refused(tarmac("status", "--project", os.fsdecode(b"a\xff")), 2, "cannot be the name of a project")
    group = tarmac("runs")
    assert (group.code, group.out) == (2, "")
    assert group.err.startswith("Usage: tarmac runs")
    assert tarmac("projects", "ls", "--json").out.count('"name"') == 1, "nothing of this made a project"


def test_errors_as_json(tarmac: Tarmac, folder: WorkspaceFolder) -> None:
    for words, code, name in (
        (("statsu",), 2, "usage"),
        (("runs", "ls", "--limit", "0"), 2, "invalid"),
        (("runs", "show", "00"), 1, "not_found"),
        (("status", "-w", "/nowhere"), 2, "not_a_workspace"),
        (("status", "-w", "http://127.0.0.1:9"), 1, "unreachable"),
    ):
        ran = tarmac(*words, "--json")
        assert (ran.code, ran.out) == (code, ""), ran
        document = json.loads(ran.err)
        assert list(document["error"]) == ["code", "message", "hint", "detail"]
        assert document["error"]["code"] == name
    assert json.loads(tarmac("runs", "show", "00", "--json").err)["error"]["detail"] == {"kind": "run", "name": "00"}


def test_places_that_are_none(tarmac: Tarmac, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    hint = "tarmac init"
    refused(tarmac("status"), 2, "is not a tarmac workspace", hint)
    refused(tarmac("status", "-w", "/nowhere"), 2, "/nowhere is not a tarmac workspace", hint)
    refused(tarmac("status", "-w", str(file)), 2, "is not a tarmac workspace", hint)
    refused(tarmac("status", TARMAC_WORKSPACE="/nowhere"), 2, "/nowhere is not a tarmac workspace")
    refused(tarmac("store", "upgrade", TARMAC_WORKSPACE="/nowhere"), 2, "/nowhere is not a tarmac workspace")
    (tmp_path / "deep").mkdir()
    assert tarmac("status", "-w", "x" * 300).code == 1
    for words in (("up", "-w"), ("store", "upgrade", "-w"), ("init",)):
        refused(tarmac(*words, "http://localhost"), 2, "is not a folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "file"], "nothing was made on the way"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("format = 99\nid = 'a'\n", 1, ["format 99", "pip install --upgrade tarmac"]),
        ("format = 99\nid = 'a'\nnew_thing = true\n", 1, ["format 99"]),
        ("format = 1\n", 2, ["workspace.toml", "id"]),
        ("format = 'one'\nid = 'a'\n", 2, ["workspace.toml", "format"]),
        ("format = 1\nid = 'a'\nstroe = 'x'\n", 2, ["workspace.toml", "stroe"]),
        ("format = 1\nid = 'a'\nstore = 'mysql://x'\n", 2, ["postgresql://"]),
        ("format = [", 2, ["workspace.toml"]),
        ("\x00", 2, ["workspace.toml"]),
        ("", 2, ["workspace.toml"]),
    ],
)
def test_a_workspace_file_that_is_wrong(
    tarmac: Tarmac, folder: WorkspaceFolder, text: str, code: int, says: list[str]
) -> None:
    folder.description_file.write_text(text)
    refused(tarmac("status"), code, *says)
    refused(tarmac("up", "--port", "0"), code, *says)
    doctor = tarmac("doctor")
    assert doctor.code == 1
    assert says[0] in doctor.out


def test_other_files_of_a_workspace_that_are_wrong(tarmac: Tarmac, folder: WorkspaceFolder) -> None:
    key = folder.key_file.read_text()
    folder.key_file.write_text("no hex")
    refused(tarmac("status"), 2, "64 hex digits")
    folder.key_file.write_text("ab" * 32)
    refused(tarmac("status"), 2, "signed with another key")
    folder.key_file.unlink()
    refused(tarmac("status"), 2, "ledger.key cannot be read")
    folder.key_file.write_text(key)
    assert tarmac("status").code == 0
    folder.database_file.write_bytes(b"this is no database" * 1000)
    for name in ("store.db-wal", "store.db-shm"):
        (folder.path / name).unlink(missing_ok=True)
    refused(tarmac("status"), 1, "store.db")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[project]\nnmae = 'a'\n", ["no key `nmae`", "did you mean `name`?"]),
        ("[projct]\nname = 'a'\n", ["no key `projct`", "did you mean `project`?"]),
        ("[project]\nname = 3\n", ["project.name"]),
        ("[project]\nname = 'Bad Name'\n", ["project.name"]),
        ("project = 'a'\n", ["project"]),
        ("[project\n", ["not valid TOML"]),
        (os.fsdecode(b"\xff\xfe"), ["not valid TOML"]),
    ],
)
def test_a_project_file_that_is_wrong(
    tarmac: Tarmac, folder: WorkspaceFolder, tmp_path: Path, text: str, says: list[str]
) -> None:
    (tmp_path / "tarmac.toml").write_bytes(os.fsencode(text))
    refused(tarmac("status"), 2, "tarmac.toml", *says)
    (tmp_path / "new").mkdir()
    refused(tarmac("init", "new"), 2, "tarmac.toml", *says)
    assert list((tmp_path / "new").iterdir()) == []
    assert "tarmac.toml" in tarmac("doctor").out


def test_settings_that_nobody_reads(tarmac: Tarmac, folder: WorkspaceFolder) -> None:
    refused(tarmac("status", TARMAC_WORKSPCE="x"), 2, "TARMAC_WORKSPCE", "did you mean `TARMAC_WORKSPACE`?")
    refused(tarmac("status", TARMAC_PROJECT="Bad Name"), 2, "cannot be the name of a project")
    refused(tarmac("status", TARMAC_LEDGER_KEY="no hex"), 2, "64 hex digits")


def test_addresses_that_are_none(tarmac: Tarmac) -> None:
    for address in ("http://", "http:///x", "http://localhost:port", "http://localhost:99999", "http://[::1",
                    "http://h/p/a/b", "ftp://host", "postgresql://host/x"):  # fmt: skip
        refused(tarmac("status", "-w", address), 2, address)
    refused(tarmac("status", "-w", "http://localhost/p/Bad"), 2, "cannot be the name of a project")
    refused(tarmac("status", "-w", "http://localhost:9", "--project", "ü"), 2, "cannot be the name of a project")
    refused(tarmac("status", "-w", "http://no.such.host.invalid"), 1, "does not answer", "tarmac up")
    refused(tarmac("status", "-w", "http://127.0.0.1:9"), 1, "does not answer", "tarmac up")


@contextmanager
def answering(data: bytes, *, wait_for_request: bool = True) -> Iterator[str]:
    """Something at a port that gives the same bytes to everybody, and leaves."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    plug, _ = listening.accept()
                except OSError:
                    return
                with plug:
                    if wait_for_request:
                        plug.recv(65536)
                    plug.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "does not answer"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "does not answer"),
        (b"\x00" * 5000, "does not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{", "does not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<html></html>\n", "not as tarmac does"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "not as tarmac does"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe", "not as tarmac does"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "not as tarmac does"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n", "not as tarmac does"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\n<html></html>", "not as tarmac does"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}", "not one of tarmac's"),
        (b'HTTP/1.1 500 Oops\r\nContent-Length: 12\r\n\r\n{"error": 7}', "not one of tarmac's"),
        (b'HTTP/1.1 500 Oops\r\nContent-Length: 36\r\n\r\n{"error": {"code": 7, "detail": "x"}}', ""),
        (b'HTTP/1.1 500 Oops\r\nContent-Length: 48\r\n\r\n{"error": {"code": "x", "message": "\\u001b[31m\\n"}}', ""),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", "does not answer"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_what_answers_is_no_tarmac_server(tarmac: Tarmac, data: bytes, says: str) -> None:
    with answering(data) as url:
        refused(tarmac("status", "-w", url), 1, says)


@contextmanager
def unwritable(place: Path) -> Iterator[None]:
    """A folder that nobody may write, for as long as this lasts."""
    paths = [place, *place.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    for path in reversed(paths):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path in paths:
            path.chmod(modes[path])


def without_privileges() -> None:
    """Root that may no more than its files say, which is what every other user is."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: gone with the next exec


def test_a_folder_that_cannot_be_written(folder: WorkspaceFolder, tmp_path: Path) -> None:
    """Reading or refusing; nothing in between, and the folder is as it was."""
    import subprocess

    if sys.platform != "linux" and os.geteuid() == 0:
        pytest.skip("not run: root writes everywhere, and only Linux can take that from it")

    def tarmac(*words: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "tarmac", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=tarmac_environment(),
            timeout=60,
            preexec_fn=without_privileges if os.geteuid() == 0 else None,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    assert tarmac("runs", "create").code == 0
    with unwritable(folder.path):
        if tarmac("init", str(folder.path / "sub")).code == 0:
            pytest.skip("not run: this user writes everywhere")
        refused(tarmac("runs", "create"), 1, str(folder.path))
        refused(tarmac("up", "--port", "0"), 1, str(folder.path))
        refused(tarmac("store", "check"), 1, str(folder.path))
        refused(tarmac("runs", "ls"), 1, str(folder.path), "who owns the folder")
        doctor = tarmac("doctor")
        assert doctor.code == 1
        assert "cannot be written by this user" in doctor.out
    ran = tarmac("runs", "ls", "--json")
    assert len(json.loads(ran.out)["runs"]) == 1
