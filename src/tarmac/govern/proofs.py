"""Whether what the tables say of moves, approvals, measurements and gates is what the ledger saw them become."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tarmac.core.errors import bounded
from tarmac.govern import queries
from tarmac.registry.queries import gates as rows
from tarmac.registry.queries import models
from tarmac.registry.records import Approval, Check, Gate
from tarmac.store.sql import Connection


@dataclass(slots=True)
class Seen:
    """What events carry: the digest of each line of history, approval and measurement, and of each gate the last."""

    moves: dict[str, str] = field(default_factory=dict)
    proofs: dict[str, str] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    gates: dict[tuple[str, str], str] = field(default_factory=dict)


def faults(connection: Connection) -> Iterator[str]:
    """Everything that was changed past the ledger, by name. The ledger itself is proved before."""
    seen = _seen(connection)
    yield from _moves(connection, seen)
    yield from _aliases(connection)
    yield from _documents(connection, seen)
    yield from _gates(connection, seen)


def _seen(connection: Connection) -> Seen:
    seen = Seen()
    for project, subject, operation, payload in queries.evidence_events(connection):
        evidence = _evidence(payload)
        seen.moves.update(evidence.get("moves") or {})
        if isinstance(evidence.get("proof"), str):
            seen.proofs[subject] = evidence["proof"]
        if isinstance(evidence.get("withdrawn"), str):
            seen.withdrawn.add(evidence["withdrawn"])
        if operation in ("gates.set", "gates.rm"):
            seen.gates[project, subject] = str(evidence.get("digest") or "")
    return seen


def _evidence(payload: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return {}  # the chain names it
    evidence = found.get("evidence") if isinstance(found, dict) else None
    return evidence if isinstance(evidence, dict) else {}


def _moves(connection: Connection, seen: Seen) -> Iterator[str]:
    for name, move in queries.moves_since_gates(connection):
        known = seen.moves.get(move.id)
        what = f"{bounded(name)}@{bounded(move.alias)}: move {move.id}"
        if known is None:
            yield f"{what} is in the history and not in the ledger"
        elif known != models.proof(move):
            yield f"{what} was edited: the history no longer says what the ledger saw"
    missing = seen.moves.keys() - queries.move_ids(connection)
    for id in sorted(missing):
        yield f"move {id} is in the ledger and was removed from the history"


def _aliases(connection: Connection) -> Iterator[str]:
    for model, alias, number, moved_to, newest in queries.alias_moves(connection):
        if number != moved_to or not newest:
            yield f"{bounded(model)}@{bounded(alias)} points to v{number}, and no move of its history led there"


def _documents(connection: Connection, seen: Seen) -> Iterator[str]:
    kinds: tuple[tuple[str, type[Approval] | type[Check]], ...] = (("approvals", Approval), ("gate_checks", Check))
    for table, kind in kinds:
        what = "approval" if table == "approvals" else "measurement"
        subject = "approvals" if table == "approvals" else "checks"
        for id, document in queries.documents(connection, table):
            proof = _proof(document, kind)
            if proof is None or seen.proofs.get(f"{subject}/{id}") != proof:
                yield f"{what} {id} was edited: the ledger saw another"
    for id in queries.withdrawn(connection):
        if id not in seen.withdrawn:
            yield f"approval {id} is withdrawn, and nobody withdrew it"


def _proof(document: str, kind: type[Approval] | type[Check]) -> str | None:
    try:
        found = msgspec.json.decode(document, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return found.digest if rows.sealed(found) == found.digest else None


def _gates(connection: Connection, seen: Seen) -> Iterator[str]:
    there = set()
    for project, document in queries.gate_documents(connection):
        gate = msgspec.json.decode(document, type=Gate)
        subject = f"gates/{gate.model}@{gate.alias}"
        there.add((project, subject.casefold()))
        if gate.digest != rows.rules_digest(gate) or seen.gates.get((project, subject)) != gate.digest:
            yield f"the gate of {bounded(gate.model)}@{bounded(gate.alias)} was edited: the ledger saw other rules"
    for (project, subject), digest in seen.gates.items():
        if digest and (project, subject.casefold()) not in there:
            yield f"{bounded(subject)} was removed, and the ledger does not know of it"
