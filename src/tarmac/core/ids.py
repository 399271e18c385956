"""Identities: sortable by time where order helps, random where workspaces have to merge."""

from __future__ import annotations

import os
import secrets
import threading
import time

FOLLOWED = 1000
_RANDOM_BITS = 80
_lock = threading.Lock()
_newest = 0


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # whoever held it did not come along


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def time_ordered() -> str:
    """32 hex digits that sort by when they were made (runs, jobs): those of one process also within a millisecond."""
    global _newest
    new = (time.time_ns() // 1_000_000 << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    with _lock:
        if 0 <= (_newest >> _RANDOM_BITS) - (new >> _RANDOM_BITS) <= FOLLOWED:  # a clock that jumps far is believed
            new = _newest + 1 + secrets.randbits(40)
        _newest = new
    return f"{new:032x}"


def decimal() -> str:
    """18 random decimal digits (experiments): what MLflow's clients expect, and merged without a clash."""
    return str(secrets.randbelow(9 * 10**17) + 10**17)


def short() -> str:
    """16 hex digits (persons, tokens, temporary names)."""
    return os.urandom(8).hex()
