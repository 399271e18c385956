"""What has changed in a folder since it was logged or checked out; only what looks different is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tarmac.core.errors import NotFound
from tarmac.data import listing
from tarmac.data.comparing import copies, held_now
from tarmac.data.depot import Depot
from tarmac.data.listing import LINK, Entry
from tarmac.data.operations import GetData, GetListing
from tarmac.data.plan import decide
from tarmac.data.reading import read_entries
from tarmac.data.scan import Level, Source, describe, hash_file, kind_of, walk
from tarmac.data.seen import Journal, Memory, Seen, link_digest, moment, remembered


class FolderStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A folder against the version that it was. `unfinished` names what a checkout that was stopped was writing, and
    `left` says how many files it had still to do."""

    folder: str
    version: str
    newest: str = ""
    changed: list[str] = []
    added: list[str] = []
    removed: list[str] = []
    unfinished: str = ""
    left: int = 0

    @property
    def clean(self) -> bool:
        return not (self.changed or self.added or self.removed or self.unfinished)


def status(depot: Depot, memory: Memory, sources: Sequence[Source]) -> FolderStatus:
    folder = str(sources[0][1])
    seen, journal = memory.load(sources), memory.journal(sources)
    if journal is not None:
        return _between(depot, seen, journal, sources)
    if seen is None:
        raise NotFound(
            f"nothing is remembered of {folder}: it was neither logged nor checked out from here",
            hint="`tarmac data log NAME DIR`, or `tarmac data checkout NAME@vN DIR`",
        )
    changes = _Changes(seen)
    for level in walk(sources):
        changes.compare(level)
    changes.finish()
    if changes.confirmed:
        memory.save(sources, seen)
    return FolderStatus(
        folder=folder,
        version=f"{seen.name}@v{seen.number}",
        newest=_newest(depot, seen),
        changed=sorted(changes.changed),
        added=sorted(changes.added),
        removed=sorted(changes.removed),
    )


def _newest(depot: Depot, seen: Seen) -> str:
    """A newer version than the folder's, if there is one."""
    try:
        newest = depot(GetData(ref=seen.name))
    except NotFound:
        return ""
    return f"{seen.name}@v{newest.number}" if newest.number > seen.number else ""


class _Changes:
    """Level by level, so that a million files need no million objects."""

    def __init__(self, seen: Seen) -> None:
        self.changed: list[str] = []
        self.added: list[str] = []
        self.removed: list[str] = []
        self.confirmed = False
        """A file looked different and is the same: that is worth remembering."""
        self._seen = seen
        self._left = dict(seen.levels)
        self._looked_at = moment()

    def compare(self, level: Level) -> None:
        before = self._left.pop(level.source, None)
        if before is None:
            self.added += [level.inside(name) for name in level.names]
            self.added += [f"{level.path}/"] if level.bare and level.path else []
            return
        if before.looks_like(level):
            return
        known = before.by_name()
        there = set(level.names)
        self.removed += [level.inside(name) for name in known if name not in there]
        if before.bare and not level.bare:
            self.removed.append(f"{level.path}/")
        elif level.bare and not before.bare and level.path:
            self.added.append(f"{level.path}/")
        if self._compare_files(level, known):
            self._seen.levels[level.source] = remembered(
                _only(level, known), [known[name][1] for name in level.names if name in known], self._looked_at
            )
            self.confirmed = True

    def _compare_files(self, level: Level, known: dict[str, tuple[Sequence[int], bytes]]) -> bool:
        """Whether every file that looked different turned out to be the same."""
        same = True
        for index, name in enumerate(level.names):
            if name not in known:
                self.added.append(level.inside(name))
                continue
            facts, digest = known[name]
            now = level.look(index)
            if now != facts and not _holds(level, index, facts, digest):
                self.changed.append(level.inside(name))
                same = False
        return same and all(name in level.names for name in known)

    def finish(self) -> None:
        for level in self._left.values():
            self.removed += [path if digest else f"{path}/" for path, digest in level.entries()]


def _only(level: Level, known: dict[str, tuple[Sequence[int], bytes]]) -> Level:
    """The level with those files only that the version has."""
    chosen = [index for index, name in enumerate(level.names) if name in known]
    facts = b"".join(bytes(level.look(index)) for index in chosen)
    return level._replace(names=[level.names[index] for index in chosen], facts=facts)


def _holds(level: Level, index: int, facts: Sequence[int], digest: bytes) -> bool:
    """Whether a file that looks different is what it was: by its kind, its size, and then all its bytes."""
    now, source = level.look(index), level.on_disk(level.names[index])
    kind = kind_of(source, now[4])
    if kind != kind_of(source, facts[4]):
        return False
    if kind == LINK:
        return link_digest(describe(level, index).target) == digest
    return now[0] == facts[0] and hash_file(source) == digest


def _between(depot: Depot, seen: Seen | None, journal: Journal, sources: Sequence[Source]) -> FolderStatus:
    """A folder in which a checkout was stopped: what is neither of the versions has changed since."""
    wanted = {entry.path: entry for entry in _entries(depot, journal.to)}
    ours = copies(depot, seen, journal)
    held = held_now(walk(sources), seen, wanted.keys() | ours.keys())
    plan = decide(wanted, held, ours)
    return FolderStatus(
        folder=str(sources[0][1]),
        version=f"{seen.name}@v{seen.number}" if seen else "",
        changed=sorted(plan.unsaved),
        added=sorted(path for path in held if path not in wanted and path not in ours),
        unfinished=journal.to,
        left=len(plan.write) + len(plan.remove) + len(plan.modes),
    )


def _entries(depot: Depot, ref: str) -> Iterator[Entry]:
    yield from read_entries(depot, listing.decode(depot(GetListing(ref=ref)).listing).parts)
