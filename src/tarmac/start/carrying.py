"""What a source yields, written by the commands that everybody uses: same limits, same lineage, same events.

Each step can be done again and adds nothing then, so an import that was killed is completed by the next one. The trash
comes last: nothing can be started below a run that lies in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, cast

import msgspec

from tarmac.core.errors import Conflict, NotFound
from tarmac.core.names import Name, Value
from tarmac.start.carrying_models import ModelCarrier
from tarmac.start.operations import Imported
from tarmac.start.porter import REFUSED, Porter, misfit, portions
from tarmac.start.progress import Progress
from tarmac.start.source import PARENT_TAG, RUN_ID, FoundExperiment, FoundInput, FoundRun, Head, Source
from tarmac.store.commands import ask, do
from tarmac.store.job import JobContext
from tarmac.store.records import File
from tarmac.store.sql import Connection, Reader
from tarmac.track import operations as ops
from tarmac.track.points import text
from tarmac.track.queries import rows
from tarmac.track.queries.files import digests_at
from tarmac.track.records import Experiment

NAME_TAG, USER_TAG, CONTEXT_TAG = "mlflow.runName", "mlflow.user", "mlflow.data.context"
STATUS = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
GOING_ON = ("RUNNING", "SCHEDULED")
POINTS_AT_ONCE = 20_000
TEXTS_AT_ONCE = 5_000
FILES_AT_ONCE = 200


class Carrier:
    """One import, from its source into the project of the job."""

    def __init__(self, job: JobContext, source: Source) -> None:
        self._job = job
        self._source = source
        self._missed = source.missed
        self._so_far = msgspec.convert(job.saved, Progress)
        self._missed.named, self._missed.more = list(self._so_far.skipped), self._so_far.more
        self._porter = Porter(job, source.missed)
        self._experiments: dict[str, str] = {}
        """Our ids, by theirs."""
        self._in_trash: dict[str, str] = {}
        """The same, of those that lie in the trash here only."""
        self._trash: list[str] = []
        self._models = ModelCarrier(self._porter, source, self._so_far, self._remember)
        self._done, self._total = 0, 0

    def carry(self) -> Imported:
        source, so_far = self._source, self._so_far
        found = source.experiments()
        heads = in_order(source.heads())
        used = {head.experiment for head in heads}
        for experiment in found:
            self._experiment(experiment, needed=experiment.id in used)
        place = next((at + 1 for at, head in enumerate(heads) if head.id == so_far.after), 0)
        self._total = len(heads)
        for done, head in enumerate(heads):
            self._done = done
            self._job.progress(done, len(heads), "runs")
            try:
                self._carry_run(head, carried=done < place)
            except REFUSED as error:
                self._missed.add(f"run {head.id}", error.message)
        self._job.progress(len(heads), len(heads), "runs")
        self._models.carry(self._experiments | self._in_trash)
        self._throw_away(found)
        return Imported(
            experiments=len(so_far.made),
            runs=so_far.runs,
            points=so_far.points,
            files=so_far.files,
            bytes=so_far.bytes,
            packages=so_far.packages,
            models=so_far.models,
            versions=so_far.versions,
            aliases=so_far.aliases,
            skipped=self._missed.all(),
        )

    def _carry_run(self, head: Head, *, carried: bool) -> None:
        run = self._read(head)
        if run is None:
            return
        if run.deleted:
            self._trash.append(run.id)
        self._models.linked(run)
        if not carried and self._run(head, run):  # else an earlier try has done it
            self._so_far.after = head.id
            self._remember()

    def _read(self, head: Head) -> FoundRun | None:
        if head.experiment not in self._experiments:
            if head.experiment not in self._in_trash:  # said of the experiment, once
                self._missed.add(f"run {head.id}", f"its experiment {head.experiment} could not be carried")
            return None
        return self._source.run(head)

    def _remember(self) -> None:
        self._so_far.skipped, self._so_far.more = self._missed.named, self._missed.more
        self._job.checkpoint(msgspec.to_builtins(self._so_far))

    # --- experiments ---

    def _experiment(self, found: FoundExperiment, *, needed: bool) -> None:
        name = rows.DEFAULT if found.id == "0" and found.name == "Default" else found.name
        if name == rows.DEFAULT and not needed:
            return  # every MLflow has one
        what = f"experiment {found.name}"
        if (wrong := misfit(name, ops.ExperimentName)) or not name:
            self._missed.add(what, f"the name cannot be kept: {wrong}")
            return
        here = self._called(name)
        if here is None:
            here = self._make(found, name, what)
        elif here.deleted_at is not None and not found.deleted:
            self._missed.add(
                what, "it lies in the trash here, and what the source has of it was left out: restore it, import again"
            )
            self._in_trash[found.id] = here.id
            return
        if here is not None:
            self._experiments[found.id] = here.id

    def _called(self, name: str) -> Experiment | None:
        try:
            here = ask(self._job, ops.GetExperiment(name=name))
        except NotFound:
            return None
        return here if name in (here.name, rows.DEFAULT) else None  # and not one whose id is written so

    def _make(self, found: FoundExperiment, name: str, what: str) -> Experiment | None:
        tags = self._porter.texts(found.tags, what)
        wanted = ops.CreateExperiment(
            name=name,
            note=self._porter.note(tags, what),
            tags=tags,
            location="" if misfit(found.location, Value) else found.location,
            id=None if misfit(found.id, ops.ExperimentId) else found.id,
        )
        made: Experiment | None = None
        try:
            made = do(self._job, wanted, found.created_at)
        except Conflict:  # the id is another's here
            made = self._porter.attempt(what, msgspec.structs.replace(wanted, id=None), found.created_at)
        if made is None:
            return None
        if tags and found.updated_at not in (None, found.created_at):
            do(self._job, ops.TagExperiment(name=made.id, set=tags), found.updated_at)
        self._so_far.made.append(made.id)
        return made

    # --- runs ---

    def _run(self, head: Head, found: FoundRun) -> bool:
        """Carry one run with all it has; False if it cannot be here."""
        what = f"run {head.id}"
        with self._job.store.database.read() as connection:
            read = self._reader(connection)
            there = rows.run_key(read, head.id) is not None
            if there and rows.run_row(read, head.id)[2] is not None:
                return True  # it is in the trash, where only whole runs get to
        params = self._porter.texts(found.params, f"{what}: params")
        if not there and not self._create(head, found, what):
            return False
        for portion in portions(params.items(), TEXTS_AT_ONCE):
            self._try(f"{what}: params", ops.LogRun(id=head.id, params=dict(portion), ended=True))
        for one in found.inputs:
            self._use(head.id, one, what)
        self._points(head, what)
        self._files(head, what)
        self._end(found, what)
        return True

    def _create(self, head: Head, found: FoundRun, what: str) -> bool:
        tags = self._porter.texts(found.tags, f"{what}: tags")
        note = self._porter.note(tags, what)
        name = tags.pop(NAME_TAG, "") or found.name
        if wrong := misfit(name, Name):
            if name:
                self._missed.add(f"{what}: name", wrong)
            name = ""
        if found.user and found.user != "unknown" and not misfit(found.user, Value):
            tags.setdefault(USER_TAG, found.user)
        if found.started_at is None:
            self._missed.add(what, "it does not say when it started: the time of the import is taken")
        if found.status not in STATUS and found.status not in GOING_ON:
            self._missed.add(f"{what}: status", f"unknown: {found.status}; it is shown as running")
        parent = head.parent if RUN_ID.fullmatch(head.parent) else None
        first = dict(islice(tags.items(), TEXTS_AT_ONCE))
        request = ops.CreateRun(
            id=head.id,
            experiment=self._experiments[head.experiment],
            exists=True,
            name=name or None,
            note=note,
            tags=first,
            started_at=max(1, found.started_at) if found.started_at is not None else 0,
            parent=parent,
        )
        if not self._try(what, request, without_parent=parent is not None):
            return False
        self._so_far.runs += 1
        for portion in portions(islice(tags.items(), TEXTS_AT_ONCE, None), TEXTS_AT_ONCE):
            self._try(f"{what}: tags", ops.LogRun(id=head.id, tags=dict(portion), ended=True))
        return True

    def _try(self, what: str, request: Any, *, without_parent: bool = False) -> Any:
        """What came of it, or None if it was refused, which is reported."""
        try:
            return do(self._job, request)
        except REFUSED as error:
            if without_parent:
                answer = self._try(what, msgspec.structs.replace(request, parent=None))
                if answer is not None:
                    self._missed.add(f"{what}: parent", f"{error.message}; the tag {PARENT_TAG} is kept")
                return answer
            self._missed.add(what, error.message)
            return None

    def _use(self, run: str, found: FoundInput, what: str) -> None:
        about = {"source_type": found.source_type, "source": found.source, "tags": found.tags}
        about |= {key: value for key, value in (("schema", found.schema), ("profile", found.profile)) if value}
        context = found.tags.get(CONTEXT_TAG, "")[:250]
        try:
            text_about = msgspec.json.encode(about).decode()
            request = ops.UseInput(id=run, name=found.name, version=found.digest, about=text_about, context=context)
        except UnicodeEncodeError as error:
            self._missed.add(f"{what}: input {found.name}", str(error))
            return
        self._try(f"{what}: input {found.name}", request)

    def _points(self, head: Head, what: str) -> None:
        for portion in portions(self._good_points(head, what), POINTS_AT_ONCE):
            logged = self._try(f"{what}: metrics", ops.LogRun(id=head.id, metrics=portion, ended=True, dated=True))
            if logged is not None:
                self._so_far.points += logged.points

    def _good_points(self, head: Head, what: str) -> Iterator[ops.Point]:
        key, wrong = None, ""
        for point in self._source.points(head):
            if point.key != key:
                key, wrong = point.key, misfit(point.key, Name)
                if wrong:
                    self._missed.add(f"{what}: metric {key}", wrong)
            if wrong:
                continue
            if not 0 <= point.at <= 2**62 or not -(2**63) <= point.step < 2**63:
                self._missed.add(f"{what}: metric {key}", f"a point at time {point.at}, step {point.step}")
                continue
            yield point.key, cast("Any", text(point.value)), point.step, point.at

    def _files(self, head: Head, what: str) -> None:
        for portion in portions(self._porter.kept(self._source.files(head), what), FILES_AT_ONCE):
            self._attach(head.id, portion, what)
            self._job.progress(self._done, self._total, f"files of run {head.id}")

    def _attach(self, run: str, files: list[File], what: str) -> None:
        there = self._there(run, files)
        fresh = [file for file in files if there.get(file.path) != file.digest]
        if not fresh:
            return
        try:
            do(self._job, ops.AttachFiles(id=run, files=fresh))
        except REFUSED as error:
            if len(fresh) == 1:
                self._missed.add(f"{what}: file {fresh[0].path}", error.message)
            else:  # one of them is in the way of the others
                for file in fresh:
                    self._attach(run, [file], what)
            return
        self._so_far.files += len(fresh)
        self._so_far.bytes += sum(file.size for file in fresh)

    def _there(self, run: str, files: list[File]) -> dict[str, str]:
        with self._job.store.database.read() as connection:
            read = self._reader(connection)
            return digests_at(read, rows.run_row(read, run)[0], [file.path for file in files])

    def _reader(self, connection: Connection) -> Reader:
        job = self._job
        return Reader(connection, job.store.names, job.project, job.project_name, job.actor)

    def _end(self, found: FoundRun, what: str) -> None:
        status = STATUS.get(found.status)
        if status is None:
            return
        if found.ended_at is None:
            self._missed.add(what, "it does not say when it ended: the time of its start is taken")
        at = found.ended_at or found.started_at or 0
        self._try(f"{what}: status", ops.EndRun(id=found.id, status=cast("Any", status), at=max(0, at)))

    # --- the trash ---

    def _throw_away(self, found: list[FoundExperiment]) -> None:
        for portion in portions(self._trash, 1000):
            with self._job.store.database.read() as connection:
                read = self._reader(connection)
                here = [id for id in portion if rows.run_key(read, id) is not None]
            if here:
                do(self._job, ops.DeleteRuns(ids=here))
        for experiment in found:
            id = self._experiments.get(experiment.id, "")
            if experiment.deleted and id in self._so_far.made:
                do(self._job, ops.DeleteExperiment(name=id))


def in_order(heads: Iterable[Head]) -> list[Head]:
    """Parents before their children; who is its own ancestor comes where it stands."""
    by_id = {head.id: head for head in heads}
    done: dict[str, Head] = {}
    for head in by_id.values():
        line: dict[str, Head] = {}
        above: Head | None = head
        while above is not None and above.id not in done and above.id not in line:
            line[above.id] = above
            above = by_id.get(above.parent)
        done.update(reversed(line.items()))
    return list(done.values())
