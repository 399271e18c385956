"""Models in MLflow's file store: `models/NAME/version-N` beside the experiments, `EXPERIMENT/models/m-ID` in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tarmac.start.folders import entries, open_file, walk
from tarmac.start.meta_files import number, read_meta, read_texts
from tarmac.start.source import (
    DELETED_VERSION,
    PACKAGE_ID,
    FoundMeasure,
    FoundModel,
    FoundPackage,
    FoundVersion,
    Missed,
)

FOLDER = "models"
STATES = {"1": "pending", "2": "ready", "3": "failed"}
LONGEST_LINE = 4096
_VERSION = re.compile(r"version-(\d{1,18})")


def packages(experiment: str, place: Path, missed: Missed) -> Iterator[tuple[FoundPackage, Path]]:
    """The logged models of an experiment, each with its folder."""
    for entry in entries(place / FOLDER, missed, f"experiment {experiment}: models"):
        path, what = Path(entry.path), f"logged model {entry.name}"
        if PACKAGE_ID.fullmatch(entry.name) is None:
            missed.add(f"experiment {experiment}: models: {entry.name}", "the name is not the id of a logged model")
            continue
        meta = read_meta(path, what, missed)
        if meta is None:
            continue
        values = meta[0]
        package = FoundPackage(
            id=entry.name,
            experiment=experiment,
            name=values.get("name") or "",
            kind=values.get("model_type") or "",
            state=STATES.get(values.get("status") or "", ""),
            run=values.get("source_run_id") or "",
            created_at=number(values.get("creation_timestamp")),
            updated_at=number(values.get("last_updated_timestamp")),
            deleted=values.get("lifecycle_stage") == "deleted",
            location=values.get("artifact_location") or "",
            params=read_texts(path / "params", f"{what}: params", missed),
            tags=read_texts(path / "tags", f"{what}: tags", missed),
            measures=list(_measures(path / "metrics", what, missed)),
        )
        yield package, path


def _measures(folder: Path, what: str, missed: Missed) -> Iterator[FoundMeasure]:
    for key, path in walk(folder, missed, f"{what}: metrics"):
        wrong = 0
        try:
            with open_file(path) as file:
                while line := file.readline(LONGEST_LINE):
                    measure = _measure(key, line)
                    if measure is not None:
                        yield measure
                    elif line.strip():
                        wrong += 1
        except OSError as error:
            missed.add(f"{what}: metric {key}", f"cannot be read: {error.strerror}")
        if wrong:
            missed.add(f"{what}: metric {key}", f"{wrong} lines are not `timestamp value step run`")


def _measure(key: str, line: bytes) -> FoundMeasure | None:
    words = line.split()
    try:
        at, value, step, *about = words
        run, data, digest = (word.decode() for word in [*about, b"", b"", b""][:3])
        return FoundMeasure(key, float(value), int(step), int(at), run, data, digest)
    except ValueError:
        return None


def models(root: Path, missed: Missed) -> list[tuple[FoundModel, Path]]:
    found = []
    for entry in entries(root / FOLDER, missed, FOLDER):
        path, what = Path(entry.path), f"model {entry.name}"
        if not entry.is_dir(follow_symlinks=False):
            continue
        meta = read_meta(path, what, missed)
        if meta is None:
            continue
        values = meta[0]
        aliases = {}
        for alias, text in read_texts(path / "aliases", f"{what}: aliases", missed).items():
            if (points_to := number(text.strip())) is not None:
                aliases[alias] = points_to
            else:
                missed.add(f"{what}: alias {alias}", "what it points to is not the number of a version")
        model = FoundModel(
            name=values.get("name") or entry.name,
            note=values.get("description") or "",
            created_at=number(values.get("creation_timestamp")),
            updated_at=number(values.get("last_updated_timestamp")),
            tags=read_texts(path / "tags", f"{what}: tags", missed),
            aliases=aliases,
        )
        found.append((model, path))
    return found


def versions(model: FoundModel, place: Path, missed: Missed) -> list[FoundVersion]:
    found = []
    for entry in entries(place, missed, f"model {model.name}"):
        named = _VERSION.fullmatch(entry.name)
        if named is None:
            continue
        path, what = Path(entry.path), f"model {model.name}: version {named[1]}"
        meta = read_meta(path, what, missed)
        if meta is None or meta[0].get("current_stage") == DELETED_VERSION:
            continue
        values = meta[0]
        source = values.get("source") or ""
        found.append(
            FoundVersion(
                number=int(named[1]),
                source=source,
                location=values.get("storage_location") or source,
                package=values.get("model_id") or "",
                run=values.get("run_id") or "",
                link=values.get("run_link") or "",
                note=values.get("description") or "",
                stage=values.get("current_stage") or "",
                status=values.get("status") or "",
                user=values.get("user_id") or "",
                created_at=number(values.get("creation_timestamp")),
                updated_at=number(values.get("last_updated_timestamp")),
                tags=read_texts(path / "tags", f"{what}: tags", missed),
            )
        )
    return sorted(found, key=lambda version: version.number)
