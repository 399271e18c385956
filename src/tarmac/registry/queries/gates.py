"""The tables of gates, of what was measured for them, of approvals and signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tarmac.core.digest import digest
from tarmac.core.errors import NotFound
from tarmac.data import queries as data
from tarmac.data.records import DataVersion
from tarmac.registry.records import Approval, Check, Gate, Signature
from tarmac.store import manifests
from tarmac.store.ledger import as_bytes
from tarmac.store.sql import Reader, Tx

NO_PART_OF_THE_RULES = ("model", "alias", "digest", "origin", "actor", "updated_at", "manifest", "data")
_ordered = msgspec.json.Encoder(order="deterministic").encode


def _needs(tx: Tx, manifest: str) -> str | None:
    found = tx.one(
        "SELECT model, alias FROM gates WHERE project = :project AND manifest = :manifest",
        project=tx.project,
        manifest=manifest,
    )
    return f"the gate of {found[0]}@{found[1]}" if found else None


manifests.HOLDERS.append(_needs)


def fold(alias: str) -> str:
    """`Production`, as MLflow's stage is called, stands under the rules of `production`."""
    return alias.casefold()


# --- gates ---


def gate(read: Reader, model: str, alias: str) -> Gate | None:
    row = read.one(
        "SELECT document FROM gates WHERE project = :project AND model = :model AND folded = :folded",
        project=read.project,
        model=model,
        folded=fold(alias),
    )
    return msgspec.json.decode(row[0], type=Gate) if row else None


def gates(read: Reader, model: str = "", origin: str = "") -> list[Gate]:
    where = ("AND model = :model " if model else "") + ("AND origin = :origin " if origin else "")
    rows = read.all(
        f"SELECT document FROM gates WHERE project = :project {where} ORDER BY model, folded",
        project=read.project,
        model=model,
        origin=origin,
    )
    return [msgspec.json.decode(document, type=Gate) for (document,) in rows]


def unknown_gate(read: Reader, model: str, alias: str) -> NotFound:
    known = [f"{gate.model}@{gate.alias}" for gate in gates(read)]
    return NotFound.named("gate", f"{model}@{alias}", known, hint="`tarmac gates ls` lists them")


def rules_digest(gate: Gate) -> str:
    """One digest for all that the gate asks, the bytes of its rows included, wherever it is kept."""
    said = {name: value for name, value in msgspec.structs.asdict(gate).items() if name not in NO_PART_OF_THE_RULES}
    return digest(_ordered(said))


def put_gate(tx: Tx, gate: Gate) -> None:
    drop_gate(tx, gate)
    tx.insert(
        "gates",
        ("project", "model", "folded", "alias", "document", "digest", "origin", "manifest", "actor", "updated_at"),
        [
            (
                tx.project, gate.model, fold(gate.alias), gate.alias, _ordered(gate).decode(), gate.digest, gate.origin,
                gate.manifest, gate.actor, gate.updated_at,
            )
        ],
    )  # fmt: skip


def drop_gate(tx: Tx, gate: Gate) -> None:
    tx.run(
        "DELETE FROM gates WHERE project = :project AND model = :model AND folded = :folded",
        project=tx.project,
        model=gate.model,
        folded=fold(gate.alias),
    )


# --- what was measured ---


def sealed(thing: Any) -> str:
    """The digest of all that a check or an approval says."""
    return digest(_ordered(msgspec.structs.replace(thing, digest="")))


def add_check(tx: Tx, model: int, check: Check) -> None:
    tx.insert(
        "gate_checks",
        ("project", "id", "model", "folded", "version", "document", "digest", "at", "actor"),
        [
            (
                tx.project, check.id, model, fold(check.alias), check.version_id, _ordered(check).decode(),
                check.digest, check.at, check.actor,
            )
        ],
    )  # fmt: skip


def newest_check(read: Reader, model: int, alias: str, version: str) -> Check | None:
    row = read.one(
        "SELECT document FROM gate_checks WHERE model = :model AND version = :version AND folded = :folded "
        "ORDER BY key DESC LIMIT 1",
        model=model,
        version=version,
        folded=fold(alias),
    )
    return msgspec.json.decode(row[0], type=Check) if row else None


