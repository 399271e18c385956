"""Checkout: a folder becomes a version. Only what differs is written, each file whole or not at all.

First it is decided what has to be done, then a journal is left, then it is done: stopped at any moment, each file is
the old one or the new one, the journal says between which versions the folder is, and another checkout goes on.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tarmac.core.errors import Conflict, Damaged, bounded
from tarmac.data import listing
from tarmac.data.comparing import Held, copies, held_now, proof
from tarmac.data.depot import Depot
from tarmac.data.listing import LINK, Entry
from tarmac.data.log import seen_as
from tarmac.data.operations import Listed
from tarmac.data.placing import place_all, refuse_clashes, refuse_full, sweep, translate
from tarmac.data.plan import Plan, decide
from tarmac.data.reading import read_entries
from tarmac.data.records import DataVersion
from tarmac.data.scan import Level, inside_target, path_problem, walk
from tarmac.data.seen import Journal, Memory, SeenLevel, moment, remembered

Progress = Callable[[int, int, str], None]
MOST_NAMED = 5


class CheckedOut(NamedTuple):
    """What a checkout did."""

    written: int
    removed: int
    kept: int
    bytes: int


def checkout(
    depot: Depot,
    memory: Memory,
    listed: Listed,
    target: Path,
    progress: Progress,
    *,
    force: bool = False,
    link: bool = False,
) -> CheckedOut:
    """Make the folder what the version is. With `link`, files of whole layout are names of the store's own files."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise Conflict(f"{target} is not a folder", hint="choose another place")
    wanted = {entry.path: trusted(entry) for entry in read_entries(depot, listing.decode(listed.listing).parts)}
    lock = memory.lock([("", target)])
    try:
        return _Checkout(depot, memory, listed.version, target, wanted).carry_out(progress, force=force, link=link)
    except OSError as error:
        raise translate(error, target) from error
    finally:
        lock.release()
        lock.close()


class _Checkout:
    """One checkout, while nobody else writes to the folder."""

    def __init__(
        self, depot: Depot, memory: Memory, version: DataVersion, target: Path, wanted: dict[str, Entry]
    ) -> None:
        self._depot = depot
        self._memory = memory
        self._version = version
        self._target = target
        self._wanted = wanted
        self._sources = [("", target)]

    def carry_out(self, progress: Progress, *, force: bool, link: bool) -> CheckedOut:
        target, wanted, memory = self._target, self._wanted, self._memory
        seen, journal = memory.load(self._sources), memory.journal(self._sources)
        ours = copies(self._depot, seen, journal)
        target.mkdir(parents=True, exist_ok=True)
        refuse_clashes(target, wanted)
        held = held_now(walk(self._sources), seen, wanted.keys() | ours.keys())
        plan = decide(wanted, held, ours)
        if plan.unsaved and not force:
            raise _unsaved(target, plan.unsaved)
        refuse_full(target, plan)
        if journal is not None:
            sweep(target)
        steps = [*(journal.versions if journal else []), f"{self._version.name}@v{self._version.number}"]
        memory.begin(self._sources, Journal(self._depot.project, list(dict.fromkeys(steps))))
        place_all(self._depot, target, plan, progress, link=link)
        self._remember(held)
        memory.done(self._sources)
        written = len(plan.write) + len(plan.modes)
        return CheckedOut(written, len(plan.remove), plan.kept, sum(entry.size for entry in plan.write))

    def _remember(self, held: dict[str, Held]) -> None:
        """What was not written is remembered as it looked when it was compared: a change since then shows."""
        looked_at = moment()
        levels: dict[str, SeenLevel] = {}
        for level in walk(self._sources):
            names, facts, digests = [], array("q"), []
            for index, name in enumerate(level.names):
                entry = self._wanted.get(level.inside(name))
                if entry is None:
                    continue
                before = held.get(entry.path)
                left = before is not None and (before.kind, before.digest) == (entry.kind, proof(entry))
                names.append(name)
                facts.extend(before.facts if before is not None and left else level.look(index))
                digests.append(proof(entry))
            bare = level.bare and level.path in self._wanted
            kept = Level(level.path, level.source, names, facts.tobytes(), bare)
            levels[level.source] = remembered(kept, digests, looked_at)
        self._memory.save(self._sources, seen_as(self._depot.project, self._version, levels))


def write_all(depot: Depot, target: Path, entries: Sequence[Entry], progress: Progress) -> CheckedOut:
    """Write these files to an empty folder, and remember nothing."""
    plan = Plan(write=list(entries))
    try:
        target.mkdir(parents=True, exist_ok=True)
        refuse_clashes(target, {entry.path: entry for entry in entries})
        refuse_full(target, plan)
        place_all(depot, target, plan, progress)
    except OSError as error:
        raise translate(error, target) from error
    return CheckedOut(len(entries), 0, 0, sum(entry.size for entry in entries))


def trusted(entry: Entry) -> Entry:
    """Names come from whoever logged the version: none may lead out of the folder."""
    problem = path_problem(entry.path)
    if not problem and entry.kind == LINK:
        inside_target(entry.target, entry.path, entry.path)
    if problem:
        raise Damaged(f"the version has a file `{bounded(entry.path)}` that cannot be written: {problem}")
    return entry


def _unsaved(target: Path, paths: list[str]) -> Conflict:
    named = ", ".join(f"`{bounded(path)}`" for path in sorted(paths)[:MOST_NAMED])
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return Conflict(
        f"{target}: no version has what is in {named}{more}; nothing was changed",
        hint="log the folder first, or overwrite with --force",
        detail={"paths": sorted(paths)[:100]},
    )
