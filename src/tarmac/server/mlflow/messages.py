"""Requests as MLflow's clients write them: protobuf's JSON, where an int64 may be text and NaN is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from tarmac.server.mlflow.errors import Refusal, invalid_value, missing_value

Long = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
MOST_FIELDS = 10_000


class Request(msgspec.Struct, kw_only=True):
    """What a method is asked. Unknown fields are not refused: newer clients send them."""

    required: ClassVar[Sequence[str]] = ()
    """Fields that must be there and not be empty."""


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a method answers. What is not set is left out, as protobuf does."""


R = TypeVar("R", bound=Request)


class Reader(Generic[R]):
    """Decodes the requests of one method."""

    def __init__(self, kind: type[R]) -> None:
        self.kind = kind
        self._decode = msgspec.json.Decoder(kind, strict=False).decode
        info = msgspec.inspect.type_info(kind)
        self._lists = {field.encode_name for field in info.fields if _is_list(field.type)}  # type: ignore[attr-defined]

    def body(self, content: bytes) -> R:
        if not content:
            return self._complete(self._convert({}))
        try:
            return self._complete(self._decode(content))
        except msgspec.DecodeError:  # also what is valid JSON for others: a bare NaN, or JSON in JSON
            document = _loads(content)
            return self._complete(self._convert({} if document is None else document))
        except RecursionError:
            raise Refusal("BAD_REQUEST", "the body is nested too deeply") from None

    def query(self, query: bytes) -> R:
        """From an address: text that is read as whatever the field is."""
        try:
            pairs = parse_qsl(
                query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS
            )
        except ValueError as error:
            raise Refusal("BAD_REQUEST", f"the query string cannot be read: {error}") from None
        fields: dict[str, Any] = {}
        for key, value in pairs:
            if key in self._lists:
                fields.setdefault(key, []).append(value)
            else:
                fields.setdefault(key, value)
        return self._complete(self._convert(fields))

    def _complete(self, request: R) -> R:
        for name in self.kind.required:
            value = getattr(request, name)
            if value is None or value == "":
                raise missing_value(name)
        return request

    def _convert(self, document: Any) -> R:
        if not isinstance(document, Mapping):
            raise Refusal("BAD_REQUEST", "the body is JSON, but not an object")
        try:
            return msgspec.convert(document, self.kind, strict=False)
        except msgspec.ValidationError as error:
            raise _explain(error, document) from None


def _is_list(node: msgspec.inspect.Type) -> bool:
    if isinstance(node, msgspec.inspect.UnionType):
        return any(map(_is_list, node.types))
    return isinstance(node, msgspec.inspect.ListType)


def _loads(content: bytes) -> Any:
    try:
        document = json.loads(content)
        if isinstance(document, str):  # as old clients send it
            document = json.loads(document)
        json.dumps(document, ensure_ascii=False).encode()  # half of a character is JSON, and no text
        return document
    except (ValueError, RecursionError):
        raise Refusal("BAD_REQUEST", "the body is not valid JSON") from None


def _explain(error: msgspec.ValidationError, document: Any) -> Refusal:
    """MLflow's text for a value of the wrong type, with the value that stands at the place msgspec names."""
    what, _, path = str(error).partition(" - at `$.")
    path = path.rstrip("`")
    found: Any = document
    try:
        for part in path.replace("[", ".[").split("."):
            found = found[int(part[1:-1])] if part.startswith("[") else found[part]
    except (KeyError, IndexError, ValueError, TypeError):
        return invalid_value(path.split("[")[0], None, what)
    return invalid_value(path, found, f" Hint: Value was of type '{type(found).__name__}'.")
