"""What flows instead of being answered at once: blobs up and down, and the ledger as it grows. Fixed memory each."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tarmac.core.actor import Actor
from tarmac.core.errors import (
    Forbidden,
    Invalid,
    NotFound,
    OutsideRange,
    TarmacError,
    TooSlow,
    Unauthenticated,
    UnknownKey,
    bounded,
)
from tarmac.data.reading import read_file
from tarmac.door import catalog
from tarmac.door.dispatch import Door
from tarmac.govern.operations import AuditPage, ListEvents
from tarmac.server.inflow import Lender, borrow
from tarmac.server.wire import Gone, Message, Receive, Send, answer, encode
from tarmac.store.blobs.folder import Incoming, Stored

DIGEST = re.compile(r"[0-9a-f]{64}")
RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")
WRITE_AT_ONCE = 4 * 1024 * 1024
LOOK_EVERY_SECONDS = 0.2
SIGN_OF_LIFE_SECONDS = 15.0
EVENTS_AT_ONCE = 500

Described = tuple[tuple[bytes, bytes], ...]
"""Headers that say what bytes are, and how long they may be kept."""
AS_BLOB: Described = (
    (b"content-type", b"application/octet-stream"),
    (b"cache-control", b"private, immutable, max-age=31536000"),
    (b"content-disposition", b"attachment"),
)

AS_FILE: Described = (
    (b"content-type", b"application/octet-stream"),
    (b"cache-control", b"private, no-cache"),  # other bytes may come to its path: the tag says whether they did
    (b"content-disposition", b"attachment"),
)


async def put_blob(
    door: Door, digest: str, project: str, actor: Actor, headers: dict[bytes, bytes], lender: Lender | None,
    receive: Receive, send: Send,
) -> None:  # fmt: skip
    """Take bytes under the digest their sender gives; nothing exists until all of them fit it.

    What came before the sender was cut off is kept for a while, and `Content-Range: bytes N-…` goes on from there.
    """
    _check_digest(digest)
    offset = _offset(headers.get(b"content-range"))
    loop = asyncio.get_running_loop()
    incoming = await loop.run_in_executor(None, door.receive_blob, actor, project, digest, offset)
    try:
        await _take(incoming, receive, lender, _length(headers))
        stored = await loop.run_in_executor(None, incoming.finish, digest)
    except (Gone, TooSlow):
        await loop.run_in_executor(None, door.park_blob, incoming, digest, project)
        raise
    except BaseException:
        incoming.abandon()
        raise
    await loop.run_in_executor(None, door.keep_blob, stored, actor, project)
    await answer(send, encode({"digest": stored.digest, "size": stored.size}))


def _length(headers: dict[bytes, bytes]) -> int:
    """How many bytes the body has, if its head says so."""
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and len(length) < 19 else 0


async def take_blob(
    door: Door, project: str, actor: Actor, headers: dict[bytes, bytes], lender: Lender | None, receive: Receive
) -> Stored:
    """Take bytes whose digest their sender does not say."""
    loop = asyncio.get_running_loop()
    incoming = await loop.run_in_executor(None, door.receive_blob, actor, project)
    try:
        await _take(incoming, receive, lender, _length(headers))
        stored = await loop.run_in_executor(None, incoming.finish)
    except BaseException:
        incoming.abandon()
        raise
    await loop.run_in_executor(None, door.keep_blob, stored, actor, project)
    return stored


async def join_blobs(door: Door, project: str, actor: Actor, digests: Sequence[str]) -> Stored:
    """Blobs one behind the other, as one."""
    for digest in digests:
        _check_digest(digest)

    def join() -> Stored:
        incoming = door.receive_blob(actor, project)
        try:
            for digest in digests:
                blob = door.find_blob(digest, actor, project)
                for piece in door.read_blob(blob, 0, blob.size):
                    incoming.write(piece)
            stored = incoming.finish()
        except BaseException:
            incoming.abandon()
            raise
        door.keep_blob(stored, actor, project)
        return stored

    return await asyncio.get_running_loop().run_in_executor(None, join)


async def _take(incoming: Incoming, receive: Receive, lender: Lender | None, length: int) -> None:
    """Write a body as it comes: a large one straight from its socket."""
    message = await receive()
    first = message.get("body", b"")
    lent = borrow(lender, length - len(first)) if message.get("more_body") else None
    if lent is None:
        await _take_messages(incoming, receive, message)
        return
    here, inflow = lent
    try:
        await asyncio.get_running_loop().run_in_executor(None, incoming.write, first + here)
        await inflow.all_into(incoming.write)
    except TarmacError as error:
        if not isinstance(error, TooSlow):
            with contextlib.suppress(Gone, TooSlow):
                await inflow.all_into(_nowhere)  # who is still sending would not hear the answer
        raise
    finally:
        inflow.close()


def _nowhere(data: memoryview) -> None:
    pass


async def _take_messages(incoming: Incoming, receive: Receive, message: Message) -> None:
    """Write what arrives in pieces of some megabytes, the next one received while the last one is written."""
    loop = asyncio.get_running_loop()
    held, size, more, gone = list[bytes](), 0, True, False
    writing: asyncio.Future[None] | None = None
    try:
        while more:
            gone = message["type"] == "http.disconnect"
            held.append(message.get("body", b""))
            size += len(held[-1])
            more = message.get("more_body", False) and not gone
            if size >= WRITE_AT_ONCE or not more:
                if writing is not None:
                    await writing
                writing = loop.run_in_executor(None, incoming.write, b"".join(held))
                held, size = [], 0
            if more:
                message = await receive()
    finally:
        if writing is not None:
            await writing
    if gone:
        raise Gone


def _offset(content_range: bytes | None) -> int:
    if content_range is None:
        return 0
    match = re.fullmatch(rb"bytes (\d{1,18})-.*", content_range.strip())
    if not match:
        raise Invalid("the Content-Range cannot be read", hint="Content-Range: bytes START-END/SIZE")
    return int(match[1])


async def tell_parked(door: Door, digest: str, project: str, actor: Actor, send: Send) -> None:
    """How much of an upload that was cut off is here."""
    _check_digest(digest)
    size = await asyncio.get_running_loop().run_in_executor(None, door.parked_blob, digest, actor, project)
    await answer(send, encode({"size": size}))


async def get_file(
    door: Door,
    run: str | None,
    path: str,
    project: str,
    actor: Actor,
    method: str,
    headers: dict[bytes, bytes],
    send: Send,
    described: Described = (),
) -> None:
    """Send a run's file, or one that belongs to no run, or a range of it."""
    loop = asyncio.get_running_loop()
    digest = await loop.run_in_executor(None, door.find_file, run, path, actor, project)
    await get_blob(door, digest, project, actor, method, headers, send, described or AS_FILE)


