"""Results of steps as they are found again: looked up, verified, laid down as files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from tarmac.core.digest import digest_file
from tarmac.core.errors import Busy, Damaged, Unreachable
from tarmac.core.ids import short
from tarmac.flow import typed
from tarmac.flow.keeping import Door
from tarmac.flow.operations import FindResults, ListItems, NewestResults, ReadCode
from tarmac.flow.records import CodePart, Leaf, Output, StepResult

T = TypeVar("T")
AT_ONCE = 500
PATIENCE_SECONDS = 90.0


class Gone(Exception):
    """A result whose bytes are not there any more, or not what they were: it is made again."""

    node = ""


class Results:
    """What is known of earlier runs."""

    def __init__(self, door: Door, folder: Path, actor: str | None) -> None:
        """`actor` is whose pickles may be read: nobody's, unless the workspace is a folder of ours."""
        self._door = door
        self.folder = folder
        self._actor = actor
        self._newest: dict[str, StepResult] = {}
        self._by_key: dict[str, StepResult] = {}

    def load(self, pipeline: str) -> None:
        """The newest result of each node, at once."""
        after = ""
        while True:
            page = patiently(lambda: self._door(NewestResults(pipeline=pipeline, after=after)))  # noqa: B023
            for result in page.results:
                self._newest[result.node] = result
                self._by_key[result.key] = result
            if page.next is None:
                return
            after = page.next

    def newest(self, node: str) -> StepResult | None:
        return self._newest.get(node)

    def find(self, keys: Iterable[str]) -> dict[str, StepResult]:
        """Those of them that may be used."""
        wanted = list(keys)
        missing = [key for key in wanted if key not in self._by_key]
        for start in range(0, len(missing), AT_ONCE):
            part = missing[start : start + AT_ONCE]
            for result in patiently(lambda: self._door(FindResults(keys=part))).results:  # noqa: B023
                self._by_key[result.key] = result
        found = {key: self._by_key[key] for key in wanted if key in self._by_key}
        return {key: result for key, result in found.items() if not result.not_kept and self.trusted(result)}

    def trusted(self, result: StepResult) -> bool:
        """A pickle runs code when it is read: only our own are."""
        return result.actor == self._actor or not any(output.pickled for output in result.outputs)

    def forget(self, key: str) -> None:
        self._by_key.pop(key, None)

    def items(self, group: str) -> dict[str, Output]:
        """What was made of the items of one `each`, by their keys."""
        found: dict[str, Output] = {}
        after = ""
        while True:
            page = patiently(lambda: self._door(ListItems(group=group, after=after, limit=20_000)))  # noqa: B023
            found.update({item.key: item.output for item in page.items})
            if page.next is None:
                return found
            after = page.next

    def texts(self, digests: list[str]) -> dict[str, CodePart]:
        """The code that results were made by."""
        found = patiently(lambda: self._door(ReadCode(digests=digests[:AT_ONCE])))
        return {part.digest: part for part in found.parts}

    def value(self, output: Output) -> Any:
        try:
            return typed.unpack(output, self.fetch, self.placed)
        except Damaged as error:
            raise Gone(str(error)) from error
        except (ImportError, AttributeError) as error:
            raise Gone(f"it is of a class that is not there any more: {error}") from error

    def fetch(self, digest: str) -> bytes:
        from tarmac.core.errors import NotFound

        try:
            return patiently(lambda: b"".join(self._door.read(digest)))
        except (NotFound, Damaged) as error:
            raise Gone(str(error)) from error

    def placed(self, leaf: Leaf) -> Path:
        """Files of a result, where a program can open them; each content has a place of its own."""
        from blake3 import blake3

        from tarmac.flow.steps import File

        name = blake3("".join(f"{file.path}\0{file.digest}\n" for file in leaf.files).encode()).hexdigest()
        place = self.folder / name[:2] / name / leaf.name
        wanted = [(place / file.path if leaf.codec == "folder" else place, file) for file in leaf.files]
        if not all(path.is_file() and digest_file(path) == file.digest for path, file in wanted):
            partial = place.parent.with_name(f"{name}.{short()}")
            try:
                for path, file in wanted:
                    target = partial / path.relative_to(place.parent)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(self.fetch(file.digest))
                if not wanted:
                    (partial / leaf.name).mkdir(parents=True)
                shutil.rmtree(place.parent, ignore_errors=True)
                partial.rename(place.parent)
            except FileExistsError:
                pass  # another run has laid it down in this moment
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return File(place)


def patiently(do: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """Again, while nobody answers, so long at most."""
    until, pause = time.monotonic() + seconds, 0.1
    while True:
        try:
            return do()
        except (Unreachable, Busy):
            if time.monotonic() + pause > until:
                raise
            time.sleep(pause)
            pause = min(pause * 1.6, 3.0)
