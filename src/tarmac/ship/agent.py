"""Follows what a workspace says and tells a runtime: which versions aliases point to, with which shares, what is cut.

It writes the routes document and nothing else. When the workspace cannot be asked, the runtime answers on as before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tarmac.core.errors import TarmacError, bounded
from tarmac.core.files import write_private
from tarmac.serve.routes import Batching, Endpoint, Fallback, Logging, Routes, Served
from tarmac.ship.canary import Counts, judge, next_share
from tarmac.ship.records import Cut

LOOK_SECONDS = 0.5

log = logging.getLogger("tarmac.serve")


@dataclass(frozen=True, slots=True)
class Target:
    """A version as the workspace knows it now, with its bytes here."""

    version: str
    model: str
    folder: Path
    digest: str
    compiled: str | None = None
    trusted: bool = False


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to be answered under a name: references with their shares."""

    name: str
    refs: Sequence[tuple[str, float]]
    shadow: str | None = None
    canary: str | None = None
    """A version that is given more and more callers, or none, by how it does."""
    steps: Sequence[float] = (0.05, 0.25, 0.5, 1.0)
    margin: float = 0.01
    sticky: str | None = None
    batching: Batching = Batching()
    logging: Logging = Logging()
    timeout_ms: int = 30_000


@dataclass(slots=True)
class Workspace:
    """What the agent asks a workspace; where it gets the answers is not its business."""

    points_to: Callable[[str], str]
    """What a reference means now, as something that changes when it means something else."""
    fetch: Callable[[str], Target]
    before: Callable[[str], str | None]
    """The reference of the version that an alias pointed to before, if it is one."""
    cuts: Callable[[], list[Cut]]
    counts: Callable[[str, str], Counts] = lambda endpoint, version: Counts(0, 0)
    """How a version of an endpoint did."""


@dataclass(slots=True)
class Trial:
    """Where a canary stands."""

    share: float
    over: bool = False
    judgement: str = ""


@dataclass(slots=True)
class Agent:
    workspace: Workspace
    wishes: Sequence[Wish]
    routes: Path
    tokens: Sequence[str] = ()
    generation: int = 0
    trouble: str = ""
    trials: dict[str, Trial] = field(default_factory=dict)
    """By endpoint."""
    _folders: dict[tuple[str, str], Path] = field(default_factory=dict)
    _known: dict[str, tuple[str, Target]] = field(default_factory=dict)
    _written: Routes | None = None
    _again_at: float = 0.0

    def look(self, *, now: bool = False) -> None:
        """Look whether anything has changed, unless that was done just before."""
        if not now and time.monotonic() < self._again_at:
            return
        self._again_at = time.monotonic() + LOOK_SECONDS
        try:
            routes = self._routes()
        except TarmacError as error:
            if now:
                raise
            if self.trouble != error.message:
                log.warning("the runtime answers on as before: %s", error)
            self.trouble = error.message
            return
        self.trouble = ""
        if self._written is None or not _same(routes, self._written):
            self.generation += 1
            routes = msgspec.structs.replace(routes, generation=self.generation)
            write_private(self.routes, msgspec.json.encode(routes).decode())
            self._written = routes

    def folder_of(self, endpoint: str, version: str) -> Path | None:
        """Where a version's package lies, if it was ever served here."""
        return self._folders.get((endpoint, version))

    def _routes(self) -> Routes:
        cuts = {cut.endpoint: cut for cut in self.workspace.cuts()}
        endpoints, trusted = [], set()
        for wish in self.wishes:
            endpoint, targets = self._endpoint(wish, cuts.get(wish.name))
            endpoints.append(endpoint)
            trusted |= {target.digest for target in targets if target.trusted}
        return Routes(endpoints=endpoints, trust=sorted(trusted), tokens=sorted(self.tokens))

    def _endpoint(self, wish: Wish, cut: Cut | None) -> tuple[Endpoint, list[Target]]:
        refs = self._shares(wish)
        if wish.shadow is not None:
            refs.append((wish.shadow, 0.0))
        fallback = Fallback(message=cut.reason or f"cut by {cut.actor}") if cut is not None else Fallback()
        previous = None
        if cut is not None and cut.fallback == "previous":
            previous = self.workspace.before(wish.refs[0][0])
            if previous is not None:
                refs.append((previous, 0.0))
        elif cut is not None and cut.fallback == "constant":
            fallback = msgspec.structs.replace(fallback, kind="constant", outputs=cut.outputs)
        found: dict[str, tuple[Target, float]] = {}
        named: dict[str, str] = {}
        for ref, share in refs:
            target = self._target(ref)
            before = found.get(target.version)
            found[target.version] = (target, share + (before[1] if before else 0.0))
            named[ref] = target.version
            self._folders[wish.name, target.version] = target.folder
        if previous is not None:
            fallback = msgspec.structs.replace(fallback, kind="version", version=named[previous])
        endpoint = Endpoint(
            name=wish.name,
            versions=[_served(target, share) for target, share in found.values()],
            sticky=wish.sticky,
            shadow=named[wish.shadow] if wish.shadow is not None else None,
            cut=cut is not None,
            fallback=fallback,
            batching=wish.batching,
            log=wish.logging,
            timeout_ms=wish.timeout_ms,
        )
        return endpoint, [target for target, _ in found.values()]

    def _shares(self, wish: Wish) -> list[tuple[str, float]]:
        """Who answers whom; a canary stands first, so that callers only move to it."""
        if wish.canary is None:
            return list(wish.refs)
        trial = self.trials.get(wish.name)
        if trial is None:
            trial = self.trials[wish.name] = Trial(min(wish.steps))
        elif not trial.over:
            self._judge(wish, trial)
        rest = [(ref, share * (1 - trial.share)) for ref, share in wish.refs]
        return [(wish.canary, trial.share), *rest]

    def _judge(self, wish: Wish, trial: Trial) -> None:
        assert wish.canary is not None
        stable = self.workspace.counts(wish.name, self._target(wish.refs[-1][0]).version)
        found = judge(stable, self.workspace.counts(wish.name, self._target(wish.canary).version), margin=wish.margin)
        if found.verdict == "wait":
            return
        trial.judgement = str(found)
        above = next_share(wish.steps, trial.share)
        if found.verdict == "back":
            trial.share, trial.over = 0.0, True
            log.warning("%s is rolled back: %s", wish.canary, found)
        elif above is None:
            trial.over = True
            log.warning("%s has passed: %s", wish.canary, found)
        else:
            trial.share = above
            log.warning("%s answers %.0f%% of the callers of %s now: %s", wish.canary, above * 100, wish.name, found)

    def _target(self, ref: str) -> Target:
        meaning = self.workspace.points_to(ref)
        known = self._known.get(ref)
        if known is None or known[0] != meaning:
            log.info("%s is fetched", bounded(ref))
            self._known[ref] = known = (meaning, self.workspace.fetch(ref))
        return known[1]


def _served(target: Target, share: float) -> Served:
    return Served(
        version=target.version,
        model=target.model,
        folder=str(target.folder),
        digest=target.digest,
        compiled=target.compiled,
        share=min(1.0, share),
    )


def _same(one: Routes, other: Routes) -> bool:
    return msgspec.structs.replace(one, generation=0) == msgspec.structs.replace(other, generation=0)


def nothing_cut() -> list[Cut]:
    return []
