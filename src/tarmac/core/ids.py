"""Identities: sortable by time where order helps, random where workspaces have to merge."""

from __future__ import annotations

import os
import secrets
import time


def time_ordered() -> str:
    """32 hex digits that sort by the millisecond they were made in (runs, jobs)."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


def decimal() -> str:
    """18 random decimal digits (experiments): what MLflow's clients expect, and merged without a clash."""
    return str(secrets.randbelow(9 * 10**17) + 10**17)


def short() -> str:
    """16 hex digits (persons, tokens, temporary names)."""
    return os.urandom(8).hex()
