"""What can be asked about runs that are done again."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tarmac.core.names import Id, Limit, Name
from tarmac.core.operation import Job, Query, operation
from tarmac.flow.reproduce.records import Reproduction, Verdict


class ReproductionPage(msgspec.Struct, frozen=True, kw_only=True):
    reproductions: list[Reproduction]
    next: str | None = None


@operation("reproduce", needs="admin", positional=("id",))
class Reproduce(Job[Reproduction], frozen=True, kw_only=True):
    """Do a run again from nothing, and say whether the same comes out.

    In a clean folder, with the source that was kept, the packages that were installed, the same command line and seeds.
    Every metric and every file is compared; the verdict is kept with the run.
    """

    id: Id
    tolerance: Annotated[
        float, Meta(ge=0, le=1, description="numbers that are so much apart, as a part of the larger, are close")
    ] = 1e-6
    ignore: Annotated[
        list[Name], Meta(max_length=100, description="metrics, params and files to leave out, like time/*")
    ] = []


@operation("reproductions.ls", needs="read")
class ListReproductions(Query[ReproductionPage], frozen=True, kw_only=True):
    """Verdicts on runs that were done again, newest first."""

    run: Id | None = None
    verdict: Verdict | None = None
    limit: Limit = 100
    before: Annotated[str, Meta(max_length=64)] = ""


@operation("reproductions.show", needs="read", quick=True, positional=("run",))
class GetReproduction(Query[Reproduction], frozen=True, kw_only=True):
    """The newest verdict on a run, with what it rests on."""

    run: Id
