"""Two versions side by side: what is known of them, and what they say of the same rows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tarmac.core.clock import iso
from tarmac.core.errors import Cancelled, bounded
from tarmac.core.operation import handles
from tarmac.govern import operations as ops
from tarmac.govern.handlers.checks import bundle_of
from tarmac.govern.measuring import facts
from tarmac.registry import references
from tarmac.registry.handlers import gating
from tarmac.registry.judging import show
from tarmac.registry.queries import gates as rows
from tarmac.registry.queries import models, packages
from tarmac.registry.records import Gate
from tarmac.store.job import JobContext
from tarmac.store.records import File
from tarmac.store.sql import Reader
from tarmac.track.handlers import looking
from tarmac.track.operations import CompareRuns
from tarmac.track.queries import rows as run_rows
from tarmac.track.records import Difference

SKIPPED = ("run.", "files.", "tags.")
"""Of runs: what says nothing of the model."""


@handles(ops.CompareVersions)
def compare_versions(request: ops.CompareVersions, job: JobContext) -> ops.SideBySide:
    with job.store.database.read() as connection:
        read = Reader(connection, job.store.names, job.project, job.project_name, job.actor)
        a, b = (_side(read, ref) for ref in (request.a, request.b))
        found = [*_packages(a, b), *_runs(read, a, b, same=request.same)]
        gate, data = _gate(read, a, request.alias)
        bundles = {facts.VERSION: bundle_of(read, a), facts.CHAMPION: bundle_of(read, b)}
    predicted, why = _predicted(gate, bundles, data, job)
    different = [said for said in found if request.same or len(set(said.values)) > 1]
    return ops.SideBySide(
        versions=[f"{side.version.model}@v{side.version.number}" for side in (a, b)],
        differences=[*predicted, *different],
        why=why,
    )


def _side(read: Reader, ref: str) -> gating.Side:
    found = gating.side(read, models.version_key(read, references.parse(ref)))
    assert found is not None
    return found


def _packages(a: gating.Side, b: gating.Side) -> list[Difference]:
    def of(side: gating.Side) -> dict[str, str | None]:
        version, package = side.version, side.package
        said: dict[str, str | None] = {
            "version.made": iso(version.created_at), "version.by": version.actor, "version.note": version.note,
            "version.run": version.run, "package.digest": side.digest[:16] or None, "version.source": version.source,
        }  # fmt: skip
        if package is not None:
            said |= {"package.kind": package.kind, "package.bytes": f"{package.size:,}"}
            said["package.form"] = "compiled" if package.compiled and package.compiled.equal else "native"
            said |= {f"metrics.{metric.name}": show(metric.value) for metric in package.metrics}
        return {what: value or None for what, value in said.items()}

    left, right = of(a), of(b)
    return [Difference(what=what, values=[left.get(what), right.get(what)]) for what in dict.fromkeys([*left, *right])]


def _runs(read: Reader, a: gating.Side, b: gating.Side, *, same: bool) -> list[Difference]:
    """What their runs tell: results, params, data, code, packages, machine."""
    ids = [side.version.run or (side.package.run if side.package else None) or "" for side in (a, b)]
    if ids[0] == ids[1] or any(run_rows.run_key(read, id) is None for id in ids):
        return []
    found = looking.compare_runs(CompareRuns(ids=ids, same=same), read).differences
    return [said for said in found if not said.what.startswith(SKIPPED)]


def _gate(read: Reader, side: gating.Side, alias: str) -> tuple[Gate | None, Sequence[File]]:
    known = [gate for gate in rows.gates(read, side.version.model) if gate.manifest and gate.label]
    gate = next((gate for gate in known if not alias or rows.fold(gate.alias) == rows.fold(alias)), None)
    if alias and gate is None:
        raise rows.unknown_gate(read, side.version.model, alias)
    return gate, packages.sealed_files(read, gate.manifest, "", "", 1) if gate and gate.manifest else []


def _predicted(
    gate: Gate | None, bundles: dict[str, facts.Bundle], data: Sequence[File], job: JobContext
) -> tuple[list[Difference], str]:
    if gate is None:
        return [], "no gate of the model names rows to predict (`data` and `label`)"
    with tempfile.TemporaryDirectory(prefix="tarmac-compare-") as place:
        try:
            found = facts.Measuring(gate, bundles, data, job, Path(place)).side_by_side()
        except Cancelled:
            raise
        except Exception as error:  # noqa: BLE001 - a model's own code may raise anything; what is known is still told
            return [], facts.why(error)
    return [Difference(what=what, values=[_text(value) for value in pair]) for what, pair in found.items()], ""


def _text(value: object) -> str | None:
    return None if value is None else bounded(show(value), 60)
