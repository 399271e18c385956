"""How much memory this process takes, and giving back what it does not need."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path


def resident() -> int:
    """Bytes, without what the allocator only keeps for later; zero where the system does not tell."""
    give_back()
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def give_back() -> None:
    """Workers keep large freed pieces for the next request; what a model leaves behind is not needed again."""
    gc.collect()
    with suppress(AttributeError, OSError):  # another C library than glibc decides by itself
        ctypes.CDLL(None).malloc_trim(0)
