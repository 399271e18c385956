"""What a project has, written as MLflow keeps it. Each thing is asked for as anybody asks, and written in one piece, so
an export that was killed goes on after the last whole one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tarmac.core.digest import digest
from tarmac.core.errors import Damaged, Invalid, NotFound
from tarmac.start.export_folder import ExportFolder
from tarmac.start.exporting_models import ModelWriter
from tarmac.start.mlflow_file import MlflowFile, as_number
from tarmac.start.operations import Exported, Skipped
from tarmac.start.source import PARENT_TAG, Missed
from tarmac.store.blobs import rows as blobs
from tarmac.store.commands import ask
from tarmac.store.job import JobContext
from tarmac.store.records import File
from tarmac.store.sql import Reader
from tarmac.track import operations as ops
from tarmac.track.records import Experiment, Input, WholeRun

NAME_TAG, NOTE_TAG, USER_TAG, CONTEXT_TAG = (
    "mlflow.runName", "mlflow.note.content", "mlflow.user", "mlflow.data.context",
)  # fmt: skip
STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
DEFAULT, DEFAULT_ID, DEFAULT_THERE = "default", "0", "Default"
RUNS_AT_ONCE, FILES_AT_ONCE, POINTS_AT_ONCE = 100, 1000, 100_000
POINT = ("key", "value", "timestamp", "run_uuid", "step", "is_nan")
NO_PLACE = {
    "who did what": "MLflow has no ledger; a user is where the tag mlflow.user says one",
    "logs, source trees, packages and machines of runs": "MLflow has no place for them; files of runs are carried",
    "moves of aliases": "MLflow keeps only where an alias points now",
}


class Progress(msgspec.Struct):
    """What an export remembers between two tries."""

    files: int = 0
    bytes: int = 0
    skipped: list[Skipped] = []
    more: int = 0


class About(msgspec.Struct):
    """What of a data set of MLflow's has no column here."""

    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None
    tags: dict[str, str] = {}