def checks(read: Reader, model: int, version: str, before: str, limit: int) -> list[Check]:
    """The newest first; of one version, or of all."""
    rows = read.all(
        f"SELECT document FROM gate_checks WHERE model = :model {'AND version = :version' if version else ''} "
        "AND id < :before ORDER BY key DESC LIMIT :n",
        model=model,
        version=version,
        before=before or "~",
        n=limit,
    )
    return [msgspec.json.decode(document, type=Check) for (document,) in rows]


# --- approvals ---


def add_approval(tx: Tx, model: int, approval: Approval) -> None:
    tx.insert(
        "approvals",
        ("project", "id", "model", "package_digest", "document", "digest", "at", "actor"),
        [
            (
                tx.project, approval.id, model, approval.package_digest, _ordered(approval).decode(), approval.digest,
                approval.at, approval.actor,
            )
        ],
    )  # fmt: skip


def approvals(read: Reader, model: int, package_digest: str) -> list[Approval]:
    """The newest first, those that were withdrawn included."""
    rows = read.all(
        "SELECT document, withdrawn_at FROM approvals WHERE model = :model AND package_digest = :digest "
        "ORDER BY key DESC",
        model=model,
        digest=package_digest,
    )
    return [
        msgspec.structs.replace(msgspec.json.decode(document, type=Approval), withdrawn_at=at) for document, at in rows
    ]


def withdraw(tx: Tx, approval: str) -> None:
    tx.run(
        "UPDATE approvals SET withdrawn_at = :now WHERE project = :project AND id = :id",
        now=tx.now,
        project=tx.project,
        id=approval,
    )


def recorded(read: Reader, subject: str, proof: str) -> bool:
    """Whether the ledger has an event about this that carries the digest: what the tables say was said so then."""
    wanted = proof.encode()
    if isinstance(read, Tx) and any(
        event.subject == subject and wanted in event.payload for event in read.batch.events
    ):
        return True
    for table in ("pending_events", "events"):  # in this order: the sealer moves from the first to the second
        rows = read.all(
            f"SELECT payload FROM {table} WHERE project = :project AND subject = :subject",
            project=read.project_name,
            subject=subject,
        )
        if any(payload is not None and wanted in as_bytes(payload) for (payload,) in rows):
            return True
    return False


def actor_of_run(read: Reader, run: str) -> str | None:
    actor: str | None = read.value(
        "SELECT actor FROM runs WHERE project = :project AND id = :id", project=read.project, id=run
    )
    return actor


def data_of_run(read: Reader, run: str) -> list[DataVersion | None]:
    """Each version of data that a run was given; None for one that is not kept here."""
    found: list[DataVersion | None] = []
    for (source,) in read.all(
        "SELECT source FROM lineage WHERE project = :project AND target = :run AND source LIKE 'data/%'",
        project=read.project,
        run=f"runs/{run}",
    ):
        name, _, version = source.removeprefix("data/").rpartition("@")
        found.append(data.named_exactly(read, name, version, with_document=True) if name else None)
    return found


# --- signatures ---


def add_signature(tx: Tx, package: int, signature: Signature) -> bool:
    """False: it is there already."""
    return bool(
        tx.run(
            "INSERT INTO signatures (package, digest, key_hint, bundle, actor, at) VALUES "
            "(:package, :digest, :hint, :bundle, :actor, :at) ON CONFLICT DO NOTHING",
            package=package,
            digest=signature.digest,
            hint=signature.key,
            bundle=signature.bundle,
            actor=signature.actor,
            at=signature.at,
        )
    )


def signatures(read: Reader, packages: Sequence[str]) -> list[Signature]:
    found = []
    for package in packages:
        rows = read.all(
            "SELECT p.id, s.digest, s.key_hint, s.bundle, s.actor, s.at FROM signatures s "
            "JOIN packages p ON p.key = s.package WHERE p.project = :project AND p.id = :id ORDER BY s.at, s.digest",
            project=read.project,
            id=package,
        )
        found += [
            Signature(package=id, digest=of, key=hint, bundle=bundle, actor=actor, at=at)
            for id, of, hint, bundle, actor, at in rows
        ]
    return found
