"""Aliases: where they point, who moved them, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from tarmac.core.clock import moment
from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.core.operation import handles
from tarmac.registry import operations as ops
from tarmac.registry import references, rules
from tarmac.registry.handlers import gating
from tarmac.registry.queries import gates, models
from tarmac.registry.records import Gate, Move, Version, Way
from tarmac.registry.references import Reference
from tarmac.store.sql import Reader, Tx


@handles(ops.PromoteVersion)
def promote(request: ops.PromoteVersion, tx: Tx) -> Move:
    rules.check_alias(request.to)
    reference = references.parse(request.ref)
    after = models.version_key(tx, reference)
    model = models.key_of(tx, reference.model)
    return move(
        tx, model, request.to, "promote", after, request.reason, expected=request.expected, override=request.override
    )


@handles(ops.RollbackAlias)
def rollback(request: ops.RollbackAlias, tx: Tx) -> Move:
    """A step back on the road that led here. Versions that were deleted since are passed over."""
    reference = _alias(request.ref)
    name = str(reference.alias)
    model = models.key_of(tx, reference.model)
    pointed = models.alias(tx, model, name)
    here = pointed[1] if pointed else models.last_move(tx, model, name)
    if here is None:
        raise models.unknown_alias(tx, model, reference)
    # the move below is what it pointed to before; after a retirement that is the move that was retired
    below = models.step(tx, here)[1]
    passed: set[int] = set()
    while below is not None:
        number, further = models.step(tx, below)
        current = models.number_of(tx, pointed[0]) if pointed else None
        after = models.living(tx, model, number) if number is not None else None
        if after is not None and number != current:
            return move(tx, model, name, "rollback", after, request.reason, below=further)
        if number is not None and after is None:
            passed.add(number)
        below = further
    gone = f": v{', v'.join(map(str, sorted(passed)))} was deleted" if passed else ""
    raise Conflict(
        f"there is nothing that `{bounded(request.ref)}` could go back to{gone}",
        hint="`tarmac models history NAME` shows where it pointed when",
    )


@handles(ops.RetireAlias)
def retire(request: ops.RetireAlias, tx: Tx) -> Move:
    reference = _alias(request.ref)
    model = models.key_of(tx, reference.model)
    if models.alias(tx, model, str(reference.alias)) is None:
        raise models.unknown_alias(tx, model, reference)
    return move(tx, model, str(reference.alias), "retire", None, request.reason)


def _alias(ref: str) -> Reference:
    reference = references.parse(ref)
    if reference.alias is None:
        raise Invalid(f"`{bounded(ref)}` is a version and no alias", hint="write it like churn@production")
    return reference


def move(
    tx: Tx, model: int, alias: str, how: Way, after: int | None, reason: str, *,
    below: int | None = None, expected: int | None = None, override: bool = False,
) -> Move:  # fmt: skip
    """The only way an alias is moved. The model is held by the caller, so that moves come one after the other."""
    pointed = models.alias(tx, model, alias)
    before = gating.side(tx, pointed[0] if pointed else None)
    to = gating.side(tx, after)
    name = models.name_of(tx, model)
    gate = gates.gate(tx, name, alias)
    intent = _intent(tx, (name, alias, how), before, to, reason, gate, override=override)
    rules.check_expected(intent, expected)
    tx.subject = f"models/{name}"
    if to is not None and before is not None and to.version.id == before.version.id:
        tx.unchanged()  # it points there already: no second line in the history
        assert pointed is not None
        return models.move(tx, pointed[1])
    if gate is not None and to is not None and how == "promote":
        intent = replace(intent, verdict=gating.verdict(tx, gate, model, to, before))
    evidence = rules.may_move(intent)
    if how != "rollback":
        below = pointed[1] if pointed else models.last_move(tx, model, alias)
    numbers = (before.version.number if before else None, to.version.number if to else None)
    key = models.add_move(tx, model, alias, how, numbers, below, reason, evidence)
    models.point(tx, model, alias, after, key)
    models.touch(tx, model)
    made = models.move(tx, key)
    moved = {**(tx.evidence or {}).get("moves", {}), made.id: models.proof(made)}
    tx.evidence = {"before": numbers[0], "after": numbers[1], **evidence, "moves": moved}
    return made


def may_enter(tx: Tx, model: int, version: Version, stage: str, reason: str) -> dict[str, Any]:
    """MLflow's stages point to versions too, and meet the same rules as an alias of that name."""
    name = models.name_of(tx, model)
    to = gating.Side(version, gating.package_of(tx, version))
    evidence: dict[str, Any] = {}
    if version.stage in rules.ACTIVE_STAGES and version.stage != stage:
        gate = gates.gate(tx, name, version.stage)
        evidence |= rules.may_move(_intent(tx, (name, version.stage, "stage"), to, None, reason, gate))
    if stage not in rules.ACTIVE_STAGES:
        return evidence
    gate = gates.gate(tx, name, stage)
    intent = _intent(tx, (name, stage, "stage"), None, to, reason, gate)
    if gate is not None:
        champion = gating.champion(tx, model, gate.alias, stage, version.id)
        intent = replace(intent, verdict=gating.verdict(tx, gate, model, to, champion))
    return evidence | rules.may_move(intent)


def gated(tx: Tx, model: int, aliases: Sequence[str], stages: Sequence[str] = ()) -> list[str]:
    """Those of the aliases and stages that stand under a gate."""
    name = models.name_of(tx, model)
    return [alias for alias in (*aliases, *stages) if alias != "None" and gates.gate(tx, name, alias) is not None]


def _intent(
    tx: Tx, what: tuple[str, str, Way | Literal["stage"]], before: gating.Side | None, after: gating.Side | None,
    reason: str, gate: Gate | None, *, override: bool = False,
) -> rules.Intent:  # fmt: skip
    name, alias, how = what
    return rules.Intent(
        name, alias, how, before.version if before else None, after.version if after else None,
        after.package if after else None, tx.actor.signature, reason, gate,
        may=tx.actor.permissions(tx.project_name), override=override,
    )  # fmt: skip


@handles(ops.ShowHistory)
def show_history(request: ops.ShowHistory, read: Reader) -> ops.Moves:
    model = models.even_deleted(read, request.name)
    if request.at:
        return ops.Moves(moves=models.moves_at(read, model, request.alias, moment(request.at)))
    found = models.moves(read, model, request.alias, request.before, request.limit)
    return ops.Moves(moves=found, next=found[-1].id if len(found) == request.limit else None)
