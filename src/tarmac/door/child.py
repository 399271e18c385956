"""The process of one attempt at a job: `python -m tarmac.door.child WORKSPACE JOB ATTEMPT`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import msgspec

from tarmac.core.errors import TarmacError
from tarmac.core.settings import Settings
from tarmac.door import catalog
from tarmac.door.dispatch import in_our_words
from tarmac.flow.jobs import RunningJob
from tarmac.store import open_store
from tarmac.store.folder import WorkspaceFolder

NICER = 10


def main(folder: str, id: str, attempt: str) -> int:
    if hasattr(os, "nice"):
        os.nice(NICER)  # whoever waits for an answer goes first
    path = WorkspaceFolder(Path(folder))
    store = open_store(path, Settings.from_environment())
    try:
        job = RunningJob(store, id, int(attempt))

        def interrupt(number: int, frame: FrameType | None) -> None:
            job.interrupt()

        signal.signal(signal.SIGTERM, interrupt)
        answer, error = None, None
        try:
            spec = catalog.find(job.operation)
            request = msgspec.json.decode(job.request, type=spec.request)
            answer = catalog.handlers()[spec.name].apply(request, job)
        except Exception as fault:  # noqa: BLE001 - whatever it was, the job has to be ended with it
            error = in_our_words(job.operation, fault)
        job.end(answer, error)
    finally:
        store.close()
    return 0 if error is None else 1


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except TarmacError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(1)
