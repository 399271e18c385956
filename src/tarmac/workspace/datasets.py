"""Data sets as Python sees them.

faces = tarmac.dataset("faces")
faces.log("data/faces", message="labels mended")
version = faces.at("v3")          # also faces.latest, faces.at("2026-11-01")
folder = version.path()           # a folder with its files
with version.open("cats/1.png") as file: ...
"""

from __future__ import annotations

import glob
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, Invalid, NotFound, TarmacError, bounded
from tarmac.core.files import write_private
from tarmac.core.settings import Settings
from tarmac.data import listing
from tarmac.data.checkout import CheckedOut, checkout, trusted, write_all
from tarmac.data.listing import FOLDER, LINK, Entry
from tarmac.data.log import LogRequest, log
from tarmac.data.operations import GetData, GetListing, ListDataVersions, Logged
from tarmac.data.reading import read_entries
from tarmac.data.records import DataVersion, Layout
from tarmac.data.scan import Source
from tarmac.data.seen import Memory
from tarmac.data.stream import FileStream
from tarmac.formats.profile import Profile
from tarmac.workspace import LocalWorkspace, Workspace, connect
from tarmac.workspace.tables import Care, Looking, Table, is_frame, written
from tarmac.workspace.transfer import Healing

MOST_OTHERS = 20
Progress = Callable[[int, int, str], None]


def state_of(workspace: Workspace) -> Path:
    """Where things are remembered: in the workspace, or with the user where that is a server's."""
    if isinstance(workspace, LocalWorkspace):
        return workspace.door.store.folder.path / "data"
    return Settings.from_environment().state / "data" / digest(workspace.place.encode())[:16]


def memory_of(workspace: Workspace) -> Memory:
    """What is remembered of this machine's folders."""
    return Memory(state_of(workspace) / "folders")


class Other(NamedTuple):
    """A workspace that versions were pushed to or pulled from: it may have what is damaged here."""

    project: str
    place: str


def others_of(workspace: Workspace) -> list[Other]:
    try:
        lines = (state_of(workspace) / "others").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [Other(*line.split(" ", 1)) for line in lines if " " in line]


def remember_other(workspace: Workspace, other: Workspace) -> None:
    known, new = others_of(workspace), Other(other.project, other.place)
    if new not in known:
        place = state_of(workspace) / "others"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_private(place, "".join(f"{one.project} {one.place}\n" for one in [*known, new][-MOST_OTHERS:]))


def _reachable(others: Sequence[Other]) -> Iterator[Workspace]:
    for other in others:
        try:
            yield connect(other.place, other.project)
        except TarmacError:
            continue


def quiet(done: int, total: int, what: str) -> None:
    """Tell nobody how far it is."""


def sources_of(paths: Sequence[str | Path]) -> list[Source]:
    """What is to be logged: one folder is the version itself, of several things each keeps its name."""
    found: list[Path] = []
    for path in paths:
        if Path(path).exists() or not glob.has_magic(str(path)):
            found.append(Path(path))
        else:
            matching = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - patterns may be absolute
            if not matching:
                raise NotFound(f"nothing is called like `{bounded(path)}`")
            found += map(Path, matching)
    absolute = [path.absolute() for path in found]
    if len(absolute) == 1 and absolute[0].is_dir():
        return [("", absolute[0])]
    return [(path.name, path) for path in absolute]


