"""Connections: what steps talk to outside. A pipeline names one; its secret is resolved where the step runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tarmac.core import connections
from tarmac.core.secrets import Secret, resolve
from tarmac.flow.graph import Node


class Connection:
    """A connection of `tarmac.toml`. `secret` shows itself only to `connection.secret.reveal()`."""

    __slots__ = ("_reference", "kind", "name", "secret", "url", "user")

    def __init__(self, name: str, kind: str, url: str, user: str, reference: str, secret: Secret | None = None) -> None:
        self.name = name
        self.kind = kind
        self.url = url
        self.user = user
        self.secret = secret
        self._reference = reference

    def __repr__(self) -> str:
        return f"<connection {self.name}>"

    def __tarmac_key__(self) -> tuple[str, str, str, str]:
        """What of it counts for a key: where it leads, and never the secret."""
        return self.name, self.kind, self.url, self.user

    def __reduce__(self) -> Any:
        return Connection, (self.name, self.kind, self.url, self.user, self._reference)

    def opened(self) -> Connection:
        """With its secret."""
        secret = resolve(self._reference) if self._reference else None
        return Connection(self.name, self.kind, self.url, self.user, self._reference, secret)


def connection(name: str) -> Connection:
    """The connection that `[connections.NAME]` of the nearest `tarmac.toml` describes, to be given to a step."""
    found = connections.named(name, Path.cwd())
    connections.refuse_open(name, found)
    return Connection(name, found.kind, found.url, found.user, found.secret)


def resolved(value: Any) -> Any:
    return value.opened() if isinstance(value, Connection) else value


def lent(node: Node) -> tuple[str, ...]:
    """The secrets that a step is lent: what it prints is searched for them."""
    found = []
    for value in node.arguments.values():
        if isinstance(value, Connection):
            secret = value.opened().secret
            if secret is not None:
                found.append(secret.reveal())
    return tuple(found)
