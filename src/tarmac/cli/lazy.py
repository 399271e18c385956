"""Groups whose commands are imported or made when they are called."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

Maker = str | Callable[[], click.Command]


class LazyGroup(click.Group):
    """Knows the names and one-line helps of its commands; loads the one that is called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy: dict[str, tuple[str, Maker]] = {}

    def add_lazy(self, name: str, text: str, maker: Maker) -> None:
        self._lazy[name] = (text, maker)

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self._lazy, *sorted(self.commands)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self._lazy:
            return self.commands.get(name)
        maker = self._lazy[name][1]
        if isinstance(maker, str):
            module, _, attribute = maker.partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        return maker()

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(context, name) is None:
            from tarmac.core.errors import bounded, nearest

            near = nearest(name, self.list_commands(context))
            context.fail(f"there is no command `{bounded(name)}`" + (f"; did you mean `{near}`?" if near else ""))
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, text) for name, (text, _) in self._lazy.items()]
        rows += [(name, self.commands[name].get_short_help_str(100)) for name in sorted(self.commands)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def command_group(name: str, stage: str, text: str) -> click.Command:
    """The command or group called `name`, made of a stage's operations and of what is written by hand for it."""
    import_module(f"tarmac.{stage}.operations")
    from tarmac.cli.operation import command
    from tarmac.core.operation import SPECS

    if name in SPECS:
        return command(SPECS[name], name)
    group = LazyGroup(name=name, help=text)
    for spec in SPECS.values():
        head, _, verb = spec.name.partition(".")
        if head == name:
            group.add_lazy(verb, spec.summary, lambda spec=spec, verb=verb: command(spec, verb))  # type: ignore[misc]
    if find_spec(f"tarmac.cli.{name}"):
        for verb, own in import_module(f"tarmac.cli.{name}").commands.items():
            group.add_lazy(verb, own.get_short_help_str(100), lambda own=own: own)  # type: ignore[misc]
    return group
