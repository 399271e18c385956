"""What is known of models on their way."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

EndpointName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"^[^/\x00-\x1f\x7f\ud800-\udfff]+$(?!\n)",
        description="1 to 200 characters without `/`",
    ),
]
Instead = Literal["previous", "constant", "refuse"]


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that was stopped: what answers instead, why, and who did it."""

    endpoint: str
    fallback: Instead
    outputs: dict[str, Any] = {}
    reason: str
    actor: str
    at: int
