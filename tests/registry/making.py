"""Small packages and models for tests."""

from __future__ import annotations

import time
from typing import Any

from tarmac.core.digest import digest
from tarmac.govern.operations import ListEvents
from tarmac.govern.records import AuditEvent
from tarmac.registry.operations import AddVersion, CreateModel, CreatePackage, PromoteVersion
from tarmac.registry.records import Package, Version
from tarmac.store.operations import CheckStore
from tarmac.store.records import File
from tarmac.track.operations import AttachFiles, CreateRun
from tarmac.workspace import Workspace


def blob(workspace: Workspace, path: str, data: bytes) -> File:
    workspace.put(data)
    return File(path=path, digest=digest(data), size=len(data))


def package(workspace: Workspace, data: bytes = b"weights", **given: Any) -> Package:
    files = [blob(workspace, "MLmodel", b"flavors: {}"), blob(workspace, "data/model.bin", data)]
    made = workspace(CreatePackage(name=given.pop("name", "churn"), files=files, **given)).package
    assert made is not None
    return made


def run_with_model(workspace: Workspace, data: bytes = b"weights") -> str:
    run = workspace(CreateRun()).id
    files = [blob(workspace, "model/MLmodel", b"flavors: {}"), blob(workspace, "model/data/model.bin", data)]
    workspace(AttachFiles(id=run, files=[*files, blob(workspace, "notes.txt", b"no part of it")]))
    return run


def versions(workspace: Workspace, name: str, count: int) -> list[Version]:
    """A model with so many versions, each of a place outside."""
    workspace(CreateModel(name=name))
    return [workspace(AddVersion(name=name, source=f"s3://bucket/{number}")) for number in range(1, count + 1)]


def promote(workspace: Workspace, ref: str, to: str, reason: str = "") -> None:
    workspace(PromoteVersion(ref=ref, to=to, reason=reason))


def last_event(workspace: Workspace, operation: str) -> AuditEvent:
    """The newest event of an operation, once it is sealed."""
    for _ in range(200):
        if found := workspace(ListEvents(operation=operation, limit=1)).events:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"{operation} left no event")


def sound(workspace: Workspace) -> None:
    assert workspace.wait(workspace(CheckStore())).faults == []
