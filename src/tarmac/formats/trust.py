"""Whose code may run: asked before any loader touches a file that could carry out something.

A pickle, a Python predictor, a torch module: to load one is to run it. That is done only for packages that were made
here by the same person, or that somebody vouched for: by a signature of a listed key, or by naming the digest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tarmac.core.errors import Refused, bounded
from tarmac.formats.package import Sealed


@dataclass(frozen=True, slots=True)
class Trust:
    """What is trusted, and why. By itself nothing is."""

    reasons: dict[str, str] = field(default_factory=dict)
    """Why a package may run code, by its digest."""
    command: str = "--trust {digest}"
    """What to type to trust a package, for the refusal."""

    def of(self, digest: str, why: str) -> Trust:
        return replace(self, reasons={**self.reasons, digest: why})

    @classmethod
    def digests(cls, digests: Iterable[str], why: str = "its digest was named") -> Trust:
        return cls({digest.lower(): why for digest in digests})


def check(sealed: Sealed, trust: Trust, files: list[str]) -> str:
    """Why the code in these files may run; refused if nobody vouches for it."""
    if not files:
        return "it brings no code"
    why = trust.reasons.get(sealed.digest)
    if why is not None:
        return why
    name = ", ".join(f"`{bounded(path)}`" for path in files[:3])
    raise Refused(
        f"package {bounded(sealed.about.name)} brings code ({name}) that runs when it is loaded, and nobody here "
        "vouches for it",
        hint=f"if you know who made it: {trust.command.format(digest=sealed.digest)}",
        detail={"digest": sealed.digest, "files": files[:100]},
    )
