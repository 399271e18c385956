"""Contracts and differences where the packs are: what the jobs `data.validate` and `data.diff` do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tarmac.core.errors import Invalid, Refused
from tarmac.data.depot import Depot
from tarmac.data.diff import diff_files
from tarmac.data.listing import Entry, Listing
from tarmac.data.operations import DataDiff, DiffData, ValidateData
from tarmac.data.reading import read_entries
from tarmac.data.records import DataVersion
from tarmac.data.tables import sources
from tarmac.data.tables.records import TableDiff
from tarmac.data.tables.versions import is_table, source_of
from tarmac.formats.contract import loads
from tarmac.formats.profile import Profile
from tarmac.formats.profile import from_document as profile_from
from tarmac.formats.records import ContractReport

MOST_PATHS = 1_000


class Side(NamedTuple):
    """A version, and where its files are listed."""

    version: DataVersion
    listing: Listing

    @property
    def ref(self) -> str:
        return f"{self.version.name}@v{self.version.number}"

    def entries(self, depot: Depot) -> dict[str, Entry]:
        return {entry.path: entry for entry in read_entries(depot, self.listing.parts)}


def validate(request: ValidateData, side: Side, depot: Depot, progress: Callable[[int], None]) -> ContractReport:
    from tarmac.data.tables.inspecting import contract_in, judge_table

    sources.require_libraries("checking a contract")
    given = request.contract
    contract = loads(given) if given else contract_in(side.version.document, side.ref)
    return judge_table(source_of(depot, side.entries(depot), side.ref), contract, progress)


def diff(request: DiffData, sides: tuple[Side, Side], depot: Depot) -> DataDiff:
    found = diff_files(depot, sides[0].listing, sides[1].listing)
    paths = (
        [entry.path for entry in found.added],
        [entry.path for entry in found.removed],
        [change.path for change in found.changed],
    )
    return DataDiff(
        added=paths[0][:MOST_PATHS],
        removed=paths[1][:MOST_PATHS],
        changed=paths[2][:MOST_PATHS],
        more=sum(max(0, len(some) - MOST_PATHS) for some in paths),
        table=None if request.only_files else diff_rows(request, sides, depot),
    )


def diff_rows(request: DiffData, sides: tuple[Side, Side], depot: Depot) -> TableDiff | None:
    """Two versions as tables; None if they are not both tables."""
    from tarmac.data.tables.comparing import compare

    entries: list[Mapping[str, Entry]] = [side.entries(depot) for side in sides]
    if not sources.are_there() or not all(is_table(one) for one in entries):
        if request.key:
            sources.require_libraries("comparing rows")
            raise Invalid("these versions are no tables", hint="their files are compared without a key")
        return None
    key = request.key or ([] if request.no_key else key_of(sides))
    try:
        one, other = (source_of(depot, found, side.ref) for found, side in zip(entries, sides, strict=True))
        return compare(one, other, key, profiles_of(sides))
    except (Invalid, Refused):
        if request.key:
            raise
        return None  # logged as files because it cannot be read as a table, and compared as files for the same reason


def key_of(sides: tuple[Side, Side]) -> list[str]:
    """The key of the contract that the newer one was logged with, or the other, if they have any."""
    from tarmac.data.tables.inspecting import contract_in

    for side in reversed(sides):
        if "contract" in side.version.document:
            return list(contract_in(side.version.document, side.ref).key)
    return []


def profiles_of(sides: tuple[Side, Side]) -> tuple[Profile, Profile] | None:
    one, other = (
        profile_from(side.version.document["profile"]) if "profile" in side.version.document else None for side in sides
    )
    return None if one is None or other is None else (one, other)
