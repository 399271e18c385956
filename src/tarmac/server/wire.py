"""ASGI's messages, as functions: what a request carries and how an answer leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from tarmac.core.errors import Busy, OutsideRange, TarmacError, TooLarge, TooSlow

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

encode = msgspec.json.Encoder().encode

_JSON = (b"content-type", b"application/json")
_NEVER_KEEP = (b"cache-control", b"no-store")


class Gone(Exception):
    """The client left before it had sent everything."""


async def body(receive: Receive, headers: dict[bytes, bytes], limit: int) -> bytes:
    """The whole body, refused as soon as it is known to be too large."""
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limit:
        raise TooLarge.body(int(length), limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Gone
    if not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        return whole
    parts = bytearray(message.get("body", b""))
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts += message.get("body", b"")
        if len(parts) > limit:
            raise TooLarge.body(len(parts), limit)
    return bytes(parts)


async def answer(send: Send, content: bytes, status: int = 200, extra: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    headers = [_JSON, _NEVER_KEEP, (b"content-length", str(len(content)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def refuse(send: Send, error: TarmacError) -> None:
    extra: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, Busy):
        extra = ((b"retry-after", b"1"),)
    elif isinstance(error, OutsideRange):
        extra = ((b"content-range", b"bytes */%d" % error.detail["size"]),)
    elif isinstance(error, TooSlow):
        extra = ((b"connection", b"close"),)  # what is still on its way is not waited for
    elif error.status == 401:
        extra = ((b"www-authenticate", b'Bearer realm="tarmac"'),)
    await answer(send, encode(error.to_json()), error.status, extra)