async def get_blob(
    door: Door,
    digest: str,
    project: str,
    actor: Actor,
    method: str,
    headers: dict[bytes, bytes],
    send: Send,
    described: Described = (),
) -> None:
    """Send a blob or a range of it; every block is verified before it leaves."""
    _check_digest(digest)
    loop = asyncio.get_running_loop()
    blob = await loop.run_in_executor(None, door.find_blob, digest, actor, project)
    await _send_bytes(
        digest, blob.size, lambda start, end: door.read_blob(blob, start, end), method, headers, send, described
    )


async def get_data(
    door: Door, ref: str, path: str, project: str, actor: Actor, method: str, headers: dict[bytes, bytes], send: Send
) -> None:
    """Send a file of a version of data, or a range of it; only the pieces that have some of it are read."""
    loop = asyncio.get_running_loop()
    depot, entry = await loop.run_in_executor(None, door.find_data, ref, path, actor, project)

    def read(start: int, end: int) -> Iterator[bytes]:
        return read_file(depot, entry, start, end)

    await _send_bytes(entry.digest.hex(), entry.size, read, method, headers, send, AS_BLOB)


async def _send_bytes(
    digest: str,
    size: int,
    read: Callable[[int, int], Iterator[bytes]],
    method: str,
    headers: dict[bytes, bytes],
    send: Send,
    described: Described,
) -> None:
    loop = asyncio.get_running_loop()
    start, end, status = 0, size, 200
    extra: list[tuple[bytes, bytes]] = []
    if (wanted := headers.get(b"range")) is not None:
        start, end = _range(wanted, size)
        status = 206
        extra = [(b"content-range", f"bytes {start}-{end - 1}/{size}".encode())]
    pieces = read(start, end)
    first = (
        b"" if method == "HEAD" else await loop.run_in_executor(None, _next, pieces)
    )  # damage found here is an error
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-length", str(end - start).encode()),
                (b"accept-ranges", b"bytes"),
                (b"etag", f'"{digest}"'.encode()),
                (b"x-content-type-options", b"nosniff"),
                *(described or AS_BLOB),
                *extra,
            ],
        }
    )
    piece: bytes | None = first
    while piece:
        following = loop.run_in_executor(None, _next, pieces)  # read and verified while this one is sent
        try:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            piece = await following
    await send({"type": "http.response.body", "body": b""})


