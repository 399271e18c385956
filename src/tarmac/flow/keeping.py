"""What a run of a pipeline leaves is brought into the workspace beside the steps: bytes first, then one transaction
for whatever has gathered. A workspace that goes away is waited for while the steps go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tarmac.core.errors import Busy, Conflict, Internal, TarmacError, Unreachable
from tarmac.flow.operations import NewItems, NewStep, RecordSteps
from tarmac.flow.records import CodePart, StepRun
from tarmac.store.operations import FindMissing

GATHER_SECONDS = 0.2
BEAT_SECONDS = 10.0
PATIENCE_SECONDS = 120.0
LARGEST_BATCH = 8 * 1024 * 1024
LARGEST_LOG = 500_000
MOST_AT_ONCE = 5_000
AWAY = (Unreachable, Busy)


class Door(Protocol):
    """What of a workspace is needed here; a folder and a server have it."""

    project: str
    place: str

    def __call__(self, request: Any) -> Any: ...
    def put(self, data: Any) -> str: ...
    def read(self, digest: str, start: int = 0, end: int | None = None) -> Any: ...


@dataclass
class Gathered:
    """What waits to be kept."""

    blobs: dict[str, bytes | Path] = field(default_factory=dict)
    steps: dict[str, NewStep] = field(default_factory=dict)
    reused: list[tuple[int, StepRun]] = field(default_factory=list)
    code: dict[str, CodePart] = field(default_factory=dict)
    items: list[NewItems] = field(default_factory=list)
    logs: list[tuple[str, int, str]] = field(default_factory=list)
    heal: set[str] = field(default_factory=set)


class Keeper:
    """A thread that writes, so that steps do not wait for the disk or the net."""

    def __init__(self, door: Door, run: str, pipeline: str, experiment: str) -> None:
        self._door = door
        self._run = run
        self._pipeline = pipeline
        self.experiment = experiment
        self.where = door.place, door.project
        self._gathered = Gathered()
        self._kept_code: set[str] = set()
        self._logged: dict[str, int] = {}
        self._alive: set[str] = {run}
        self._lock = threading.Condition()
        self._ending = False
        self._idle = True
        self._failed: TarmacError | None = None
        self._away_since: float | None = None
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="tarmac-keeper", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------------------------------------ what is to keep

    def step(self, new: NewStep, blobs: dict[str, bytes | Path], *, heal: bool = False) -> None:
        """`heal`: the store takes its blobs for present, and they are not."""
        with self._lock:
            self._gathered.steps[new.step.run] = new
            self._gathered.blobs.update(blobs)
            if new.status == "running":
                self._alive.add(new.step.run)
            else:
                self._alive.discard(new.step.run)
            if heal:
                self._gathered.heal.update(blobs)
            self._lock.notify()

    def reused(self, number: int, one: StepRun) -> None:
        with self._lock:
            self._gathered.reused.append((number, one))
            self._lock.notify()

    def code(self, parts: list[CodePart]) -> None:
        with self._lock:
            self._gathered.code.update({part.digest: part for part in parts if part.digest not in self._kept_code})
            self._kept_code.update(part.digest for part in parts)

    def items(self, batch: NewItems, blobs: dict[str, bytes | Path], *, heal: bool = False) -> None:
        with self._lock:
            if heal:
                self._gathered.heal.update(blobs)
            self._gathered.items.append(batch)
            self._gathered.blobs.update(blobs)
            self._lock.notify()

    def log(self, run: str, text: str) -> None:
        """Add to what a step has printed."""
        with self._lock:
            for start in range(0, len(text), LARGEST_LOG):
                piece = text[start : start + LARGEST_LOG]
                self._gathered.logs.append((run, self._logged.get(run, 0), piece))
                self._logged[run] = self._logged.get(run, 0) + len(piece)

    # ------------------------------------------------------------------------------------------------------- the end

    def flush(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until all of it is in the workspace, or say what is wrong."""
        until = time.monotonic() + seconds
        with self._lock:
            self._ending = True
            self._lock.notify()
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            raise Unreachable(
                f"{self._door.place} has not answered for {seconds:.0f} s: results of this run are not kept",
                hint="run it again when the workspace is back",
            )
        if self._failed is not None:
            raise self._failed

    @property
    def failed(self) -> TarmacError | None:
        return self._failed

    @property
    def away(self) -> float:
        """For how many seconds the workspace has not answered."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    # -------------------------------------------------------------------------------------------------------- writing

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._anything() and not self._ending:
                    self._lock.wait(BEAT_SECONDS / 2)
                ending = self._ending
            if not ending:
                time.sleep(GATHER_SECONDS)  # what comes in this time shares a transaction
            with self._lock:
                gathered, self._gathered = self._gathered, Gathered()
                ending = self._ending
            try:
                self._write(gathered)
            except TarmacError as error:
                self._failed = error
                return
            except BaseException as error:  # noqa: BLE001 - the driver hears of it
                self._failed = Internal(f"what steps made could not be kept: {type(error).__name__}: {error}")
                return
            if ending and not self._anything():
                return

    def _anything(self) -> bool:
        one = self._gathered
        return bool(one.steps or one.reused or one.items or one.logs or one.code)

    def _write(self, gathered: Gathered) -> None:
        beat = time.monotonic() - self._beaten > BEAT_SECONDS
        if not (gathered.steps or gathered.reused or gathered.items or gathered.logs or gathered.code or beat):
            return
        self._beaten = time.monotonic()
        self._patiently(lambda: self._put(gathered.blobs, gathered.heal))
        for request in self._requests(gathered):
            answer = self._patiently(lambda request=request: self._door(request))  # type: ignore[misc]
            if answer.missing:  # a gc has taken them since
                self._patiently(lambda: self._put(gathered.blobs, gathered.blobs.keys()))
                answer = self._patiently(lambda request=request: self._door(request))  # type: ignore[misc]
                if answer.missing:
                    raise Conflict(f"{len(answer.missing)} blobs of this run's results could not be kept")

    def _requests(self, gathered: Gathered) -> list[RecordSteps]:
        """Each small enough to be sent."""
        made: list[RecordSteps] = []
        steps, size = list[NewStep](), 0
        for new in gathered.steps.values():
            weight = 2000 + (len(msgspec.json.encode(new.result)) if new.result is not None else 0)
            if size + weight > LARGEST_BATCH:
                made.append(self._request(steps=steps))
                steps, size = [], 0
            steps.append(new)
            size += weight
        reused = gathered.reused
        while len(reused) > MOST_AT_ONCE:
            made.append(self._request(reused=reused[:MOST_AT_ONCE]))
            reused = reused[MOST_AT_ONCE:]
        last = dict(steps=steps, code=list(gathered.code.values()), reused=reused)  # noqa: C408
        made.append(self._request(**last, alive=sorted(self._alive)))
        logs, size = list[tuple[str, int, str]](), 0
        for log in gathered.logs:
            logs.append(log)
            size += len(log[2])
            if size > LARGEST_BATCH // 4:
                made.append(self._request(logs=logs))
                logs, size = [], 0
        if logs:
            made[-1 if not made[-1].logs else 0] = msgspec.structs.replace(made[-1], logs=logs)
        made += [self._request(items=[batch]) for batch in gathered.items]
        return made

    def _request(self, **fields: Any) -> RecordSteps:
        return RecordSteps(run=self._run, pipeline=self._pipeline, experiment=self.experiment, **fields)

    def _put(self, blobs: dict[str, bytes | Path], always: Collection[str]) -> None:
        """Send those that are not there, and those of `always`."""
        wanted = list(blobs)
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            missing = self._door(FindMissing(digests=part)).missing
            for digest in {*missing, *(digest for digest in part if digest in always)}:
                found = self._door.put(blobs[digest])
                if found != digest:
                    raise Conflict(
                        f"{blobs[digest]!s} was changed while it was being kept",
                        hint="a step that returns a file must leave it as it is",
                    )

    def _patiently(self, do: Callable[[], Any]) -> Any:
        """Again and again while nobody answers; the steps go on meanwhile."""
        pause = 0.1
        while True:
            try:
                answer = do()
                self._away_since = None
                return answer
            except AWAY:
                if self._away_since is None:
                    self._away_since = time.monotonic()
                if self.away > PATIENCE_SECONDS * 5:
                    raise
                time.sleep(pause)
                pause = min(pause * 1.6, 3.0)