class Exporter:
    def __init__(self, job: JobContext, folder: ExportFolder, file: MlflowFile) -> None:
        self._job = job
        self._folder = folder
        self._file = file
        self._so_far = msgspec.convert(job.saved, Progress)
        self._missed = Missed(self._so_far.skipped, self._so_far.more)
        self._done = 0

    def export(self) -> Exported:
        for what, why in NO_PLACE.items():
            self._missed.add(what, why)
        total = ask(self._job, ops.CountRuns(deleted="also")).count
        for experiment in self._experiments():
            self._experiment(experiment)
            for run in self._runs(experiment):
                self._job.progress(self._done, total, "runs")
                self._run(run)
                self._done += 1
        ModelWriter(self._job, self._file, self._missed, self.copy).write()
        self._remember()
        file = self._file
        return Exported(
            experiments=file.count("experiments"),
            runs=file.count("runs"),
            points=file.count("metrics"),
            files=self._so_far.files,
            bytes=self._so_far.bytes,
            packages=file.count("logged_models") if file.release == "3" else 0,
            models=file.count("registered_models"),
            versions=file.count("model_versions"),
            aliases=file.count("registered_model_aliases"),
            skipped=self._missed.all(),
        )

    def _remember(self) -> None:
        self._so_far.skipped, self._so_far.more = self._missed.named, self._missed.more
        self._job.checkpoint(msgspec.to_builtins(self._so_far))

    # --- experiments ---

    def _experiments(self) -> Iterator[Experiment]:
        cursor: str | None = ""
        while cursor is not None:
            page = ask(self._job, ops.SearchExperiments(deleted="also", order=["created"], limit=1000, cursor=cursor))
            yield from page.experiments
            cursor = page.next

    def _experiment(self, found: Experiment) -> None:
        if self._file.has("experiments", "experiment_id", int(found.id)):
            return
        name = DEFAULT_THERE if (found.id, found.name) == (DEFAULT_ID, DEFAULT) else found.name
        if self._file.has("experiments", "name", name):
            name = f"{name} ({found.id})"
            self._missed.add(f"experiment {found.name}", f"that name is taken by the default one; it is called {name}")
        place = f"mlflow-artifacts:/{found.id}"
        if found.location not in ("", place):
            self._missed.add("artifact locations of experiments", "all files are in the folder of the export")
        tags = dict(found.tags)
        if found.note:
            tags.setdefault(NOTE_TAG, found.note)
        with self._file.together():
            self._file.put(
                "experiments",
                experiment_id=int(found.id),
                name=name,
                artifact_location=place,
                lifecycle_stage=stage(found.deleted_at),
                creation_time=found.created_at,
                last_update_time=found.updated_at or found.created_at,
            )
            rows = [(key, value, int(found.id)) for key, value in tags.items()]
            self._file.put_all("experiment_tags", ("key", "value", "experiment_id"), rows)

    # --- runs ---

    def _runs(self, experiment: Experiment) -> Iterator[WholeRun]:
        """Oldest first, so that what starts meanwhile comes too."""
        cursor: str | None = ""
        while cursor is not None:
            page = ask(
                self._job,
                ops.ListRuns(
                    experiment=[experiment.id],
                    deleted="also",
                    order=["started ASC"],
                    columns=[],
                    limit=RUNS_AT_ONCE,
                    cursor=cursor,
                ),
            )
            ids = [run.id for run in page.runs if not self._file.has("runs", "run_uuid", run.id)]
            self._done += len(page.runs) - len(ids)
            if ids:
                yield from ask(self._job, ops.ReadRuns(ids=ids)).runs
            cursor = page.next

    def _run(self, run: WholeRun) -> None:
        root = f"{run.experiment_id}/{run.id}/artifacts"
        for files in self._files(run.id):
            for file in files:
                self.copy(file, f"{root}/{file.path}", f"run {run.id}")
        tags = dict(run.tags)
        tags[NAME_TAG] = run.name
        if run.note:
            tags.setdefault(NOTE_TAG, run.note)
        if run.parent is not None:
            tags.setdefault(PARENT_TAG, run.parent)
        with self._file.together():
            self._file.put(
                "runs",
                run_uuid=run.id,
                name=run.name,
                source_type="UNKNOWN",
                source_name="",
                entry_point_name="",
                user_id=run.tags.get(USER_TAG, "unknown"),
                status=STATUS[run.status],
                start_time=run.started_at,
                end_time=run.ended_at,
                source_version="",
                lifecycle_stage=stage(run.deleted_at),
                artifact_uri=f"mlflow-artifacts:/{root}",
                experiment_id=int(run.experiment_id),
                deleted_time=run.deleted_at,
            )
            for table, texts in (("params", run.params), ("tags", tags)):
                rows = [(key, value, run.id) for key, value in texts.items()]
                self._file.put_all(table, ("key", "value", "run_uuid"), rows)
            for key, last in run.metrics.items():
                step, at = run.moments[key]
                value, is_nan = as_number(last)
                self._file.put_all("latest_metrics", POINT, [(key, value, at, run.id, step, is_nan)])
                self._file.put_all("metrics", POINT, self._points(run.id, key))
            for one in run.inputs:
                self._input(run, one)
        self._remember()

    def _points(self, run: str, key: str) -> Iterator[tuple[Any, ...]]:
        first = 0
        while True:
            curve = ask(self._job, ops.GetHistory(run=run, key=key, first=first, limit=POINTS_AT_ONCE))
            for step, at, point in zip(curve.steps, curve.times, curve.values, strict=True):
                value, is_nan = as_number(point)
                yield key, value, at, run, step, is_nan
            first += len(curve.steps)
            if first >= curve.total or not curve.steps:
                return

    def _input(self, run: WholeRun, one: Input) -> None:
        try:
            about = msgspec.json.decode(one.about, type=About)
        except msgspec.DecodeError:  # recorded by other means: text for people
            about = About(source_type="tarmac", source=one.about or f"{one.name}@{one.version}")
        tags = dict(about.tags)
        if one.context:
            tags.setdefault(CONTEXT_TAG, one.context)
        # the same ids each time, so that what is written again is the same
        data = digest(f"{run.experiment_id}\0{one.name}\0{one.version}".encode())[:32]
        link = digest(f"{data}\0{run.id}".encode())[:32]
        self._file.put(
            "datasets",
            dataset_uuid=data,
            experiment_id=int(run.experiment_id),
            name=one.name,
            digest=one.version,
            dataset_source_type=about.source_type,
            dataset_source=about.source,
            dataset_schema=about.schema,
            dataset_profile=about.profile,
        )
        self._file.put(
            "inputs",
            input_uuid=link,
            source_type="DATASET",
            source_id=data,
            destination_type="RUN",
            destination_id=run.id,
        )
        rows = [(link, name, value) for name, value in tags.items()]
        self._file.put_all("input_tags", ("input_uuid", "name", "value"), rows)

    # --- files ---

    def _files(self, run: str) -> Iterator[list[File]]:
        after: str | None = ""
        while after is not None:
            page = ask(self._job, ops.ListArtifacts(id=run, all=True, after=after, limit=FILES_AT_ONCE))
            found = page.artifacts
            yield [File(path=one.path, digest=one.digest, size=one.size) for one in found if one.digest is not None]
            after = page.next

    def copy(self, file: File, place: str, what: str) -> None:
        job = self._job
        try:
            with job.store.database.read() as connection:
                read = Reader(connection, job.store.names, job.project, job.project_name, job.actor)
                blob = blobs.find(read, file.digest)
            parts = job.store.blobs.read(blob.digest, blob.place, blob.size, blob.blocks, 0, blob.size)
            self._folder.write(place, parts)
        except (Damaged, Invalid, NotFound) as error:
            self._missed.add(f"{what}: file {file.path}", error.message)
            return
        self._so_far.files += 1
        self._so_far.bytes += file.size


def stage(deleted_at: int | None) -> str:
    return "active" if deleted_at is None else "deleted"
