"""`tarmac search TARGET --space ...`: a pipeline, script or notebook tried over a space; each trial is a run."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click

from tarmac.cli import pipeline as pipelines
from tarmac.cli.common import add_options, opened, take_options
from tarmac.core.errors import Cancelled, Invalid, NotFound, TarmacError
from tarmac.flow.leash import leashed
from tarmac.flow.search import space as spaces
from tarmac.flow.search import trials as runs
from tarmac.flow.search.study import Trial
from tarmac.flow.search.trials import About, Search
from tarmac.logging.place import TAKEN
from tarmac.track.operations import GetHistory, GetRun, ListRuns
from tarmac.workspace import Workspace

RUN = re.compile(rb"(?:^|\n)run ([0-9a-f]{32})")
LOOK_SECONDS = 1.0
LONGEST_KEPT = 100_000


@click.command("search")
@click.argument("target", required=False)
@click.option("--space", multiple=True, required=True, metavar="NAME=RANGE", help=f"What may be tried: {spaces.HINT}.")
@click.option(
    "--metric",
    default="",
    help="A metric that is logged, or a part of what a pipeline returns, like 0.auc.  [default: all of that]",
)
@click.option("--maximize", is_flag=True, help="The highest is the best, not the lowest.")
@click.option("--trials", default=20, show_default=True, type=click.IntRange(1, runs.MOST_TRIALS), help="How many.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 1000), help="So many at a time.")
@click.option("--prune", is_flag=True, help="End trials early whose metric is worse than others' at the same step.")
@click.option("--seed", type=int, default=None, help="Of the choice of what is tried.")
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="A param that is the same in all.")
@click.option("--name", default=None, help="The search's name.")
@click.option("--resume", metavar="RUN", default=None, help="Go on with this search, to --trials in all.")
def search(
    target: str | None,
    space: tuple[str, ...],
    metric: str,
    maximize: bool,
    trials: int,
    workers: int,
    prune: bool,
    seed: int | None,
    params: tuple[str, ...],
    name: str | None,
    resume: str | None,
    **values: Any,
) -> int:
    """Try TARGET over a space of params, and find the best: a pipeline, a script or a notebook, as `tarmac run` has it.

    Each trial is a run below the search's, in a process of its own.
    """
    workspace, project, as_json = take_options(values)
    dimensions = spaces.read(spaces.pairs(space))
    fixed = pipelines.pairs(params)
    is_pipeline = pipelines.is_pipeline(target)
    if clash := dimensions.keys() & fixed.keys():
        raise Invalid(f"`{min(clash)}` is both in the space and given")
    if not is_pipeline:
        if not Path(str(target)).is_file():
            raise NotFound.named("script", str(target), [path.name for path in Path().glob("*.py")])
        if not metric:
            raise Invalid("say which metric of the script is looked at", hint="--metric val/loss")
    else:
        pipelines.find(target).graph({**fixed, **{key: _any(one) for key, one in dimensions.items()}}, typed=True)
    what = str(target or "")
    with opened(workspace, project) as door:
        if resume is not None:
            run, about, dimensions = runs.take_up(door, resume, what)
        else:
            texts = {key: one.text() for key, one in dimensions.items()}
            about = About(what, texts, metric, maximize, seed)
            run = runs.begin(door, about, Path(what or "search").stem, name or "search", None)
        made = Search(door, run, about, dimensions, prune=prune)
        click.echo(f"search {run.id} ({run.experiment}/{run.name})", err=True)
        attempt = _Attempts(door, made, target, fixed, is_pipeline)
        found = made.go(trials, workers, attempt, _Shown(made, quiet=as_json))
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(found).decode())
    elif found.best is not None:
        click.echo(f"best: {_params(found.best)}  {found.best.value:g}  run {found.best.run}")
    return 0


def _any(dimension: spaces.Dimension) -> str:
    """Some value, to see whether the pipeline takes it."""
    return str(dimension.choices[0] if dimension.choices else int(dimension.low) if dimension.whole else dimension.low)


def _params(trial: Trial) -> str:
    return "  ".join(
        f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.params.items()
    )


class _Shown:
    """A line for each trial that has ended."""

    def __init__(self, search: Search, *, quiet: bool) -> None:
        self._search = search
        self._quiet = quiet

    def __call__(self, trial: Trial) -> None:
        if self._quiet:
            return
        value = "" if trial.value is None else f"{trial.value:g}"
        state = "" if trial.state == "finished" else trial.state
        best = self._search.study.best(self._search.trials)
        mark = "★" if best is trial else " "
        click.echo(f"{mark} {trial.number:>4}  {_params(trial)}  {value}{state}  {trial.run[:12]}", err=True)


class _Attempts:
    """Does a trial: `tarmac run TARGET` on a leash, watched by its metric."""

    def __init__(
        self, door: Workspace, search: Search, target: str | None, fixed: dict[str, str], is_pipeline: bool
    ) -> None:
        self._door = door
        self._search = search
        self._target = target
        self._fixed = fixed
        self._is_pipeline = is_pipeline

    def __call__(self, number: int, params: dict[str, Any]) -> Trial:
        given = {**self._fixed, **{key: str(value) for key, value in params.items()}}
        words = [
            sys.executable, "-P", "-m", "tarmac", "run", *([self._target] if self._target else []), "--json",
            "--name", f"trial-{number}", *(part for key, value in given.items() for part in ("-p", f"{key}={value}")),
        ]  # fmt: skip
        door = self._door
        environment = {
            **os.environ,
            "TARMAC_RUN": f"{self._search.run.id}{TAKEN}",
            "TARMAC_WORKSPACE": door.place,
            "TARMAC_PROJECT": door.project,
        }
        watched = _Watched(door, self._search, number)
        try:
            code = leashed(words, Path.cwd(), environment, watched.hear, watched.look)
        except _NotWorthIt:
            return Trial(number, params, watched.run, "pruned")
        ended = watched.ended() if self._is_pipeline else {}
        watched.run = ended.get("run", watched.run)
        if code or not watched.run:
            return Trial(number, params, watched.run, "failed")
        value = self._value(watched.run, ended)
        return Trial(number, params, watched.run, "finished" if value is not None else "failed", value)

    def _value(self, run: str, ended: dict[str, Any]) -> float | None:
        metric = self._search.about.metric
        found = self._metric(run, metric, ended) if metric else ended.get("result")
        try:
            return float(found)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None

    def _metric(self, run: str, metric: str, ended: dict[str, Any]) -> Any:
        """What the run has logged, or of a pipeline one of its steps; or a part of what it returned, like `0.auc`."""
        runs = [self._door(GetRun(id=run))]
        if self._is_pipeline:
            runs += self._door(ListRuns(filter=f"parent = '{run}'", columns=[f"metrics.`{metric}`"], limit=1000)).runs
        for one in runs:
            if metric in one.metrics:
                return one.metrics[metric]
        part = ended.get("result")
        for name in metric.split("."):
            if isinstance(part, dict):
                part = part.get(name)
            elif isinstance(part, list) and name.isdecimal() and int(name) < len(part):
                part = part[int(name)]
            else:
                return None
        return part


class _NotWorthIt(Exception):
    """Others were better at this point."""


class _Watched:
    """What a trial prints, and how its metric gets on."""

    def __init__(self, door: Workspace, search: Search, number: int) -> None:
        self._door = door
        self._search = search
        self._number = number
        self._heard = bytearray()
        self._lock = threading.Lock()
        self._seen = 0
        self._looked = 0.0
        self.run = ""

    def hear(self, data: bytes) -> None:
        with self._lock:
            self._heard += data
            if not self.run and (found := RUN.search(bytes(self._heard))):
                self.run = found[1].decode()
            del self._heard[:-LONGEST_KEPT]

    def ended(self) -> dict[str, Any]:
        """What `tarmac run` says of a pipeline at its end: its run, and what it returned."""
        import msgspec

        with self._lock:
            lines = bytes(self._heard).decode("utf-8", "replace").splitlines()
        for line in reversed(lines):
            try:
                found = msgspec.json.decode(line)
            except msgspec.DecodeError:
                continue
            if isinstance(found, dict) and "result" in found:
                return found
        return {}

    def look(self) -> None:
        if self._search.over:
            raise Cancelled("the search has ended")
        metric = self._search.about.metric
        if not self.run or not metric or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            curve = self._door(GetHistory(run=self.run, key=metric, first=self._seen, limit=1000))
        except TarmacError:
            return  # nothing was logged yet
        self._seen += len(curve.values)
        for step, value in zip(curve.steps, curve.values, strict=True):
            if self._search.study.report(self._number, float(value), step):
                raise _NotWorthIt


command = add_options(search)
