"""What may be done: decisions on plain values, without a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tarmac.core.actor import Actor, Permission
from tarmac.core.errors import Conflict, Forbidden, Invalid, Refused, bounded
from tarmac.registry.records import Gate, Package, Verdict, Version, Way
from tarmac.registry.references import reserved

ACTIVE_STAGES = ("Staging", "Production")
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Intent:
    """The move of an alias that somebody asks for. `before` and `after` are None for nowhere.

    `gate` is what the alias stands under, `verdict` what that says of `after`, and `may` what the actor may do.
    """

    model: str
    alias: str
    how: Way | Literal["stage"]
    before: Version | None
    after: Version | None
    package: Package | None
    actor: str
    reason: str
    gate: Gate | None = None
    verdict: Verdict | None = None
    may: frozenset[Permission] = frozenset()
    override: bool = False


def may_move(intent: Intent) -> dict[str, Any]:
    """The one place where it is decided: every move of every alias, whoever asks for it, passes here.

    What is answered is stored with the move as its evidence; a move that may not be made is `Refused`, with the rule,
    the value, and what would satisfy it.
    """
    if intent.after is not None and intent.after.state != "ready":
        raise Refused(
            f"{intent.model}@v{intent.after.number} is {intent.after.state}: `{bounded(intent.alias)}` cannot point to "
            "what is not whole",
            hint="seal its package first: `tarmac packages seal ID`",
        )
    evidence = {"digest": intent.after.digest} if intent.after is not None and intent.after.digest else {}
    if intent.gate is None:
        return evidence
    evidence["gate"] = intent.gate.digest
    if intent.after is None:
        _check_leaving(intent)
        return evidence
    if intent.how == "rollback":  # it was there before; whoever has to go back in a hurry is not asked for more
        return {**evidence, "returned": True}
    assert intent.verdict is not None, "who asks about a gate has asked the gate"
    return {**evidence, **_judged(intent, intent.verdict)}


def _judged(intent: Intent, verdict: Verdict) -> dict[str, Any]:
    rules = [
        {"rule": outcome.rule, "verdict": outcome.verdict, "why": outcome.why, "values": outcome.values}
        for outcome in verdict.outcomes
    ]
    evidence = {"rules": rules, "champion": verdict.champion, "check": verdict.check, "approvals": verdict.approvals}
    if verdict.check:
        evidence["check_digest"] = verdict.check_digest
    if verdict.passed:
        return evidence
    if not intent.override:
        raise _refusal(intent, verdict, rules)
    if "admin" not in intent.may:
        raise Forbidden(
            f"{bounded(intent.actor)} may not override the rules of {intent.model}@{bounded(intent.alias)}: "
            "it needs `admin`",
            hint="an admin may, with a reason; it leaves a mark in the history",
        )
    if not intent.reason.strip():
        raise Invalid("rules are not overridden without a reason", hint="--reason TEXT; it stays in the history")
    return {**evidence, "overridden": [outcome.rule for outcome in verdict.outcomes if outcome.verdict == "failed"]}


def _refusal(intent: Intent, verdict: Verdict, rules: list[dict[str, Any]]) -> Refused:
    failed = [outcome for outcome in verdict.outcomes if outcome.verdict == "failed"]
    shown = "; ".join(f"`{bounded(outcome.rule, 200)}`: {bounded(outcome.why, 300)}" for outcome in failed[:MOST_NAMED])
    more = f"; and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
    ref = f"{intent.model}@v{verdict.version}"
    if verdict.to_measure:
        hint = f"measure it: `tarmac gates check {bounded(ref)} --to {verdict.alias}`"
    else:
        hint = f"`tarmac gates judge {bounded(ref)} --to {verdict.alias}` shows every rule with its values"
    return Refused(
        f"{bounded(ref)} may not become `{bounded(intent.alias)}`: {len(failed)} of {len(verdict.outcomes)} rules "
        f"{'does' if len(failed) == 1 else 'do'} not hold: {shown}{more}",
        hint=hint,
        detail={"rules": rules, "to_measure": verdict.to_measure[:MOST_NAMED]},
    )


def _check_leaving(intent: Intent) -> None:
    """A gated alias is not taken away in passing: who does it may approve, and says why."""
    what = f"{intent.model}@{bounded(intent.alias)} stands under a gate"
    if "approve" not in intent.may:
        raise Forbidden(f"{what}: taking it away needs `approve`", hint="ask an approver or an admin")
    if not intent.reason.strip():
        raise Refused(
            f"{what}: it is not taken away without a reason",
            hint=f"tarmac models retire {bounded(intent.model)}@{bounded(intent.alias)} --reason TEXT",
        )


def check_rename(name: str, to: str, pairs: Mapping[str, tuple[Gate | None, Gate | None]]) -> None:
    """`pairs` has of each alias in use its gate under the old and under the new name. An alias that came under other
    rules by a new name would have moved without being asked."""
    for alias, (before, after) in pairs.items():
        if (before.digest if before else "") != (after.digest if after else ""):
            whose = name if before else to
            raise Refused(
                f"{bounded(whose)}@{bounded(alias)} stands under a gate: as `{bounded(to)}` it would stand under "
                f"{'other rules' if before and after else 'none' if before else 'rules that it was not judged by'}",
                hint=f"give `{bounded(to)}` the same gate first, or retire `{bounded(alias)}` and promote it again",
            )


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


def check_removal(what: str, aliases: list[str], gated: list[str], *, with_aliases: bool) -> None:
    """What an alias points to goes only when whoever deletes it knows; what a gated one points to, not at all."""
    if gated:
        names = ", ".join(f"`{bounded(name)}`" for name in gated[:5])
        raise Refused(
            f"{what} is what {names} point{'s' if len(gated) == 1 else ''} to, under a gate",
            hint="promote another version first, or take it away with a reason: `tarmac models retire NAME@ALIAS "
            "--reason TEXT`",
            detail={"aliases": gated[:100]},
        )
    if aliases and not with_aliases:
        names = ", ".join(f"`{bounded(name)}`" for name in aliases[:5]) + (" …" if len(aliases) > 5 else "")
        raise Conflict(
            f"{what} is what {names} point{'s' if len(aliases) == 1 else ''} to",
            hint="retire the alias first, or delete with `--with-aliases`, which retires it and records that",
            detail={"aliases": aliases[:100]},
        )


def check_approver(actor: Actor, authors: set[str], ref: str) -> None:
    """Who consents in their own name has to be somebody, and somebody else."""
    if not actor.verified:
        raise Refused(
            f"{bounded(actor.signature)} is only a user of this machine: nobody can tell whether that is somebody else",
            hint=f"go through a server that knows people, or sign it: `tarmac approve {bounded(ref)} --key KEY.pem`",
        )
    if actor.signature in authors:
        raise Refused(
            f"{bounded(actor.signature)} had a part in making {bounded(ref)} and cannot approve it",
            hint="ask somebody else",
        )
