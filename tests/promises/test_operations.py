"""Every operation is whole: permission, words, handler, command, HTTP route and OpenAPI entry."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import msgspec
import pytest

from tarmac import cli
from tarmac.core.actor import PERMISSIONS
from tarmac.core.operation import Command, Job, Query, Spec, Started, spec_of
from tarmac.door import catalog
from tarmac.server.openapi import document

SPECS = sorted(catalog.operations().values(), key=lambda spec: spec.name)
KINDS = {"query": Query, "command": Command, "job": Job}


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def spec(request: pytest.FixtureRequest) -> Spec:
    found: Spec = request.param
    return found


def commands(group: click.Group, context: click.Context, head: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from commands(command, click.Context(command, parent=context, info_name=name), f"{name}.")
        else:
            yield head + name, command


def test_an_operation_is_declared_in_full(spec: Spec) -> None:
    assert re.fullmatch(r"[a-z]+(\.[a-z]+)?", spec.name)
    assert spec.needs in PERMISSIONS
    assert spec.scope in ("project", "workspace")
    assert spec_of(spec.request) is spec
    assert issubclass(spec.request, KINDS[spec.kind])
    assert sum(issubclass(spec.request, kind) for kind in KINDS.values()) == 1
    assert spec.request.__module__.endswith(".operations")
    assert set(spec.positional) <= set(spec.request.__struct_fields__)
    assert spec.kind != "job" or spec.reply is Started


def test_an_operation_says_what_it_is_for(spec: Spec) -> None:
    own = spec.request.__doc__ or ""
    assert own not in (Query.__doc__, Command.__doc__, Job.__doc__), "the docstring is its base's"
    assert own.strip()
    assert len(spec.summary) <= 120
    assert spec.summary.endswith((".", ":", "?"))


def test_an_operation_that_changes_needs_more_than_reading(spec: Spec) -> None:
    assert (spec.needs == "read") <= (spec.kind == "query"), spec.name


def test_an_operation_refuses_unknown_fields_and_cannot_be_changed(spec: Spec) -> None:
    config = spec.request.__struct_config__
    assert config.forbid_unknown_fields
    assert config.frozen


def test_an_operation_has_one_handler(spec: Spec) -> None:
    handler = catalog.handlers()[spec.name]
    stage = spec.request.__module__.split(".")[1]
    assert handler.apply.__module__.split(".")[1] == stage
    assert handler.prepare is None or spec.kind == "command"


def test_an_operation_has_a_command_with_all_its_fields(spec: Spec) -> None:
    head = spec.name.partition(".")[0]
    stage = spec.request.__module__.split(".")[1]
    assert (cli.GROUPS | cli.SINGLE)[head][0] == stage
    assert (spec.name in cli.SINGLE) == ("." not in spec.name)
    command = dict(commands(cli.root, click.Context(cli.root)))[spec.name]
    given = {parameter.name for parameter in command.params}
    assert given >= {"workspace", "project", "as_json"}
    if command.__module__ == "click.core" and "in_project" not in given | {""}:
        assert given >= set(spec.request.__struct_fields__) - {"project"}
    for field in msgspec.structs.fields(spec.request):
        assert field.name not in ("workspace", "as_json"), "what every command has"


def test_every_command_is_an_operation_or_known_by_name() -> None:
    found = dict(commands(cli.root, click.Context(cli.root)))
    own = set(cli.OWN) | {
        "audit.export", "connections.ls", "connections.test", "data.cat", "data.checkout", "data.export",
        "data.files", "data.infer", "data.log", "data.pin", "data.pins", "data.pull", "data.push", "data.status",
        "data.unpin", "gates.sync", "models.card", "models.compare", "models.get", "models.sign", "models.verify",
        "pipeline", "pipeline.export", "runs.cat", "runs.diff", "runs.get", "runs.put", "store.restore",
        "store.upgrade",
    }  # fmt: skip
    assert {name for name in found if name not in catalog.operations()} <= own
    for name, command in found.items():
        assert command.help, name
        assert command.get_short_help_str(100), name


def test_the_handlers_are_those_of_declared_operations() -> None:
    assert set(catalog.handlers()) == set(catalog.operations())


def test_the_openapi_document_has_every_operation() -> None:
    entries = [entry for item in document()["paths"].values() for entry in item.values()]
    assert {each["operationId"] for each in entries if each["x-kind"] != "stream"} == set(catalog.operations())
