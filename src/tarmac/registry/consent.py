"""Approvals that a key gives: what is signed, and whether it is good. In a folder nobody is known, but a key is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tarmac.core.errors import Invalid, TarmacError
from tarmac.formats import signing
from tarmac.registry.records import Approval

KIND = "application/vnd.tarmac.approval+json"
LONGEST = 20_000


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the holder of a key consents to."""

    model: str
    version: int
    digest: str
    alias: str = ""
    note: str = ""


def signed(statement: Statement, key: Any) -> str:
    """The statement in an envelope, as it is sent."""
    return msgspec.json.encode(signing.envelope(key, KIND, msgspec.json.encode(statement))).decode()


def opened(envelope: str, keys: Iterable[str]) -> tuple[Statement, str] | None:
    """The statement and the fingerprint of the key that signed it; nothing if none of the keys did."""
    try:
        document = msgspec.json.decode(envelope)
    except msgspec.DecodeError:
        raise Invalid("a signed approval is JSON: `tarmac approve NAME@vN --key KEY.pem` makes one") from None
    for pem in keys:
        key = signing.public_key(pem)
        try:
            payload = signing.opened(document, KIND, key)
            return msgspec.json.decode(payload, type=Statement), signing.fingerprint(key)
        except (TarmacError, msgspec.DecodeError):
            continue
    return None


def fault(approval: Approval, keys: Iterable[str]) -> str:
    """Why a signed approval does not count now; nothing if it does."""
    try:
        found = opened(approval.statement, keys)
    except TarmacError as error:
        return error.message
    if found is None:
        return f"key {approval.key[:16]} is not one of the gate's approvers"
    statement, _ = found
    said = (statement.model, statement.digest, statement.alias)
    return "" if said == (approval.model, approval.package_digest, approval.alias) else "was signed for something else"
