"""What the addresses in a version of MLflow's lead to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

_OF_PACKAGE = re.compile(r"(?:^|/)(m-[0-9a-f]{32})(?:/artifacts)?/?\Z")
_OF_RUN = re.compile(r"(?:^|/)([0-9a-f]{32})/artifacts(?:/(.*?))?/?\Z", re.DOTALL)
_RUNS = "runs:/"


def packages(*addresses: str) -> Iterator[str]:
    """Ids of logged models."""
    for path in _paths(addresses):
        if found := _OF_PACKAGE.search(path):
            yield found[1]


def folders_of_runs(*addresses: str) -> Iterator[tuple[str, str]]:
    """Runs, and which of their folders."""
    for path in _paths(addresses):
        if found := _OF_RUN.search(path):
            yield found[1], found[2] or ""
    for address in addresses:
        if address.startswith(_RUNS):
            run, _, folder = address.removeprefix(_RUNS).strip("/").partition("/")
            if re.fullmatch(r"[0-9a-f]{32}", run):
                yield run, folder


def _paths(addresses: tuple[str, ...]) -> Iterator[str]:
    for address in addresses:
        try:
            parts = urlsplit(address)
        except ValueError:
            continue
        yield unquote(parts.path) if parts.scheme else address
