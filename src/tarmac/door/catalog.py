"""Where operations are found: each stage's `operations.py`, and on the side that carries them out its `handlers.py`."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from tarmac.core.errors import NotFound
from tarmac.core.operation import HANDLERS, SPECS, Handler, Spec

STAGES = ("store", "people", "data", "track", "flow", "registry", "govern", "ship", "start")


@cache
def operations() -> dict[str, Spec]:
    """Every operation by name; imports types only."""
    for stage in STAGES:
        import_module(f"tarmac.{stage}.operations")
    return SPECS


@cache
def handlers() -> dict[str, Handler]:
    """Every operation's handler; imports the stages themselves."""
    operations()
    for stage in STAGES:
        import_module(f"tarmac.{stage}.handlers")
    return HANDLERS


def handler(spec: Spec) -> Handler:
    """An operation's handler; imports its stage and no other, unless it is one that all stages have a say in."""
    stage = spec.request.__module__.removesuffix(".operations")
    if spec.kind == "command" and stage == "tarmac.store":  # what the stages hold is not theirs to delete
        return handlers()[spec.name]
    if spec.name not in HANDLERS:
        import_module(f"{stage}.handlers")
    return HANDLERS[spec.name]


def find(name: str) -> Spec:
    spec = operations().get(name)
    if spec is None:
        raise NotFound.named("operation", name, operations(), hint="the list: GET /api/v1/openapi.json")
    return spec
