"""What is kept of a run that was done again: a run of its own beside the verdict, for whoever wants to look."""

from __future__ import annotations

from pathlib import Path

from tarmac.core.ids import time_ordered
from tarmac.flow.reproduce import queries
from tarmac.flow.reproduce.again import Made
from tarmac.flow.reproduce.compare import Outcome, Side
from tarmac.flow.reproduce.place import Aside
from tarmac.flow.reproduce.records import Reproduction
from tarmac.store.blobs import keeping
from tarmac.store.blobs import rows as blobs
from tarmac.store.commands import do
from tarmac.store.job import JobContext
from tarmac.store.lineage import link
from tarmac.store.records import File
from tarmac.store.sql import Batch, Reader, Tx
from tarmac.track import operations as track
from tarmac.track.queries import rows
from tarmac.track.records import Run

EXPERIMENT = "reproductions"
OF = "tarmac.reproduces"
VERDICT = "tarmac.reproduced"
"""The tag of the run that was done again: to search by. The verdict that counts is the row, which nobody can write."""
LONGEST_PIECE = 500_000
MOST_FILES = 100


def keep(job: JobContext, aside: Aside, before: Run, made: Made, outcome: Outcome) -> str:
    """The run that came out, with the last of its metrics, what it printed, and the files that differ."""
    new = do(
        job,
        track.CreateRun(
            id=_id(job),
            experiment=EXPERIMENT,
            name=f"{before.name} again"[:250],
            params=before.params,
            tags={OF: before.id},
        ),
    )
    with aside.reading() as read:
        side = Side(read, made.run, aside)
        last = [(name, *side.last(name)) for name in side.metrics()]
        differ = [one.name for one in outcome.differences if one.kind == "file" and one.verdict != "missing"]
        files = [(path, side.files()[path]) for path in differ[:MOST_FILES]]
        attached = [File(path=path, digest=digest, size=_carry(job, aside, read, digest)) for path, digest in files]
    if last:
        do(job, track.LogRun(id=new.id, metrics=[(name, value, step, 0) for name, step, value in last], ended=True))
    if attached:
        do(job, track.AttachFiles(id=new.id, files=attached))
    for start in range(0, len(made.output), LONGEST_PIECE):
        do(job, track.WriteLog(id=new.id, start=start, text=made.output[start : start + LONGEST_PIECE]))
    return do(job, track.EndRun(id=new.id, status="finished")).id


def _id(job: JobContext) -> str:
    """Remembered before it is used: a second attempt of the job goes on with the same run."""
    if "run" not in job.saved:
        job.checkpoint({**job.saved, "run": time_ordered()})
    return str(job.saved["run"])


def _carry(job: JobContext, aside: Aside, read: Reader, digest: str) -> int:
    blob = blobs.find(read, digest)
    with (Path(aside.store.folder.blobs) / blob.place).open("rb") as file:
        stored = job.store.blobs.put(file)
    keeping.keep(job.store, stored, job.project, job.project_name, job.actor)
    return blob.size


def record(job: JobContext, found: Reproduction) -> None:
    """Verdict, tag, edge and event: all of it or nothing."""

    def write(batch: Batch) -> None:
        tx = Tx(batch, job.project, job.project_name, job.actor)
        queries.add(tx, found)
        rows.put_tags(tx, rows.run_row(tx, found.run)[0], {VERDICT: found.verdict})
        if found.made is not None:
            link(tx, f"runs/{found.run}", f"runs/{found.made}", "reproduced")

    job.store.writer.call(write)
