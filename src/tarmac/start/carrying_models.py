"""Logged models, registered models, versions and aliases, written by the commands that everybody uses.

Each step looks first what is here, so it can be done again and adds nothing then. What was changed here since is left
as it is: deleted things are not brought back, and an alias that was moved here stays where it points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from tarmac.core.errors import NotFound, bounded
from tarmac.core.names import Folder, Name, Note
from tarmac.core.operation import Query
from tarmac.registry import operations as ops
from tarmac.registry.records import AliasName, Model, ModelName, Package, PackageMetric, Version
from tarmac.start.porter import REFUSED, Porter, misfit, portions
from tarmac.start.progress import Progress
from tarmac.start.source import (
    PACKAGE_ID,
    PROMPT_TAG,
    FoundModel,
    FoundPackage,
    FoundRun,
    FoundVersion,
    Source,
)
from tarmac.start.version_places import folders_of_runs, packages
from tarmac.store.commands import ask, do
from tarmac.store.records import File
from tarmac.track import operations as track
from tarmac.track.points import text

IMPORTED = "imported"
STAGES = ("Staging", "Production", "Archived")
FILES_AT_ONCE, TEXTS_AT_ONCE = 200, 5_000
T = TypeVar("T")


class Place(NamedTuple):
    """Where the files of a version are: in a package, in a folder of a run, or only named."""

    package: str | None = None
    run: str | None = None
    folder: str | None = None


class ModelCarrier:
    def __init__(self, porter: Porter, source: Source, so_far: Progress, remember: Callable[[], None]) -> None:
        self._porter = porter
        self._job = porter.job
        self._missed = porter.missed
        self._source = source
        self._so_far = so_far
        self._remember = remember
        self._links: list[tuple[str, str, str, int]] = []
        self._here: dict[str, Package] = {}
        self._trash: list[str] = []

    def linked(self, run: FoundRun) -> None:
        """Note which logged models a run made or was given."""
        self._links += [(run.id, id, "input", 0) for id in run.used]
        self._links += [(run.id, id, "output", step) for id, step in run.made]

    def carry(self, experiments: dict[str, str]) -> None:
        """All that there is; `experiments` has our ids by theirs."""
        for number, package in enumerate(self._source.packages()):
            self._job.progress(number, 0, "logged models")
            try:
                self._package(package, experiments)
            except REFUSED as error:
                self._missed.add(f"logged model {package.id}", error.message)
            self._remember()
        self._link()
        models = self._source.models()
        for number, model in enumerate(models):
            self._job.progress(number, len(models), "models")
            try:
                self._model(model)
            except REFUSED as error:
                self._missed.add(f"model {model.name}", error.message)
            self._remember()
        for id in self._trash:
            self._porter.attempt(f"logged model m-{id}: the trash", ops.DeletePackage(id=id))

    # --- logged models, which are packages ---

    def _package(self, found: FoundPackage, experiments: dict[str, str]) -> None:
        what = f"logged model {found.id}"
        match = PACKAGE_ID.fullmatch(found.id)
        if match is None:
            self._missed.add(what, "that is not the id of a logged model")
            return
        here = self._find(ops.GetPackage(id=match[1]))
        if here is None:
            here = self._make(match[1], found, experiments.get(found.experiment), what)
        if here is None:
            return
        self._here[found.id] = here
        if here.deleted_at is not None:
            return  # it stays in the trash, whoever put it there
        if here.state == "pending":
            self._fill(here, found, what)
        self._measure(here, found, what)
        if found.deleted:
            self._trash.append(here.id)

    def _make(self, id: str, found: FoundPackage, experiment: str | None, what: str) -> Package | None:
        if experiment is None:
            self._missed.add(what, f"its experiment {found.experiment} could not be carried")
            return None
        wanted = ops.CreatePackage(
            id=id,
            name=self._porter.text(found.name, Name, f"{what}: name") or f"model-{id[:6]}",
            kind=self._porter.text(found.kind, ops.Kind, f"{what}: type"),
            run=found.run or None,
            experiment=experiment,
            params=self._porter.texts(found.params, f"{what}: params"),
            tags=self._porter.texts(found.tags, f"{what}: tags"),
        )
        made: ops.PackageMade | None = self._porter.attempt(what, wanted, found.created_at)
        if made is None:
            return None
        self._so_far.packages += 1
        return made.package

    def _fill(self, here: Package, found: FoundPackage, what: str) -> None:
        """Its files, and the seal if the source says that it is whole."""
        there = self._files_of(here.id) if here.files else {}
        for portion in portions(self._porter.kept(self._source.package_files(found), what), FILES_AT_ONCE):
            self._attach(here.id, [file for file in portion if there.get(file.path) != file.digest], found, what)
        if found.state in ("ready", "failed"):
            self._porter.attempt(what, ops.SealPackage(id=here.id, state=cast("Any", found.state)), found.updated_at)
        elif found.state != "pending":
            self._missed.add(f"{what}: state", "the source has another word for it; it is left open")

    def _files_of(self, id: str) -> dict[str, str]:
        files: dict[str, str] = {}
        after: str | None = ""
        while after is not None:
            page = ask(self._job, ops.ListPackageFiles(id=id, after=after))
            files.update({file.path: file.digest for file in page.files})
            after = page.next
        return files

    def _attach(self, id: str, fresh: list[File], found: FoundPackage, what: str) -> None:
        if not fresh:
            return
        try:
            do(self._job, ops.AttachPackageFiles(id=id, files=fresh), found.updated_at)
        except REFUSED as error:
            if len(fresh) == 1:
                self._missed.add(f"{what}: file {fresh[0].path}", error.message)
            else:  # one of them is in the way of the others
                for file in fresh:
                    self._attach(id, [file], found, what)
            return
        self._so_far.files += len(fresh)
        self._so_far.bytes += sum(file.size for file in fresh)

    def _measure(self, here: Package, found: FoundPackage, what: str) -> None:
        """What was measured of it, and the params, as far as they are not here."""
        known = {(one.name, one.run, one.data, one.data_digest, one.step): one for one in here.metrics}
        wanted: dict[Any, PackageMetric] = {}
        for one in found.measures:
            if (wrong := misfit(one.key, Name)) or not 0 <= one.at <= 2**62:
                self._missed.add(f"{what}: metric {one.key}", wrong or f"a value at time {one.at}")
                continue
            metric = PackageMetric(
                name=one.key,
                value=cast("Any", text(one.value)),
                step=one.step,
                at=one.at,
                run=one.run,
                data=one.data[:500],
                data_digest=one.data_digest[:100],
            )
            where = (metric.name, metric.run, metric.data, metric.data_digest, metric.step)
            if where in wanted and wanted[where] != metric:
                self._missed.add(f"{what}: metric {one.key}", f"step {one.step} has several values; the last is kept")
            wanted[where] = metric
        fresh = [metric for where, metric in wanted.items() if where not in known or known[where] != metric]
        params = {name: value for name, value in found.params.items() if name not in here.params}
        params = self._porter.texts(params, f"{what}: params")
        for portion in portions(fresh, TEXTS_AT_ONCE):
            self._porter.attempt(f"{what}: metrics", ops.LogPackage(id=here.id, metrics=portion), found.updated_at)
        if params:
            self._porter.attempt(f"{what}: params", ops.LogPackage(id=here.id, params=params), found.updated_at)

    def _link(self) -> None:
        for run, id, part, step in self._links:
            package = self._here.get(id)
            if package is None:
                self._missed.add(f"run {run}: logged model {id}", "it is not here, so it is not linked")
            elif package.deleted_at is None:
                wanted = ops.LinkPackage(id=package.id, run=run, part=cast("Any", part), step=step)
                self._porter.attempt(f"run {run}: logged model {id}", wanted)

    # --- registered models ---

    def _model(self, found: FoundModel) -> None:
        what = f"model {found.name}"
        if wrong := misfit(found.name, ModelName):
            self._missed.add(what, f"the name cannot be kept: {wrong}")
            return
        before = self._find(ops.GetModel(name=found.name))
        if before is None:
            if self._find(ops.ShowHistory(name=found.name, limit=1)) is not None:
                self._missed.add(what, "it was deleted here, and is not brought back")
                return
            made = ops.CreateModel(
                name=found.name,
                note=self._porter.text(found.note, Note, f"{what}: description"),
                tags=self._porter.texts(found.tags, f"{what}: tags"),
            )
            if self._porter.attempt(what, made, found.created_at) is None:
                return
            self._so_far.models += 1
        changed = before is None
        numbers = set()
        for version in self._source.versions(found):
            here, new = self._version(found, version, before, f"{what}: version {version.number}")
            changed |= new
            if here:
                numbers.add(version.number)
        changed |= self._aliases(found, numbers, what)
        self._date(found, before, changed=changed)

    def _date(self, found: FoundModel, before: Model | None, *, changed: bool) -> None:
        """What is added to a model changes it; it is dated as the source has it, or as it was here if that is later."""
        newer = before is not None and found.updated_at is not None and found.updated_at > before.updated_at
        if found.updated_at is None or not (changed or newer):
            return
        at = found.updated_at if before is None else max(found.updated_at, before.updated_at)
        note = before.note if before is not None and not newer else found.note
        if not misfit(note, Note):
            do(self._job, ops.EditModel(name=found.name, note=note), at)

    def _version(self, model: FoundModel, found: FoundVersion, before: Model | None, what: str) -> tuple[bool, bool]:
        """Whether the version is here, and whether it came or changed now."""
        ref = f"{model.name}@v{found.number}"
        here = self._find(ops.GetVersion(ref=ref)) if before is not None else None
        if here is not None and found.created_at not in (None, here.created_at):
            self._missed.add(what, "that number is another version's here")
            return False, False
        if here is not None:
            if found.updated_at is None or found.updated_at <= here.updated_at:
                return True, False
            self._describe(ref, here, found, what)
            return True, True
        if not self._add(model, found, what):
            return False, False
        self._so_far.versions += 1
        if found.stage in STAGES:
            wanted = ops.StageVersion(ref=ref, stage=cast("Any", found.stage))
            self._porter.attempt(f"{what}: stage", wanted, found.updated_at)
        elif found.updated_at not in (None, found.created_at):
            note = "" if misfit(found.note, Note) else found.note
            do(self._job, ops.EditVersion(ref=ref, note=note), found.updated_at)
        return True, True

    def _describe(self, ref: str, here: Version, found: FoundVersion, what: str) -> None:
        """It was changed at the source since it came."""
        note = here.note if misfit(found.note, Note) else found.note
        stage = found.stage if found.stage in STAGES else "None"
        tags = {name: value for name, value in found.tags.items() if here.tags.get(name) != value}
        if tags := self._porter.texts(tags, f"{what}: tags"):
            self._porter.attempt(f"{what}: tags", ops.TagVersion(ref=ref, set=tags), found.updated_at)
        if stage != here.stage:
            wanted = ops.StageVersion(ref=ref, stage=cast("Any", stage))
            self._porter.attempt(f"{what}: stage", wanted, found.updated_at)
        self._porter.attempt(what, ops.EditVersion(ref=ref, note=note), found.updated_at)

    def _add(self, model: FoundModel, found: FoundVersion, what: str) -> bool:
        place = self._place(found)
        if place == Place() and model.tags.get(PROMPT_TAG) != "true":
            self._missed.add(what, f"its files are not here, only where they are: {bounded(found.location)}")
        if found.status != "READY":
            self._missed.add(what, f"its status {found.status} is not kept")
        if found.user:
            self._missed.add("who made versions", "here it is who imports them")
        wanted = ops.AddVersion(
            name=model.name,
            number=found.number,
            package=place.package,
            run=place.run or found.run or None,
            folder=place.folder,
            source=self._porter.text(found.source, ops.Text, f"{what}: source"),
            location=found.location if place == Place() else "",
            link=self._porter.text(found.link, ops.Text, f"{what}: link"),
            note=self._porter.text(found.note, Note, f"{what}: description"),
            tags=self._porter.texts(found.tags, f"{what}: tags"),
        )
        return self._porter.attempt(what, wanted, found.created_at) is not None

    def _place(self, found: FoundVersion) -> Place:
        for id in (found.package, *packages(found.location, found.source)):
            package = self._here.get(id)
            if package is not None and package.deleted_at is None:
                return Place(package=package.id)
        for run, folder in folders_of_runs(found.location, found.source):
            if not misfit(folder, Folder) and self._has_files(run, folder):
                return Place(run=run, folder=folder)
        return Place()

    def _has_files(self, run: str, folder: str) -> bool:
        if misfit(run, track.RunId):
            return False
        page = self._find(track.ListArtifacts(id=run, folder=folder, limit=1))
        return page is not None and bool(page.artifacts)

    def _aliases(self, found: FoundModel, numbers: set[int], what: str) -> bool:
        changed = False
        for alias, number in sorted(found.aliases.items()):
            why = self._keeps(found.name, alias, number) if number in numbers else f"v{number} is not here"
            if why is None:
                continue
            if why:
                self._missed.add(f"{what}: alias {alias}", why)
                continue
            wanted = ops.PromoteVersion(ref=f"{found.name}@v{number}", to=alias, reason=IMPORTED)
            if self._porter.attempt(f"{what}: alias {alias}", wanted) is not None:
                self._so_far.aliases += 1
                changed = True
        return changed

    def _keeps(self, model: str, alias: str, number: int) -> str | None:
        """Why an alias is left where it points; None if it points there already, empty if it may be moved."""
        if misfit(alias, AliasName):
            return ""
        moves = ask(self._job, ops.ShowHistory(name=model, alias=alias, limit=1)).moves
        if not moves or moves[0].after == number:
            return None if moves else ""
        if moves[0].reason == IMPORTED:
            return ""
        where = f"stays at v{moves[0].after}" if moves[0].after is not None else "stays away"
        return f"it was moved here since, and {where}; the source has v{number}"

    def _find(self, request: Query[T]) -> T | None:
        try:
            return ask(self._job, request)
        except NotFound:
            return None
