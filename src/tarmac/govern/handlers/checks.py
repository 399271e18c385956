"""Measuring for a gate: a job. Its answer is evidence about exactly one version, one champion and one set of rules."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from tarmac.core.clock import now
from tarmac.core.ids import time_ordered
from tarmac.core.operation import handles
from tarmac.govern import operations as ops
from tarmac.govern.measuring import facts
from tarmac.govern.measuring.subject import Found
from tarmac.registry import gates, references, rules
from tarmac.registry.handlers import gating
from tarmac.registry.queries import gates as rows
from tarmac.registry.queries import models, packages
from tarmac.registry.records import Check, Gate
from tarmac.store.job import JobContext
from tarmac.store.records import File
from tarmac.store.sql import Batch, Event, Reader, Tx

MOST_FILES = 100_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What a check is about, read once at its start."""

    gate: Gate
    model: int
    version: gating.Side
    champion: gating.Side | None
    bundles: dict[str, facts.Bundle]
    rows: Sequence[File]


@handles(ops.CheckGate)
def check_gate(request: ops.CheckGate, job: JobContext) -> Check:
    with job.store.database.read() as connection:  # and closed again: measuring takes long
        asked = _asked(Reader(connection, job.store.names, job.project, job.project_name, job.actor), request)
    with tempfile.TemporaryDirectory(prefix="tarmac-check-") as place:
        found = facts.Measuring(asked.gate, asked.bundles, asked.rows, job, Path(place)).run()
    check = _check(asked, found, job)

    def keep(batch: Batch) -> Check:
        tx = Tx(batch, job.project, job.project_name, job.actor)
        whole = _judged(tx, asked, replace(check, at=batch.now))
        rows.add_check(tx, asked.model, whole)
        payload = msgspec.json.encode({**msgspec.to_builtins(request), "evidence": _evidence(whole)})
        batch.events.append(
            Event(job.project_name, batch.now, job.actor.signature, "gates.check", f"checks/{whole.id}", payload)
        )
        return whole

    kept: Check = job.store.writer.call(keep)
    return kept


def _asked(read: Reader, request: ops.CheckGate) -> Asked:
    rules.check_alias(request.to)
    reference = references.parse(request.ref)
    model = models.key_of(read, reference.model)
    version = gating.side(read, models.version_key(read, reference))
    assert version is not None
    gate = rows.gate(read, reference.model, request.to)
    if gate is None:
        raise rows.unknown_gate(read, reference.model, request.to)
    pointed = models.alias(read, model, request.to)
    champion = gating.side(read, pointed[0] if pointed else None)
    bundles = {facts.VERSION: bundle_of(read, version)}
    if champion is not None:
        bundles[facts.CHAMPION] = bundle_of(read, champion)
    data = packages.sealed_files(read, gate.manifest, "", "", 1) if gate.manifest else []
    return Asked(gate, model, version, champion, bundles, data)


def bundle_of(read: Reader, side: gating.Side) -> facts.Bundle:
    package = side.package
    if package is None or package.manifest is None:
        return facts.Bundle(side, [], [], [])
    files = packages.sealed_files(read, package.manifest, "", "", MOST_FILES)
    form = package.compiled
    compiled = packages.sealed_files(read, form.manifest, "", "", MOST_FILES) if form is not None else []
    return facts.Bundle(side, files, compiled, rows.signatures(read, [package.id]))


def _check(asked: Asked, found: Found, job: JobContext) -> Check:
    champion = asked.champion
    return Check(
        id=time_ordered(),
        model=asked.version.version.model,
        alias=asked.gate.alias,
        version=asked.version.version.number,
        version_id=asked.version.version.id,
        package_digest=asked.version.digest,
        form=asked.version.form,
        champion=champion.version.number if champion else None,
        champion_id=champion.version.id if champion else "",
        champion_digest=champion.digest if champion else "",
        gate=asked.gate.digest,
        facts={gates.spelled(path): value for path, value in found.facts.items()},
        unknown={gates.spelled(path): why for path, why in found.unknown.items()},
        at=now(),
        actor=job.actor.signature,
        pictures=found.pictures,
    )


def _judged(tx: Tx, asked: Asked, check: Check) -> Check:
    """With what the rules said, so that the evidence of a refusal says why. Approvals may still come: they are asked
    when the alias moves."""
    said = gating.outcomes(tx, asked.gate, asked.model, asked.version, asked.champion, check)
    whole = replace(check, outcomes=said, passed=all(outcome.verdict != "failed" for outcome in said))
    return replace(whole, digest=rows.sealed(whole))


def _evidence(check: Check) -> dict[str, object]:
    return {
        "proof": check.digest,
        "version": f"{check.model}@v{check.version}",
        "digest": check.package_digest,
        "champion": check.champion,
        "gate": check.gate,
        "passed": check.passed,
        "failed": [outcome.rule for outcome in check.outcomes if outcome.verdict == "failed"],
    }
