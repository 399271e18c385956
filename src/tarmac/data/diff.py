"""Which files differ between two versions: pages that prove the same are not even read."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tarmac.data.depot import Depot
from tarmac.data.listing import Entry, Listing
from tarmac.data.reading import read_entries


class ChangedFile(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    before: Entry
    after: Entry


class FileDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be done to one list of files to get the other."""

    added: list[Entry]
    removed: list[Entry]
    changed: list[ChangedFile]

    def apply(self, entries: Mapping[str, Entry]) -> dict[str, Entry]:
        gone = {entry.path for entry in self.removed}
        after = {path: entry for path, entry in entries.items() if path not in gone}
        after.update((change.path, change.after) for change in self.changed)
        after.update((entry.path, entry) for entry in self.added)
        return after


def diff_files(depot: Depot, one: Listing, other: Listing) -> FileDiff:
    """By path; where bytes lie does not matter."""
    same = {part.tree for part in one.parts} & {part.tree for part in other.parts}
    before, after = (
        {entry.path: entry for entry in read_entries(depot, [part for part in side.parts if part.tree not in same])}
        for side in (one, other)
    )
    return FileDiff(
        added=[after[path] for path in sorted(after.keys() - before.keys())],
        removed=[before[path] for path in sorted(before.keys() - after.keys())],
        changed=[
            ChangedFile(path=path, before=before[path], after=after[path])
            for path in sorted(before.keys() & after.keys())
            if facts(before[path]) != facts(after[path])
        ],
    )


def facts(entry: Entry) -> tuple[int, int, bytes, str]:
    """What an entry is, wherever its bytes lie."""
    return entry.kind, entry.size, entry.digest, entry.target
