"""The folder that an export fills: its own from the first moment, and nobody's to be written over."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.core.locks import FileLock
from tarmac.start.operations import Release
from tarmac.store.blobs.folder import translate

MARK = "tarmac-export.json"
LOCK = "tarmac-export.lock"
DATABASE, UNFINISHED = "mlflow.db", "mlflow.db.part"
ARTIFACTS = "artifacts"
FORMAT = 1
UNFIT = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ)
"""What is wrong with one name, and says nothing about the next."""


class Mark(msgspec.Struct):
    """Whose folder it is, and whether all is in it."""

    format: int
    project: str
    release: str
    job: str
    finished: bool


class ExportFolder:
    def __init__(self, place: str, project: str, release: Release, job: str) -> None:
        self.path = Path(place).absolute()
        self._mark = Mark(format=FORMAT, project=project, release=release, job=job, finished=False)
        try:
            self._take()
        except OSError as error:
            raise translate(error, self.path) from error

    @property
    def database(self) -> Path:
        return self.path / UNFINISHED

    def _take(self) -> None:
        """Make the folder, or go on in one that an export has left unfinished. All else is left alone."""
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise Conflict(f"{bounded(self.path, 300)} is no folder", hint="name a folder that is not there yet")
        self.path.mkdir(parents=True, exist_ok=True)
        before = self._before()
        if before is None and any(entry.name != LOCK for entry in self.path.iterdir()):
            raise Conflict(
                f"{bounded(self.path, 300)} is not empty, and not of an export: nothing in it was touched",
                hint="name a folder that is not there yet",
            )
        if before is not None and before.finished:
            raise Conflict(
                f"{bounded(self.path, 300)} has a whole export, which may be in use: nothing in it was touched",
                hint="name another folder, or delete this one first",
            )
        if before is not None and (before.project, before.release) != (self._mark.project, self._mark.release):
            raise Conflict(
                f"{bounded(self.path, 300)} has an unfinished export of project `{bounded(before.project)}` "
                f"for MLflow {bounded(before.release)}",
                hint="name another folder",
            )
        self._lock = FileLock(self.path / LOCK)
        if not self._lock.acquire(wait=False):
            self._lock.close()
            raise Conflict(
                f"another export is writing to {bounded(self.path, 300)}", hint="wait for it: `tarmac jobs ls`"
            )
        if before is not None and before.job != self._mark.job:  # what that one had written may be outdated
            for name in (UNFINISHED, f"{UNFINISHED}-journal"):
                (self.path / name).unlink(missing_ok=True)
        self._write_mark()

    def _before(self) -> Mark | None:
        try:
            return msgspec.json.decode((self.path / MARK).read_bytes(), type=Mark)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise Invalid(f"{bounded(self.path / MARK, 300)} is damaged: {error}", hint="name another folder") from None

    def _write_mark(self) -> None:
        part = self.path / f"{MARK}.part"
        part.write_bytes(msgspec.json.encode(self._mark))
        part.replace(self.path / MARK)

    def write(self, place: str, parts: Iterable[bytes]) -> None:
        """A file below `artifacts`. What an unfinished export left there is its own."""
        path = self.path / ARTIFACTS / place
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            with path.open("xb") as file:
                for part in parts:
                    file.write(part)
        except OSError as error:
            if error.errno in UNFIT:
                raise Invalid(f"it cannot be a file here: {error.strerror}") from None
            raise translate(error, path) from error

    def finish(self) -> None:
        """From now on MLflow may open it, and no export goes on in it."""
        try:
            (self.path / ARTIFACTS).mkdir(exist_ok=True)
            self.database.replace(self.path / DATABASE)
            self._mark.finished = True
            self._write_mark()
        except OSError as error:
            raise translate(error, self.path) from error

    def close(self) -> None:
        self._lock.release()
        self._lock.close()


def refuse_nowhere(place: str) -> None:
    """What is no path of this machine."""
    if "://" in place:
        raise Invalid(
            f"{bounded(place, 300)} cannot be written to",
            hint="name a folder; `mlflow server` serves it, and whatever reads an MLflow database reads it",
        )
