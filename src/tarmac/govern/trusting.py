"""Whose code a check may run: what a run of the same user made in this folder, or what a key of the gate signed."""

from __future__ import annotations

from tarmac.core.actor import Actor
from tarmac.formats.trust import Trust
from tarmac.registry import rules
from tarmac.registry.handlers.gating import Side

COMMAND = "sign it with a key that the gate lists (`signed_by`): `tarmac models sign NAME@vN --key KEY.pem`"


def trust_of(side: Side, actor: Actor, *, signed: bool) -> Trust:
    """A verified person who brought code through a server is somebody else than whoever runs that server."""
    trust = Trust(command=COMMAND)
    if side.package is None or not side.digest:
        return trust
    if signed:
        return trust.of(side.digest, "it is signed by a key of the gate")
    if not actor.verified and rules.made_by(side.package, actor.signature):
        return trust.of(side.digest, "a run of theirs made it in this folder")
    return trust
