"""A folder that MLflow's file store has written: `EXPERIMENT/RUN/{meta.yaml, params, metrics, tags, artifacts}`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tarmac.core.errors import bounded
from tarmac.start import mlruns_models
from tarmac.start.artifacts import Owner, folder_of, of_package, of_run
from tarmac.start.flat_yaml import Flat
from tarmac.start.folders import entries, open_file, walk
from tarmac.start.meta_files import number, read_meta, read_texts
from tarmac.start.source import (
    PARENT_TAG,
    RUN_ID,
    FoundExperiment,
    FoundFile,
    FoundInput,
    FoundModel,
    FoundPackage,
    FoundPoint,
    FoundRun,
    FoundVersion,
    Head,
    Missed,
)

STATUS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
LONGEST_LINE = 4096
NOT_CARRIED = ("traces", "assessments", "issues")


class Mlruns:
    """Experiments in the folder and in its `.trash`."""

    def __init__(self, root: Path, artifacts: Path | None, missed: Missed) -> None:
        self.missed = missed
        self._root = root
        self._artifacts = artifacts
        self._places: dict[str, Path] = {}
        self._runs: dict[str, Path] = {}
        self._packages: dict[str, Path] = {}
        self._models: dict[str, Path] = {}

    def experiments(self) -> list[FoundExperiment]:
        found = []
        for folder in (self._root, self._root / ".trash"):
            for entry in entries(folder, self.missed, folder.name):
                path = Path(entry.path)
                if entry.name == mlruns_models.FOLDER and folder == self._root:
                    continue
                if entry.is_dir(follow_symlinks=False) and (path / "meta.yaml").exists():
                    one = self._experiment(path, in_trash=folder != self._root)
                    if one is not None:
                        found.append(one)
        return found

    def _experiment(self, path: Path, *, in_trash: bool) -> FoundExperiment | None:
        meta = self._meta(path, f"experiment {path.name}")
        if meta is None:
            return None
        name = meta[0].get("name")
        if not name:
            self.missed.add(f"experiment {path.name}", "its meta.yaml has no name")
            return None
        self._places[path.name] = path
        return FoundExperiment(
            id=path.name,
            name=name,
            deleted=in_trash or meta[0].get("lifecycle_stage") == "deleted",
            location=meta[0].get("artifact_location") or "",
            tags=read_texts(path / "tags", f"experiment {name}: tags", self.missed),
            created_at=number(meta[0].get("creation_time")),
            updated_at=number(meta[0].get("last_update_time")),
        )

    def heads(self) -> list[Head]:
        found = []
        for experiment, place in self._places.items():
            for entry in entries(place, self.missed, f"experiment {experiment}"):
                path = Path(entry.path)
                if entry.name in NOT_CARRIED and any(entries(path, self.missed, entry.name)):
                    self.missed.add(f"experiment {experiment}: {entry.name}", "there is no such thing here yet")
                elif entry.is_dir(follow_symlinks=False) and RUN_ID.fullmatch(entry.name):
                    self._runs[entry.name] = path
                    parent = read_texts(path / "tags", f"run {entry.name}: tags", Missed(), only=PARENT_TAG)
                    found.append(Head(entry.name, experiment, parent.get(PARENT_TAG, "")))
                elif entry.name != mlruns_models.FOLDER and (path / "meta.yaml").exists():
                    self.missed.add(f"experiment {experiment}: {entry.name}", "the name is not the id of a run")
        return found

    def run(self, head: Head) -> FoundRun | None:
        path, what = self._runs[head.id], f"run {head.id}"
        meta = self._meta(path, what)
        if meta is None:
            return None
        values = meta[0]
        used = self._linked(path / "inputs", f"{what}: inputs", "MODEL", "source_id")
        made = self._linked(path / "outputs", f"{what}: outputs", "RUN_OUTPUT", "destination_id")
        return FoundRun(
            id=head.id,
            name=values.get("run_name") or values.get("name") or "",
            status=STATUS.get(values.get("status") or "", ""),
            started_at=number(values.get("start_time")),
            ended_at=number(values.get("end_time")),
            deleted=values.get("lifecycle_stage") == "deleted",
            user=values.get("user_id") or "",
            params=read_texts(path / "params", f"{what}: params", self.missed),
            tags=read_texts(path / "tags", f"{what}: tags", self.missed),
            inputs=list(self._inputs(head, path)),
            used=[id for id, _ in used],
            made=made,
        )

    def _linked(self, folder: Path, what: str, kind: str, end: str) -> list[tuple[str, int]]:
        """The logged models that are named in a folder of a run, and the step at which they came."""
        found = []
        for entry in entries(folder, self.missed, what):
            link = self._meta(Path(entry.path), what)
            if link is not None and link[0].get("source_type") == kind:
                found.append((link[0].get(end) or "", number(link[0].get("step")) or 0))
        return found

    def _inputs(self, head: Head, path: Path) -> Iterator[FoundInput]:
        what = f"run {head.id}: inputs"
        for entry in entries(path / "inputs", self.missed, what):
            link = self._meta(Path(entry.path), what)
            if link is None:
                continue
            dataset = link[0].get("source_id") or ""
            if link[0].get("source_type") == "MODEL":
                continue
            if link[0].get("source_type") != "DATASET" or not RUN_ID.fullmatch(dataset):
                self.missed.add(f"{what}: {entry.name}", "not a data set")
                continue
            meta = self._meta(self._places[head.experiment] / "datasets" / dataset, what)
            if meta is not None:
                values = meta[0]
                yield FoundInput(
                    name=values.get("name") or "",
                    digest=values.get("digest") or "",
                    source_type=values.get("source_type") or "",
                    source=values.get("source") or "",
                    schema=values.get("schema"),
                    profile=values.get("profile"),
                    tags={key: value or "" for key, value in link[1].get("tags", {}).items()},
                )

    def points(self, head: Head) -> Iterator[FoundPoint]:
        for key, path in walk(self._runs[head.id] / "metrics", self.missed, f"run {head.id}: metrics"):
            wrong = 0
            try:
                with open_file(path) as file:
                    while line := file.readline(LONGEST_LINE):
                        point = _point(key, line)
                        if point is not None:
                            yield point
                        elif line.strip():
                            wrong += 1
            except OSError as error:
                self.missed.add(f"run {head.id}: metric {key}", f"cannot be read: {error.strerror}")
            if wrong:
                self.missed.add(f"run {head.id}: metric {key}", f"{wrong} lines are not `timestamp value step`")

    def files(self, head: Head) -> Iterator[FoundFile]:
        meta = self._meta(self._runs[head.id], f"run {head.id}: files")
        uri = (meta[0].get("artifact_uri") or "") if meta else ""
        return self._files(of_run(head), uri, self._runs[head.id] / "artifacts")

    def _files(self, owner: Owner, uri: str, own: Path) -> Iterator[FoundFile]:
        folder: Path | None = own
        if not any(entries(own, Missed(), owner.what)):
            if self._artifacts is None and uri.endswith(f"/{owner.places[0]}"):
                return  # it is the folder that is empty
            # what a folder from elsewhere says of other folders of this machine is not believed
            folder = folder_of(owner, uri, self._artifacts, self._root / ".nowhere", self.missed) if uri else None
            if folder is not None and self._artifacts is None:
                self.missed.add(
                    owner.what, f"they lie outside of the folder: {bounded(uri)}; --artifacts names that place"
                )
                return
        if folder is not None:
            for path, file in walk(folder, self.missed, owner.what):
                yield FoundFile(path, partial(open_file, file))

    def packages(self) -> Iterator[FoundPackage]:
        for experiment, place in self._places.items():
            for package, folder in mlruns_models.packages(experiment, place, self.missed):
                self._packages[package.id] = folder
                yield package

    def package_files(self, package: FoundPackage) -> Iterator[FoundFile]:
        return self._files(of_package(package), package.location, self._packages[package.id] / "artifacts")

    def models(self) -> list[FoundModel]:
        found = mlruns_models.models(self._root, self.missed)
        self._models = {model.name: place for model, place in found}
        return [model for model, _ in found]

    def versions(self, model: FoundModel) -> list[FoundVersion]:
        return mlruns_models.versions(model, self._models[model.name], self.missed)

    def close(self) -> None:
        pass

    def _meta(self, folder: Path, what: str) -> tuple[Flat, dict[str, Flat]] | None:
        return read_meta(folder, what, self.missed)


def _point(key: str, line: bytes) -> FoundPoint | None:
    words = line.split()
    if len(words) < 2:
        return None
    try:
        return FoundPoint(key, float(words[1]), int(words[2]) if len(words) > 2 else 0, int(words[0]))
    except ValueError:
        return None
