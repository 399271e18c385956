"""Files through the proxy: in a run, outside of any, in parts, under every name, and never outside of the store."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

import pytest

from tests.server.calls import Answer
from tests.server.mlflow.conftest import Caller, refused

PROXY = "/api/2.0/mlflow-artifacts"
NOBODY = "ab" * 16


@pytest.fixture
def run(mlflow: Caller) -> str:
    return str(mlflow.ok("runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"])


def ask(mlflow: Caller, verb: str, path: str, body: bytes = b"", query: str = "", **headers: str) -> Answer:
    given = {"content-type": "application/octet-stream", **headers}
    return mlflow.inside.ask(verb, unquote(path), query, body, given, same_user=True)


def put(mlflow: Caller, path: str, body: bytes) -> None:
    answer = ask(mlflow, "PUT", f"{PROXY}/artifacts/{path}", body)
    assert answer.status == 200, answer


def get(mlflow: Caller, path: str, **headers: str) -> Answer:
    return ask(mlflow, "GET", f"{PROXY}/artifacts/{path}", b"", "", **headers)


def test_files_of_a_run(mlflow: Caller, run: str) -> None:
    root = f"0/{run}/artifacts"
    put(mlflow, f"{root}/model/weights.bin", b"\x00" * 100_000)
    put(mlflow, f"{root}/notes.txt", b"first")
    put(mlflow, f"{root}/notes.txt", b"second")
    assert get(mlflow, f"{root}/notes.txt").body == b"second"
    listed = mlflow.seen("artifacts/list", run_id=run)
    assert listed["root_uri"] == f"mlflow-artifacts:/{root}"
    assert listed["files"] == [
        {"path": "model", "is_dir": True},
        {"path": "notes.txt", "is_dir": False, "file_size": 6},
    ]
    inner = mlflow.seen("artifacts/list", run_id=run, path="model/")
    assert inner["files"] == [{"path": "model/weights.bin", "is_dir": False, "file_size": 100_000}]
    proxied = ask(mlflow, "GET", f"{PROXY}/artifacts", query=f"path={root}/model").json()
    assert proxied == {"files": [{"path": "weights.bin", "is_dir": False, "file_size": 100_000}]}
    page = ask(mlflow, "GET", "/get-artifact", query=f"run_uuid={run}&path=notes.txt")
    assert page.body == b"second"
    part = get(mlflow, f"{root}/notes.txt", range="bytes=1-3")
    assert (part.status, part.body) == (206, b"eco")
    assert ask(mlflow, "HEAD", f"{PROXY}/artifacts/{root}/notes.txt").all("content-length") == ["6"]
    assert ask(mlflow, "DELETE", f"{PROXY}/artifacts/{root}/model").status == 200
    refused(get(mlflow, f"{root}/model/weights.bin"), 404, "RESOURCE_DOES_NOT_EXIST")
    assert ask(mlflow, "DELETE", f"{PROXY}/artifacts/{root}").status == 200
    assert "files" not in mlflow.seen("artifacts/list", run_id=run)


def test_a_path_that_may_get_other_bytes_is_not_kept_for_ever(mlflow: Caller, run: str) -> None:
    native = f"/api/v1/p/default/runs/{run}/files/a.txt"
    tags = []
    for content in (b"one", b"two"):
        put(mlflow, f"0/{run}/artifacts/a.txt", content)
        answer = mlflow.inside.ask("GET", native, same_user=True)
        assert answer.body == content
        assert answer.all("cache-control") == ["private, no-cache"]
        tags += answer.all("etag")
    assert len(set(tags)) == 2


def test_the_same_bytes_are_stored_once(mlflow: Caller, run: str) -> None:
    for name in ("a.bin", "b.bin", "c/d.bin"):
        put(mlflow, f"0/{run}/artifacts/{name}", b"the same" * 1000)
    put(mlflow, "shared/e.bin", b"the same" * 1000)
    status = mlflow.inside.ask("GET", "/api/v1/p/default/status", same_user=True).json()
    assert status["blobs"] == {"count": 1, "bytes": 8000}, status


def test_files_that_belong_to_no_run(mlflow: Caller) -> None:
    put(mlflow, "a.txt", b"0")
    put(mlflow, "dir/b.txt", b"1")
    assert get(mlflow, "dir/b.txt").body == b"1"
    assert ask(mlflow, "GET", f"{PROXY}/artifacts").json() == {
        "files": [{"path": "a.txt", "is_dir": False, "file_size": 1}, {"path": "dir", "is_dir": True}]
    }
    assert ask(mlflow, "GET", f"{PROXY}/artifacts", query="path=dir").json() == {
        "files": [{"path": "b.txt", "is_dir": False, "file_size": 1}]
    }
    refused(ask(mlflow, "PUT", f"{PROXY}/artifacts/a.txt/below", b"x"), 400, "INVALID_PARAMETER_VALUE")
    refused(ask(mlflow, "PUT", f"{PROXY}/artifacts/dir", b"x"), 400, "INVALID_PARAMETER_VALUE")
    assert ask(mlflow, "DELETE", f"{PROXY}/artifacts/dir").status == 200
    refused(ask(mlflow, "DELETE", f"{PROXY}/artifacts/dir"), 404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"), ("MLmodel", "text/plain"), ("conda.yaml", "text/plain"), ("c.png", "image/png"),
        ("b.pkl", "application/octet-stream"), ("x", "application/octet-stream"), ("d.pdf", "application/pdf"),
        ("page.html", "text/html"),
    ],
)  # fmt: skip
def test_kinds(mlflow: Caller, name: str, kind: str) -> None:
    put(mlflow, f"dir/{name}", b"")
    answer = get(mlflow, f"dir/{name}", accept="text/html")
    assert answer.all("content-type") == [kind]
    assert answer.all("content-disposition") == [f"attachment; filename={name}"]
    assert answer.all("x-content-type-options") == ["nosniff"]
    assert answer.all("cache-control") == ["no-cache"], "the path may lead to other bytes tomorrow"


@pytest.mark.parametrize(
    "name", ["ä ö.txt", "日本.txt", 'quo"te.txt', "100%.txt", "semi;colon.txt", "emoji 😀.bin", "a'b"]
)
def test_names_beyond_ascii(mlflow: Caller, run: str, name: str) -> None:
    path = f"{PROXY}/artifacts/0/{run}/artifacts/{name}"
    assert mlflow.inside.ask("PUT", path, body=b"hello", same_user=True).status == 200
    answer = mlflow.inside.ask("GET", path, same_user=True)
    assert answer.body == b"hello"
    said = answer.all("content-disposition")[0]
    assert said.isascii()
    assert said.startswith("attachment; filename=")
    assert said.endswith((f"filename={name}", f"filename*=UTF-8''{quote(name, safe='')}"))
    assert mlflow.seen("artifacts/list", run_id=run)["files"][0]["path"] == name


TRAVERSALS = [
    "../x", "a/../../x", "/etc/passwd", "..", "a\\b", "C:/x", "%2e%2e/x", "%252e%252e%252fx", "a/%2e%2e/b", "a\x00b",
    "a//b",
]  # fmt: skip


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_out(mlflow: Caller, run: str, path: str) -> None:
    for verb in ("GET", "PUT", "DELETE"):
        for where in (f"{PROXY}/artifacts/", f"{PROXY}/artifacts/0/{run}/artifacts/"):
            answer = mlflow.inside.ask(verb, where + path, body=b"x", same_user=True)
            refused(answer, 400, "INVALID_PARAMETER_VALUE", "Invalid path")
    for where in ("/api/2.0/mlflow/artifacts/list", "/get-artifact", "/model-versions/get-artifact"):
        query = f"run_id={run}&path={quote(path)}"
        refused(mlflow.inside.ask("GET", where, query, same_user=True), 400, "INVALID_PARAMETER_VALUE")


def test_what_is_missing(mlflow: Caller, run: str) -> None:
    absent = (404, "RESOURCE_DOES_NOT_EXIST")
    refused(get(mlflow, f"0/{run}/artifacts/nothing.txt"), *absent, "nothing.txt")
    refused(get(mlflow, f"0/{NOBODY}/artifacts/nothing.txt"), *absent)
    refused(get(mlflow, "nothing.txt"), *absent)
    refused(ask(mlflow, "GET", "/get-artifact", query=f"run_id={run}&path=nothing.txt"), *absent)
    refused(ask(mlflow, "PUT", f"{PROXY}/artifacts/0/{NOBODY}/artifacts/a", b"x"), *absent)
    refused(ask(mlflow, "GET", "/get-artifact", query="path=x"), 400, "INVALID_PARAMETER_VALUE", "'run_id'")
    refused(mlflow.get("artifacts/list", run_id=NOBODY), *absent)
    refused(mlflow.get("artifacts/list"), 400, "INVALID_PARAMETER_VALUE", "'run_id'")
    assert ask(mlflow, "GET", f"{PROXY}/artifacts", query="path=0/never/artifacts").json() == {}
    for text in (refused(get(mlflow, "nothing.txt"), *absent), str(mlflow.seen("artifacts/list", run_id=run))):
        assert str(mlflow.inside.folder.path) not in text


def test_a_deleted_run_takes_no_files(mlflow: Caller, run: str) -> None:
    mlflow.ok("runs/delete", {"run_id": run})
    answer = ask(mlflow, "PUT", f"{PROXY}/artifacts/0/{run}/artifacts/a.txt", b"x")
    refused(answer, 400, "INVALID_PARAMETER_VALUE", "must be in the 'active' state")


def test_in_parts(mlflow: Caller, run: str) -> None:
    folder = f"0/{run}/artifacts/big"
    begun = mlflow.post(f"mpu/create/{folder}", {"path": "w.bin", "num_parts": 3}, _api=PROXY).json()
    parts: list[dict[str, Any]] = []
    for number, credential in enumerate(begun["credentials"], 1):
        address = credential["url"].removeprefix("http://localhost")
        sent = ask(mlflow, "PUT", address, bytes([number]) * 1000)
        parts.append({"part_number": number, "etag": sent.all("etag")[0], "url": credential["url"]})
    whole = {"path": "w.bin", "upload_id": begun["upload_id"], "parts": parts[::-1]}
    assert mlflow.post(f"mpu/complete/{folder}", whole, _api=PROXY).status == 200
    assert get(mlflow, f"{folder}/w.bin").body == b"\x01" * 1000 + b"\x02" * 1000 + b"\x03" * 1000
    assert mlflow.post(f"mpu/abort/{folder}", {"path": "w.bin", "upload_id": "x"}, _api=PROXY).status == 200
    wrong: list[dict[str, Any]] = [{**whole, "parts": parts[1:]}, {**whole, "parts": []}, {"path": "w.bin"}]
    for fields in wrong:
        refused(mlflow.post(f"mpu/complete/{folder}", fields, _api=PROXY), 400, "INVALID_PARAMETER_VALUE")
    unknown = {**whole, "parts": [{"part_number": 1, "etag": "0" * 64}]}
    refused(mlflow.post(f"mpu/complete/{folder}", unknown, _api=PROXY), 404, "RESOURCE_DOES_NOT_EXIST")
    for count in (0, 10_001):
        asked = {"path": "w.bin", "num_parts": count}
        refused(mlflow.post(f"mpu/create/{folder}", asked, _api=PROXY), 400, "INVALID_PARAMETER_VALUE")


def test_what_a_page_sends(mlflow: Caller, run: str) -> None:
    where = "/ajax-api/2.0/mlflow/upload-artifact"
    assert ask(mlflow, "POST", where, b"hello", f"run_uuid={run}&path=a/b.txt").status == 200
    assert get(mlflow, f"0/{run}/artifacts/a/b.txt").body == b"hello"
    for query, body, text in (
        ("", b"x", "Request must specify run_uuid."),
        (f"run_uuid={run}", b"x", "Request must specify path."),
        (f"run_uuid={run}&path=../x", b"x", "Invalid path"),
        (f"run_uuid={run}&path=x", b"", "Request must specify data."),
    ):
        refused(ask(mlflow, "POST", where, body, query), 400, "INVALID_PARAMETER_VALUE", text)


def test_signed_addresses_are_not_given(mlflow: Caller) -> None:
    refused(ask(mlflow, "GET", f"{PROXY}/presigned/a.txt"), 501, "NOT_IMPLEMENTED")
