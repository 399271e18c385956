"""What is known about a version when its gate is asked: facts from the tables, measurements, approvals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from tarmac.core.clock import now
from tarmac.core.errors import bounded
from tarmac.core.expressions import Path
from tarmac.flow.reproduce import queries as reproductions
from tarmac.registry import consent, gates, judging
from tarmac.registry.queries import gates as rows
from tarmac.registry.queries import models, packages
from tarmac.registry.records import Approval, Check, Fact, Gate, Outcome, Package, Verdict, Version
from tarmac.store.sql import Reader, Tx
from tarmac.track import points
from tarmac.track.queries import rows as run_rows

DAY = 24 * 3_600_000
HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class Side:
    """A version with its package: the one that wants to move, or the champion."""

    version: Version
    package: Package | None

    @property
    def digest(self) -> str:
        return self.version.digest or ""

    @property
    def form(self) -> str:
        """The digest of the compiled form, if there is one: it can be made anew while the package stays the same."""
        return self.package.compiled.digest if self.package and self.package.compiled else ""


def side(read: Reader, key: int | None) -> Side | None:
    if key is None:
        return None
    version = models.version(read, key)
    return Side(version, package_of(read, version))


def package_of(read: Reader, version: Version | None) -> Package | None:
    if version is None or version.package is None:
        return None
    key = packages.key_of(read, version.package)
    return packages.by_keys(read, [key])[0] if key is not None else None


def champion(read: Reader, model: int, alias: str, stage: str, version: str) -> Side | None:
    """What is there now: where the alias of that name points, or in MLflow's stage the newest other version."""
    pointed = models.alias(read, model, alias)
    return side(read, pointed[0] if pointed else models.newest_in_stage(read, model, stage, version))


def verdict(read: Reader, gate: Gate, model: int, version: Side, champion: Side | None) -> Verdict:
    """What the gate says now: of facts in the tables as they are now, and of measurements that still hold."""
    known = Known(read, gate, model, version, champion)
    outcomes = judging.judge(gate, known, known.reasons, champion=champion is not None)
    consented: list[str] = []
    if gate.approvals:
        said, consented = _approvals(read, gate, model, version)
        outcomes.append(said)
    return Verdict(
        model=version.version.model,
        version=version.version.number,
        alias=gate.alias,
        champion=champion.version.number if champion else None,
        passed=not judging.failed(outcomes),
        gate=gate.digest,
        outcomes=outcomes,
        to_measure=known.to_measure,
        check=known.check.id if known.check else None,
        check_digest=known.check.digest if known.check else "",
        approvals=consented,
    )


def outcomes(
    read: Reader, gate: Gate, model: int, version: Side, champion: Side | None, measured: Check
) -> list[Outcome]:
    """What the rules say of what was just measured."""
    known = Known(read, gate, model, version, champion, measured)
    return judging.judge(gate, known, known.reasons, champion=champion is not None)


class Known:
    """Looks facts up by their path, each once."""

    def __init__(
        self, read: Reader, gate: Gate, model: int, version: Side, champion: Side | None, measured: Check | None = None
    ) -> None:
        self._read = read
        self._sides = {True: champion, False: version}
        self._found: dict[Path, object] = {}
        self._runs: dict[str, tuple[dict[str, float | str], dict[str, str]]] = {}
        self.reasons: dict[str, str] = {}
        self.check: Check | None = None
        needed = [path for path in gates.names(gate.require) if champion or not gates.needs_champion(path)]
        wanted = [gates.spelled(path) for path in needed if gates.has_to_be_measured(path)]
        why = ""
        if measured is not None:
            self.check = measured
        elif wanted:
            self.check, why = _still_holds(read, gate, model, version, champion)
        self._measured: dict[str, Fact] = self.check.facts if self.check else {}
        self.to_measure = [] if self.check else wanted
        for name in wanted:
            self.reasons[name] = self.check.unknown.get(name, "was not measured") if self.check else why

    def __call__(self, path: Path) -> object:
        if path not in self._found:
            self._found[path] = self._find(path)
        return self._found[path]

    def _find(self, path: Path) -> object:
        if gates.has_to_be_measured(path):
            return _number(self._measured.get(gates.spelled(path)))
        of_champion = path[0] == gates.CHAMPION
        which = self._sides[of_champion]
        return self._light(which, path[1:] if of_champion else path) if which is not None else None

    def _light(self, side: Side, path: Path) -> object:
        match path:
            case ("metrics", name):
                return self._metric(side, name)
            case ("params", name):
                said = side.package.params.get(name) if side.package else None
                return as_number(said if said is not None else self._run(side)[1].get(name))
            case ("tags", name):
                return as_number(side.version.tags.get(name))
            case ("package", part):
                return _of_package(side.package, part)
            case (("compiled" | "reproducible" | "data" | "contract"), *rest):
                return recorded_fact(self._read, side, path[0], rest[0] if rest else "")
        return None

    def _metric(self, side: Side, name: str) -> object:
        """The package's own newest value, or the run's."""
        said = [metric for metric in side.package.metrics if metric.name == name] if side.package else []
        value = max(said, key=lambda metric: (metric.at, metric.step)).value if said else self._run(side)[0].get(name)
        return _number(value)

    def _run(self, side: Side) -> tuple[dict[str, float | str], dict[str, str]]:
        id = side.version.run or (side.package.run if side.package else None) or ""
        if id not in self._runs:
            key = run_rows.run_key(self._read, id) if id else None
            self._runs[id] = ({}, {})
            if key is not None:
                carried = run_rows.carried(self._read, key)
                self._runs[id] = ({name: value[0] for name, value in carried.metrics.items()}, carried.params)
        return self._runs[id]


