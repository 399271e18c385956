"""What can be asked of models on their way."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tarmac.core.operation import Command, Query, operation
from tarmac.ship.records import Cut, EndpointName, Instead

Reason = Annotated[
    str, Meta(max_length=2000, pattern=r"^[^\x00\ud800-\udfff]*$", description="at most 2,000 characters")
]
Outputs = Annotated[dict[str, Any], Meta(max_length=100, description="at most 100 outputs, each a list or a value")]


class CutList(msgspec.Struct, frozen=True, kw_only=True):
    cuts: list[Cut]


@operation("cut", needs="write", positional=("endpoint",))
class CutEndpoint(Command[Cut], frozen=True, kw_only=True):
    """Stop an endpoint's model at once: the previous version answers, a constant, or a refusal."""

    endpoint: EndpointName
    fallback: Instead = "refuse"
    outputs: Outputs = {}
    reason: Reason = ""


@operation("uncut", needs="write", positional=("endpoint",))
class UncutEndpoint(Command[Cut], frozen=True, kw_only=True):
    """Let an endpoint's model answer again."""

    endpoint: EndpointName
    reason: Reason = ""


@operation("cuts.ls", needs="read", quick=True)
class ListCuts(Query[CutList], frozen=True, kw_only=True):
    """The endpoints that are cut."""
