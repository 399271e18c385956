"""The facts of a card, asked for one after the other: the same from a folder and through a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tarmac.core import project_file
from tarmac.core.clock import iso
from tarmac.core.errors import NotFound, TarmacError
from tarmac.formats.package import ABOUT, About, decode_about
from tarmac.govern.operations import ListChecks
from tarmac.registry.cards import Card
from tarmac.registry.operations import (
    GetPackage,
    GetVersion,
    ListApprovals,
    ListPackageFiles,
    ListSignatures,
    ShowHistory,
)
from tarmac.registry.records import Package, Version
from tarmac.track.operations import ReadRuns
from tarmac.track.records import WholeRun
from tarmac.workspace import Workspace

MOST_MOVES = 20


def card_of(workspace: Workspace, ref: str, start: Path) -> Card:
    """All that is known of a version; the project file near `start` says what it is for, if it is this project's."""
    version = workspace(GetVersion(ref=ref))
    pinned = f"{version.model}@v{version.number}"
    package = workspace(GetPackage(id=version.package)) if version.package else None
    about = _about(workspace, package)
    run = _run(workspace, version.run or (package.run if package else None))
    return Card(
        model=version.model,
        version=version.number,
        digest=version.digest or "",
        kind=package.kind if package else "",
        bytes=package.size if package else 0,
        made_at=version.created_at,
        made_by=version.actor,
        note=version.note,
        aliases=version.aliases,
        stage=version.stage,
        run=version.run or "",
        **_of_project(start, workspace.project),
        **_of_package(package, about),
        **_of_run(run, package),
        **_of_checks(workspace, pinned),
        **_of_people(workspace, version, pinned),
    )


def _about(workspace: Workspace, package: Package | None) -> About | None:
    if package is None:
        return None
    found = workspace(ListPackageFiles(id=package.id, folder=ABOUT)).files
    if not found:
        return None
    try:
        return decode_about(b"".join(workspace.read(found[0].digest)), ABOUT)
    except TarmacError:  # a card is made of what can be read
        return None


def _run(workspace: Workspace, run: str | None) -> WholeRun | None:
    if run is None:
        return None
    try:
        return next(iter(workspace(ReadRuns(ids=[run])).runs), None)
    except TarmacError:  # a version may name a run that is none of ours
        return None


def _of_project(start: Path, project: str) -> dict[str, Any]:
    file = project_file.find(start)
    said = project_file.load(file).project if file else None
    if said is None or said.name != project:
        return {}
    return {"goal": said.goal, "owners": said.owners}


def _of_package(package: Package | None, about: About | None) -> dict[str, Any]:
    if package is None:
        return {}
    form = "compiled to ONNX, proved equal" if package.compiled and package.compiled.equal else "as it was trained"
    found: dict[str, Any] = {"form": form}
    if about is not None:
        signature = about.signature
        found |= {
            "library": about.library,
            "requirements": about.requirements,
            "inputs": msgspec.to_builtins(signature.inputs) if signature else [],
            "outputs": msgspec.to_builtins(signature.outputs) if signature else [],
        }
    return found


def _of_run(run: WholeRun | None, package: Package | None) -> dict[str, Any]:
    params = dict(run.params) if run else {}
    metrics: dict[str, float | str] = dict(run.metrics) if run else {}
    if package is not None:
        params |= package.params
        metrics |= {metric.name: metric.value for metric in package.metrics}
    data = [f"{given.name}@{given.version}" if given.version else given.name for given in run.inputs] if run else []
    return {"params": params, "metrics": metrics, "data": data}


def _of_checks(workspace: Workspace, ref: str) -> dict[str, Any]:
    checks = workspace(ListChecks(ref=ref, limit=1)).checks
    if not checks:
        return {}
    check = checks[0]
    return {
        "measured": check.facts,
        "measured_at": check.at,
        "measured_on": str((check.pictures.get("rows") or {}).get("name") or ""),
        "rules": [msgspec.to_builtins(outcome) for outcome in check.outcomes],
        "pictures": check.pictures,
    }


def _of_people(workspace: Workspace, version: Version, ref: str) -> dict[str, Any]:
    approvals = workspace(ListApprovals(ref=ref)).approvals
    try:
        moves = workspace(ShowHistory(name=version.model)).moves
    except NotFound:
        moves = []
    mine = [move for move in moves if version.number in (move.before, move.after)][:MOST_MOVES]
    return {
        "approvals": [
            f"{given.actor}{f' with key {given.key[:16]}' if given.key else ''}, {iso(given.at)}"
            for given in approvals
            if given.withdrawn_at is None
        ],
        "signatures": [
            f"key {signature.key[:16]}, {iso(signature.at)}"
            for signature in workspace(ListSignatures(ref=ref)).signatures
        ],
        "moves": [
            f"{iso(move.at)} {move.how} {'to' if move.after == version.number else 'away from'} {move.alias} by "
            f"{move.actor}{f': {move.reason}' if move.reason else ''}"
            for move in mine
        ],
    }
