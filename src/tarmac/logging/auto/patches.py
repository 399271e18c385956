"""What is replaced in other libraries, and put back as it was."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

MISSING = object()


class Patch(NamedTuple):
    owner: Any
    name: str
    original: Any
    """As it stands in the owner's own namespace; MISSING where the owner only inherited it."""
    replacement: Any


_patches: list[Patch] = []
_ours: set[int] = set()
_lock = threading.RLock()


def own(owner: Any, name: str) -> Any:
    """What an owner has under a name by itself, not by inheritance, and without calling a descriptor."""
    return vars(owner).get(name, MISSING)


def replace(owner: Any, name: str, replacement: Any) -> None:
    with _lock:
        _patches.append(Patch(owner, name, own(owner, name), replacement))
        _ours.add(id(replacement))
        setattr(owner, name, replacement)


def is_ours(thing: Any) -> bool:
    return id(thing) in _ours  # they are all alive, so no two have the same


def undo() -> None:
    with _lock:
        while _patches:
            owner, name, original, replacement = _patches.pop()
            if own(owner, name) is not replacement:
                continue  # somebody has wrapped it since; what they call of ours does nothing while we are off
            if original is MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        _ours.clear()
