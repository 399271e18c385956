"""Logging: what lies in a folder becomes a version, and only what is new is packed and sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from tarmac.core.errors import Conflict, Damaged, Invalid, NotFound, bounded
from tarmac.data import listing
from tarmac.data.depot import Depot
from tarmac.data.listing import LINK, Listing
from tarmac.data.operations import CommitData, GetData, GetListing, Logged
from tarmac.data.records import DataName, DataVersion, Layout
from tarmac.data.scan import Found, Level, Source, changed, describe, path_problem, walk
from tarmac.data.seen import FORMAT, Memory, Seen, SeenLevel, link_digest, moment, remembered
from tarmac.data.writing import Item, Writing

Progress = Callable[[int, int, str], None]
DescribeFiles = Callable[[Sequence[Found]], dict[str, Any]]
TRIES = 3


class LogRequest(NamedTuple):
    """What is to become a version."""

    name: str
    sources: Sequence[Source]
    message: str = ""
    tags: dict[str, str] = {}
    layout: Layout | None = None


def log(
    depot: Depot, memory: Memory, request: LogRequest, progress: Progress, describe_files: DescribeFiles | None = None
) -> Logged:
    """The version; the latest one if nothing has changed since."""
    _check_name(request.name)
    looked_at = moment()
    levels = list(walk(request.sources))
    seen = memory.load(request.sources)
    if seen is not None and (same := _unchanged(depot, request, seen, levels)):
        return Logged(version=same)
    items = [item for level in levels for item in _items(level, seen.levels.get(level.source) if seen else None)]
    folders = [level.path for level in levels if level.bare and level.path]
    _check(request.sources, [item.found for item in items], folders)
    document = describe_files([item.found for item in items]) if describe_files else {}
    base = latest(depot, request.name)
    missing: list[str] = []
    for _ in range(TRIES):
        layout = request.layout or (base.version.layout if base else None)
        try:
            with Writing(depot, base.listing if base else None, layout or "packed") as writing:
                written = writing.write(items, folders, progress)
        except Damaged:
            if base is None:
                raise
            request, base = request._replace(layout=layout), None  # rely on nothing of it: a new version is whole
            continue
        _refuse_changes(levels, walk(request.sources))
        answer = depot(
            CommitData(
                name=request.name,
                listing=written.listing,
                message=request.message,
                tags=request.tags,
                document=document,
                layout=request.layout,
            )
        )
        if answer.version is not None:
            digests = iter(written.digests)
            kept = {
                level.source: remembered(level, [next(digests) for _ in level.names], looked_at) for level in levels
            }
            memory.save(request.sources, seen_as(depot.project, answer.version, kept))
            return answer
        request = request._replace(layout=layout)
        missing, base = answer.missing, None  # gc has taken packs since: rely on nothing that was there
    raise Conflict(f"{len(missing)} packs of {bounded(request.name)} could not be kept", hint="log it again")


class Base(NamedTuple):
    """The version that a new one is compared with."""

    version: DataVersion
    listing: Listing


def latest(depot: Depot, name: str) -> Base | None:
    """The newest version, if there is one."""
    try:
        found = depot(GetListing(ref=name))
    except NotFound:
        return None
    return Base(found.version, listing.decode(found.listing))


def _check_name(name: str) -> None:
    """Before a long time is spent on it."""
    try:
        msgspec.convert(name, DataName)
    except msgspec.ValidationError:
        raise Invalid(
            f"`{bounded(name)}` cannot be the name of a data set",
            hint="1 to 128 letters, digits, dots, dashes and underscores; without a version",
        ) from None


def seen_as(project: str, version: DataVersion, levels: dict[str, SeenLevel]) -> Seen:
    return Seen(FORMAT, project, version.name, version.number, version.digest, levels)


def _unchanged(depot: Depot, request: LogRequest, seen: Seen, levels: Sequence[Level]) -> DataVersion | None:
    """The latest version, if the folder is what it was when that was logged or checked out."""
    if (seen.project, seen.name) != (depot.project, request.name) or len(levels) != len(seen.levels):
        return None
    for level in levels:
        before = seen.levels.get(level.source)
        if before is None or not before.looks_like(level):
            return None
    try:
        newest = depot(GetData(ref=request.name))
    except NotFound:
        return None
    return newest if newest.digest == seen.digest else None


def _items(level: Level, before: SeenLevel | None) -> list[Item]:
    digests = before.recall(level) if before else [b""] * len(level.names)
    items = []
    for index, digest in enumerate(digests):
        found = describe(level, index)
        items.append(Item(found, link_digest(found.target) if found.kind == LINK else digest, level.look(index)))
    return items


def _check(sources: Sequence[Source], found: Iterable[Found], folders: Sequence[str]) -> None:
    names = sorted([one.path for one in found] + list(folders))
    if not names:
        raise Invalid(f"there is nothing to log in {sources[0][1]}", hint="a version has at least one file")
    for before, after in pairwise(names):
        if before == after:
            raise Invalid(f"`{bounded(after)}` would be in the version twice", hint="give one of the two another name")
    for folder in folders:
        if problem := path_problem(folder):
            raise Invalid(f"`{bounded(folder)}` cannot be kept: {problem}")


def _refuse_changes(before: Sequence[Level], after: Iterable[Level]) -> None:
    """A version is a folder at one moment: whatever looks different now was changed while it was read."""
    there = {level.source: level for level in before}
    for level in after:
        one = there.pop(level.source, None)
        if one is None:
            raise changed(level.source, "it came")
        if (one.names, one.facts, one.bare) != (level.names, level.facts, level.bare):
            raise changed(*_difference(one, level))
    for gone in there:
        raise changed(gone, "it is gone")


def _difference(one: Level, other: Level) -> tuple[str, str]:
    """The first file that differs, and how."""
    for name in one.names:
        if name not in other.names:
            return one.on_disk(name), "it is gone"
    for index, name in enumerate(other.names):
        if name not in one.names:
            return other.on_disk(name), "it came"
        if one.look(one.names.index(name)) != other.look(index):
            return one.on_disk(name), "it was written to"
    return one.source, "what lies in it"
