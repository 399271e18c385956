"""Whose code may run: asked before any loader touches a file that could carry out something.

A pickle, a Python predictor, a torch module: to load one is to run it. That is done only for packages that were made
here by the same person, or that somebody vouched for: by a signature of a listed key, or by naming the digest.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from tarmac.core.errors import Refused, bounded
from tarmac.core.files import write_private
from tarmac.core.ids import short
from tarmac.formats.package import Sealed

KEY_FILE = "models.key"
MARK = "mark"


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


# --- what a run of one's own made ---


def mark(state: Path, digest: str) -> str:
    """Proof that this user's own run made a package, on this machine: only who can read the key can make it."""
    path = state / KEY_FILE
    if not path.is_file():
        state.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{KEY_FILE}.{short()}")
        write_private(made, secrets.token_hex(32))
        try:
            path.hardlink_to(made)
        except FileExistsError:
            pass  # another was faster: there is one key
        made.unlink()
    return _keyed(path, digest)


def is_marked(state: Path, digest: str, document: Mapping[str, Any]) -> bool:
    """Whether a package's document has that proof, for exactly these bytes."""
    path, said = state / KEY_FILE, document.get(MARK)
    if not isinstance(said, str) or not path.is_file():
        return False
    return hmac.compare_digest(said.encode(), _keyed(path, digest).encode())


def _keyed(path: Path, digest: str) -> str:
    key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    return blake3(digest.encode(), key=key).hexdigest()
