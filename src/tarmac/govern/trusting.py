"""Whose code a check may run: what a run of the same user made in this folder, or what a key of the gate signed."""

from __future__ import annotations

from tarmac.core.actor import Actor
from tarmac.formats.trust import Trust
from tarmac.registry import rules
from tarmac.registry.handlers.gating import Side

COMMAND = "sign it with a key that the gate lists (`signed_by`): `tarmac models sign NAME@vN --key KEY.pem`"


def trust_of(side: Side, digest: str, actor: Actor, *, signed: bool) -> Trust:
    """What vouches for the package that lies here under this digest. A verified person who brought code through a
    server is somebody else than whoever runs that server."""
    trust = Trust(command=COMMAND)
    if signed:
        return trust.of(digest, "it is signed by a key of the gate")
    if side.package is not None and not actor.verified and rules.made_by(side.package, actor.signature):
        return trust.of(digest, "a run of theirs made it in this folder")
    return trust
