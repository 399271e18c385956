"""The bytes of what is measured: read once from the store, each verified, in a folder that is gone afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tarmac.core.errors import NotFound, Refused, TarmacError
from tarmac.core.expressions import Path as Named
from tarmac.registry.records import Fact
from tarmac.store.blobs import keeping
from tarmac.store.job import JobContext
from tarmac.store.records import File


@dataclass(slots=True)
class Found:
    """What came of measuring: a value for each fact, or why there is none; and what the card draws."""

    facts: dict[Named, Fact] = field(default_factory=dict)
    unknown: dict[Named, str] = field(default_factory=dict)
    pictures: dict[str, Any] = field(default_factory=dict)


class Bytes:
    """Where files are brought to, and with which SHA-256 they came."""

    def __init__(self, job: JobContext, place: Path) -> None:
        self._job = job
        self._place = place
        self._sha: dict[str, dict[str, str]] = {}

    def folder(self, name: str, files: Sequence[File]) -> Path:
        """The files below a folder of their own; what is gone or damaged is refused by name."""
        folder = self._place / name
        if name in self._sha:
            return folder
        folder.mkdir()
        sums: dict[str, str] = {}
        for file in files:
            sums[file.path] = self._bring(file, folder)
        self._sha[name] = sums
        return folder

    def sha256(self, name: str) -> dict[str, str]:
        return self._sha[name]

    def _bring(self, file: File, folder: Path) -> str:
        job = self._job
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        hasher = hashlib.sha256()
        try:
            blob = keeping.find(job.store, file.digest, job.project, job.project_name, job.actor)
            with target.open("xb") as opened:
                for piece in job.store.blobs.read(blob.digest, blob.place, blob.size, blob.blocks, 0, blob.size):
                    hasher.update(piece)
                    opened.write(piece)
        except NotFound:
            raise Refused(f"the bytes of `{file.path}` are gone") from None
        except TarmacError as error:
            raise Refused(f"the bytes of `{file.path}` cannot be read: {error.message}") from None
        return hasher.hexdigest()
