"""Who asks: a name, whether we are sure of it, and what it may do where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Permission = Literal["read", "write", "approve", "admin"]
PERMISSIONS: tuple[Permission, ...] = get_args(Permission)

Role = Literal["viewer", "contributor", "approver", "admin"]
ROLES: dict[Role, frozenset[Permission]] = {
    "viewer": frozenset({"read"}),
    "contributor": frozenset({"read", "write"}),
    "approver": frozenset({"read", "write", "approve"}),
    "admin": frozenset(PERMISSIONS),
}

EVERYWHERE = "*"
"""Stands for all projects in a grant; what concerns the whole workspace needs a grant everywhere."""


UNVERIFIED = "os:"
"""Before the name of somebody who is only the user of the machine; no person's name may have a colon."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody, known or not, on whose behalf one operation is done."""

    name: str
    verified: bool = False
    person: str | None = None
    grants: Mapping[str, frozenset[Permission]] = field(default_factory=dict)

    @property
    def signature(self) -> str:
        """The name as the ledger keeps it: nobody can be taken for a person who did not show a token."""
        return self.name if self.verified else f"{UNVERIFIED}{self.name}"

    @classmethod
    def signed(cls, signature: str) -> Actor:
        """Whoever a record names, without any permission."""
        if signature.startswith(UNVERIFIED):
            return cls(signature.removeprefix(UNVERIFIED))
        return cls(signature, verified=True)

    def permissions(self, project: str) -> frozenset[Permission]:
        return self.grants.get(EVERYWHERE, frozenset()) | self.grants.get(project, frozenset())

    def may(self, needs: Permission, project: str) -> bool:
        return needs in self.permissions(project)


def os_user() -> Actor:
    """The owner of the folder: may do everything in it, and is never taken for a verified person."""
    import getpass

    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run as a number without a name
        name = "unknown"
    return Actor(name, verified=False, grants={EVERYWHERE: ROLES["admin"]})
