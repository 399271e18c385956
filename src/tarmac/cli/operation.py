"""A command made of an operation's declaration: its fields become arguments and options, its docstring the help."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from msgspec import inspect

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.follow import follow
from tarmac.cli.show import show
from tarmac.core.errors import Invalid, bounded
from tarmac.core.operation import Spec, decode_request


def command(spec: Spec, name: str) -> click.Command:
    info = inspect.type_info(spec.request)
    assert isinstance(info, inspect.StructType)

    def call(**values: Any) -> int:
        workspace, project, as_json = take_options(values)
        fields = {field.name: read(field, values[field.name]) for field in info.fields if given(values[field.name])}
        request = decode_request(spec, lambda: msgspec.convert(fields, spec.request))
        with opened(workspace, project) as door:
            answer = follow(door, request, quiet=as_json) if spec.kind == "job" else door(request)
        return show(answer, as_json=as_json, request=request)

    made = click.Command(name, callback=call, help=spec.request.__doc__, short_help=spec.summary)
    made.params.extend(parameter(field, positional=field.name in spec.positional) for field in info.fields)
    return add_options(made)


def parameter(field: inspect.Field, *, positional: bool) -> click.Parameter:
    kind = bare(field.type)
    many = isinstance(kind, (inspect.ListType, inspect.VarTupleType, inspect.DictType))
    settings: dict[str, Any] = {"type": click_type(kind)}
    if many and not is_json(kind):
        settings["multiple" if not positional else "nargs"] = True if not positional else -1
    if positional:
        return click.Argument([field.name], required=field.required, metavar=field.name.upper(), **settings)
    flag = f"--{field.name.replace('_', '-')}"
    if isinstance(kind, inspect.BoolType):
        return click.Option([flag], is_flag=True, default=None, help=description(field.type))
    text = description(field.type) or ""
    if isinstance(kind, inspect.DictType) and not is_json(kind):
        text = "KEY=VALUE, any number of times"
    if field.default not in (msgspec.NODEFAULT, None, ""):
        shown = field.default if not isinstance(field.default, tuple) else " ".join(map(str, field.default))
        text = f"{text}  [default: {shown}]".strip()
    return click.Option([flag], required=field.required, help=text or None, **settings)


def click_type(kind: inspect.Type) -> Any:
    if isinstance(kind, inspect.IntType):
        return int
    if isinstance(kind, inspect.FloatType):
        return float
    if isinstance(kind, inspect.LiteralType):
        return click.Choice([str(value) for value in kind.values])
    if isinstance(kind, (inspect.ListType, inspect.VarTupleType)) and not is_json(kind):
        return click_type(bare(kind.item_type))
    return str


def is_json(kind: inspect.Type) -> bool:
    """Whether a value of this kind has to be written as JSON."""
    if isinstance(kind, (inspect.ListType, inspect.VarTupleType)):
        return not isinstance(bare(kind.item_type), (inspect.StrType, inspect.LiteralType, inspect.IntType))
    if isinstance(kind, inspect.DictType):
        return not isinstance(bare(kind.value_type), inspect.StrType)
    return isinstance(kind, inspect.StructType)


def given(value: Any) -> bool:
    return value is not None and value != ()


def read(field: inspect.Field, value: Any) -> Any:
    """What click understood, as the request takes it."""
    kind = bare(field.type)
    for text in value if isinstance(value, tuple) else (value,):
        if isinstance(text, str) and not is_text(text):
            raise Invalid(f"`{field.name}` is not text in UTF-8: `{bounded(text)}`")
    if is_json(kind):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise Invalid(f"--{field.name.replace('_', '-')} is not JSON: {error}") from None
    if isinstance(kind, inspect.DictType):
        pairs = [item.partition("=") for item in value]
        for key, mark, _ in pairs:
            if not mark:
                raise Invalid(f"`{bounded(key)}` is not KEY=VALUE")
        if len({key for key, _, _ in pairs}) < len(pairs):
            raise Invalid(f"`{field.name}` has one key twice")
        return {key: text for key, _, text in pairs}
    return list(value) if isinstance(value, tuple) else value


def is_text(value: str) -> bool:
    """Whether it can be stored and sent: bytes in an argument that are no UTF-8 come from Python as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def bare(node: inspect.Type) -> inspect.Type:
    """The type without its limits and without None."""
    if isinstance(node, inspect.Metadata):
        return bare(node.type)
    if isinstance(node, inspect.UnionType):
        kept = [inner for inner in node.types if not isinstance(inner, inspect.NoneType)]
        return bare(kept[0])
    return node


def description(node: inspect.Type) -> str | None:
    if isinstance(node, inspect.Metadata):
        text: str | None = (node.extra_json_schema or {}).get("description")
        return text or description(node.type)
    if isinstance(node, inspect.UnionType):
        return next((found for inner in node.types if (found := description(inner))), None)
    return None