async def follow_events(
    door: Door,
    project: str,
    who: Callable[[], Actor],
    query: dict[str, str],
    headers: dict[bytes, bytes],
    send: Send,
    is_stopping: Callable[[], bool],
) -> None:
    """Sealed events as server-sent events, from a position on: none missed, none twice.

    `who` is asked again before each look, so that a token which is revoked in the meantime hears no more.
    """
    for key in query:
        if key != "after":
            raise UnknownKey.at("events", key, ["after"])
    last = headers.get(b"last-event-id", query.get("after", "0").encode()).decode("latin-1")
    if not last.isdecimal() or len(last) > 18:
        raise Invalid(f"`after` must be the position of an event, not `{bounded(last)}`")
    position, spec = int(last), catalog.find("audit.ls")
    loop = asyncio.get_running_loop()

    async def page() -> AuditPage:
        request = ListEvents(after=position, limit=EVENTS_AT_ONCE)
        found: AuditPage = await loop.run_in_executor(None, door.query, spec, request, who(), project)
        return found

    found = await page()  # a refusal is still an ordinary answer here
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")],
        }
    )
    quiet_since = time.monotonic()
    while not is_stopping():
        if found.events:
            text = b"".join(b"id: %d\ndata: %s\n\n" % (event.position, encode(event)) for event in found.events)
            await send({"type": "http.response.body", "body": text, "more_body": True})
            position, quiet_since = found.events[-1].position, time.monotonic()
        elif time.monotonic() - quiet_since > SIGN_OF_LIFE_SECONDS:
            await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})
            quiet_since = time.monotonic()
        if len(found.events) < EVENTS_AT_ONCE:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        try:
            found = await page()
        except (Unauthenticated, Forbidden):
            break
        except TarmacError:
            await asyncio.sleep(1.0)  # the store is away for a moment; the position is not lost
            found = AuditPage(events=[])
    await send({"type": "http.response.body", "body": b""})


async def until_gone(receive: Receive, work: Any) -> None:
    """Run `work` until the client leaves."""
    task = asyncio.ensure_future(work)

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    watcher = asyncio.ensure_future(watch())
    done, pending = await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
    for other in pending:
        other.cancel()
    if task in done:
        task.result()


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _check_digest(digest: str) -> None:
    if not DIGEST.fullmatch(digest):
        raise NotFound.named("blob", digest, hint="a digest is 64 hex digits of BLAKE3")


def _range(wanted: bytes, size: int) -> tuple[int, int]:
    match = RANGE.fullmatch(wanted.strip())
    if not match or not (match[1] or match[2]):
        raise Invalid("only one range of bytes can be asked for", hint="Range: bytes=START-END")
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    if match[1] and match[2] and start > int(match[2]):
        raise Invalid("a range of bytes ends where it begins or behind that", hint="Range: bytes=START-END")
    if start >= end:
        raise OutsideRange.of(size)
    return start, end
