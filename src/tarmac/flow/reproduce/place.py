"""The clean folder: the run's source, a workspace of its own, an empty home. What runs there knows of nothing else."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tarmac
from tarmac.core.actor import Actor, os_user
from tarmac.core.errors import Damaged, NotFound
from tarmac.core.settings import Settings
from tarmac.flow.reproduce.needs import Needs
from tarmac.flow.reproduce.packages import PLAIN, python_of
from tarmac.flow.reproduce.records import Cause
from tarmac.store import Store, create, manifests
from tarmac.store.blobs import rows as blobs
from tarmac.store.folder import WorkspaceFolder
from tarmac.store.job import JobContext
from tarmac.store.sql import Reader

AT_ONCE = 1000
MOST_NAMED = 20


@dataclass
class Aside:
    """An open workspace: what `store.commands.do` asks of a job, and a way to read. That of a clean folder, mostly."""

    store: Store
    actor: Actor
    project: int
    project_name: str

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        with self.store.database.read() as connection:
            yield Reader(connection, self.store.names, self.project, self.project_name, self.actor)

    def bytes_of(self, read: Reader, digest: str) -> Iterator[bytes]:
        blob = blobs.find(read, digest)
        return self.store.blobs.read(blob.digest, blob.place, blob.size, blob.blocks, 0, blob.size)


def of_job(job: JobContext) -> Aside:
    """The workspace that the run lies in."""
    return Aside(job.store, job.actor, job.project, job.project_name)


class Place:
    """One clean folder."""

    def __init__(self, folder: Path, needs: Needs) -> None:
        self.folder = folder
        self.needs = needs
        self.tree = folder / "here" / needs.top
        self.cwd = folder / "here" / needs.folder

    def fill(self, job: JobContext) -> list[Cause]:
        """Bring the source, and nothing of a time before; what of it is gone or damaged."""
        for name in ("here", "home", "tmp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        found, after = [], ""
        while True:
            job.progress(0, 0, "fetches the source")
            with of_job(job).reading() as read:
                page = manifests.files(read, self.needs.source, after, AT_ONCE)
                for file in page:
                    try:
                        self._fetch(of_job(job).bytes_of(read, file.digest), self.tree / file.path)
                    except (Damaged, NotFound) as error:
                        found.append(Cause(kind="source", what=f"{file.path} is gone: {error.message}"))
            if len(page) < AT_ONCE:
                break
            after = page[-1].path
        self.cwd.mkdir(parents=True, exist_ok=True)
        return found[:MOST_NAMED]

    def _fetch(self, pieces: Iterable[bytes], target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            out.writelines(pieces)

    @contextmanager
    def workspace(self, project: str, number: int) -> Iterator[Aside]:
        """A new workspace in the folder, with a key and a database of its own, and no result that could be reused."""
        made = create(WorkspaceFolder(self.folder / f"workspace{number}" / ".tarmac"), Settings())
        try:
            yield Aside(made, os_user(), made.project_key(project, create=True), project)
        finally:
            made.close()

    def command(self, packages: Path) -> list[str]:
        """The run's command line, by the Python that was made for it."""
        words = list(self.needs.words)
        first = next((at for at, word in enumerate(words) if not word.startswith("-")), None)
        if first is not None and words[first].startswith("/") and "-m" not in words[:first]:
            words[first] = str(python_of(packages).parent / Path(words[first]).name)  # a script that a package brought
        return [str(python_of(packages)), *words]

    def environment(self, packages: Path, aside: Aside) -> dict[str, str]:
        """What the run may know: the settings it had, this machine's plain ones, and where it is."""
        home, temporary = self.folder / "home", self.folder / "tmp"
        for folder in (home, temporary):
            folder.mkdir(exist_ok=True)
        plain = {name: value for name, value in os.environ.items() if name in PLAIN}
        paths = [str(self._tarmac()), *(str(self.tree / path) for path in self.needs.paths)]
        return {
            **plain,
            **self.needs.settings,
            "PATH": os.pathsep.join([str(python_of(packages).parent), plain.get("PATH", os.defpath)]),
            "HOME": str(home),
            "USERPROFILE": str(home),
            "TMPDIR": str(temporary),
            "TEMP": str(temporary),
            "TMP": str(temporary),
            "VIRTUAL_ENV": str(packages),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TARMAC_WORKSPACE": str(aside.store.folder.path),
            "TARMAC_PROJECT": aside.project_name,
            "TARMAC_STATE": str(self.folder / "state"),
        }

    def _tarmac(self) -> Path:
        """A folder with tarmac alone, as it runs here: it records into the store that it understands."""
        found = self.folder / "with"
        target = found / "tarmac"
        if not target.exists():
            found.mkdir(exist_ok=True)
            here = Path(tarmac.__file__).parent
            if sys.platform == "win32":
                shutil.copytree(here, target)
            else:
                target.symlink_to(here, target_is_directory=True)
        return found

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
