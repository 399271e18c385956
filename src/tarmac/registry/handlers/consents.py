"""Approvals and signatures: consent to bytes, and proof of who made them."""

from __future__ import annotations

from msgspec.structs import replace

from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, NotFound, Refused, bounded
from tarmac.core.ids import time_ordered
from tarmac.core.operation import handles
from tarmac.formats import signing
from tarmac.registry import consent, references, rules
from tarmac.registry import operations as ops
from tarmac.registry.handlers import gating
from tarmac.registry.queries import gates as rows
from tarmac.registry.queries import models, packages
from tarmac.registry.records import Approval, Signature, Version
from tarmac.store.sql import Reader, Tx


@handles(ops.ApproveVersion)
def approve(request: ops.ApproveVersion, tx: Tx) -> Approval:
    reference = references.parse(request.ref)
    side = gating.side(tx, models.version_key(tx, reference))
    assert side is not None
    model = models.key_of(tx, reference.model)
    version = side.version
    ref = f"{version.model}@v{version.number}"
    if not side.digest:
        raise Conflict(
            f"{bounded(ref)} has no bytes here, so nobody can consent to them",
            hint="add a version of a package: `tarmac models add`",
        )
    approval = Approval(
        id=time_ordered(), model=version.model, version=version.number, package_digest=side.digest,
        alias=request.to or "", actor=tx.actor.signature, note=request.note, at=tx.now,
    )  # fmt: skip
    if request.signed:
        approval = _by_key(tx, approval, request.signed)
    else:
        rules.check_approver(tx.actor, gating.authors_of(tx, side), ref)
    before = _before(tx, model, approval)
    if request.withdraw:
        return _withdrawn(tx, before, ref)
    if before is not None:
        tx.unchanged()
        return before
    approval = replace(approval, digest=rows.sealed(approval))
    rows.add_approval(tx, model, approval)
    tx.subject = f"approvals/{approval.id}"
    tx.evidence = {"proof": approval.digest, "version": ref, "digest": side.digest, "key": approval.key}
    return approval


def _by_key(tx: Tx, approval: Approval, envelope: str) -> Approval:
    keys = [key for gate in rows.gates(tx, approval.model) for key in gate.approvers]
    found = consent.opened(envelope, dict.fromkeys(keys))
    if found is None:
        raise Refused(
            f"the approval is not signed with a key that the gates of `{bounded(approval.model)}` list",
            hint=f"`tarmac gates ls --model {bounded(approval.model)}` shows them: `approvers`",
        )
    statement, key = found
    if (statement.model, statement.digest) != (approval.model, approval.package_digest):
        raise Refused(
            f"the approval was signed for {bounded(statement.model)}, digest {bounded(statement.digest, 16)}, and not "
            f"for digest {approval.package_digest[:16]}"
        )
    return replace(approval, key=key, statement=envelope, alias=statement.alias, note=statement.note)


def _before(tx: Tx, model: int, approval: Approval) -> Approval | None:
    """What the same person or key said before, if it still stands."""
    for given in rows.approvals(tx, model, approval.package_digest):
        same = given.key == approval.key and (approval.key or given.actor == approval.actor)
        if same and given.withdrawn_at is None and given.alias in ("", approval.alias):
            return given
    return None


def _withdrawn(tx: Tx, before: Approval | None, ref: str) -> Approval:
    if before is None:
        raise NotFound(
            f"you have not approved {bounded(ref)}", hint=f"`tarmac models approvals {bounded(ref)}` shows who has"
        )
    rows.withdraw(tx, before.id)
    tx.subject = f"approvals/{before.id}"
    tx.evidence = {"withdrawn": before.id, "version": ref}
    return replace(before, withdrawn_at=tx.now)


@handles(ops.ListApprovals)
def list_approvals(request: ops.ListApprovals, read: Reader) -> ops.Approvals:
    reference = references.parse(request.ref)
    version = models.version(read, models.version_key(read, reference))
    model = models.key_of(read, reference.model)
    return ops.Approvals(approvals=rows.approvals(read, model, version.digest) if version.digest else [])


@handles(ops.AttachSignature)
def attach_signature(request: ops.AttachSignature, tx: Tx) -> Signature:
    """Kept as it came; whether it is good is asked where its bytes are at hand, each time."""
    version = _version(tx, request.ref)
    if version.package is None or version.state != "ready":
        raise Conflict(
            f"{bounded(version.model)}@v{version.number} has no sealed package that a signature could be of",
            hint="add a version of a package: `tarmac models add`",
        )
    key = packages.key_of(tx, version.package)
    assert key is not None
    signature = Signature(
        package=version.package, digest=digest(request.bundle.encode()), key=signing.hint(request.bundle),
        bundle=request.bundle, actor=tx.actor.signature, at=tx.now,
    )  # fmt: skip
    if not rows.add_signature(tx, key, signature):
        tx.unchanged()
    tx.subject = f"packages/{version.package}"
    tx.evidence = {"signature": signature.digest, "key": signature.key}
    return signature


@handles(ops.ListSignatures)
def list_signatures(request: ops.ListSignatures, read: Reader) -> ops.Signatures:
    version = _version(read, request.ref)
    return ops.Signatures(signatures=rows.signatures(read, [version.package] if version.package else []))


def _version(read: Reader, ref: str) -> Version:
    return models.version(read, models.version_key(read, references.parse(ref)))
