"""One step, run to its end: tried again where that was asked for, watched, its result packed."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from tarmac.core.errors import Cancelled, TarmacError, Unstorable, bounded
from tarmac.core.secrets import MASK
from tarmac.flow import building, source, typed
from tarmac.flow.executors import Fault, Outcome, Task, logs, watching
from tarmac.logging.start import Surrounding, surrounding

LONGEST_TRACEBACK = 20_000


def perform(task: Task, log: logs.StepLog, stopped: threading.Event) -> Outcome:
    """Run it here, in this thread."""
    outcome = Outcome(task.id)
    began, cpu, process = time.monotonic(), time.thread_time(), os.getpid()
    above = building.swap(None)  # a step that is run inside of a pipeline's body is no part of that pipeline
    around = Surrounding(*task.place) if task.place is not None else None
    token = surrounding.set(around)
    watch = watching.Watch(task.allowed, task.code, task.options) if task.observed else None
    try:
        with logs.capturing(log):
            while True:
                fault = _attempt(task, outcome, watch)
                if os.getpid() != process:
                    os._exit(0 if fault is None else 1)  # the step has forked, and this is the copy: it has no driver
                if fault is None or outcome.attempts > task.options.retries or stopped.is_set():
                    break
                pause = task.options.backoff * 2 ** (outcome.attempts - 1)
                log.write(f"tarmac: {fault.kind}: {fault.message}; tried again in {pause:g} s\n")
                outcome.attempts += 1
                if stopped.wait(pause):
                    break
        outcome.fault = fault
    finally:
        building.swap(above)
        surrounding.reset(token)
        if around is not None:
            around.close()
    if watch is not None:
        outcome.undeclared = watch.found()
    outcome.seconds = time.monotonic() - began
    outcome.cpu_seconds = max(0.0, time.thread_time() - cpu)
    outcome.memory = _peak()
    outcome.log = log.text()
    return outcome


def _attempt(task: Task, outcome: Outcome, watch: watching.Watch | None) -> Fault | None:
    try:
        args, kwargs = task.arguments()
        if watch is None:
            value = _call(task, args, kwargs)
        else:
            watch.allow(*args, *kwargs.values(), task.items)
            with watch:
                value = _call(task, args, kwargs)
        return _packed(task, value, outcome)
    except BaseException as error:  # noqa: BLE001 - whatever a step does, the driver hears of it
        return _masked(fault_of(error), task.secrets)


def _masked(fault: Fault, secrets: tuple[str, ...]) -> Fault:
    for secret in filter(None, secrets):
        fault.message = fault.message.replace(secret, MASK)
        fault.traceback = fault.traceback.replace(secret, MASK)
    return fault


def _call(task: Task, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if task.items is None:
        return task.function(*args, **kwargs)
    return [task.function(*_at(args, item), **_named(kwargs, item)) for item in task.items]


class Here:
    """Stands among the arguments where an item of `each` goes."""


def _at(args: list[Any], item: Any) -> list[Any]:
    return [item if value is Here else value for value in args]


def _named(kwargs: dict[str, Any], item: Any) -> dict[str, Any]:
    return {key: item if value is Here else value for key, value in kwargs.items()}


def _packed(task: Task, value: Any, outcome: Outcome) -> Fault | None:
    """The result as bytes, each of its parts by itself."""
    if task.parts is not None and (not isinstance(value, tuple) or len(value) != task.parts):
        got = f"a tuple of {len(value)}" if isinstance(value, tuple) else f"`{type(value).__name__}`"
        return Fault("Invalid", f"it returned {got}, and is declared to return a tuple of {task.parts}")
    values = [value] if task.parts is None and task.items is None else list(value)
    outcome.values = values
    try:
        outcome.packed = [typed.pack(one, "its result") for one in values]
        if any(leaf.codec == typed.NOT_A_RESULT for one in outcome.packed for leaf in one.output.leaves):
            raise Unstorable("its result is, or holds, what steps are only given: a connection or a version of data")
        _refuse_secrets(task, outcome.packed)
    except Unstorable as error:
        if task.options.cache:
            return Fault("Unstorable", error.message, hint=error.hint or "")
        outcome.packed, outcome.unstorable = [], error.message
    return None


def _refuse_secrets(task: Task, packed: list[typed.Packed]) -> None:
    """A secret that a step was lent does not go into the store with its result."""
    for secret in filter(None, (text.encode() for text in task.secrets)):
        for one in packed:
            texts: list[Callable[[], bytes]] = [lambda one=one: one.output.root]  # type: ignore[misc]
            texts += [lambda leaf=leaf: leaf.inline for leaf in one.output.leaves]  # type: ignore[misc]
            texts += [lambda data=data: data for data in one.blobs.values() if isinstance(data, bytes)]  # type: ignore[misc]
            if any(secret in text() for text in texts):
                raise Unstorable("its result has a connection's secret in it, and is not stored")


def fault_of(error: BaseException) -> Fault:
    """An error of a step, with the line of the project's code it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not frame.filename.startswith(watching.OURS)]
    own = [frame for frame in ours if source.is_ours(frame.filename)]
    where = f"{watching.short(own[-1].filename)}:{own[-1].lineno}" if own else ""
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        message = f"it called exit({error.code!r})"
    elif isinstance(error, (KeyboardInterrupt, Cancelled)):
        message = "it was stopped"
    elif isinstance(error, TarmacError):
        message = error.message + (f" ({error.hint})" if error.hint else "")
    else:
        try:
            message = bounded(error, 500)
        except Exception:  # noqa: BLE001 - an error whose text fails is an error all the same
            message = "it has no text"
    shown = "".join(traceback.format_list(ours) + traceback.format_exception_only(error))
    if len(shown) > LONGEST_TRACEBACK:
        shown = shown[: LONGEST_TRACEBACK // 2] + "\n…\n" + shown[-LONGEST_TRACEBACK // 2 :]
    return Fault(kind, message, where, shown, gone=getattr(error, "node", "") if kind == "Gone" else "")


def _peak() -> int:
    """The most memory that this process has had."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
