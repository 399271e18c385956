"""Aliases: where they point, who moved them, and the way back."""

from __future__ import annotations

from typing import Any

from tarmac.core.clock import moment
from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.core.operation import handles
from tarmac.registry import operations as ops
from tarmac.registry import references, rules
from tarmac.registry.queries import models, packages
from tarmac.registry.records import Move, Package, Version, Way
from tarmac.registry.references import Reference
from tarmac.store.sql import Reader, Tx


@handles(ops.PromoteVersion)
def promote(request: ops.PromoteVersion, tx: Tx) -> Move:
    rules.check_alias(request.to)
    reference = references.parse(request.ref)
    after = models.version_key(tx, reference)
    model = models.key_of(tx, reference.model)
    return move(tx, model, request.to, "promote", after, request.reason, expected=request.expected)


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
    below: int | None = None, expected: int | None = None,
) -> Move:  # fmt: skip
    """The only way an alias is moved. The model is held by the caller, so that moves come one after the other."""
    pointed = models.alias(tx, model, alias)
    before = models.version(tx, pointed[0]) if pointed else None
    to = models.version(tx, after) if after is not None else None
    name = models.name_of(tx, model)
    intent = rules.Intent(name, alias, how, before, to, _package(tx, to), tx.actor.signature, reason)
    rules.check_expected(intent, expected)
    tx.subject = f"models/{name}"
    if to is not None and before is not None and to.id == before.id:
        tx.unchanged()  # it points there already: no second line in the history
        assert pointed is not None
        return models.move(tx, pointed[1])
    evidence = rules.may_move(intent)
    if how != "rollback":
        below = pointed[1] if pointed else models.last_move(tx, model, alias)
    numbers = (before.number if before else None, to.number if to else None)
    key = models.add_move(tx, model, alias, how, numbers, below, reason, evidence)
    models.point(tx, model, alias, after, key)
    models.touch(tx, model)
    tx.evidence = {"before": numbers[0], "after": numbers[1], **evidence}
    return models.move(tx, key)


def may_enter(tx: Tx, model: int, version: Version, stage: str) -> dict[str, Any]:
    """MLflow's stages point to versions too, and meet the same rules as an alias of that name."""
    intent = rules.Intent(
        models.name_of(tx, model), stage, "stage", None, version, _package(tx, version), tx.actor.signature, ""
    )
    return rules.may_move(intent) if stage in rules.ACTIVE_STAGES else {}


def _package(tx: Tx, version: Version | None) -> Package | None:
    if version is None or version.package is None:
        return None
    key = packages.key_of(tx, version.package)
    return packages.by_keys(tx, [key])[0] if key is not None else None


@handles(ops.ShowHistory)
def show_history(request: ops.ShowHistory, read: Reader) -> ops.Moves:
    model = models.even_deleted(read, request.name)
    if request.at:
        return ops.Moves(moves=models.moves_at(read, model, request.alias, moment(request.at)))
    found = models.moves(read, model, request.alias, request.before, request.limit)
    return ops.Moves(moves=found, next=found[-1].id if len(found) == request.limit else None)
