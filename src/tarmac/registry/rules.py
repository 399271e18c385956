"""What may be done: decisions on plain values, without a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tarmac.core.errors import Conflict, Invalid, Refused, bounded
from tarmac.registry.records import Package, Version, Way
from tarmac.registry.references import reserved

ACTIVE_STAGES = ("Staging", "Production")


@dataclass(frozen=True, slots=True)
class Intent:
    """The move of an alias that somebody asks for. `before` and `after` are None for nowhere."""

    model: str
    alias: str
    how: Way | Literal["stage"]
    before: Version | None
    after: Version | None
    package: Package | None
    actor: str
    reason: str


def may_move(intent: Intent) -> dict[str, Any]:
    """The place for gates: every move of every alias, whoever asks for it, passes here, and no other code decides.

    What is answered is stored with the move as its evidence; a move that may not be made is `Refused`, with the rule
    and what would satisfy it.
    """
    if intent.after is not None and intent.after.state != "ready":
        raise Refused(
            f"{intent.model}@v{intent.after.number} is {intent.after.state}: `{bounded(intent.alias)}` cannot point to "
            "what is not whole",
            hint="seal its package first: `tarmac packages seal ID`",
        )
    return {"digest": intent.after.digest} if intent.after is not None and intent.after.digest else {}


def check_alias(alias: str) -> None:
    if reserved(alias):
        raise Invalid(
            f"no alias can be called `{bounded(alias)}`",
            hint="`latest` is the newest version and `v7` the seventh; choose a word like `production`",
        )


def check_expected(intent: Intent, expected: int | None) -> None:
    """Somebody who looked before may ask that nobody else was faster. Zero stands for nowhere."""
    now = intent.before.number if intent.before is not None else 0
    if expected is None or expected == now:
        return
    where = f"points to v{now}" if now else "points nowhere"
    raise Conflict(
        f"{intent.model}@{bounded(intent.alias)} {where}, not {f'to v{expected}' if expected else 'nowhere'}",
        hint="look at it again: `tarmac models history NAME`",
        detail={"points_to": now},
    )


def check_removal(what: str, aliases: list[str], *, with_aliases: bool) -> None:
    """What an alias points to goes only when whoever deletes it knows."""
    if aliases and not with_aliases:
        names = ", ".join(f"`{bounded(name)}`" for name in aliases[:5]) + (" …" if len(aliases) > 5 else "")
        raise Conflict(
            f"{what} is what {names} point{'s' if len(aliases) == 1 else ''} to",
            hint="retire the alias first, or delete with `--with-aliases`, which retires it and records that",
            detail={"aliases": aliases[:100]},
        )
