"""Gates: set, taken away, asked."""

from __future__ import annotations

import msgspec

from tarmac.core.errors import Invalid, bounded
from tarmac.core.operation import handles
from tarmac.formats import signing
from tarmac.govern import operations as ops
from tarmac.registry import gates, references, rules
from tarmac.registry.handlers import gating
from tarmac.registry.queries import gates as rows
from tarmac.registry.queries import models
from tarmac.registry.records import Gate, Verdict
from tarmac.store import manifests
from tarmac.store.sql import Reader, Tx


@handles(ops.SetGate)
def set_gate(request: ops.SetGate, tx: Tx) -> Gate:
    rules.check_alias(request.alias)
    paths = gates.names(request.require)
    for pem in (*request.signed_by, *request.approvers):
        signing.public_key(pem)
    _refuse_contradictions(request, {path[-1] if path[0] == gates.CHAMPION else path[0] for path in paths})
    fields = msgspec.structs.asdict(request)
    content = manifests.get(tx, request.manifest).digest if request.manifest else ""
    gate = Gate(**fields, content=content, digest="", actor=tx.actor.signature, updated_at=tx.now)
    gate = msgspec.structs.replace(gate, digest=rows.rules_digest(gate))
    before = rows.gate(tx, request.model, request.alias)
    tx.subject = f"gates/{request.model}@{request.alias}"
    if before is not None and (before.digest, before.origin, before.alias) == (gate.digest, gate.origin, gate.alias):
        tx.unchanged()
        return before
    rows.put_gate(tx, gate)
    tx.evidence = {"digest": gate.digest, "before": before.digest if before else None}
    return gate


def _refuse_contradictions(request: ops.SetGate, families: set[str]) -> None:
    """Rules that could never hold are refused when they are set, not when somebody is in a hurry."""
    if not request.require and not request.approvals:
        raise Invalid(
            f"the gate of {bounded(request.model)}@{request.alias} asks for nothing",
            hint="give it rules (`require`) or `approvals`; without a gate the alias moves freely",
        )
    if "signed" in families and not request.signed_by:
        raise Invalid("the rule `signed` needs keys: by whom?", hint='signed_by = ["keys/release.pub"]')
    on_rows = sorted(families & {"measured", "slices", "fairness", "robustness", "challenge", "latency"})
    if on_rows and request.manifest is None:
        raise Invalid(f"`{on_rows[0]}` is measured on rows, and the gate names none", hint='data = "data/holdout.csv"')
    if (needs_label := sorted(set(on_rows) - {"latency"})) and not request.label:
        raise Invalid(f"`{needs_label[0]}` needs the column that has the answers", hint='label = "left", beside `data`')


@handles(ops.RemoveGate)
def remove_gate(request: ops.RemoveGate, tx: Tx) -> Gate:
    gate = rows.gate(tx, request.model, request.alias)
    if gate is None:
        raise rows.unknown_gate(tx, request.model, request.alias)
    rows.drop_gate(tx, gate)
    tx.subject = f"gates/{request.model}@{request.alias}"
    tx.evidence = {"before": gate.digest, "require": gate.require}
    return gate


@handles(ops.ListGates)
def list_gates(request: ops.ListGates, read: Reader) -> ops.GateList:
    return ops.GateList(gates=rows.gates(read, request.model))


@handles(ops.JudgeVersion)
def judge_version(request: ops.JudgeVersion, read: Reader) -> Verdict:
    rules.check_alias(request.to)
    reference = references.parse(request.ref)
    model = models.key_of(read, reference.model)
    side = gating.side(read, models.version_key(read, reference))
    assert side is not None
    pointed = models.alias(read, model, request.to)
    champion = gating.side(read, pointed[0] if pointed else None)
    gate = rows.gate(read, reference.model, request.to)
    if gate is None:
        return Verdict(
            model=reference.model, version=side.version.number, alias=request.to, passed=True, gate=None, outcomes=[],
            champion=champion.version.number if champion else None,
        )  # fmt: skip
    return gating.verdict(read, gate, model, side, champion)


@handles(ops.ListChecks)
def list_checks(request: ops.ListChecks, read: Reader) -> ops.CheckPage:
    reference = references.parse(request.ref)
    version = models.version(read, models.version_key(read, reference))
    found = rows.checks(read, models.key_of(read, reference.model), version.id, request.before, request.limit)
    return ops.CheckPage(checks=found, next=found[-1].id if len(found) == request.limit else None)
