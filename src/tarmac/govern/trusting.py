"""Whose code a check may run: what a run of the same user made on this machine, or what a key of the gate signed."""

from __future__ import annotations

from tarmac.core.settings import Settings
from tarmac.formats import trust
from tarmac.formats.trust import Trust
from tarmac.registry.handlers.gating import Side

COMMAND = "sign it with a key that the gate lists (`signed_by`): `tarmac models sign NAME@vN --key KEY.pem`"


def trust_of(side: Side, digest: str, *, signed: bool) -> Trust:
    """What vouches for the package that lies here under this digest."""
    vouched = Trust(command=COMMAND)
    if signed:
        return vouched.of(digest, "it is signed by a key of the gate")
    document = side.package.document if side.package else {}
    if trust.is_marked(Settings.from_environment().state, digest, document):
        return vouched.of(digest, "a run of the same user made it on this machine")
    return vouched
