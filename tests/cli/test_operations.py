"""Every operation by its command, and the same command line against a folder and against a server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner
from msgspec import inspect

from tarmac import cli
from tarmac.cli.errors import run
from tarmac.cli.operation import bare, is_json
from tarmac.core.operation import Spec, spec_of
from tarmac.door import catalog
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import connect
from tests.conftest import Ran, Server
from tests.server.samples import smallest

LOOKS_FIRST = {"data.diff": "data.listing", "data.validate": "data.listing"}
"""Commands of somebody's own that look whether their work is done here or there."""


def words_of(spec: Spec, fields: dict[str, Any]) -> list[str]:
    """The command line that asks for this."""
    words, last = spec.name.split("."), []
    kinds = {field.encode_name: bare(field.type) for field in inspect.type_info(spec.request).fields}  # type: ignore[attr-defined]
    for name, value in fields.items():
        if isinstance(value, dict) and not is_json(kinds[name]):
            texts = [f"{key}={text}" for key, text in value.items()]
        elif _many(value):
            texts = value
        else:
            texts = [value if isinstance(value, str) else json.dumps(value)]
        if name in spec.positional:
            last += texts
        else:
            words += [part for text in texts for part in (f"--{name.replace('_', '-')}", text)]
    return [*words, *last]


def _many(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


@pytest.mark.parametrize("name", sorted(catalog.operations()))
def test_a_command_asks_what_its_operation_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person types becomes the very request; nothing is opened for it."""
    spec = catalog.find(name)
    asked: list[Any] = []

    class Asked(Exception):
        pass

    class Door:
        warnings: tuple[str, ...] = ()

        def __enter__(self) -> Door:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def __call__(self, request: Any) -> None:
            asked.append(request)
            raise Asked

    monkeypatch.setattr("tarmac.cli.common.connect", lambda *_: Door())
    fields = smallest(spec)
    result = CliRunner().invoke(cli.root, words_of(spec, fields))
    assert isinstance(result.exception, Asked), (result.output, result.exception)
    (request,) = asked
    if name in LOOKS_FIRST:
        assert spec_of(request).name == LOOKS_FIRST[name]
        return
    assert spec_of(request) is spec
    assert request == msgspec.convert(fields, spec.request)


# ------------------------------------------------------------------------------------ a folder and a server alike


@pytest.fixture
def folder(tmp_path: Path) -> WorkspaceFolder:
    made = WorkspaceFolder(tmp_path / ".tarmac")
    connect(made.path, create=True).close()
    return made


ID = re.compile(r"\b[0-9a-f]{16,64}\b|\b\d{18}\b|tarmac_[\w-]{43}|\d+:[0-9a-f]{64}")
STORY: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("experiments", "create", "baseline", "--note", "a\nb"),
    ("experiments", "create", "baseline"),
    ("experiments", "show", "basline"),
    ("experiments", "ls"),
    ("runs", "create", "baseline", "--name", "first", "--params", "depth=6", "--tags", "who=me=you"),
    ("runs", "show", "{id}"),
    ("runs", "end", "{id}", "--status", "failed"),
    ("runs", "end", "{id}"),
    ("runs", "ls", "--limit", "5"),
    ("runs", "ls", "--limit", "0"),
    ("runs", "ls", "--filter", "params.depth = '6'"),
    ("runs", "ls", "--filter", "params.depth ="),
    ("runs", "show", "nothing"),
    ("runs", "show", "00"),
    ("lineage", "runs/00"),
    ("blobs", "missing", "0" * 64, "1" * 64),
    ("manifests", "ls"),
    ("manifests", "commit", "--kind", "k", "--files", '[{"path": "../x", "digest": "%s", "size": 1}]' % ("0" * 64)),
    ("manifests", "commit", "--kind", "k", "--files", '[{"path": "x", "digest": "%s", "size": 1}]' % ("0" * 64)),
    ("manifests", "commit", "--kind", "k", "--files", "[{"),
    ("projects", "create", "other"),
    ("projects", "create", "Other"),
    ("projects", "ls"),
    ("store", "check"),
    ("store", "gc", "--dry-run", "--grace-hours", "-1"),
    ("audit", "verify"),
    ("audit", "verify", "--expect", "1:" + "0" * 64),
    ("audit", "ls", "--limit", "3"),
    ("audit", "export"),
    ("jobs", "ls", "--limit", "2"),
    ("people", "add", "ada"),
    ("people", "add", "ada", "--role", "admin"),
    ("people", "disable", "ada"),
    ("tokens", "create", "ada", "--permissions", "read", "--days", "0"),
    ("tokens", "ls"),
)


def settled(text: str) -> Any:
    """Output without what differs from one moment or place to the next."""
    text = re.sub(r'("\w*(?:_at|at|bytes|started|heartbeat)": ?)\d+', r"\g<1>0", text)
    return ID.sub("ID", re.sub(r"run-[0-9a-f]{6}", "run-x", text))


def tell(where: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[tuple[Any, ...]]:
    """Run the story in this process, through the same function that the program calls."""
    last = ""
    for words in STORY:
        said = [word.format(id=last) if word == "{id}" else word for word in words]
        code = run(cli.root, [*said, "-w", where, "--json"])
        out, err = capfd.readouterr()
        if words[:2] == ("runs", "create"):
            last = json.loads(out)["id"]
        assert "Traceback" not in err
        assert "internal" not in err, (words, err)
        assert len(err.splitlines()) <= 1, (words, err)
        if code and err:
            assert list(json.loads(err)["error"]) == ["code", "message", "hint", "detail"]
        yield words, code, settled(out), settled(err)


def test_a_folder_and_a_server_give_the_same(
    folder: WorkspaceFolder,
    serve: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    other = WorkspaceFolder(tmp_path_factory.mktemp("other") / ".tarmac")
    connect(other.path, create=True).close()
    with_folder = list(tell(str(other.path.parent), monkeypatch, capfd))
    with_server = list(tell(serve(folder).url, monkeypatch, capfd))
    for (words, *one), (_, *two) in zip(with_folder, with_server, strict=True):
        assert one == two, words
    assert {code for _, code, _, _ in with_folder} == {0, 1, 2}


def test_exit_codes_tell_done_refused_and_wrong(folder: WorkspaceFolder, tarmac: Callable[..., Ran]) -> None:
    where = ("-w", str(folder.path))
    assert tarmac("runs", "create", *where).code == 0
    assert tarmac("runs", "show", "00", *where).code == 1
    assert tarmac("runs", "show", "zz", *where).code == 2


def test_the_help_of_every_command_can_be_read(capfd: pytest.CaptureFixture[str]) -> None:
    def walk(group: click.Group, words: list[str]) -> Iterator[list[str]]:
        yield words
        for name in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), name)
            if isinstance(command, click.Group):
                yield from walk(command, [*words, name])
            else:
                yield [*words, name]

    for words in walk(cli.root, []):
        assert run(cli.root, [*words, "--help"]) == 0
        out, err = capfd.readouterr()
        assert err == ""
        assert out.startswith(f"Usage: {' '.join(['tarmac', *words])}"), out
        assert max(map(len, out.splitlines())) <= 100, words
        assert "\x1b" not in out
        assert "NoneType" not in out
        assert "typing." not in out
