"""Whatever is sent, the answer is an answer or a refusal, never a fault of ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarmac import store
from tarmac.core.operation import Spec
from tarmac.core.settings import Settings
from tarmac.door import catalog
from tarmac.door.jobs import Spawner
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.operations import CommitManifest
from tarmac.store.records import File
from tarmac.track.operations import CreateRun
from tarmac.workspace import connect
from tests.conftest import Ran
from tests.server.calls import Answer, Headers, Inside
from tests.server.samples import CANDIDATES

API = "/api/v1/p/default"
NASTY: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**40, 0.5, 1e308, -0.0, "", "a", "*",
    "0", "ab" * 16,
    "default", "a\x00b", "\x00", "\n", "'; DROP TABLE runs; --", "%", "_", "../../etc/passwd", "a/b", "é" * 300,
    "\U0001f600",
    "\u202e", "x" * 5000, "{}", "[]", "null", "NaN", "1e999", [], [None], [[]], {}, {"": ""}, {"a": {"b": {}}},
    {"$ref": "x"},
    [1, 2, 3], ["a"] * 50, "metrics.loss > 1", "params.x = 'a' AND", "9" * 400, "0:" + "0" * 64,
    "99999999999999999999:" + "0" * 64,
)  # fmt: skip
json_values = st.recursive(
    st.sampled_from(NASTY)
    | st.text(st.characters(codec="utf-8"), max_size=30)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WorkspaceFolder:
    made = WorkspaceFolder(tmp_path_factory.mktemp("fuzz") / ".tarmac")
    # the server's own first database: nobody else uses it
    address = "sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_server")
    store.create(made, Settings(), address).close()
    return made


@pytest.fixture(scope="module")
def existing(folder: WorkspaceFolder) -> tuple[Any, ...]:
    """Names and ids of things that are there, so that handlers get further than to a refusal."""
    with connect(folder.path, settings=Settings()) as workspace:
        run = workspace(CreateRun(experiment="baseline", params={"depth": "6"}, tags={"a": "b"}))
        child = workspace(CreateRun(experiment="baseline", parent=run.id))
        blob = workspace.put(b"bytes")
        file = File(path="a.txt", digest=blob, size=5)
        manifest = workspace(CommitManifest(kind="files", files=[file])).manifest
        assert manifest is not None
    return (
        *("baseline", run.id, child.id, f"runs/{run.id}", manifest.id, blob, "depth", "loss", "params.depth"),
        *([run.id], [run.id, child.id], ["baseline"], [blob], [msgspec.to_builtins(file)], "params.depth = '6'"),
        [{"key": "loss", "step": 1, "value": 0.5, "time": 1}],
    )


@pytest.fixture(scope="module")
def inside(folder: WorkspaceFolder, existing: tuple[Any, ...]) -> Iterator[Inside]:
    made = Inside(folder)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spawner, "start", lambda *_: None)


def owner(inside: Inside) -> Headers:
    return {"authorization": f"Bearer {inside.app.auth.local_token}"}


def judge(answer: Answer) -> None:
    assert answer.status < 500, answer
    if answer.status >= 400:
        answer.error()


def fields_of(spec: Spec, existing: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """Requests near enough to right ones that many pass the decoder and meet the handler."""
    hints = get_type_hints(spec.request, include_extras=True)
    parts = {}
    for field in msgspec.structs.fields(spec.request):
        right, near = (
            [value for value in values if _fits(value, hints[field.name])]
            for values in (existing, (*CANDIDATES, *NASTY))
        )
        choices = [st.sampled_from(values) for values in (right, right, near) if values]
        parts[field.encode_name] = mostly(st.one_of(*choices) if choices else json_values)
    required = {field.encode_name for field in msgspec.structs.fields(spec.request) if field.required}
    return st.fixed_dictionaries(
        {name: parts[name] for name in required}, optional={name: parts[name] for name in parts if name not in required}
    )


def mostly(near: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One in ten is anything at all."""
    return st.integers(0, 9).flatmap(lambda number: near if number else json_values)


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


PROVE = bool(os.environ.get("TARMAC_PROVE"))
FEW = settings(
    max_examples=2000 if PROVE else 40,
    derandomize=not PROVE,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", sorted(catalog.operations()))
def test_no_request_is_answered_with_a_fault(inside: Inside, existing: tuple[Any, ...], name: str) -> None:
    spec = catalog.find(name)

    @FEW
    @given(mostly(fields_of(spec, existing)))
    def ask(fields: Any) -> None:
        if spec.kind != "query":
            judge(inside.ask("POST", f"{API}/{name}", body=msgspec.json.encode(fields), headers=owner(inside)))
            return
        pairs = fields if isinstance(fields, dict) else {"x": fields}
        texts = {
            key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for key, value in pairs.items()
        }
        judge(inside.ask("GET", f"{API}/{name}", urlencode(texts), headers=owner(inside)))

    ask()


@FEW
@given(st.binary(max_size=200))
def test_no_body_is_answered_with_a_fault(inside: Inside, body: bytes) -> None:
    judge(inside.ask("POST", f"{API}/runs.create", body=body, headers=owner(inside)))


@FEW
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_address_is_answered_with_a_fault(inside: Inside, path: str, query: str) -> None:
    for start in ("/", "/docs/", "/api/", "/api/v1/p/", f"{API}/", f"{API}/blobs/"):
        judge(inside.ask("GET", start + path, quote(query, safe="&=%"), headers=owner(inside)))


def test_the_store_is_whole_after_all_of_it(inside: Inside, tarmac: Callable[..., Ran]) -> None:
    """Runs last: much was written, and none of it by half."""
    assert inside.ask("GET", f"{API}/status", headers=owner(inside)).json()["ledger"]["events"] > 50
    checked = tarmac("store", "check", "-w", str(inside.folder.path), "--json")
    assert checked.code == 0, checked