def _number(value: object) -> object:
    """Not a number and infinities travel as text."""
    return points.number(value) if value in ("NaN", "Infinity", "-Infinity") else value


def as_number(text: str | None) -> object:
    """Params and tags are text; those that look like a number, or like yes and no, can be compared as such."""
    if text is None or text in ("True", "False"):
        return None if text is None else text == "True"
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text


def _of_package(package: Package | None, part: str) -> object:
    if package is None or package.state != "ready":
        return None
    return {"size_mb": package.size / 1e6, "files": package.files, "kind": package.kind}[part]


SAME = ("same", "close")
"""Verdicts of `tarmac reproduce` that count: close is what whoever asked for it called close enough."""
_PROOF = {"difference": "largest_difference", "agreement": "agreement"}


def recorded_fact(read: Reader, side: Side, family: str, part: str) -> object:
    """What other stages left with the package or its run."""
    if family == "compiled":
        form = side.package.compiled if side.package else None
        if form is None:
            return None
        return form.equal if part == "equal" else form.proof.get(_PROOF[part])
    run = side.version.run or (side.package.run if side.package else None)
    if not run:
        return None
    if family == "reproducible":
        found = reproductions.latest(read, run)
        return None if found is None else found.verdict in SAME
    given = rows.data_of_run(read, run)
    known = [data for data in given if data is not None]
    if not known or len(known) < len(given):  # what is not kept here may be of any age, and anything
        return None
    if family == "data":
        return (_now(read) - min(data.created_at for data in known)) / DAY
    return _of_contracts([data.document for data in known], part)


def _of_contracts(documents: Sequence[Mapping[str, Any]], part: str) -> object:
    """What the contracts said when the data was logged; missing if one version was logged without any."""
    verdicts = [document.get("verdict") for document in documents]
    if not all(isinstance(verdict, dict) for verdict in verdicts):
        return None
    if part == "passed":
        return all(verdict["state"] == "passed" for verdict in verdicts if verdict)
    return sum(finding["state"] == "failed" for verdict in verdicts if verdict for finding in verdict["findings"])


def _still_holds(
    read: Reader, gate: Gate, model: int, version: Side, champion: Side | None
) -> tuple[Check | None, str]:  # fmt: skip
    """The newest measurement, if it is of exactly this and fresh; else why there is none that counts."""
    check = rows.newest_check(read, model, gate.alias, version.version.id)
    if check is None:
        return None, "was not measured yet"
    changed = (
        "measured with other bytes" if (check.package_digest, check.form) != (version.digest, version.form)
        else "measured under other rules" if check.gate != gate.digest
        else "measured against another champion" if check.champion_id != (champion.version.id if champion else "")
        or check.champion_digest != (champion.digest if champion else "")
        else f"measured more than {gate.hours:g} hours ago" if _age(read, check) > gate.hours * HOUR
        else ""
    )  # fmt: skip
    if not changed and (
        rows.sealed(check) != check.digest or not rows.recorded(read, f"checks/{check.id}", check.digest)
    ):
        changed = f"measurement {check.id} was changed after it was made: `tarmac audit verify` says more"
    return (None, changed) if changed else (check, "")


def _age(read: Reader, check: Check) -> int:
    return _now(read) - check.at


def _now(read: Reader) -> int:
    return read.now if isinstance(read, Tx) else now()


def _approvals(read: Reader, gate: Gate, model: int, version: Side) -> tuple[Outcome, list[str]]:
    rule = f"approvals >= {gate.approvals}"
    given = rows.approvals(read, model, version.digest) if version.digest else []
    authors = authors_of(read, version)
    good: dict[str, Approval] = {}
    refused: list[str] = []
    for approval in given:
        if why := _no_good(read, approval, gate, authors):
            refused.append(f"{bounded(approval.actor, 60)}: {why}")
        else:
            good[approval.key or approval.actor] = approval
    ids = [approval.id for approval in good.values()]
    values: dict[str, Fact] = {"approvals": len(good)}
    if len(good) >= gate.approvals:
        by = ", ".join(bounded(approval.actor, 60) for approval in good.values())
        return Outcome(rule=rule, verdict="held", why=f"by {by}", values=values), ids
    ref = f"{version.version.model}@v{version.version.number}"
    why = f"{len(good)} of {gate.approvals}, by others than {', '.join(sorted(authors))}: `tarmac approve {ref}`"
    if not version.digest:
        why = "this version has no bytes here, so nobody can consent to them"
    if refused:
        why += f" ({'; '.join(refused[:3])})"
    return Outcome(rule=rule, verdict="failed", why=bounded(why, 500), values=values), ids


def _no_good(read: Reader, approval: Approval, gate: Gate, authors: set[str]) -> str:
    """Why an approval does not count; nothing if it does."""
    if approval.withdrawn_at is not None:
        return "was withdrawn"
    if approval.alias and rows.fold(approval.alias) != rows.fold(gate.alias):
        return f"was given for `{approval.alias}`"
    if rows.sealed(replace(approval, withdrawn_at=None)) != approval.digest or not rows.recorded(
        read, f"approvals/{approval.id}", approval.digest
    ):
        return f"approval {approval.id} was changed after it was given"
    if approval.key:
        return consent.fault(approval, gate.approvers)
    if approval.actor.startswith("os:"):
        return "is not a verified person"
    return "made it" if approval.actor in authors else ""


def authors_of(read: Reader, version: Side) -> set[str]:
    """Who made the version, its package and its run: they cannot approve it."""
    found = {version.version.actor}
    if version.package is not None:
        found.add(version.package.actor)
    run = version.version.run or (version.package.run if version.package else None)
    if run and (of_run := rows.actor_of_run(read, run)):
        found.add(of_run)
    return found
