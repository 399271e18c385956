"""MLflow's API of an app in this process, on each database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import pytest

from tarmac.core.actor import os_user
from tarmac.core.operation import Operation
from tarmac.store.folder import WorkspaceFolder
from tarmac.workspace import connect
from tests.server.calls import Answer, Inside

T = TypeVar("T")
API = "/api/2.0/mlflow"


@dataclass
class Caller:
    """A client that knows nothing but HTTP."""

    inside: Inside
    base: str = ""

    def get(self, _path: str, _api: str = API, **fields: Any) -> Answer:
        query = urlencode(fields, doseq=True)
        return self.inside.ask("GET", f"{self.base}{_api}/{_path}", query, same_user=True)

    def post(self, path: str, fields: Any = None, verb: str = "POST", _api: str = API) -> Answer:
        body = fields if isinstance(fields, bytes) else json.dumps(fields or {}).encode()
        return self.inside.ask(verb, f"{self.base}{_api}/{path}", body=body, same_user=True)

    def ok(self, path: str, fields: Any = None, verb: str = "POST") -> Any:
        answer = self.post(path, fields, verb)
        assert answer.status == 200, answer
        return answer.json()

    def do(self, request: Operation[T]) -> T:
        """What tarmac's own clients would ask for."""
        answer: T = self.inside.door.dispatch(request, os_user(), "default")
        return answer

    def seen(self, _path: str, **fields: Any) -> Any:
        answer = self.get(_path, **fields)
        assert answer.status == 200, answer
        return answer.json()


def refused(answer: Answer, status: int, code: str, text: str = "") -> str:
    """That the answer is MLflow's error of this status and code, with this text in its message."""
    document = answer.json()
    assert list(document) == ["error_code", "message"], document
    assert (answer.status, document["error_code"]) == (status, code), document
    assert text in document["message"], document
    return str(document["message"])


@pytest.fixture
def mlflow(folder: WorkspaceFolder) -> Iterator[Caller]:
    connect(folder.path.parent).close()  # makes the project
    inside = Inside(folder)
    yield Caller(inside)
    inside.close()
