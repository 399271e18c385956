"""Versions with metrics, gates with rules: small and real."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tarmac.govern.operations import SetGate
from tarmac.registry.operations import AddVersion, GetModel
from tarmac.registry.records import Gate, Version
from tarmac.store.records import File
from tarmac.track.operations import AttachFiles, CreateRun, LogRun
from tarmac.workspace import Workspace
from tests.registry.making import blob

BETTER = "metrics['acc'] >= champion.metrics['acc'] - 0.01"


def trained(
    workspace: Workspace, acc: float, *, name: str = "churn", files: Sequence[File] = (), **params: str
) -> Version:
    """A run with a metric and a model, and a version of that."""
    run = workspace(CreateRun()).id
    workspace(LogRun(id=run, metrics=[("acc", acc, 0, 0)], params=params))
    attached = [blob(workspace, "model/MLmodel", f"flavors: {{}} {run}".encode()), *files]
    workspace(AttachFiles(id=run, files=attached))
    return workspace(AddVersion(name=name, run=run, folder="model", create=True))


def gate(workspace: Workspace, *rules: str, model: str = "churn", alias: str = "production", **more: Any) -> Gate:
    return workspace(SetGate(model=model, alias=alias, require=list(rules), **more))


def live(workspace: Workspace, alias: str = "production", model: str = "churn") -> int | None:
    return workspace(GetModel(name=model)).aliases.get(alias)
