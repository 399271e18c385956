"""A search as runs: its own, and below it one for each trial. What a search knows of its past, it reads there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Literal

import msgspec
from msgspec import Struct

from tarmac.core.errors import Conflict, Invalid, TarmacError, bounded
from tarmac.flow.keeping import Door
from tarmac.flow.search.space import Dimension
from tarmac.flow.search.space import read as read_space
from tarmac.flow.search.study import Study, Trial
from tarmac.track.operations import BeatRun, CreateRun, EndRun, GetRun, ListRuns, LogRun, Point, ResumeRun, TagRun
from tarmac.track.records import Run

SEARCH, TRIAL, STATE, VALUE, BEST = (
    "tarmac.search", "tarmac.trial", "tarmac.trial.state", "tarmac.trial.value", "tarmac.best",
)  # fmt: skip
"""Tags: of the search's run, what it looks for and its best trial; of a trial's, its number and what came of it."""
BEAT_SECONDS = 10.0
MOST_TRIALS = 100_000


class About(Struct, frozen=True):
    """What a search looks for: as it began, so it goes on."""

    what: str
    space: dict[str, str]
    metric: str
    maximize: bool
    seed: int | None


class Found(Struct, frozen=True):
    """What came of a search."""

    run: str
    best: Trial | None
    trials: list[Trial]


class Search:
    """One search, from its run's beginning to its end; `attempt(number, params)` does a trial."""

    def __init__(self, door: Door, run: Run, about: About, space: Mapping[str, Dimension], *, prune: bool) -> None:
        self.door = door
        self.run = run
        self.about = about
        self.space = space
        self.study = Study(space, maximize=about.maximize, prune=prune, seed=about.seed)
        self.trials: list[Trial] = []
        self._over = threading.Event()

    def go(
        self, trials: int, workers: int, attempt: Callable[[int, dict[str, Any]], Trial], tell: Callable[[Trial], None]
    ) -> Found:
        """Until there are so many trials, those of an earlier part counted."""
        status: Literal["finished", "failed", "killed"] = "failed"
        heart = threading.Thread(target=self._beat, name="tarmac-search", daemon=True)
        heart.start()
        try:
            self._remember()
            self._all(trials, workers, attempt, tell)
            best = self.study.best(self.trials)
            if best is None:
                raise Conflict(f"none of {len(self.trials)} trials came to a value", hint="their runs say why")
            self._keep(best)
            status = "finished"
            return Found(self.run.id, best, sorted(self.trials, key=lambda one: one.number))
        except KeyboardInterrupt:
            status = "killed"
            raise
        finally:
            self._over.set()
            heart.join()
            self.door(EndRun(id=self.run.id, status=status))

    def _remember(self) -> None:
        for trial in past(self.door, self.run.id, self.space):
            self.trials.append(trial)
            self.study.remember(trial)

    def _all(
        self, trials: int, workers: int, attempt: Callable[[int, dict[str, Any]], Trial], tell: Callable[[Trial], None]
    ) -> None:
        following = max((trial.number for trial in self.trials), default=-1) + 1
        missing = trials - len(self.trials)
        running: set[Future[Trial]] = set()
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="tarmac-trial") as pool:
            try:
                while missing > 0 or running:
                    while missing > 0 and len(running) < max(1, workers):
                        running.add(pool.submit(attempt, following, self.study.ask(following)))
                        following, missing = following + 1, missing - 1
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        trial = future.result()
                        self.trials.append(trial)
                        self.study.tell(trial)
                        self._mark(trial)
                        tell(trial)
            except BaseException:
                self._over.set()
                raise

    @property
    def over(self) -> bool:
        """Whether trials are to end."""
        return self._over.is_set()

    def _mark(self, trial: Trial) -> None:
        if trial.run:
            value = {} if trial.value is None else {VALUE: repr(float(trial.value))}
            tags = {TRIAL: str(trial.number), STATE: trial.state, **value}
            self.door(TagRun(id=trial.run, set={**tags, "tarmac.trial.params": _json(trial.params)}))

    def _keep(self, best: Trial) -> None:
        self.door(TagRun(id=self.run.id, set={BEST: best.run}))
        points: list[Point] = [(self.about.metric or "value", best.value or 0.0, len(self.trials), 0)]
        self.door(LogRun(id=self.run.id, metrics=points, ended=True))

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self.door(BeatRun(id=self.run.id))
            except TarmacError:
                continue


def begin(door: Door, about: About, experiment: str, name: str | None, parent: str | None) -> Run:
    made: Run = door(
        CreateRun(experiment=experiment, name=name, parent=parent, beats=True, tags={SEARCH: _json(about)})
    )
    return made


def take_up(door: Door, id: str, what: str) -> tuple[Run, About, dict[str, Dimension]]:
    """A search that goes on: as it was begun."""
    run: Run = door(GetRun(id=id))
    if SEARCH not in run.tags:
        raise Invalid(f"run {run.id} is no search", hint="`tarmac runs ls` shows those with the tag tarmac.search")
    about = msgspec.json.decode(run.tags[SEARCH], type=About)
    if about.what != what:
        raise Invalid(f"search {run.id} is of `{bounded(about.what)}`, not of `{bounded(what)}`")
    run = door(ResumeRun(id=run.id))
    return run, about, read_space(about.space)


def past(door: Door, run: str, space: Mapping[str, Dimension]) -> Iterator[Trial]:
    """The trials of a search that came to an end; one that was broken off is no trial."""
    cursor = ""
    while True:
        page = door(ListRuns(filter=f"parent = '{run}'", order=["started"], limit=1000, cursor=cursor))
        for one in page.runs:
            if STATE in one.tags:
                params = msgspec.json.decode(one.tags["tarmac.trial.params"])
                value = float(one.tags[VALUE]) if VALUE in one.tags else None
                if params.keys() == space.keys():
                    yield Trial(int(one.tags[TRIAL]), params, one.id, one.tags[STATE], value)
        if page.next is None:
            return
        cursor = page.next


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
