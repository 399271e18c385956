"""The graph of a pipeline: nodes, and the handles that stand for what they will make.

It is known before anything runs. A handle has no value yet, so everything that would need one says so, with the line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args, get_origin

from tarmac.core.errors import Conflict, Invalid, bounded, nearest

if TYPE_CHECKING:
    from tarmac.flow.steps import Step

MOST_NODES = 100_000


class Handle:
    """What a step will make: to be given to other steps, or returned."""

    __slots__ = ("_node", "_part")

    def __init__(self, node: Node, part: int | None = None) -> None:
        self._node = node
        self._part = part

    def __repr__(self) -> str:
        return f"<what {source_of(self)[0].name} will make>"

    def __iter__(self) -> Iterator[Handle]:
        parts = self._node.parts
        if parts is None or self._part is not None:
            self._refuse(
                "unpacked", "say how many there will be: `-> tuple[A, B]` behind the step's name, or unpack in a step"
            )
        return iter([Handle(self._node, index) for index in range(parts)])

    def __getitem__(self, index: Any) -> Handle:
        parts = self._node.parts
        if parts is None or self._part is not None or not isinstance(index, int) or not -parts <= index < parts:
            self._refuse(f"asked for [{bounded(repr(index), 40)}]")
        return Handle(self._node, index % parts)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what Python and debuggers look for in anything
            raise AttributeError(name)
        self._refuse(f"asked for `.{bounded(name, 40)}`")

    def _refuse(self, how: str, hint: str = "do it inside a step: there the value is known") -> NoReturn:
        frame = sys._getframe(1)  # noqa: SLF001 - the one way to know who asked
        while frame.f_code.co_filename == __file__ and frame.f_back is not None:
            frame = frame.f_back
        where = f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}: "
        raise Invalid(
            f"{where}what `{self._node.name}` makes is not known while the pipeline is put together, "
            f"and it is {how} here",
            hint=hint,
        )


def _refusing(how: str) -> Any:
    def refuse(self: Handle, *others: Any) -> NoReturn:
        self._refuse(how)

    return refuse


for _name, _how in {
    "bool": "used as a condition", "len": "measured", "int": "used as a number", "float": "used as a number",
    "index": "used as a number", "str": "used as text", "format": "used as text", "contains": "searched",
    "call": "called", "setitem": "changed", "delitem": "changed", "enter": "entered",
}.items():  # fmt: skip
    setattr(Handle, f"__{_name}__", _refusing(_how))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Handle, f"__{_name}__", _refusing("compared"))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(Handle, f"__{_name}__", _refusing("computed with"))
    setattr(Handle, f"__r{_name}__", _refusing("computed with"))
for _name in ("neg", "pos", "abs", "invert", "round"):
    setattr(Handle, f"__{_name}__", _refusing("computed with"))
Handle.__hash__ = object.__hash__  # type: ignore[method-assign]


def source_of(handle: Handle) -> tuple[Node, int | None]:
    """The node that a handle belongs to, and which part of what it makes is meant."""
    return handle._node, handle._part  # noqa: SLF001 - its attributes are the user's to ask for by mistake


@dataclass(eq=False, slots=True)
class Each:
    """Do a step for each of these: a list, or the handle of one."""

    items: Any


@dataclass(eq=False)
class Node:
    """One call of a step in a pipeline."""

    name: str
    step: Step[..., Any]
    arguments: dict[str, Any]
    each: str | None = None
    parts: int | None = None
    line: str = ""
    before: list[Node] = field(default_factory=list)
    choice: bool = False
    """One of two: the argument `condition` decides whether it is `then` or `otherwise`."""

    def __repr__(self) -> str:
        return f"<node {self.name}>"


class Graph:
    """Nodes in the order in which they were called: each only needs nodes before it."""

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        self.nodes: list[Node] = []
        self.result: Any = None
        self.inside: list[str] = []
        self._names: dict[str, int] = {}

    def add(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Handle:
        try:
            bound = step.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise Invalid(f"{_called_from()}step `{step.name}`: {error}") from None
        bound.apply_defaults()
        arguments = _flat(step, bound.arguments)
        each = [name for name, value in arguments.items() if isinstance(value, Each)]
        if len(each) > 1:
            raise Invalid(
                f"{_called_from()}step `{step.name}` has two `each`: {each[0]} and {each[1]}",
                hint="one list of pairs does it: each(list(zip(a, b)))",
            )
        node = Node(self._name(step.name), step, arguments, each[0] if each else None, line=_called_from())
        node.parts = None if each else _parts(step)
        return self._keep(node)

    def choose(self, step: Step[..., Any], condition: Any, then: Any, otherwise: Any) -> Handle:
        """The node that is one of two others."""
        arguments = {"condition": condition, "then": then, "otherwise": otherwise}
        node = Node(self._name("when"), step, arguments, line=_called_from(), choice=True)
        return self._keep(node)

    def _keep(self, node: Node) -> Handle:
        seen: set[int] = set()
        for found, _ in handles_in([*node.arguments.values()]):
            if id(found) not in seen:
                seen.add(id(found))
                node.before.append(found)
        if len(self.nodes) >= MOST_NODES:
            raise Invalid(
                f"pipeline `{self.pipeline}` has more than {MOST_NODES:,} steps",
                hint="`each(items)` is one step for many",
            )
        self.nodes.append(node)
        return Handle(node)

    def _name(self, wanted: str) -> str:
        wanted = ".".join([*self.inside, wanted])
        number = self._names[wanted] = self._names.get(wanted, 0) + 1
        return wanted if number == 1 else f"{wanted}-{number}"

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        near = nearest(name, [node.name for node in self.nodes])
        raise Conflict(
            f"pipeline `{self.pipeline}` has no step `{bounded(name)}`", hint=near and f"did you mean `{near}`?"
        )


def handles_in(value: Any) -> Iterator[tuple[Node, int | None]]:
    """Every handle in a value, in lists, tuples and dictionaries as well."""
    if isinstance(value, Handle):
        yield source_of(value)
    elif isinstance(value, Each):
        yield from handles_in(value.items)
    elif type(value) in (list, tuple):
        for item in value:
            if not isinstance(item, (int, float, str, bytes)):
                yield from handles_in(item)
    elif type(value) is dict:
        for item in value.values():
            yield from handles_in(item)


def filled(value: Any, get: Any) -> Any:
    """The value with what `get(node, part)` answers in place of each handle."""
    if isinstance(value, Handle):
        return get(*source_of(value))
    if type(value) is list:
        return [filled(item, get) for item in value]
    if type(value) is tuple:
        return tuple(filled(item, get) for item in value)
    if type(value) is dict:
        return {key: filled(item, get) for key, item in value.items()}
    return value


def _flat(step: Step[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name; what `*args` and `**kwargs` take in has names of its own."""
    kinds = step.signature.parameters
    flat: dict[str, Any] = {}
    for name, value in arguments.items():
        if kinds[name].kind is kinds[name].VAR_POSITIONAL:
            flat |= {f"*{index}": item for index, item in enumerate(value)}
        elif kinds[name].kind is kinds[name].VAR_KEYWORD:
            flat |= {f"**{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return flat


def call(node: Node, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as the function takes them."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    positional = (1, 0)
    for name, value in values.items():
        if name.startswith("**"):
            kwargs[name[2:]] = value
        elif name.startswith("*") or (int(node.step.signature.parameters[name].kind) in positional and not kwargs):
            args.append(value)
        else:
            kwargs[name] = value
    return args, kwargs


def _parts(step: Step[..., Any]) -> int | None:
    """How many things a step returns, if its annotation says that it is several."""
    returned = step.signature.return_annotation
    if isinstance(returned, str):
        if not returned.replace("typing.", "").lower().startswith("tuple["):
            return None
        inner = returned[returned.index("[") + 1 : returned.rindex("]")]
        depth, count = 0, 1
        for character in inner:
            depth += (character == "[") - (character == "]")
            count += character == "," and depth == 0
        return None if inner.strip() in ("", "()") or inner.rstrip().endswith("...") else count
    kinds = get_args(returned) if get_origin(returned) is tuple else ()
    return len(kinds) if kinds and kinds[-1] is not Ellipsis else None


def _called_from() -> str:
    frame = sys._getframe(1)  # noqa: SLF001
    ours = (__file__, __file__.replace("graph.py", "steps.py"), __file__.replace("graph.py", "branches.py"))
    while frame.f_back is not None and frame.f_code.co_filename in ours:
        frame = frame.f_back
    return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}: "


def _short(file: str) -> str:
    try:
        return Path(file).relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return file
