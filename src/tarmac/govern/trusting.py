"""Whose code a check may run: what this machine's own user made here, or what one of the gate's keys signed."""

from __future__ import annotations

from tarmac.core.actor import os_user
from tarmac.formats.trust import Trust
from tarmac.registry.handlers.gating import Side

COMMAND = "sign it with a key that the gate lists (`signed_by`): `tarmac models sign NAME@vN --key KEY.pem`"


def trust_of(side: Side, *, signed: bool) -> Trust:
    """A package of a run of the same unverified user, which is how a folder knows its owner; a verified person who
    brought code through a server is somebody else, whatever their name."""
    trust = Trust(command=COMMAND)
    package = side.package
    if package is None or package.digest is None:
        return trust
    if signed:
        return trust.of(package.digest, "it is signed by a key of the gate")
    if package.run is not None and package.actor == os_user().signature:
        return trust.of(package.digest, "it was made here by the same user")
    return trust
