"""Seeds, as far as the libraries that are in use tell them. Looking changes nothing."""

from __future__ import annotations

import os
import sys
from typing import Any


def known() -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "PYTHONHASHSEED" in os.environ:
        found["PYTHONHASHSEED"] = os.environ["PYTHONHASHSEED"]
    for name, look in (("numpy", _numpy), ("torch", _torch)):
        try:
            seed = look()
        except Exception:  # noqa: BLE001, S112 - half-imported, or another version: then it is not known
            continue
        if seed is not None:
            found[name] = seed
    return found


def _numpy() -> int | None:
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return None
    kind, keys, position, *_ = numpy.get_state()
    # right after seeding with a number, and only then, the first word is that number
    return int(keys[0]) if kind == "MT19937" and position == 624 else None


def _torch() -> int | None:
    torch = sys.modules.get("torch")
    return int(torch.initial_seed()) if torch is not None else None
