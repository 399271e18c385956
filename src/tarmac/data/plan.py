"""What has to be done so that a folder becomes a version: decided on plain values, before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tarmac.data.comparing import Copies, Held, proof
from tarmac.data.listing import FOLDER, LINK, Entry


@dataclass(slots=True)
class Plan:
    """Paths to remove, then entries to write, then those whose executable bit changes; and what stands in the way,
    because nobody has a copy of it."""

    remove: list[str] = field(default_factory=list)
    write: list[Entry] = field(default_factory=list)
    modes: list[Entry] = field(default_factory=list)
    kept: int = 0
    unsaved: list[str] = field(default_factory=list)


def decide(wanted: Mapping[str, Entry], held: Mapping[str, Held], ours: Copies) -> Plan:
    plan = Plan()
    folders = {folder for path in wanted for folder in _above(path)}
    for path, entry in wanted.items():
        now = held.get(path)
        if now is None:
            plan.write.append(entry)
        elif _is_same(entry, now):
            if entry.kind == now.kind:
                plan.kept += 1
            else:
                plan.modes.append(entry)
        else:
            if not _has_copy(path, now, ours):
                plan.unsaved.append(path)
            if FOLDER in (now.kind, entry.kind):
                plan.remove.append(path)
            plan.write.append(entry)
    for path, now in held.items():
        if path in wanted:
            continue
        in_the_way = path in folders if now.kind != FOLDER else False
        in_the_way = in_the_way or any(above in wanted and wanted[above].kind != FOLDER for above in _above(path))
        if path not in ours and not in_the_way:
            continue  # nobody's: it is left alone
        if not _has_copy(path, now, ours):
            plan.unsaved.append(path)
        plan.remove.append(path)
    return plan


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _is_same(entry: Entry, now: Held) -> bool:
    if FOLDER in (entry.kind, now.kind) or LINK in (entry.kind, now.kind):
        return entry.kind == now.kind and proof(entry) == now.digest
    return entry.digest == now.digest


def _has_copy(path: str, now: Held, ours: Copies) -> bool:
    """Whether a version has what is there; an empty folder holds nothing that could be lost."""
    return now.kind == FOLDER or (bool(now.digest) and now.digest in ours.get(path, ()))
