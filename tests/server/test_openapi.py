"""The OpenAPI document says all there is, and what it says is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.digest import digest
from tarmac.door import catalog
from tarmac.workspace import connect
from tests.data.making import data_set, fill
from tests.server.calls import Line
from tests.server.samples import smallest

TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}
KEYWORDS = {
    "type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "default", "title",
    "description", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum",
    "exclusiveMinimum", "prefixItems", "exclusiveMaximum", "$ref", "const", "examples", "format", "contentEncoding",
    "minProperties", "maxProperties", "propertyNames",
}  # fmt: skip


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from nodes(value)


def schemas(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and those within it."""
    yield node
    for key in ("items", "additionalProperties", "propertyNames"):
        if isinstance(node.get(key), dict):
            yield from schemas(node[key])
    for key in ("anyOf", "prefixItems"):
        for inner in node.get(key, []):
            yield from schemas(inner)
    for inner in node.get("properties", {}).values():
        yield from schemas(inner)


def test_the_document_is_whole(line: Line) -> None:
    document = line.ask("GET", "/api/v1/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert {"title", "version"} <= set(document["info"])
    components = document["components"]["schemas"]
    for node in nodes(document):
        if "$ref" in node:
            where, _, name = node["$ref"].rpartition("/")
            assert where == "#/components/schemas", node
            assert name in components, node
    found = []
    for path, item in document["paths"].items():
        if any(entry["x-kind"] == "stream" for entry in item.values()):
            continue
        ((method, entry),) = item.items()
        found.append(entry["operationId"])
        spec = catalog.find(entry["operationId"])
        assert path == f"/api/v1/p/{{project}}/{spec.name}"
        assert method == ("get" if spec.kind == "query" else "post")
        assert (entry["x-needs"], entry["x-scope"], entry["x-kind"]) == (spec.needs, spec.scope, spec.kind)
        assert entry["summary"]
        assert entry["description"].startswith(entry["summary"])
        assert {"200", "default"} == set(entry["responses"])
        assert ("requestBody" in entry) == (method == "post")
        names = [(parameter["name"], parameter["in"]) for parameter in entry["parameters"]]
        assert len(set(names)) == len(names)
        assert ("project", "path") in names
        fields = set(spec.request.__struct_fields__)
        assert {name for name, where in names if where == "query"} == (fields if method == "get" else set())
        for parameter in entry["parameters"]:
            assert set(parameter) == {"name", "in", "required", "schema"}
            for schema in schemas(parameter["schema"]):
                check(schema)
    assert sorted(found) == sorted(catalog.operations())
    for schema in components.values():
        for inner in schemas(schema):
            check(inner)


def test_what_flows_is_in_the_document_and_is_there(line: Line, tmp_path: Path) -> None:
    paths = line.ask("GET", "/api/v1/openapi.json").json()["paths"]
    streams = {
        (entry["operationId"], method, path): entry
        for path, item in paths.items()
        for method, entry in item.items()
        if entry["x-kind"] == "stream"
    }
    names = ["blobs.get", "blobs.parked", "blobs.put", "data.file", "events", "runs.file"]
    assert sorted(name for name, _, _ in streams) == names
    data = b"some bytes"
    run = line.post("runs.create", {}).json()["id"]
    known = {"project": "default", "digest": digest(data), "run": run, "path": "a/file", "ref": "faces@v1"}
    with connect(f"http://{line.host}:{line.port}") as workspace:
        data_set(workspace).log(fill(tmp_path / "faces", {"a/file": data}))
    for (name, method, path), entry in sorted(streams.items(), key=lambda each: each[0][0] != "blobs.put"):
        named = {given["name"] for given in entry["parameters"] if given["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path)), path
        for parameter in entry["parameters"]:
            check(parameter["schema"])
        if name == "runs.file":
            files = [{"path": "a/file", "digest": digest(data), "size": len(data)}]
            assert line.post("runs.attach", {"id": run, "files": files}).status == 200
        if name == "events":
            with line.plug(line.head("GET", path.format(**known))) as plug:
                answer = plug.recv(65536).decode()
            assert answer.startswith("HTTP/1.1 200")
            kind = "text/event-stream"
            assert f"content-type: {kind}" in answer
        else:
            found = line.ask(method.upper(), path.format(**known), data if method == "put" else None)
            assert found.status == 200, (name, found)
            (kind,) = found.all("content-type")
        assert kind in entry["responses"]["200"]["content"], name


def check(schema: dict[str, Any]) -> None:
    assert set(schema) <= KEYWORDS, schema
    kinds = schema.get("type", [])
    assert set([kinds] if isinstance(kinds, str) else kinds) <= TYPES, schema
    assert set(schema.get("required", [])) <= set(schema.get("properties", {})), schema


def test_answers_are_what_the_document_promises(line: Line) -> None:
    """Each query is asked once; what comes back has the fields its schema requires."""
    document = line.ask("GET", "/api/v1/openapi.json").json()
    components = document["components"]["schemas"]
    for spec in catalog.operations().values():
        if spec.kind != "query":
            continue
        answer = line.get(spec.name, _query(smallest(spec)))
        entry = document["paths"][f"/api/v1/p/{{project}}/{spec.name}"]["get"]
        promised = entry["responses"]["200" if answer.status == 200 else "default"]["content"]["application/json"]
        schema = promised["schema"]
        schema = components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        assert set(schema.get("required", [])) <= set(answer.json()) <= set(schema["properties"]), (spec.name, answer)


def _query(fields: dict[str, Any]) -> str:
    from urllib.parse import urlencode

    texts = {
        key: value if isinstance(value, str) else msgspec.json.encode(value).decode() for key, value in fields.items()
    }
    return urlencode(texts)


def test_the_browsable_page_asks_nobody_else(line: Line) -> None:
    page = line.ask("GET", "/docs").body.decode() + line.ask("GET", "/docs/page.js").body.decode()
    assert "openapi.json" in page
    assert "https://" not in page
    assert "http://" not in page
