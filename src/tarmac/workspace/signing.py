"""Signing a version's package on this machine, and proving signatures on the bytes that are at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from tarmac.core.errors import Damaged, Refused, TarmacError, bounded
from tarmac.formats import signing
from tarmac.formats.package import ABOUT, Sealed, package_digest
from tarmac.registry.operations import AttachSignature, ListSignatures
from tarmac.registry.records import Signature, Version
from tarmac.workspace import Workspace

PIECE = 4 * 1024 * 1024


def sign(workspace: Workspace, version: Version, sealed: Sealed, key: Any) -> Signature:
    """Sign what lies in the folder, and keep the signature with the package."""
    ref = f"{version.model}@v{version.number}"
    return workspace(AttachSignature(ref=ref, bundle=signing.sign(ref, sums(sealed, version.digest), key)))


def from_file(path: Path) -> list[Signature]:
    """A signature that was written into a file, by whatever tool."""
    bundle = path.read_text(encoding="utf-8", errors="replace")
    return [Signature(package="", digest="", key=signing.hint(bundle), bundle=bundle, actor="", at=0)]


def signed_by(workspace: Workspace, version: Version, sealed: Sealed, keys: Iterable[str]) -> str | None:
    """The fingerprint of the key that proves these bytes, of those given; None if none does."""
    found = workspace(ListSignatures(ref=f"{version.model}@v{version.number}")).signatures
    return proven(found, sealed, version.digest, keys)[0] if found else None


def proven(
    found: Sequence[Signature], sealed: Sealed, expected: str | None, keys: Iterable[str]
) -> tuple[str | None, list[str]]:
    """The first key that proves the bytes, or none and what is wrong with each signature."""
    trusted = [signing.public_key(pem) for pem in keys]
    there = sums(sealed, expected)
    faults: list[str] = []
    for signature in found:
        try:
            files, by = signing.signed_files(signature.bundle, trusted)
        except TarmacError as error:
            faults.append(error.message)
            continue
        if not (differ := signing.differences(files, there)):
            return by, []
        faults.append(f"the signature of key {by[:16]} is of other bytes: {bounded(', '.join(differ), 300)}")
    return None, list(dict.fromkeys(faults))


def sums(sealed: Sealed, expected: str | None) -> dict[str, str]:
    """The SHA-256 of each file, of bytes that have the BLAKE3 digest by which the loader will verify them: what is
    signed and what is loaded cannot be two things. A folder of MLflow's was sealed without `tarmac.json`."""
    found = {}
    for file in sealed.about.files:
        sha, blake = hashlib.sha256(), blake3()
        with (sealed.folder / file.path).open("rb", buffering=0) as opened:
            while piece := opened.read(PIECE):
                sha.update(piece)
                blake.update(piece)
        if blake.hexdigest() != file.digest:
            raise Damaged(f"`{bounded(file.path)}` has other bytes than were sealed", hint="fetch the package again")
        found[file.path] = sha.hexdigest()
    if expected in (None, sealed.digest):
        data = (sealed.folder / ABOUT).read_bytes()
        if package_digest(sealed.about.files, data) != sealed.digest:
            raise Damaged(f"`{ABOUT}` has other bytes than were sealed", hint="fetch the package again")
        found[ABOUT] = hashlib.sha256(data).hexdigest()
    return found


def refuse_unproven(ref: str, faults: Sequence[str]) -> Refused:
    why = "; ".join(faults) if faults else "there is no signature"
    return Refused(f"{bounded(ref)} is not signed by a key that was given: {bounded(why, 500)}")
