"""Operations over HTTP: `GET|POST /api/v1/p/PROJECT/OPERATION`, straight from their declarations."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec

from tarmac.core.actor import Actor
from tarmac.core.errors import Invalid, NotFound, UnknownKey
from tarmac.core.operation import Operation, Spec, decode_request
from tarmac.door import catalog
from tarmac.door.dispatch import Door
from tarmac.server.guard import check_json
from tarmac.server.wire import Receive, Send, answer, body, encode

LARGEST_BODY = 32 * 1024 * 1024
LARGEST_QUERY = 60 * 1024
READERS = 8


_Settled = tuple[asyncio.Future[Any], Any, BaseException | None]


class Api:
    """Decodes, dispatches, encodes; knows no operation by name."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._specs = catalog.operations()
        self._decoders = {name: msgspec.json.Decoder(spec.request) for name, spec in self._specs.items()}
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="tarmac-reader")
        # a look-up by key in a local file takes less than handing it to a thread
        self._inline = door.store.database.kind == "sqlite"
        self._settled: deque[_Settled] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        door.store.writer.when_told = self._wake

    async def call(
        self,
        name: str,
        project: str,
        method: str,
        query: bytes,
        headers: dict[bytes, bytes],
        actor: Actor,
        receive: Receive,
        send: Send,
    ) -> Spec:
        spec = self._specs.get(name) or catalog.find(name)
        if spec.kind == "query":
            if method not in ("GET", "HEAD"):
                raise Invalid(f"{name} is a query: ask with GET, not {method}")
            request = decode_query(spec, query)
        else:
            if method != "POST":
                raise Invalid(f"{name} is a {spec.kind}: ask with POST, not {method}")
            check_json(headers)
            content = await body(receive, headers, LARGEST_BODY)
            decode = self._decoders[name].decode
            request = decode_request(spec, lambda: decode(content or b"{}"))
        await answer(send, encode(await self.perform(spec, request, actor, project)))
        return spec

    async def perform(self, spec: Spec, request: Operation[Any], actor: Actor, project: str) -> Any:
        """Through the door, without making the event loop wait."""
        if spec.kind != "query":
            return await self._submit(spec, request, actor, project)
        if spec.quick and self._inline:
            return self._door.query(spec, request, actor, project)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._door.query, spec, request, actor, project)

    async def _submit(self, spec: Spec, request: Operation[Any], actor: Actor, project: str) -> Any:
        self._loop = loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            self._settled.append((future, result, error))

        if spec.quick or catalog.handlers()[spec.name].prepare is None:
            self._door.submit(spec, request, actor, project, done)
        else:  # what it prepares asks the database
            await loop.run_in_executor(self._readers, self._door.submit, spec, request, actor, project, done)
        return await future

    def _wake(self) -> None:
        """In the writer's thread: one group's answers wake the loop once, not each for itself."""
        if self._settled and self._loop is not None:
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        while self._settled:
            future, result, error = self._settled.popleft()
            if future.done():
                continue  # the client left; what was asked is done all the same
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    def close(self) -> None:
        self._readers.shutdown()


def decode_query(spec: Spec, query: bytes) -> Operation[Any]:
    """A request from a URL: text where the field is text, JSON where it is anything else."""
    if not query:
        return decode_request(spec, lambda: msgspec.convert({}, spec.request))  # type: ignore[no-any-return]
    if len(query) > LARGEST_QUERY:
        raise Invalid(f"{spec.name}: the address is too long")
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise Invalid(f"{spec.name}: the query string cannot be read: {error}") from None
    writings = _writings(spec)
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key not in writings:
            raise UnknownKey.at(spec.name, key, writings)
        if writings[key] == "texts" and not value.startswith("["):
            fields.setdefault(key, []).append(value)
        elif key in fields:
            raise Invalid(f"{spec.name}: `{key}` is given twice")
        else:
            fields[key] = value if writings[key] == "text" else _json_or_text(value)
    return decode_request(spec, lambda: msgspec.convert(fields, spec.request))  # type: ignore[no-any-return]


Writing = Literal["text", "texts", "json"]
_known: dict[str, dict[str, Writing]] = {}


def _writings(spec: Spec) -> dict[str, Writing]:
    """How each field is written in an address: as it is, as it is and several times, or as JSON."""
    if spec.name not in _known:
        info = msgspec.inspect.type_info(spec.request)
        _known[spec.name] = {field.encode_name: _writing(field.type) for field in info.fields}  # type: ignore[attr-defined]
    return _known[spec.name]


def _writing(node: msgspec.inspect.Type) -> Writing:
    if isinstance(node, msgspec.inspect.Metadata):
        return _writing(node.type)
    if isinstance(node, msgspec.inspect.UnionType):
        return next((found for inner in node.types if (found := _writing(inner)) != "json"), "json")
    if isinstance(node, msgspec.inspect.ListType) and _is_text(node.item_type):
        return "texts"
    return "text" if _is_text(node) else "json"


def _is_text(node: msgspec.inspect.Type) -> bool:
    if isinstance(node, msgspec.inspect.Metadata):
        return _is_text(node.type)
    if isinstance(node, msgspec.inspect.UnionType):
        return any(_is_text(inner) for inner in node.types)
    if isinstance(node, msgspec.inspect.LiteralType):
        return all(isinstance(value, str) for value in node.values)
    return isinstance(node, msgspec.inspect.StrType)


def _json_or_text(value: str) -> Any:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def split_path(path: str) -> tuple[str, str]:
    """`/api/v1/p/PROJECT/REST` as project and rest."""
    parts = path.split("/", 5)
    if len(parts) < 6 or parts[2:4] != ["v1", "p"]:
        raise NotFound.named("address", path, hint="operations are at /api/v1/p/PROJECT/OPERATION")
    return parts[4], parts[5]