class DataSet:
    """A data set, by its name; made when it is logged first."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = name

    def log(
        self,
        *things: Any,
        message: str = "",
        tags: dict[str, str] | None = None,
        layout: Layout | None = None,
        care: Care = Care(),  # noqa: B008 - it cannot be changed
        progress: Progress = quiet,
    ) -> Version:
        """Make what lies in a folder, or files, a version; or a table of polars, pandas or Arrow.

        If nothing has changed it is the latest one.
        """
        if len(things) == 1 and is_frame(things[0]):
            with written(things[0], self.name, state_of(self.workspace) / "tables") as path:
                made = self.log_paths([path], message=message, tags=tags, layout=layout, care=care, progress=progress)
                memory_of(self.workspace).forget(sources_of([path]))
        else:
            made = self.log_paths(things, message=message, tags=tags, layout=layout, care=care, progress=progress)
        assert made.version is not None
        return Version(self, made.version)

    def log_query(
        self,
        text: str,
        connection: str,
        *,
        message: str = "",
        tags: dict[str, str] | None = None,
        care: Care = Care(),  # noqa: B008 - it cannot be changed
        progress: Progress = quiet,
        told: list[str] | None = None,
    ) -> Logged:
        """Make the rows that a database answers a version; text, rows and moment are kept, the password never."""
        from tarmac.data.tables.querying import query

        folder = state_of(self.workspace) / "tables"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="query-", dir=folder) as place:
            path = Path(place) / f"{self.name}.parquet"
            asked = query(connection, text, path, Path.cwd(), lambda rows: progress(rows, 0, "rows"))
            made = self.log_paths(
                [path],
                message=message,
                tags=tags,
                care=care,
                progress=progress,
                told=told,
                more={"source": asked.document()},
            )
            memory_of(self.workspace).forget(sources_of([path]))
        return made

    def log_paths(
        self,
        paths: Sequence[str | Path],
        *,
        message: str = "",
        tags: dict[str, str] | None = None,
        layout: Layout | None = None,
        care: Care = Care(),  # noqa: B008 - it cannot be changed
        progress: Progress = quiet,
        told: list[str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> Logged:
        """The same, with the answer to whether a version was made; what else there is to tell goes into `told`."""
        if not paths:
            raise Invalid("there is nothing to log", hint="name a folder or files")
        request = LogRequest(self.name, sources_of(paths), message, tags or {}, layout)
        looking = Looking(self.name, care, progress, more)
        made = log(self.workspace, memory_of(self.workspace), request, progress, looking)
        if told is not None:
            told += looking.told
        return made

    @property
    def latest(self) -> Version:
        return self.at("latest")

    def at(self, version: str | int) -> Version:
        """A version: `v3`, `latest`, or the newest on a day, like `2026-11-01`."""
        which = f"v{version}" if isinstance(version, int) else version
        return Version.named(self.workspace, f"{self.name}@{which}")

    def versions(self) -> list[DataVersion]:
        """All of them, newest first."""
        found: list[DataVersion] = []
        before = 0
        while True:
            page = self.workspace(ListDataVersions(name=self.name, before=before, limit=1000))
            found += page.versions
            if page.next is None:
                return found
            before = page.next

    def __repr__(self) -> str:
        return f"<tarmac data set {self.name}>"


class Version:
    """One version of a data set: what is known of it, and its files."""

    def __init__(self, of: DataSet, facts: DataVersion) -> None:
        self.data_set = of
        self.facts = facts
        self._entries: dict[str, Entry] | None = None

    @classmethod
    def named(cls, workspace: Workspace, ref: str) -> Version:
        facts = workspace(GetListing(ref=ref)).version
        return cls(DataSet(workspace, facts.name), facts)

    @property
    def number(self) -> int:
        return self.facts.number

    @property
    def ref(self) -> str:
        return f"{self.facts.name}@v{self.facts.number}"

    def entries(self) -> dict[str, Entry]:
        """Its files, links and empty folders by path."""
        if self._entries is None:
            listed = self.data_set.workspace(GetListing(ref=self.ref))
            parts = listing.decode(listed.listing).parts
            self._entries = {entry.path: entry for entry in read_entries(self.data_set.workspace, parts)}
        return self._entries

    def files(self) -> list[str]:
        """The paths of its files and links."""
        return [path for path, entry in self.entries().items() if entry.kind != FOLDER]

    def checkout(
        self, target: str | Path, *, force: bool = False, link: bool = False, progress: Progress = quiet
    ) -> CheckedOut:
        """Make a folder what this version is; only what differs is written."""
        workspace = self.data_set.workspace
        listed = workspace(GetListing(ref=self.ref))
        return checkout(
            self.depot(), memory_of(workspace), listed, Path(target).absolute(), progress, force=force, link=link
        )

    def depot(self) -> Healing:
        """The workspace; what is damaged there is fetched from another one that has it, if one is known."""
        workspace = self.data_set.workspace
        return Healing(workspace, lambda: _reachable(others_of(workspace)))

    def export(self, target: str | Path, *, progress: Progress = quiet) -> CheckedOut:
        """Write its files to a folder that does not exist yet; nothing of that is remembered."""
        place = Path(target).absolute()
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise Conflict(f"{place} exists already", hint="name a folder that does not exist yet")
        entries = [trusted(entry) for entry in self.entries().values()]
        return write_all(self.depot(), place, entries, progress)

    def path(self) -> Path:
        """A folder with its files, written when it is asked for first. It is shared: copy what you want to change."""
        workspace = self.data_set.workspace
        place = (
            state_of(workspace)
            / "shown"
            / workspace.project
            / f"{self.facts.name}-v{self.number}-{self.facts.digest[:12]}"
        )
        self.checkout(place, force=True)
        return place

    def open(self, path: str = "") -> io.BufferedReader:
        """A file of it, to be read from any place: only what is read is fetched. Of a single file no path is needed."""
        return io.BufferedReader(FileStream(self.depot(), self._file(path)), 1024 * 1024)

    def table(self, columns: Sequence[str] | None = None) -> Table:
        """Its rows, if it is a table: `.polars()`, `.pandas()`, `.arrow()`, `.lazy()` or `.batches()`."""
        return Table(self, columns)

    def profile(self) -> Profile:
        """What its columns are like, as it was measured when it was logged."""
        from tarmac.data.tables.inspecting import profile_in

        return profile_in(self.data_set.workspace(GetData(ref=self.ref)).document, self.ref)

    def _file(self, path: str) -> Entry:
        entries = self.entries()
        files = self.files()
        if not path:
            if len(files) != 1:
                raise Conflict(f"{self.ref} has {len(files)} files", hint="say which one")
            path = files[0]
        entry = entries.get(path)
        if entry is not None and entry.kind == LINK:
            entry = entries.get(_followed(path, entry.target))
        if entry is None or entry.kind in (FOLDER, LINK):
            raise NotFound.named("file", path, files, hint=f"`tarmac data files {self.ref}` lists them")
        return entry

    def __tarmac_key__(self) -> tuple[str, str]:
        """What counts of it where a step of a pipeline is given it: its name and its content."""
        return self.facts.name, self.facts.digest

    def __tarmac_thing__(self) -> tuple[str, list[str]]:
        """Its name in lineage, and where a step that is given it may read."""
        workspace = self.data_set.workspace
        return f"data/{self.ref}", [workspace.place, str(state_of(workspace))]

    def __reduce__(self) -> Any:
        workspace = self.data_set.workspace
        return _again, (workspace.place, workspace.project, self.ref)

    def __repr__(self) -> str:
        return f"<tarmac data {self.ref}: {self.facts.files} files, {self.facts.size} bytes>"


def _again(place: str, project: str, ref: str) -> Version:
    """The same version in another process."""
    return Version.named(connect(place, project), ref)


def _followed(path: str, target: str) -> str:
    """Where a link of a version leads, as a path in it."""
    parts = path.split("/")[:-1]
    for step in target.split("/"):
        if step == "..":
            parts = parts[:-1]
        elif step not in ("", "."):
            parts.append(step)
    return "/".join(parts)


def dataset(name: str, workspace: str | Path | Workspace | None = None, project: str | None = None) -> DataSet:
    """A data set of the workspace, by its name: `tarmac.dataset("faces").latest`."""
    opened = workspace if isinstance(workspace, Workspace) else connect(workspace, project)
    return DataSet(opened, name)
