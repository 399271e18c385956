"""A SQLite database that MLflow has written. It is opened for reading only, and only its tables are believed."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tarmac.core.errors import Invalid, bounded
from tarmac.start.artifacts import folder_of
from tarmac.start.folders import open_file, walk
from tarmac.start.mlruns import NO_REGISTRY
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

MAGIC = b"SQLite format 3\x00"
NEEDED = ("experiments", "runs", "params", "metrics", "tags")
NOT_CARRIED = {
    "registered_models": ("registered models", NO_REGISTRY),
    "trace_info": ("traces", "only experiments and runs are carried"),
    "logged_models": ("logged models", "only experiments and runs are carried"),
}
LARGEST = 1.7976931348623157e308
"""What MLflow writes into a database for infinity."""


class MlflowDatabase:
    """`mlflow.db`, of any MLflow since 1.0."""

    def __init__(self, file: Path, artifacts: Path | None, missed: Missed) -> None:
        self.missed = missed
        self._base = file.absolute().parent
        self._artifacts = artifacts
        try:
            self._connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise Invalid(f"{bounded(file)} cannot be opened: {error}") from None
        self._connection.text_factory = _decoded
        self._connection.execute("PRAGMA trusted_schema = OFF")
        self._tables = {name for (name,) in self._all("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if missing := [table for table in NEEDED if table not in self._tables]:
            self._connection.close()
            raise Invalid(
                f"{bounded(file)} is no database of MLflow's: it has no table `{missing[0]}`",
                hint="an old one is brought up to date by `mlflow db upgrade`",
            )

    def experiments(self) -> list[FoundExperiment]:
        for table, (what, why) in NOT_CARRIED.items():
            if table in self._tables and self._all(f'SELECT 1 FROM "{table}" LIMIT 1'):  # noqa: S608 - a constant
                self.missed.add(what, why)
        found = self._all("SELECT experiment_id, name, lifecycle_stage, artifact_location FROM experiments ORDER BY 1")
        return [
            FoundExperiment(
                id=_text(id),
                name=_text(name),
                deleted=stage == "deleted",
                location=_text(location),
                tags=self._tags(id),
            )
            for id, name, stage, location in found
        ]

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

    def points(self, head: Head) -> Iterator[FoundPoint]:
        wrong = 0
        try:
            with contextlib.closing(self._connection.cursor()) as cursor:
                cursor.execute(
                    "SELECT key, value, step, timestamp, is_nan FROM metrics WHERE run_uuid = ? "
                    "ORDER BY key, step, timestamp",
                    (head.id,),
                )
                for key, value, step, at, is_nan in cursor:
                    if isinstance(value, (int, float)) and isinstance(step, int) and isinstance(at, int):
                        yield FoundPoint(_text(key), math.nan if is_nan else _number(value), step, at)
                    else:
                        wrong += 1
        except sqlite3.Error as error:
            self.missed.add(f"run {head.id}: metrics", f"the database cannot be read: {error}")
        if wrong:
            self.missed.add(f"run {head.id}: metrics", f"{wrong} points are not numbers")

    def files(self, head: Head) -> Iterator[FoundFile]:
        rows = self._all("SELECT artifact_uri FROM runs WHERE run_uuid = ?", head.id)
        folder = folder_of(head, _text(rows[0][0]) if rows else "", self._artifacts, self._base, self.missed)
        if folder is not None:
            for path, file in walk(folder, self.missed, f"run {head.id}: files"):
                yield FoundFile(path, partial(open_file, file))

    def close(self) -> None:
        self._connection.close()

    def _texts(self, sql: str, key: Any) -> dict[str, str]:
        return {_text(name): _text(value) for name, value in self._all(sql, key)}

    def _all(self, sql: str, *values: Any) -> list[Any]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise Invalid(
                f"the database cannot be read: {error}", hint="an old one is brought up to date by `mlflow db upgrade`"
            ) from None


def _decoded(data: bytes) -> str:
    """Bytes that are no UTF-8 become what no rule lets through, and are reported where they stand."""
    return data.decode("utf-8", "surrogateescape")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return _decoded(value)
    return "" if value is None else str(value)


def _time(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= 2**62 else None


def _number(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) >= LARGEST else float(value)
