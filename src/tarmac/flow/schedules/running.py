"""The job that runs what a schedule starts: `tarmac run PIPELINE` in the project's folder, on a leash."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from tarmac.core import project_file
from tarmac.core.errors import Conflict, NotFound, bounded
from tarmac.core.operation import handles
from tarmac.flow.leash import leashed
from tarmac.flow.schedules import operations as ops
from tarmac.flow.schedules import queries
from tarmac.store.job import JobContext
from tarmac.store.sql import Reader

RUN = re.compile(rb"(?:^|\n)run ([0-9a-f]{32})")
LONGEST_KEPT = 20_000


@handles(ops.RunSchedule)
def run_schedule(request: ops.RunSchedule, job: JobContext) -> ops.Started:
    with job.store.database.read() as connection:
        row = queries.get(Reader(connection, job.store.names, job.project, job.project_name, job.actor), request.name)
    folder = Path(row.folder)
    if not (folder / project_file.FILE_NAME).is_file():
        raise NotFound(
            f"schedule `{row.name}` runs in {bounded(folder)}, where no tarmac.toml is",
            hint="`tarmac schedules add` with another --folder changes that",
        )
    params = [part for key, value in row.params.items() for part in ("-p", f"{key}={value}")]
    words = [sys.executable, "-P", "-m", "tarmac", "run", row.pipeline, *params]
    environment = {name: value for name, value in os.environ.items() if name != "TARMAC_RUN"}
    environment |= {"TARMAC_WORKSPACE": str(job.store.folder.path), "TARMAC_PROJECT": job.project_name}
    heard = bytearray()

    def hear(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        heard.extend(data)
        del heard[LONGEST_KEPT:-LONGEST_KEPT]

    job.log(f"{row.pipeline} in {folder}: {request.why}")
    began = time.monotonic()
    code = leashed(words, folder, environment, hear, lambda: job.progress(0, 0, row.pipeline))
    found = RUN.search(bytes(heard))
    run = found[1].decode() if found else None
    if code:
        lines = [line for line in heard.decode("utf-8", "replace").splitlines() if line.strip()]
        why = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "")
        about = f" (run {run})" if run else ""
        raise Conflict(f"pipeline `{row.pipeline}` ended with {code}{about}: {bounded(why, 500)}")
    return ops.Started(run=run, seconds=round(time.monotonic() - began, 3))
