"""What all parts of an import do with what they find: write it by a command, or leave it out and say why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import msgspec

from tarmac.core.errors import Conflict, Invalid, NotFound, Refused, TooLarge
from tarmac.core.names import Name, Note, RelativePath, Value
from tarmac.start.source import FoundFile, Missed
from tarmac.store.blobs.keeping import keep
from tarmac.store.commands import do
from tarmac.store.job import JobContext
from tarmac.store.records import File

NOTE_TAG = "mlflow.note.content"
REFUSED = (Conflict, Invalid, NotFound, Refused, TooLarge)
"""What is wrong with one thing and says nothing about the next."""
T = TypeVar("T")


class Porter:
    def __init__(self, job: JobContext, missed: Missed) -> None:
        self.job = job
        self.missed = missed

    def attempt(self, what: str, request: Any, as_of: int | None = None) -> Any:
        """What came of it, or None if it was refused, which is reported."""
        try:
            return do(self.job, request, as_of)
        except REFUSED as error:
            self.missed.add(what, error.message)
            return None

    def kept(self, files: Iterable[FoundFile], what: str) -> Iterator[File]:
        """The files whose bytes are in the blob store now."""
        for found in files:
            if wrong := misfit(found.path, RelativePath):
                self.missed.add(f"{what}: file {found.path}", wrong)
            elif (file := self._keep(found, what)) is not None:
                yield file

    def _keep(self, found: FoundFile, what: str) -> File | None:
        job = self.job
        try:
            with found.open() as stream:
                stored = job.store.blobs.put(stream)
        except (OSError, *REFUSED) as error:
            self.missed.add(f"{what}: file {found.path}", f"cannot be read: {error}")
            return None
        keep(job.store, stored, job.project, job.project_name, job.actor)
        return File(path=found.path, digest=stored.digest, size=stored.size)

    def texts(self, found: dict[str, str], what: str) -> dict[str, str]:
        kept = {}
        for key, value in found.items():
            if wrong := misfit(key, Name) or misfit(value, Value):
                self.missed.add(f"{what}: {key}", wrong)
            else:
                kept[key] = value
        return kept

    def note(self, tags: dict[str, str], what: str) -> str:
        """The note, which is no tag here; one that is too long stays a tag."""
        wrong = misfit(tags.get(NOTE_TAG, ""), Note)
        if wrong:
            self.missed.add(f"{what}: note", f"{wrong}; it is kept as the tag {NOTE_TAG}")
            return ""
        return tags.pop(NOTE_TAG, "")

    def text(self, found: str, type: Any, what: str) -> str:
        """A text if it fits where it belongs, else none."""
        if wrong := misfit(found, type):
            self.missed.add(what, wrong)
            return ""
        return found


def misfit(value: str, type: Any) -> str:
    """Why a text cannot be kept as what it is; empty if it can."""
    try:
        msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        described = next((meta.description for meta in type.__metadata__ if meta.description), None)
        return f"not {described}" if described else str(error)
    return ""


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while portion := list(islice(rest, size)):
        yield portion
