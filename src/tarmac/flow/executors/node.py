"""What is done on a machine of a cluster: one step, from the message that asks for it to the one that tells of it.

Nothing here knows which cluster it is; `mailbox` is anything with a `tell` that takes what a step prints.
"""

from __future__ import annotations

import os
import pickle
import platform
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tarmac import __version__
from tarmac.core.errors import Conflict, TarmacError, Unstorable
from tarmac.flow.executors import Outcome, Task, carried, logs, sending
from tarmac.flow.executors.work import fault_of, perform
from tarmac.flow.executors.worker import function_of
from tarmac.flow.fetching import Results
from tarmac.flow.keeping import Door

FLUSH_SECONDS = 0.2
MOST_STREAMED = 500_000
Tell = Callable[[str], None]


def python() -> str:
    return f"{platform.python_implementation()} {'.'.join(platform.python_version_tuple()[:2])}"


def do(message: bytes, archive: bytes, tell: Tell) -> bytes:
    """Run the step of a message; the outcome in bytes."""
    id = ""
    try:
        facts: dict[str, Any] = pickle.loads(message)  # noqa: S301 - from the driver
        id = facts["id"]
        _check(facts)
        outcome = _performed(facts, archive, tell)
    except BaseException as error:  # noqa: BLE001 - the driver hears of it
        outcome = Outcome(id, fault=fault_of(error))
        if isinstance(error, TarmacError):
            assert outcome.fault is not None
            outcome.fault.message, outcome.fault.hint = error.message, error.hint or ""
    return pickle.dumps(outcome, protocol=5)


def _check(facts: dict[str, Any]) -> None:
    ours, theirs = (__version__, python()), (facts["version"], facts["python"])
    if ours != theirs:
        raise Conflict(
            f"{platform.node()} has tarmac {ours[0]} on {ours[1]}, and the pipeline was started by tarmac "
            f"{theirs[0]} on {theirs[1]}",
            hint="install the same on every machine of the cluster",
        )


def _performed(facts: dict[str, Any], archive: bytes, tell: Tell) -> Outcome:
    root = carried.lay_down(facts["source"], archive)
    carried.enter(root, facts["folder"], facts["paths"])
    door = _door(facts)
    results = Results(door, carried.here() / "files", None) if door is not None else None
    with _environment(facts["environment"]), logs.installed(), _Telling(tell) as telling:
        task = _task(facts, root, results)
        outcome = perform(task, logs.StepLog(task.node, telling.show, task.secrets), threading.Event())
    outcome.values = None
    if outcome.unstorable and outcome.fault is None:
        outcome.fault = fault_of(Unstorable(outcome.unstorable))
    sending.part_with_large(outcome.packed, door)
    return outcome


def _task(facts: dict[str, Any], root: Path, results: Results | None) -> Task:
    allowed = [str(root / path) if inside else path for inside, path in facts["allowed"]]
    allowed.append(str(carried.here() / "files"))

    def loaded(name: str) -> Any:
        return sending.load(facts[name], root, results, allowed.append)

    items, first = loaded("items"), [loaded("arguments")]  # now: which files are given is known only then
    file = facts["file"]
    return Task(
        id=facts["id"],
        node=facts["node"],
        function=function_of(facts["module"], facts["qualname"], str(root / file[1]) if file[0] else file[1]),
        options=facts["options"],
        arguments=lambda: first.pop() if first else loaded("arguments"),
        parts=facts["parts"],
        allowed=tuple(allowed),
        code={str(root / name): (0, 0) for name in facts["code"]},
        items=items,
        secrets=facts["secrets"],
        place=facts["place"],
        observed=facts["observed"],
    )


_opened: dict[tuple[str, str], Any] = {}


def _door(facts: dict[str, Any]) -> Door | None:
    """The workspace, opened once in this process."""
    if facts["workspace"] is None:
        return None
    import tarmac

    place, project, token = facts["workspace"]
    if token is not None:
        os.environ["TARMAC_TOKEN"] = token  # also for what the step logs
    if (place, project) not in _opened:
        _opened[place, project] = tarmac.connect(place, project)
    door: Door = _opened[place, project]
    return door


@contextmanager
def _environment(values: dict[str, str | None]) -> Iterator[None]:
    """Variables that the step has declared are here what they are where the pipeline was started."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class _Telling:
    """What a step prints, told a few times a second and up to a size; its log has the rest at the end."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._waiting: deque[str] = deque()
        self._room = MOST_STREAMED
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._flush_until_over, name="tarmac-telling", daemon=True)

    def __enter__(self) -> _Telling:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def show(self, node: str, text: str) -> None:
        if self._room > 0:
            self._waiting.append(text[: self._room])
            self._room -= len(text)

    def _flush_until_over(self) -> None:
        over = False
        while not over:
            over = self._over.wait(FLUSH_SECONDS)
            if waiting := [self._waiting.popleft() for _ in range(len(self._waiting))]:
                try:
                    self._tell("".join(waiting))
                except Exception:  # noqa: BLE001 - who listens may be gone; the log is told at the end
                    return
