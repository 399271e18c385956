"""What a request must look like before anybody asks what it wants.

Against pages elsewhere that make a person's browser call this server: a host that is not ours (DNS rebinding), an
origin that is not ours, a form instead of JSON. None of this replaces knowing who asks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tarmac.core.errors import Untrusted, WrongContent, bounded

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Guard:
    """The checks, for one set of names this server is known by."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in hosts}

    def check(self, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if _without_port(host) not in self._hosts:
            raise Untrusted(
                f"this server is not known as `{bounded(host)}`",
                hint="if it should be: `tarmac up --allow-host NAME`",
            )
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
            raise Untrusted(f"a page of {bounded(origin.decode('latin-1'))} may not call this server")
        site = headers.get(b"sec-fetch-site", b"none")
        # a link elsewhere may lead a person to our pages; it may not fetch from our API
        visits_page = method == "GET" and headers.get(b"sec-fetch-mode") == b"navigate" and not path.startswith("/api/")
        if site not in (b"same-origin", b"none") and not visits_page:
            raise Untrusted("a page of another site may not call this server")


def check_json(headers: dict[bytes, bytes]) -> None:
    """A command must say that it is JSON: a form that a browser sends without asking cannot."""
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise WrongContent(
            f"a command is sent as application/json, not `{bounded(kind.decode('latin-1')) or 'nothing'}`",
            hint="add the header Content-Type: application/json",
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
