"""Who asks: a token, a browser session, or on this machine the very user who runs the server."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import secrets
import time
from pathlib import Path

from tarmac.core.actor import Actor, os_user
from tarmac.core.errors import Unauthenticated
from tarmac.people import queries, tokens
from tarmac.server.guard import is_loopback
from tarmac.store import Store

REMEMBER_SECONDS = 1.0
"""How long a known token is not looked up again; revoking one on this server forgets it at once."""
REMEMBER_AT_MOST = 10_000
SESSION_COOKIE = "tarmac_session"
SESSION_SECONDS = 12 * 3600


class Peer:
    """The other end of one connection; its user is asked of the kernel once, and only when somebody must know."""

    def __init__(self, client: tuple[str, int] | None, server: tuple[str, int] | None) -> None:
        self._client = client
        self._server = server
        self._same: bool | None = None

    def is_same_user(self) -> bool:
        if self._same is None:
            self._same = self._look()
        return self._same

    def _look(self) -> bool:
        if self._client is None or self._server is None or not is_loopback(self._client[0]):
            return False
        return socket_owner(self._client, self._server) == _own_user()


class Authenticator:
    """Turns the headers of a request into an actor, or refuses."""

    def __init__(self, store: Store) -> None:
        self.local_token = tokens.make()
        self._store = store
        self._owner = os_user()
        self._known: dict[str, tuple[float, Actor]] = {}
        self._people: tuple[float, bool] = (0.0, False)
        self._keys: set[str] = set()
        self._sessions: dict[str, float] = {}

    def actor(self, headers: dict[bytes, bytes], peer: Peer) -> Actor:
        authorization = headers.get(b"authorization")
        if authorization is not None:
            return self._by_token(_token_in(authorization))
        if (cookie := headers.get(b"cookie")) is not None and self._has_session(cookie):
            return self._owner
        if self.knows_people():
            raise Unauthenticated("who are you?", hint="send a token: `Authorization: Bearer …` (TARMAC_TOKEN)")
        if peer.is_same_user():
            return self._owner
        raise Unauthenticated(
            "this server serves its own user on its own machine until it knows people",
            hint="use the address that `tarmac up` printed, or: `tarmac people add NAME --role admin`",
        )

    def knows_people(self) -> bool:
        until, known = self._people
        if time.monotonic() >= until:
            with self._store.database.read() as connection:
                known = queries.anybody(connection)
            self._people = (time.monotonic() + REMEMBER_SECONDS, known)
        return known

    def forget(self) -> None:
        """People or tokens have changed: look everything up again."""
        self._known.clear()
        self._people = (0.0, False)

    def one_time_key(self) -> str:
        key = secrets.token_urlsafe(24)
        self._keys.add(key)
        return key

    def session_for(self, key: str) -> str | None:
        """A browser session for the owner, in exchange for a key that is then spent."""
        if key not in self._keys:
            return None
        self._keys.discard(key)
        session = secrets.token_urlsafe(32)
        self._sessions[session] = time.monotonic() + SESSION_SECONDS
        return session

    def _by_token(self, token: str) -> Actor:
        now = time.monotonic()
        known = self._known.get(token)
        if known is not None and known[0] > now:
            return known[1]
        if hmac.compare_digest(token.encode(), self.local_token.encode()):
            return self._owner
        with self._store.database.read() as connection:
            actor = tokens.actor_of(connection, token)
        if len(self._known) >= REMEMBER_AT_MOST:
            self._known.clear()
        self._known[token] = (now + REMEMBER_SECONDS, actor)
        return actor

    def _has_session(self, cookie: bytes) -> bool:
        for part in cookie.decode("latin-1").split(";"):
            name, _, value = part.strip().partition("=")
            if name == SESSION_COOKIE and self._sessions.get(value, 0.0) > time.monotonic():
                return True
        return False


def _token_in(authorization: bytes) -> str:
    scheme, _, value = authorization.decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":  # the password is the token, whatever the name: MLflow's clients send it so
        try:
            return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            pass
    raise Unauthenticated("the Authorization header is neither Bearer nor Basic", hint="Authorization: Bearer TOKEN")


def socket_owner(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """The user who holds the socket with these two ends, where the kernel tells (Linux)."""
    table = Path("/proc/net/tcp6" if ":" in local[0] else "/proc/net/tcp")
    wanted = f"{_kernel_address(local)} {_kernel_address(remote)}"
    try:
        with table.open(encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if f"{fields[1]} {fields[2]}" == wanted:
                    return int(fields[7])
    except (OSError, IndexError, ValueError):
        return None
    return None


def _kernel_address(end: tuple[str, int]) -> str:
    import socket
    import sys

    family = socket.AF_INET6 if ":" in end[0] else socket.AF_INET
    packed = socket.inet_pton(family, end[0])
    words = [int.from_bytes(packed[start : start + 4], sys.byteorder) for start in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{end[1]:04X}"


def _own_user() -> int:
    return os.getuid() if hasattr(os, "getuid") else -1
