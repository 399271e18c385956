"""A worker process: told by its input which step to run, it says what came of it on its output, and ends with it."""

from __future__ import annotations

import os
import pickle
import queue
import runpy
import sys
import threading
from importlib import import_module
from typing import Any

from tarmac.core.errors import Conflict, Invalid
from tarmac.flow import connections
from tarmac.flow.executors import Outcome, Task, logs
from tarmac.flow.executors.processes import SIZE, receive
from tarmac.flow.executors.threads import STACK
from tarmac.flow.executors.work import fault_of, perform
from tarmac.flow.source import stamp_of

MAIN = "__tarmac_main__"
MOST_STREAMED = 500_000


def main() -> None:
    # what a step prints past Python must not get between our messages
    given, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    speaking = threading.Lock()

    def tell(kind: str, content: Any) -> None:
        message = pickle.dumps((kind, content), protocol=5)
        with speaking:
            told.write(SIZE.pack(len(message)) + message)
            told.flush()

    def work() -> None:
        with logs.installed():
            while True:
                outcome = _done(tasks.get(), tell)
                outcome.values = None
                tell("done", outcome)

    threading.stack_size(STACK)
    threading.Thread(target=work, daemon=True).start()
    while (message := receive(given)) is not None:
        tasks.put(message)
    os._exit(0)  # the driver is gone, or has no more to do: whatever still runs is nobody's


def _done(message: bytes, tell: Any) -> Outcome:
    task = None
    try:
        told = _Told(tell)
        facts = _opened(message)
        task = _task(facts)
        return perform(task, logs.StepLog(task.node, told.show, task.secrets), threading.Event())
    except BaseException as error:  # noqa: BLE001 - the driver hears of it
        return Outcome(task.id if task is not None else "", fault=fault_of(error))


def _opened(message: bytes) -> dict[str, Any]:
    """The task; first where what it is made of can be imported from."""
    (size,) = SIZE.unpack_from(message)
    places, folder = pickle.loads(message[SIZE.size : SIZE.size + size])  # noqa: S301 - from the driver
    sys.path[:] = places
    os.chdir(folder)
    facts: dict[str, Any] = pickle.loads(memoryview(message)[SIZE.size + size :])  # noqa: S301
    return facts


class _Told:
    """What a step prints goes to the driver as it comes, up to a size; its log has the rest at the end."""

    def __init__(self, tell: Any) -> None:
        self._tell = tell
        self._room = MOST_STREAMED

    def show(self, node: str, text: str) -> None:
        if self._room > 0:
            self._tell("log", text[: self._room])
            self._room -= len(text)


def _task(facts: dict[str, Any]) -> Task:
    args, kwargs = facts["arguments"]
    for file, stamp in facts["code"].items():
        if stamp != (0, 0) and stamp_of(file) != stamp:
            raise Conflict(f"{file} was changed while the pipeline runs", hint="run it again")
    return Task(
        id=facts["id"],
        node=facts["node"],
        function=function_of(facts["module"], facts["qualname"], facts["file"]),
        options=facts["options"],
        arguments=lambda: (
            [connections.resolved(value) for value in args],
            {key: connections.resolved(value) for key, value in kwargs.items()},
        ),
        parts=facts["parts"],
        allowed=facts["allowed"],
        code=facts["code"],
        items=facts["items"],
        secrets=facts["secrets"],
        place=facts["place"],
        observed=facts["observed"],
    )


_mains: dict[str, dict[str, Any]] = {}


def function_of(module: str, qualname: str, file: str) -> Any:
    """A step's function, found by its name in this process."""
    if module == "__main__":
        if not os.path.isfile(file):  # noqa: PTH113
            raise Invalid(
                "it is defined in a notebook or console, where another process cannot find it",
                hint="put it into a module, or let it run in this process",
            )
        if file not in _mains:
            _mains[file] = runpy.run_path(file, run_name=MAIN)
        head, *rest = qualname.split(".")
        found = _mains[file][head]
    else:
        head, *rest = qualname.split(".")
        found = getattr(import_module(module), head)
    for name in rest:
        found = getattr(found, name)
    return getattr(found, "function", found)


if __name__ == "__main__":
    main()
