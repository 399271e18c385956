"""Packages, models, versions and aliases, written as MLflow's logged and registered models."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tarmac.core.digest import digest
from tarmac.registry import operations as ops
from tarmac.registry.records import Model, Package, Version
from tarmac.start.mlflow_file import MlflowFile, as_number
from tarmac.start.source import Missed
from tarmac.start.version_places import folders_of_runs
from tarmac.store.commands import ask
from tarmac.store.job import JobContext
from tarmac.store.records import File
from tarmac.track import operations as track

STATES = {"pending": 1, "ready": 2, "failed": 3}
NO_EXPERIMENT = "0"
AT_ONCE, FILES_AT_ONCE, MOST_FILES = 100, 1000, 100_000


class ModelWriter:
    def __init__(
        self, job: JobContext, file: MlflowFile, missed: Missed, copy: Callable[[File, str, str], None]
    ) -> None:
        self._job = job
        self._file = file
        self._missed = missed
        self._copy = copy
        self._places: dict[str, str] = {}
        """Where the files of packages are in the export."""

    def write(self) -> None:
        models = list(self._models())
        versions = {model.name: list(self._versions(model)) for model in models}
        copies = self._copies_of_runs(version for those in versions.values() for version in those)
        for number, package in enumerate(self._packages()):
            self._job.progress(number, 0, "packages")
            if package.id in copies:
                self._places[package.id] = f"mlflow-artifacts:/{copies[package.id]}"
            else:
                self._package(package)
        self._links()
        for model in models:
            self._model(model, versions[model.name])

    # --- packages ---

    def _packages(self) -> Iterator[Package]:
        cursor: str | None = ""
        while cursor is not None:
            page = ask(self._job, ops.ListPackages(deleted="also", order=["created ASC"], limit=AT_ONCE, cursor=cursor))
            yield from page.packages
            cursor = page.next

    def _copies_of_runs(self, versions: Iterator[Version]) -> dict[str, str]:
        """Packages that are nothing but a folder of a run as it is now, made when that was registered: where it is.

        MLflow's clients register a folder of a run and no logged model, and read it there again."""
        found = {}
        for version in versions:
            if version.package is None or version.package in found:
                continue
            package = ask(self._job, ops.GetPackage(id=version.package))
            if package.kind or package.document or package.params or package.tags or package.metrics:
                continue
            for run, folder in folders_of_runs(version.source, version.location):
                whole = ask(self._job, track.ReadRuns(ids=[run])).runs
                if whole and self._same(package, run, folder):
                    found[package.id] = f"{whole[0].experiment_id}/{run}/artifacts/{folder}".rstrip("/")
                    break
        return found

    def _same(self, package: Package, run: str, folder: str) -> bool:
        prefix = f"{folder}/" if folder else ""
        below: dict[str, str | None] = {}
        after: str | None = prefix[:-1]
        while after is not None and len(below) <= MOST_FILES:
            page = ask(self._job, track.ListArtifacts(id=run, all=True, after=after, limit=FILES_AT_ONCE))
            inside = [one for one in page.artifacts if one.path.startswith(prefix)]
            below.update({one.path.removeprefix(prefix): one.digest for one in inside})
            past = page.artifacts and page.artifacts[-1].path > prefix and not inside
            after = None if past else page.next
        return below == {file.path: file.digest for file in self._files(package)}

    def _files(self, package: Package) -> Iterator[File]:
        after: str | None = ""
        while after is not None:
            page = ask(self._job, ops.ListPackageFiles(id=package.id, after=after))
            yield from page.files
            after = page.next

    def _package(self, package: Package) -> None:
        experiment = package.experiment or NO_EXPERIMENT
        root = f"{experiment}/models/m-{package.id}/artifacts"
        self._places[package.id] = f"mlflow-artifacts:/{root}"
        what = f"package {package.id}"
        if self._file.release != "3":
            self._missed.add("packages that no version refers to", "MLflow 2 has no logged models")
            if package.versions:
                self._copy_files(package, root)
            return
        if self._file.has("logged_models", "model_id", f"m-{package.id}"):
            return  # an earlier try has written it
        if not self._file.has("experiments", "experiment_id", int(experiment)):
            self._missed.add(what, f"its experiment {experiment} is not there any more")
            if package.versions:
                self._copy_files(package, root)
            return
        if package.document:
            self._missed.add(f"{what}: document", "MLflow has no place for it")
        self._copy_files(package, root)
        with self._file.together():
            self._rows(package, int(experiment), what)

    def _copy_files(self, package: Package, root: str) -> None:
        for file in self._files(package):
            self._copy(file, f"{root}/{file.path}", f"package {package.id}")

    def _rows(self, package: Package, experiment: int, what: str) -> None:
        id = f"m-{package.id}"
        self._file.put(
            "logged_models",
            model_id=id,
            experiment_id=experiment,
            name=package.name,
            artifact_location=self._places[package.id],
            creation_timestamp_ms=package.created_at,
            last_updated_timestamp_ms=package.updated_at,
            status=STATES[package.state],
            lifecycle_stage="active" if package.deleted_at is None else "deleted",
            model_type=package.kind,
            source_run_id=package.run,
        )
        for table, word, texts in (
            ("logged_model_params", "param", package.params),
            ("logged_model_tags", "tag", package.tags),
        ):
            columns = ("model_id", "experiment_id", f"{word}_key", f"{word}_value")
            self._file.put_all(table, columns, [(id, experiment, key, value) for key, value in texts.items()])
        for one in package.metrics:
            if not self._file.has("runs", "run_uuid", one.run):
                self._missed.add(f"{what}: metric {one.name}", "MLflow wants a run that measured it, and there is none")
                continue
            value, is_nan = as_number(one.value)
            self._file.put(
                "logged_model_metrics",
                model_id=id,
                metric_name=one.name,
                metric_timestamp_ms=one.at,
                metric_step=one.step,
                metric_value=None if is_nan else value,
                experiment_id=experiment,
                run_id=one.run,
                dataset_name=one.data or None,
                dataset_digest=one.data_digest or None,
            )

    def _links(self) -> None:
        """Which packages runs made or were given."""
        if self._file.release != "3":
            return
        for runs in self._run_ids():
            with self._file.together():
                for link in ask(self._job, ops.ListPackageRuns(runs=runs)).links:
                    id = f"m-{link.package}"
                    if not self._file.has("logged_models", "model_id", id):
                        continue
                    word = link.part.upper()
                    self._file.put(
                        "inputs",
                        input_uuid=digest(f"{link.run}\0{link.package}\0{word}".encode())[:32],
                        source_type=f"RUN_{word}",
                        source_id=link.run,
                        destination_type=f"MODEL_{word}",
                        destination_id=id,
                        step=link.step,
                    )

    def _run_ids(self) -> Iterator[list[str]]:
        cursor: str | None = ""
        while cursor is not None:
            page = ask(self._job, track.ListRuns(deleted="also", columns=[], limit=1000, cursor=cursor))
            if page.runs:
                yield [run.id for run in page.runs]
            cursor = page.next

    # --- models ---

    def _models(self) -> Iterator[Model]:
        cursor: str | None = ""
        while cursor is not None:
            page = ask(self._job, ops.ListModels(order=["name"], limit=AT_ONCE, cursor=cursor))
            yield from page.models
            cursor = page.next

    def _versions(self, model: Model) -> Iterator[Version]:
        cursor: str | None = ""
        while cursor is not None:
            page = ask(
                self._job, ops.ListVersions(model=model.name, order=["number ASC"], limit=AT_ONCE, cursor=cursor)
            )
            yield from page.versions
            cursor = page.next

    def _model(self, model: Model, versions: list[Version]) -> None:
        if self._file.has("registered_models", "name", model.name):
            return
        with self._file.together():
            self._file.put(
                "registered_models",
                name=model.name,
                creation_time=model.created_at,
                last_updated_time=model.updated_at,
                description=model.note,
            )
            rows = [(key, value, model.name) for key, value in model.tags.items()]
            self._file.put_all("registered_model_tags", ("key", "value", "name"), rows)
            for version in versions:
                self._version(model, version)
            there = {version.number for version in versions}
            aliases = [(alias, number, model.name) for alias, number in model.aliases.items() if number in there]
            self._file.put_all("registered_model_aliases", ("alias", "version", "name"), aliases)

    def _version(self, model: Model, version: Version) -> None:
        place = self._places.get(version.package or "", "")
        self._file.put(
            "model_versions",
            name=model.name,
            version=version.number,
            creation_time=version.created_at,
            last_updated_time=version.updated_at,
            description=version.note,
            user_id=None,
            current_stage=version.stage,
            source=version.source or f"models:/m-{version.package}",
            run_id=version.run or "",
            status="FAILED_REGISTRATION" if version.state == "failed" else "READY",
            run_link=version.link,
            storage_location=place or version.location,
        )
        rows = [(key, value, model.name, version.number) for key, value in version.tags.items()]
        self._file.put_all("model_version_tags", ("key", "value", "name", "version"), rows)
