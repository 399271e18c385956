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
    }
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
