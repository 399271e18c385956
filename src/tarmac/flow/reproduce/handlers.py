"""`tarmac reproduce RUN`: a run done again from nothing, and what came of it beside what was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from tarmac.core.clock import now
from tarmac.core.errors import Conflict
from tarmac.core.operation import handles
from tarmac.flow.reproduce import causes, needs, packages, queries, result
from tarmac.flow.reproduce import operations as ops
from tarmac.flow.reproduce.again import Made, again
from tarmac.flow.reproduce.compare import MOST_SHOWN, Outcome, Side, compare
from tarmac.flow.reproduce.needs import Needs
from tarmac.flow.reproduce.place import Aside, Place, of_job
from tarmac.flow.reproduce.records import Cause, Reproduction, Verdict
from tarmac.store.job import JobContext
from tarmac.store.sql import Reader
from tarmac.track.handlers.looking import get_details, get_run
from tarmac.track.operations import GetDetails, GetRun


@handles(ops.ListReproductions)
def list_reproductions(request: ops.ListReproductions, read: Reader) -> ops.ReproductionPage:
    run = get_run(GetRun(id=request.run), read).id if request.run is not None else None
    found = queries.newest(read, run, request.verdict, request.before, request.limit)
    return ops.ReproductionPage(reproductions=found, next=found[-1].id if len(found) == request.limit else None)


@handles(ops.GetReproduction)
def get_reproduction(request: ops.GetReproduction, read: Reader) -> Reproduction:
    run = get_run(GetRun(id=request.run), read).id
    found = queries.latest(read, run)
    if found is None:
        raise Conflict(f"run {run} was not done again yet", hint=f"`tarmac reproduce {run}` does it")
    return found


@handles(ops.Reproduce)
def reproduce(request: ops.Reproduce, job: JobContext) -> Reproduction:
    began = time.monotonic()
    found = Attempt(request, job).judge()
    job.progress(1, 1, "keeps the verdict")  # the last moment to stop it
    found = replace(found, seconds=round(time.monotonic() - began, 3), at=now())
    result.record(job, found)
    return found


class Attempt:
    """One try at doing a run again. All that it makes lies in one folder, which goes when it ends."""

    def __init__(self, request: ops.Reproduce, job: JobContext) -> None:
        self._request = request
        self._job = job
        with of_job(job).reading() as read:
            self._details = get_details(GetDetails(id=request.id), read)
        self._before = self._details.run
        if self._before.status != "finished":
            raise Conflict(
                f"run {self._before.id} is {self._before.status}: there is nothing yet to compare with",
                hint="a run can be done again once it has finished",
            )
        self._found = Reproduction(
            id=job.id,
            run=self._before.id,
            verdict="cannot be rebuilt",
            tolerance=request.tolerance,
            ignored=request.ignore,
            machine=causes.machine(),
            actor=job.actor.signature,
        )

    def judge(self) -> Reproduction:
        needed, wrong = needs.find(self._details.facts, self._details.source)
        if needed is None:
            return self._cannot(wrong)
        place = Place(self._job.store.folder.path / "reproducing" / self._job.id, needed)
        try:
            place.remove()  # of an attempt that was killed
            return self._in(place, needed)
        finally:
            place.remove()

    def _cannot(self, why: list[Cause]) -> Reproduction:
        return replace(self._found, causes=why)

    def _in(self, place: Place, needed: Needs) -> Reproduction:
        if wrong := place.fill(self._job):
            return self._cannot(wrong)
        try:
            installed = self._install(needed)
        except packages.Unbuildable as error:
            return self._cannot([error.cause])
        python = packages.version_of(installed)
        self._found = replace(self._found, packages=needed.digest, python=python, tries=1)
        with place.workspace(self._job.project_name, 1) as aside:
            first = self._once(place, aside, installed, "runs it again")
            if first.code != 0:
                return self._cannot(causes.of_failure(needed, self._details.inputs, first.code, first.output))
            outcome = self._beside(aside, first)
            if outcome.differences:
                between = self._between(place, aside, installed, first)
                why = causes.of_difference(needed, python, outcome, between)
                self._found = replace(self._found, tries=2, causes=why)
            return replace(
                self._found,
                verdict=cast("Verdict", outcome.verdict),
                differences=outcome.differences[:MOST_SHOWN],
                metrics=outcome.metrics,
                files=outcome.files,
                steps=outcome.steps,
                made=result.keep(self._job, aside, self._before, first, outcome),
            )

    def _install(self, needed: Needs) -> Path:
        kept = self._job.store.folder.path / "installed"
        return packages.installed(kept, needed, lambda: self._job.progress(0, 0, "installs packages"), self._job.log)

    def _once(self, place: Place, aside: Aside, installed: Path, doing: str) -> Made:
        self._job.log(f"{doing}: {' '.join(place.needs.words)}")
        self._job.progress(0, 0, doing)
        return again(place, aside, installed, self._before, lambda: self._job.progress(0, 0, doing))

    def _beside(self, aside: Aside, made: Made) -> Outcome:
        here = of_job(self._job)
        with here.reading() as read, aside.reading() as other:
            before, after = Side(read, self._before.id, here), Side(other, made.run, aside)
            return compare(before, after, self._request.tolerance, self._request.ignore)

    def _between(self, place: Place, aside: Aside, installed: Path, first: Made) -> Outcome | None:
        """What differs between the first time it was done here and a second one; None if that fails."""
        place.fill(self._job)
        with place.workspace(self._job.project_name, 2) as another:
            second = self._once(place, another, installed, "runs it a second time")
            if second.code != 0:
                return None
            with aside.reading() as read, another.reading() as other:
                one, two = Side(read, first.run, aside), Side(other, second.run, another)
                return compare(one, two, 0.0, self._request.ignore)
