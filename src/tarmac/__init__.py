"""tarmac: the road a model runs on. Public names are loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Connection",
    "File",
    "Run",
    "TarmacError",
    "Workspace",
    "autolog",
    "connect",
    "connection",
    "current_run",
    "dataset",
    "each",
    "load_model",
    "loop",
    "pipeline",
    "run",
    "runs",
    "search",
    "service",
    "step",
    "when",
]

if TYPE_CHECKING:
    from tarmac.core.errors import TarmacError
    from tarmac.flow.branches import each, when
    from tarmac.flow.connections import Connection, connection
    from tarmac.flow.pipelines import pipeline
    from tarmac.flow.search.function import search
    from tarmac.flow.steps import File, step
    from tarmac.logging.auto import autolog
    from tarmac.logging.auto.torch import loop
    from tarmac.logging.run import Run
    from tarmac.logging.start import current_run, run
    from tarmac.workspace import Workspace, connect
    from tarmac.workspace.datasets import dataset
    from tarmac.workspace.frames import runs
    from tarmac.workspace.models import load_model
    from tarmac.workspace.services import service

_HOMES = {
    "Connection": "tarmac.flow.connections",
    "File": "tarmac.flow.steps",
    "Run": "tarmac.logging.run",
    "TarmacError": "tarmac.core.errors",
    "Workspace": "tarmac.workspace",
    "autolog": "tarmac.logging.auto",
    "connect": "tarmac.workspace",
    "connection": "tarmac.flow.connections",
    "current_run": "tarmac.logging.start",
    "dataset": "tarmac.workspace.datasets",
    "each": "tarmac.flow.branches",
    "load_model": "tarmac.workspace.models",
    "loop": "tarmac.logging.auto.torch",
    "pipeline": "tarmac.flow.pipelines",
    "run": "tarmac.logging.start",
    "runs": "tarmac.workspace.frames",
    "service": "tarmac.workspace.services",
    "search": "tarmac.flow.search.function",
    "step": "tarmac.flow.steps",
    "when": "tarmac.flow.branches",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tarmac' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
