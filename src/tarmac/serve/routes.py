"""The routes document: which package folders answer under which names, and with which shares.

It is a JSON file that whoever runs the runtime replaces as a whole; every worker notices within a moment and swaps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tarmac.core.errors import Invalid, NewerFormat, bounded, nearest

FORMAT = 1

Share = Annotated[float, Meta(ge=0, le=1)]


class Served(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of an endpoint: a package folder and the share of callers it answers."""

    version: str
    folder: str
    digest: str | None = None
    """Of the package: its files are verified against it before anything is loaded."""
    compiled: str | None = None
    """Of its compiled form, if that is to be used and no other."""
    share: Share = 1.0
    model: str = ""


class Fallback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a cut endpoint answers: another version, always the same outputs, or a refusal."""

    kind: Literal["version", "constant", "refuse"] = "refuse"
    version: str | None = None
    outputs: dict[str, Any] = {}
    message: str = "this endpoint was cut"


class Batching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many rows go into the model at once, and how many may wait before callers are sent away."""

    rows: Annotated[int, Meta(ge=1, le=100_000)] = 64
    waiting: Annotated[int, Meta(ge=1, le=1_000_000)] = 2048


class Logging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of predictions."""

    sample: Share = 1.0
    redact: list[str] = []
    outputs: bool = True


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^/\x00-\x1f\x7f]+$")]
    versions: Annotated[list[Served], Meta(min_length=1, max_length=50)]
    sticky: str | None = None
    """The parameter or header whose value keeps a caller on one version."""
    salt: str = ""
    shadow: str | None = None
    """A version that sees every request and answers nobody."""
    cut: bool = False
    fallback: Fallback = Fallback()
    batching: Batching = Batching()
    log: Logging = Logging()
    timeout_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 30_000


class Routes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int = FORMAT
    generation: int = 0
    endpoints: list[Endpoint] = []
    trust: list[str] = []
    """Digests of packages whose own code may run here."""
    tokens: list[str] = []
    """Digests of the tokens that callers have to show; none means that everybody may ask."""


_decoder = msgspec.json.Decoder(Routes)


def read(path: Path) -> Routes:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from None
    return parse(text, str(path))


def parse(text: bytes, name: str = "the routes document") -> Routes:
    try:
        found = msgspec.json.decode(text, type=dict[str, Any]).get("format", FORMAT)
        if isinstance(found, int) and found > FORMAT:
            raise NewerFormat.of(name, found, FORMAT)
        routes = _decoder.decode(text)
    except msgspec.DecodeError as error:
        raise Invalid(f"{name} is no routes document: {bounded(error, 300)}") from None
    _check(routes)
    return routes


def _check(routes: Routes) -> None:
    seen: set[str] = set()
    for endpoint in routes.endpoints:
        if endpoint.name in seen:
            raise Invalid(f"two endpoints are called `{bounded(endpoint.name)}`")
        seen.add(endpoint.name)
        versions = [served.version for served in endpoint.versions]
        if len(set(versions)) != len(versions):
            raise Invalid(f"endpoint `{bounded(endpoint.name)}` names a version twice")
        if not any(served.share for served in endpoint.versions):
            raise Invalid(f"no version of endpoint `{bounded(endpoint.name)}` has a share: nobody would answer")
        for what, version in (("shadow", endpoint.shadow), ("fallback", endpoint.fallback.version)):
            if version is not None and version not in versions:
                near = nearest(version, versions)
                raise Invalid(
                    f"the {what} of endpoint `{bounded(endpoint.name)}` is `{bounded(version)}`, which it has not",
                    hint=f"did you mean `{near}`?" if near else f"it has: {', '.join(versions)}",
                )
