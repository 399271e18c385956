"""The OpenAPI document, made from the declarations."""

from __future__ import annotations

from typing import Any

import msgspec

from tarmac import __version__
from tarmac.core.operation import Spec
from tarmac.door import catalog

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint", "detail"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": ["string", "null"]},
                "detail": {"type": "object"},
            },
        }
    },
}


def document() -> dict[str, Any]:
    specs = [spec for _, spec in sorted(catalog.operations().items())]
    types = [spec.request for spec in specs] + [spec.reply for spec in specs] + [spec.answer for spec in specs]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    requests, replies = schemas[: len(specs)], schemas[len(specs) : 2 * len(specs)]
    paths = {
        f"/api/v1/p/{{project}}/{spec.name}": _path(spec, request, reply, components)
        for spec, request, reply in zip(specs, requests, replies, strict=True)
    } | _streams()
    return {
        "openapi": "3.1.0",
        "info": {"title": "tarmac", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "BLAKE3, as hex digits"}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def _streams() -> dict[str, Any]:
    """What flows instead of being answered at once: it is no operation, and is described by hand."""
    blob, file = ("/api/v1/p/{project}/blobs/{digest}", "/api/v1/p/{project}/runs/{run}/files/{path}")
    digest, run = _given("digest", _DIGEST), _given("run", {"type": "string"})
    path = _given("path", {"type": "string", "description": "of the file in the run; it may have slashes"})
    a_range = _given("Range", {"type": "string", "examples": ["bytes=0-1023"]}, "header", required=False)
    read = {
        "200": {"description": "all of the bytes, each block verified before it is sent", "content": _BYTES},
        "206": {"description": "the range that was asked for", "content": _BYTES},
        "416": {"description": "outside of the blob; Content-Range says its size", "content": _error()},
    }
    version = _given("ref", {"type": "string", "description": "a version, like faces@v3; a bare name means the latest"})
    inside = _given("path", {"type": "string", "description": "of the file in the version; it may have slashes"})
    size = {"type": "object", "required": ["size"], "properties": {"size": {"type": "integer"}}}
    stored = {**size, "required": ["digest", "size"], "properties": {"digest": _DIGEST, **size["properties"]}}  # type: ignore[dict-item]
    put = _stream("blobs.put", "write", "Upload bytes under their digest.", [digest, _given(
        "Content-Range", {"type": "string", "examples": ["bytes 1048576-2097151/2097152"]}, "header", required=False)],
        {"200": {"description": "they are kept", "content": {"application/json": {"schema": stored}}}})  # fmt: skip
    put["requestBody"] = {"required": True, "content": _BYTES}
    after = _given("after", {"type": "integer", "minimum": 0, "default": 0}, "query", required=False)
    last = _given("Last-Event-ID", {"type": "integer", "minimum": 0}, "header", required=False)
    events = {"200": {
        "description": "server-sent events, without end: `id` is an event's position, `data` is one of audit.ls",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }}  # fmt: skip
    parked = {"200": {"description": "so many bytes are here", "content": {"application/json": {"schema": size}}}}
    return {
        blob: {
            "get": _stream("blobs.get", "read", "Read a blob, or a range of it.", [digest, a_range], read),
            "put": put,
        },
        f"{blob}/parked": {
            "get": _stream("blobs.parked", "write", "How much of an upload that was cut off is here.", [digest], parked)
        },
        file: {"get": _stream("runs.file", "read", "Read a run's file, or a range of it.", [run, path, a_range], read)},
        "/api/v1/p/{project}/data/{ref}/files/{path}": {
            "get": _stream("data.file", "read", "Read a file of a version of data.", [version, inside, a_range], read)
        },
        "/api/v1/p/{project}/events": {
            "get": _stream("events", "read", "Follow the ledger from a position on.", [after, last], events)
        },
    }


def _stream(
    name: str, needs: str, summary: str, given: list[dict[str, Any]], responses: dict[str, Any]
) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "description": summary,
        "tags": [name.partition(".")[0]],
        "x-kind": "stream",
        "x-needs": needs,
        "x-scope": "project",
        "parameters": [_given("project", {"type": "string"}), *given],
        "responses": {**responses, "default": {"description": "what went wrong", "content": _error()}},
    }


def _given(name: str, schema: dict[str, Any], where: str = "path", *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": schema}


def _error() -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def _path(spec: Spec, request: dict[str, Any], reply: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    method = "get" if spec.kind == "query" else "post"
    entry: dict[str, Any] = {
        "operationId": spec.name,
        "summary": spec.summary,
        "description": (spec.request.__doc__ or "").strip(),
        "tags": [spec.name.partition(".")[0]],
        "x-kind": spec.kind,
        "x-needs": spec.needs,
        "x-scope": spec.scope,
        "parameters": [{"name": "project", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": reply}}},
            "default": {
                "description": "what went wrong",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if method == "get":
        shape = components[request["$ref"].rpartition("/")[2]]
        for name, schema in shape.get("properties", {}).items():
            entry["parameters"].append(
                {"name": name, "in": "query", "required": name in shape.get("required", []), "schema": schema}
            )
    else:
        entry["requestBody"] = {"required": True, "content": {"application/json": {"schema": request}}}
    return {method: entry}
