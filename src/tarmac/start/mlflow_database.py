"""The database of an MLflow server. It is opened for reading only, and only its tables are believed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tarmac.core.errors import Invalid, TarmacError
from tarmac.start.artifacts import folder_of, of_package, of_run
from tarmac.start.databases import HINT, Database, decoded
from tarmac.start.folders import open_file, walk
from tarmac.start.source import (
    DELETED_VERSION,
    PARENT_TAG,
    RUN_ID,
    FoundExperiment,
    FoundFile,
    FoundInput,
    FoundMeasure,
    FoundModel,
    FoundPackage,
    FoundPoint,
    FoundRun,
    FoundVersion,
    Head,
    Missed,
)

MAGIC = b"SQLite format 3\x00"
NEEDED = ("experiments", "runs", "params", "metrics", "tags")
NOT_CARRIED = {"trace_info": "traces", "assessments": "assessments", "webhooks": "webhooks"}
STATES = {1: "pending", 2: "ready", 3: "failed"}
LARGEST = 1.7976931348623157e308
"""What MLflow writes into a database for infinity."""


class MlflowDatabase:
    """The tables of any MLflow since 1.0."""

    def __init__(self, database: Database, name: str, base: Path, artifacts: Path | None, missed: Missed) -> None:
        """`base` is what relative paths are relative to, `artifacts` a folder that has the files."""
        self.missed = missed
        self._base = base
        self._artifacts = artifacts
        self._database = database
        self._all = database.all
        self._tables = database.tables()
        if missing := [table for table in NEEDED if table not in self._tables]:
            database.close()
            raise Invalid(f"{name} is no database of MLflow's: it has no table `{missing[0]}`", hint=HINT)

    def experiments(self) -> list[FoundExperiment]:
        for table, what in NOT_CARRIED.items():
            if table in self._tables and self._all(f'SELECT 1 FROM "{table}" LIMIT 1'):  # noqa: S608 - a constant
                self.missed.add(what, "there is no such thing here yet")
        times = "creation_time, last_update_time" if self._has("experiments", "creation_time") else "NULL, NULL"
        found = self._all(
            f"SELECT experiment_id, name, lifecycle_stage, artifact_location, {times} "  # noqa: S608 - a constant
            "FROM experiments ORDER BY 1"
        )
        return [
            FoundExperiment(
                id=_text(id),
                name=_text(name),
                deleted=stage == "deleted",
                location=_text(location),
                tags=self._tags(id),
                created_at=_time(created_at),
                updated_at=_time(updated_at),
            )
            for id, name, stage, location, created_at, updated_at in found
        ]

    def _has(self, table: str, column: str) -> bool:
        try:
            self._all(f"SELECT {column} FROM {table} LIMIT 1")  # noqa: S608 - constants
        except Invalid:
            return False
        return True

    def _tags(self, experiment: Any) -> dict[str, str]:
        if "experiment_tags" not in self._tables:
            return {}
        return self._texts("SELECT key, value FROM experiment_tags WHERE experiment_id = ? ORDER BY key", experiment)

    def heads(self) -> list[Head]:
        found = []
        rows = self._all(
            "SELECT r.run_uuid, r.experiment_id, t.value FROM runs r "
            "LEFT JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = ? ORDER BY r.experiment_id, r.run_uuid",
            PARENT_TAG,
        )
        for id, experiment, parent in rows:
            if isinstance(id, str) and RUN_ID.fullmatch(id):
                found.append(Head(id, _text(experiment), _text(parent)))
            else:
                self.missed.add(f"run {id}", "that is not the id of a run")
        return found

    def run(self, head: Head) -> FoundRun | None:
        rows = self._all(
            "SELECT name, status, start_time, end_time, lifecycle_stage, user_id FROM runs WHERE run_uuid = ?", head.id
        )
        if not rows:
            self.missed.add(f"run {head.id}", "it is gone: somebody deleted it meanwhile")
            return None
        name, status, started_at, ended_at, stage, user = rows[0]
        return FoundRun(
            id=head.id,
            name=_text(name),
            status=_text(status),
            started_at=_time(started_at),
            ended_at=_time(ended_at),
            deleted=stage == "deleted",
            user=_text(user),
            params=self._texts("SELECT key, value FROM params WHERE run_uuid = ? ORDER BY key", head.id),
            tags=self._texts("SELECT key, value FROM tags WHERE run_uuid = ? ORDER BY key", head.id),
            inputs=self._inputs(head),
            used=[id for id, _ in self._links(head, "RUN_INPUT", "MODEL_INPUT")],
            made=self._links(head, "RUN_OUTPUT", "MODEL_OUTPUT"),
        )

    def _inputs(self, head: Head) -> list[FoundInput]:
        if not {"inputs", "input_tags", "datasets"} <= self._tables:
            return []
        rows = self._all(
            "SELECT i.input_uuid, d.name, d.digest, d.dataset_source_type, d.dataset_source, d.dataset_schema, "
            "d.dataset_profile FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id "
            "WHERE i.destination_id = ? AND i.destination_type = 'RUN' AND i.source_type = 'DATASET' "
            "ORDER BY d.name, d.digest",
            head.id,
        )
        return [
            FoundInput(
                name=_text(name),
                digest=_text(digest),
                source_type=_text(kind),
                source=_text(source),
                schema=_text(schema) or None,
                profile=_text(profile) or None,
                tags=self._texts("SELECT name, value FROM input_tags WHERE input_uuid = ? ORDER BY name", id),
            )
            for id, name, digest, kind, source, schema, profile in rows
        ]

    def _links(self, head: Head, run: str, model: str) -> list[tuple[str, int]]:
        """The logged models that a run made or was given. Their table has steps as long as there are logged models."""
        if not {"inputs", "logged_models"} <= self._tables:
            return []
        rows = self._all(
            "SELECT destination_id, step FROM inputs WHERE source_id = ? AND source_type = ? "
            "AND destination_type = ? ORDER BY destination_id",
            head.id,
            run,
            model,
        )
        return [(_text(id), step) for id, step in rows if isinstance(step, int)]

    def points(self, head: Head) -> Iterator[FoundPoint]:
        wrong = 0
        try:
            for key, value, step, at, is_nan in self._database.each(
                "SELECT key, value, step, timestamp, is_nan FROM metrics WHERE run_uuid = ? "
                "ORDER BY key, step, timestamp",
                head.id,
            ):
                if isinstance(value, (int, float)) and isinstance(step, int) and isinstance(at, int):
                    yield FoundPoint(_text(key), math.nan if is_nan else _number(value), step, at)
                else:
                    wrong += 1
        except TarmacError as error:
            self.missed.add(f"run {head.id}: metrics", error.message)
        if wrong:
            self.missed.add(f"run {head.id}: metrics", f"{wrong} points are not numbers")

    def files(self, head: Head) -> Iterator[FoundFile]:
        rows = self._all("SELECT artifact_uri FROM runs WHERE run_uuid = ?", head.id)
        folder = folder_of(of_run(head), _text(rows[0][0]) if rows else "", self._artifacts, self._base, self.missed)
        if folder is not None:
            for path, file in walk(folder, self.missed, f"run {head.id}: files"):
                yield FoundFile(path, partial(open_file, file))

    # --- models ---

    def packages(self) -> Iterator[FoundPackage]:
        if "logged_models" not in self._tables:
            return
        rows = self._all(
            "SELECT model_id, experiment_id, name, artifact_location, creation_timestamp_ms, "
            "last_updated_timestamp_ms, status, lifecycle_stage, model_type, source_run_id FROM logged_models "
            "ORDER BY creation_timestamp_ms, model_id"
        )
        for id, experiment, name, location, created_at, updated_at, status, stage, kind, run in rows:
            yield FoundPackage(
                id=_text(id),
                experiment=_text(experiment),
                name=_text(name),
                kind=_text(kind),
                state=STATES.get(status, ""),
                run=_text(run),
                created_at=_time(created_at),
                updated_at=_time(updated_at),
                deleted=stage == "deleted",
                location=_text(location),
                params=self._texts(
                    "SELECT param_key, param_value FROM logged_model_params WHERE model_id = ? ORDER BY param_key", id
                ),
                tags=self._texts(
                    "SELECT tag_key, tag_value FROM logged_model_tags WHERE model_id = ? ORDER BY tag_key", id
                ),
                measures=self._measures(id),
            )

    def _measures(self, id: Any) -> list[FoundMeasure]:
        rows = self._all(
            "SELECT metric_name, metric_value, metric_step, metric_timestamp_ms, run_id, dataset_name, dataset_digest "
            "FROM logged_model_metrics WHERE model_id = ? ORDER BY metric_name, metric_timestamp_ms, metric_step",
            id,
        )
        return [
            FoundMeasure(
                _text(key),
                math.nan if value is None else _number(value),
                step,
                at,
                _text(run),
                _text(data),
                _text(digest),
            )
            for key, value, step, at, run, data, digest in rows
            if isinstance(value, (int, float, type(None))) and isinstance(step, int) and isinstance(at, int)
        ]

    def package_files(self, package: FoundPackage) -> Iterator[FoundFile]:
        folder = folder_of(of_package(package), package.location, self._artifacts, self._base, self.missed)
        if folder is not None:
            for path, file in walk(folder, self.missed, f"logged model {package.id}: files"):
                yield FoundFile(path, partial(open_file, file))

    def models(self) -> list[FoundModel]:
        if "registered_models" not in self._tables:
            return []
        rows = self._all(
            "SELECT name, description, creation_time, last_updated_time FROM registered_models ORDER BY name"
        )
        return [
            FoundModel(
                name=_text(name),
                note=_text(note),
                created_at=_time(created_at),
                updated_at=_time(updated_at),
                tags=self._of_model("registered_model_tags", "key, value", name),
                aliases={
                    alias: int(number) if number.isascii() and number.isdecimal() else 0  # no version's number
                    for alias, number in self._of_model("registered_model_aliases", "alias, version", name).items()
                },
            )
            for name, note, created_at, updated_at in rows
        ]

    def _of_model(self, table: str, columns: str, name: Any) -> dict[str, str]:
        if table not in self._tables:
            return {}
        return self._texts(f"SELECT {columns} FROM {table} WHERE name = ? ORDER BY 1", name)  # noqa: S608 - constants

    def versions(self, model: FoundModel) -> list[FoundVersion]:
        stored = "storage_location" if self._has("model_versions", "storage_location") else "NULL"
        link = "run_link" if self._has("model_versions", "run_link") else "NULL"
        rows = self._all(
            f"SELECT version, source, {stored}, run_id, {link}, description, current_stage, status, "  # noqa: S608
            "user_id, creation_time, last_updated_time FROM model_versions WHERE name = ? AND current_stage <> ? "
            "ORDER BY version",
            model.name,
            DELETED_VERSION,
        )
        has_tags = "model_version_tags" in self._tables
        return [
            FoundVersion(
                number=number,
                source=_text(source),
                location=_text(location) or _text(source),
                package="",
                run=_text(run),
                link=_text(link),
                note=_text(note),
                stage=_text(stage),
                status=_text(status),
                user=_text(user),
                created_at=_time(created_at),
                updated_at=_time(updated_at),
                tags=self._texts(
                    "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ? ORDER BY key",
                    model.name,
                    number,
                )
                if has_tags
                else {},
            )
            for number, source, location, run, link, note, stage, status, user, created_at, updated_at in rows
            if self._is_number(number, f"model {model.name}: version {number}")
        ]

    def _is_number(self, value: Any, what: str) -> bool:
        if isinstance(value, int) and value > 0:
            return True
        self.missed.add(what, "that is not the number of a version")
        return False

    def close(self) -> None:
        self._database.close()

    def _texts(self, sql: str, *keys: Any) -> dict[str, str]:
        return {_text(name): _text(value) for name, value in self._all(sql, *keys)}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return decoded(value)
    return "" if value is None else str(value)


def _time(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= 2**62 else None


def _number(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else float(value)
