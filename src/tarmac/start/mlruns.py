"""A folder that MLflow's file store has written: `EXPERIMENT/RUN/{meta.yaml, params, metrics, tags, artifacts}`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tarmac.core.errors import Invalid, TarmacError, bounded
from tarmac.start import flat_yaml
from tarmac.start.artifacts import folder_of
from tarmac.start.flat_yaml import Flat
from tarmac.start.folders import entries, open_file, walk
from tarmac.start.source import (
    PARENT_TAG,
    RUN_ID,
    FoundExperiment,
    FoundFile,
    FoundInput,
    FoundPoint,
    FoundRun,
    Head,
    Missed,
)

STATUS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
LONGEST_TEXT = 4_000_000
LONGEST_LINE = 4096
NO_REGISTRY = "models are not carried yet: only experiments and runs are"


class Mlruns:
    """Experiments in the folder and in its `.trash`."""

    def __init__(self, root: Path, artifacts: Path | None, missed: Missed) -> None:
        self.missed = missed
        self._root = root
        self._artifacts = artifacts
        self._places: dict[str, Path] = {}
        self._runs: dict[str, Path] = {}

    def experiments(self) -> list[FoundExperiment]:
        found = []
        for folder in (self._root, self._root / ".trash"):
            for entry in entries(folder, self.missed, folder.name):
                path = Path(entry.path)
                if entry.name == "models" and folder == self._root:
                    if any(entries(path, self.missed, "models")):
                        self.missed.add("registered models", NO_REGISTRY)
                elif entry.is_dir(follow_symlinks=False) and (path / "meta.yaml").exists():
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
            tags=self._texts(path / "tags", f"experiment {name}: tags"),
        )

    def heads(self) -> list[Head]:
        found = []
        for experiment, place in self._places.items():
            for entry in entries(place, self.missed, f"experiment {experiment}"):
                path = Path(entry.path)
                if entry.name in ("traces", "models") and any(entries(path, self.missed, entry.name)):
                    self.missed.add(f"experiment {experiment}: {entry.name}", "only experiments and runs are carried")
                elif entry.is_dir(follow_symlinks=False) and RUN_ID.fullmatch(entry.name):
                    self._runs[entry.name] = path
                    parent = self._texts(path / "tags", f"run {entry.name}: tags", only=PARENT_TAG, silent=True)
                    found.append(Head(entry.name, experiment, parent.get(PARENT_TAG, "")))
                elif (path / "meta.yaml").exists():
                    self.missed.add(f"experiment {experiment}: {entry.name}", "the name is not the id of a run")
        return found

    def run(self, head: Head) -> FoundRun | None:
        path, what = self._runs[head.id], f"run {head.id}"
        meta = self._meta(path, what)
        if meta is None:
            return None
        values = meta[0]
        tags = self._texts(path / "tags", f"{what}: tags")
        return FoundRun(
            id=head.id,
            name=values.get("run_name") or values.get("name") or "",
            status=STATUS.get(values.get("status") or "", ""),
            started_at=_number(values.get("start_time")),
            ended_at=_number(values.get("end_time")),
            deleted=values.get("lifecycle_stage") == "deleted",
            user=values.get("user_id") or "",
            params=self._texts(path / "params", f"{what}: params"),
            tags=tags,
            inputs=list(self._inputs(head, path)),
        )

    def _inputs(self, head: Head, path: Path) -> Iterator[FoundInput]:
        what = f"run {head.id}: inputs"
        for entry in entries(path / "inputs", self.missed, what):
            link = self._meta(Path(entry.path), what)
            if link is None:
                continue
            dataset = link[0].get("source_id") or ""
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
        what = f"run {head.id}: files"
        folder: Path | None = self._runs[head.id] / "artifacts"
        if not any(entries(self._runs[head.id] / "artifacts", Missed(), what)):
            meta = self._meta(self._runs[head.id], what)
            uri = (meta[0].get("artifact_uri") or "") if meta else ""
            if self._artifacts is None and uri.endswith(f"/{head.experiment}/{head.id}/artifacts"):
                return  # it is the folder that is empty
            # what a folder from elsewhere says of other folders of this machine is not believed
            folder = folder_of(head, uri, self._artifacts, self._root / ".nowhere", self.missed) if uri else None
            if folder is not None and self._artifacts is None:
                self.missed.add(what, f"they lie outside of the folder: {bounded(uri)}; --artifacts names that place")
                return
        if folder is not None:
            for path, file in walk(folder, self.missed, what):
                yield FoundFile(path, partial(open_file, file))

    def close(self) -> None:
        pass

    def _meta(self, folder: Path, what: str) -> tuple[Flat, dict[str, Flat]] | None:
        try:
            with open_file(folder / "meta.yaml") as file:
                data = file.read(flat_yaml.LARGEST + 1)
            if len(data) > flat_yaml.LARGEST:
                raise Invalid("too large")
            return flat_yaml.read(data.decode())
        except (OSError, UnicodeDecodeError) as error:
            self.missed.add(what, f"meta.yaml cannot be read: {error}")
        except TarmacError as error:
            self.missed.add(what, f"meta.yaml: {error.message}")
        return None

    def _texts(self, folder: Path, what: str, only: str = "", *, silent: bool = False) -> dict[str, str]:
        """What each file of a folder says, by its path."""
        missed = Missed() if silent else self.missed
        found = {}
        for key, path in walk(folder, missed, what):
            if only and key != only:
                continue
            try:
                with open_file(path) as file:
                    data = file.read(LONGEST_TEXT + 1)
                if len(data) > LONGEST_TEXT:
                    raise Invalid("too long")
                found[key] = data.decode()
            except (OSError, UnicodeDecodeError) as error:
                missed.add(f"{what}: {key}", f"cannot be read: {error}")
            except Invalid as error:
                missed.add(f"{what}: {key}", error.message)
        return found


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 19 else None


def _point(key: str, line: bytes) -> FoundPoint | None:
    words = line.split()
    if len(words) < 2:
        return None
    try:
        return FoundPoint(key, float(words[1]), int(words[2]) if len(words) > 2 else 0, int(words[0]))
    except ValueError:
        return None
