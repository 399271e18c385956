"""One spool on its way into the workspace: read from where the store says it is, sent in batches, removed when whole.

Everything here may be done twice, by two carriers at once, after a kill or from a copy: the store takes a batch in
once, up to each position, and what is done before the position moves on may be repeated.
"""

from __future__ import annotations

import math
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.clock import now
from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, Damaged, Invalid, NotFound, TarmacError, TooLarge, bounded
from tarmac.core.locks import FileLock
from tarmac.formats import frames
from tarmac.formats.spool import (
    LAST,
    LOG,
    SIDE,
    WRITERS,
    AnyRecord,
    Begin,
    End,
    Facts,
    Lost,
    Modelled,
    Note,
    Params,
    Points,
    SavedFile,
    Tags,
    Used,
    encode,
    read,
)
from tarmac.logging import capture
from tarmac.logging.capture import Tree
from tarmac.logging.carrier import SEND_FILE, STATE_FILE, State
from tarmac.store.records import File
from tarmac.track.operations import (
    AttachFiles,
    CreateRun,
    DescribeRun,
    EditRun,
    EndRun,
    GetRun,
    LogRun,
    MoveRuns,
    ResumeRun,
    TagRun,
    UseInput,
)
from tarmac.track.records import Run
from tarmac.workspace import Workspace
from tarmac.workspace.files import artifacts, commit

MOST_POINTS = 10_000
MOST_FILES = 200
READ_AT_ONCE = 4 * 1024 * 1024
MODELS = "models"
"""The folder of a run that `run.model` puts its files into."""

Batchable = Points | Params | Tags
Entry = tuple[AnyRecord, int]


class Cargo:
    """A folder that training writes to, and how far it has come."""

    def __init__(self, folder: Path, begin: Begin, *, copy: bool, foreign: bool = False) -> None:
        self.folder = folder
        self.begin = begin
        self.copy = copy
        """Its writer, if it lives, writes elsewhere."""
        self.foreign = foreign or copy
        """Whether its models may be another's."""
        self.working: Callable[[], None] = lambda: None
        """Called while something takes long that is no waiting for the workspace."""
        self.whole = False
        self.id = Path(begin.place).name or folder.name
        self._positions: dict[str, int] = {}
        self._unreadable: dict[str, int] = {}
        """Bytes behind a damaged record; a record that was cut off was never acknowledged and is none."""
        self._said = State(-1)
        self.samples = 0
        self._side = threading.Lock()  # what the run costs and how it was started come from two threads
        self._end: End | None = None

    @classmethod
    def load(cls, folder: Path, *, foreign: bool = False) -> Cargo | None:
        """None for what has not begun, and never will if nobody is alive there."""
        for record, _ in read(folder / LOG, most=1):
            if isinstance(record, Begin):
                copy = Path(record.place).resolve() != folder.resolve()
                return cls(folder, record, copy=copy, foreign=foreign)
        return None

    # --- the state of the writer ---

    def is_alive(self) -> bool:
        """Whether its writer lives and writes here."""
        if self.copy:
            return False
        lock = FileLock(self.folder / "alive")
        try:
            if not lock.acquire(wait=False):
                return True
            lock.release()
        except OSError:
            return False
        finally:
            lock.close()
        return False

    @property
    def is_held(self) -> bool:
        """Whether nothing of it may be sent yet."""
        return self.begin.offline and not (self.folder / SEND_FILE).exists()

    @property
    def ended(self) -> bool:
        return self._end is not None

    def size(self) -> int:
        return sum(_size(self.folder / name) for name in (SIDE, LOG))

    def carried(self) -> int:
        return sum(self._positions.get(name, 0) for name in (SIDE, LOG))

    def tell(self, trouble: str = "") -> None:
        """Leave word for whoever waits."""
        state = State(self.carried(), trouble)
        if state == self._said:
            return
        self._said = state
        temporary = self.folder / f"{STATE_FILE}.new"
        try:
            temporary.write_bytes(msgspec.json.encode(state))
            temporary.replace(self.folder / STATE_FILE)
        except OSError:
            pass

    def say_again(self) -> None:
        self._said = State(-1)

    # --- sending ---

    def start(self, door: Workspace) -> None:
        """The run in the workspace, and how far this spool is in it; done already, it changes nothing."""
        begin = self.begin
        wanted = CreateRun(
            id=begin.run,
            experiment=begin.experiment or "default",
            name=begin.name,
            parent=begin.parent,
            note=begin.note,
            started_at=begin.at,
            beats=self.is_alive(),
        )
        if begin.resume or begin.adopts:  # it has to be there: a wrong id must not become a new run
            run = door(GetRun(id=begin.run))
        else:
            run = self._create(door, wanted)
        if begin.adopts:
            if begin.experiment and run.experiment != begin.experiment:
                door(MoveRuns(ids=[begin.run], to=begin.experiment))
            if begin.name and run.name != begin.name:
                door(EditRun(id=begin.run, name=begin.name))
        for name in WRITERS:
            if (self.folder / name).exists():
                self._positions[name] = door(LogRun(id=begin.run, spool=self._spool(name), ended=True)).position
        if begin.resume and not self._positions.get(LOG):
            door(ResumeRun(id=begin.run))

    def _create(self, door: Workspace, wanted: CreateRun) -> Run:
        try:
            return door(wanted)
        except (NotFound, Conflict):  # its parent is gone, in the trash, or lies in a spool that is not here
            return door(msgspec.structs.replace(wanted, parent=None))

    def send(self, door: Workspace) -> bool:
        """Send a part of what lies here; whether there was anything."""
        for name in WRITERS:
            entries = list(self._read(name))
            if entries:
                self._send(door, name, entries)
                return True
        return False

    def _read(self, name: str) -> Iterator[Entry]:
        start = self._positions.setdefault(name, 0)
        try:
            yield from read(self.folder / name, start, READ_AT_ONCE)
        except Damaged:
            if not self.is_alive():  # else it is being written in this moment
                self._unreadable[name] = _size(self.folder / name) - self._positions[name]

    def _send(self, door: Workspace, name: str, entries: list[Entry]) -> None:
        batch: list[tuple[Batchable, int]] = []
        files: list[tuple[SavedFile, int]] = []
        points = 0
        for record, position in entries:
            if isinstance(record, Points):
                if points >= MOST_POINTS:
                    self._log(door, name, batch)
                    batch, points = [], 0
                points += len(record.values)
                batch.append((record, position))
            elif isinstance(record, (Params, Tags)):
                batch.append((record, position))
            else:
                self._log(door, name, batch)
                batch, points = [], 0
                if isinstance(record, SavedFile):
                    files.append((record, position))
                if files and (not isinstance(record, SavedFile) or len(files) >= MOST_FILES):
                    self._attach(door, name, files)
                    files = []
                if not isinstance(record, SavedFile):
                    self._try(door, record)
                    self._move_on(door, name, position)
        self._log(door, name, batch)
        self._attach(door, name, files)

    def _log(self, door: Workspace, name: str, batch: list[tuple[Batchable, int]]) -> None:
        if not batch:
            return
        metrics: list[Any] = []
        params: dict[str, str] = {}
        tags: dict[str, str] = {}
        for record, _ in batch:
            if isinstance(record, Points):
                step, at = record.step, record.at
                for key, value in record.values.items():
                    metrics.append((key, value if value - value == 0.0 else _as_text(value), step, at))
            elif isinstance(record, Params):
                params.update({key: text for key, text in record.values.items() if key not in params})
            else:
                tags.update(record.values)
        position = batch[-1][1]
        try:
            door(
                LogRun(
                    id=self.begin.run,
                    metrics=metrics,
                    params=params,
                    tags=tags,
                    ended=True,
                    spool=self._spool(name),
                    position=position,
                )
            )
        except (Invalid, Conflict, TooLarge) as error:
            if is_blocked(error):
                raise
            self._log_in_parts(door, name, batch, error)
        self._positions[name] = position

    def _log_in_parts(self, door: Workspace, name: str, batch: list[tuple[Batchable, int]], error: TarmacError) -> None:
        """Find the record that is refused; the others are taken in."""
        if len(batch) > 1:
            middle = len(batch) // 2
            self._log(door, name, batch[:middle])
            self._log(door, name, batch[middle:])
            return
        record, position = batch[0]
        said = error.message
        for key, value in record.values.items() if isinstance(record, Params) else ():
            try:  # without a position: told again, it is the same
                door(LogRun(id=self.begin.run, params={key: value}, ended=True))
            except (Invalid, Conflict, TooLarge) as refusal:
                said = refusal.message
        door(TagRun(id=self.begin.run, set={"tarmac.warning.refused": bounded(said, 1000)}))
        self._move_on(door, name, position)

    def _move_on(self, door: Workspace, name: str, position: int) -> None:
        """From now on nobody does again what came before."""
        door(LogRun(id=self.begin.run, ended=True, spool=self._spool(name), position=position))
        self._positions[name] = position

    def _attach(self, door: Workspace, name: str, files: list[tuple[SavedFile, int]]) -> None:
        if not files:
            return
        attached = []
        for file in {file.path: file for file, _ in files}.values():  # what was saved again replaces
            local = self._local(file)
            if local is not None:
                attached.append(File(path=file.path, digest=door.put(local), size=file.size))
            elif file.path not in {known.path for known in artifacts(door, self.begin.run)}:
                raise Conflict(f"the bytes of `{bounded(file.path)}` are not in {self.folder}: is the copy whole?")
            # else it was sent before, by somebody who was killed before he could say so
        if attached:
            answer = door(AttachFiles(id=self.begin.run, files=attached))
            if answer.missing:
                raise Conflict(f"{len(answer.missing)} files were taken away while they were attached")
        self._move_on(door, name, files[-1][1])
        if not self.copy:
            for file, _ in files:
                if not file.path.startswith(f"{MODELS}/"):  # of these a package may be made
                    (self.folder / "files" / file.local).unlink(missing_ok=True)

    def _local(self, file: SavedFile) -> Path | None:
        """Where its bytes lie; None if they do not. A spool may come from anywhere: it leads to no other file."""
        if file.local in ("", ".", "..") or "/" in file.local or "\\" in file.local:
            raise Damaged(f"{self.folder} names a file outside of itself: `{bounded(file.local)}`")
        path = self.folder / "files" / file.local
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(mode) or (self.folder / "files").is_symlink():
            raise Damaged(f"{path} is not a regular file")
        return path

    def _try(self, door: Workspace, record: AnyRecord) -> None:
        """Do it; what the workspace refuses for good is told in the run, and the rest goes on."""
        try:
            self._do(door, record)
        except (Invalid, TooLarge) as error:
            door(TagRun(id=self.begin.run, set={"tarmac.warning.refused": bounded(error.message, 1000)}))

    def _do(self, door: Workspace, record: AnyRecord) -> None:
        run = self.begin.run
        if isinstance(record, Note):
            door(EditRun(id=run, note=record.text))
        elif isinstance(record, Modelled):
            self._package(door, record)
        elif isinstance(record, Used):
            door(UseInput(id=run, name=record.name, version=record.version, about=record.about))
        elif isinstance(record, Facts):
            door(DescribeRun(id=run, facts=record.document, source=record.source or self._source(door)))
        elif isinstance(record, Lost):
            door(TagRun(id=run, set={"tarmac.incomplete": f"{record.points} points were dropped: {record.why}"}))
        elif isinstance(record, End):
            self._end = record

    def _package(self, door: Workspace, record: Modelled) -> None:
        """Make a package of a model that came, and a version of it."""
        from tarmac.workspace.packages import package_of_run

        lying = {file.path: self._local(file) for file in record.files}
        id = digest(encode(record) + self.id.encode())[:32]
        prefix = f"{MODELS}/{record.name}/"
        files = {path.removeprefix(prefix): local for path, local in lying.items() if local is not None}
        package_of_run(door, self.begin, record.name, files, id, foreign=self.foreign, alive=self.working)
        if not self.copy:
            for local in files.values():
                local.unlink(missing_ok=True)

    def _source(self, door: Workspace) -> str | None:
        """The source tree, where it had to be kept here at first."""
        root = self.folder / "source"
        if not root.is_dir():
            return None
        kept = commit(door, "source", root, sorted(path for path in root.rglob("*") if path.is_file()))
        return kept.id if kept else None

    # --- the end ---

    def finish(self, door: Workspace) -> None:
        """The writer is gone and all it wrote is sent: end its run as it ended, and remove what lies here."""
        begin, end = self.begin, self._end or self._last_end()
        if unread := sum(self._unreadable.values()):
            door(TagRun(id=begin.run, set={"tarmac.incomplete": f"{unread} bytes of what was logged cannot be read"}))
        if begin.owner and (end is not None or not self.copy):
            status = end.status if end is not None and end.status in ("finished", "failed") else "killed"
            try:
                door(EndRun(id=begin.run, status=status, at=end.at if end is not None else now()))  # type: ignore[arg-type]
            except Conflict:
                pass  # somebody ended it in another way
        self.whole = True
        if not self.copy:
            gone = self.folder.with_name(f".{self.folder.name}.gone")
            self.folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _last_end(self) -> End | None:
        """The end, if it was sent by somebody before us."""
        for name in (LOG, LAST):
            for record in _all(self.folder / name):
                if isinstance(record, End):
                    return record
        return None

    # --- what the carrier itself knows of the run ---

    def capture(self, door: Workspace | None) -> None:
        """Keep how the run was started, once, as it is now: files that are edited later are another matter."""
        begin = self.begin
        if not begin.capture or self.copy or (self.folder / SIDE).exists():
            return
        try:
            self.write(self._facts(door))
        except Exception as error:  # noqa: BLE001 - a package, a name or a file of any kind: the run goes on
            what = f"how it was started could not be kept: {type(error).__name__}: {bounded(error, 300)}"
            self.write(Tags({"tarmac.warning.capture": what}))

    def _facts(self, door: Workspace | None) -> Facts:
        begin = self.begin
        folder = Path(begin.folder or ".")
        start = Path(begin.script).parent if begin.script else folder
        facts, tree = capture.describe(begin.command, folder, start, begin.python, tuple(begin.packages))
        if begin.seeds:
            facts["seeds"] = begin.seeds
        source = None
        try:
            if door is not None:
                kept = commit(door, "source", tree.root, tree.files)
                source = kept.id if kept else None
        except (TarmacError, OSError):
            source = None
        if source is None:
            self._keep(tree)
        return Facts(facts, source)

    def _keep(self, tree: Tree) -> None:
        for file in tree.files:
            target = self.folder / "source" / file.relative_to(tree.root)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            except OSError:
                continue

    def write(self, record: AnyRecord) -> None:
        """Add to the side of the spool, which the carrier writes."""
        path = self.folder / SIDE
        with self._side, path.open("ab") as file:
            whole = _whole_size(path)
            if whole < file.tell():
                file.truncate(whole)  # a carrier was killed while it wrote
            data = frames.encode(0, encode(record))
            file.write(data if whole else frames.header() + data)

    def _spool(self, name: str) -> str:
        return f"{self.id}{WRITERS.index(name):02x}"


def is_blocked(error: TarmacError) -> bool:
    """Whether nothing of a run can be sent now: it lies in the trash, is gone, or its experiment is."""
    return isinstance(error, NotFound) or (isinstance(error, Conflict) and "params" not in (error.detail or {}))


def _as_text(value: float) -> str:
    """A value as JSON can carry it."""
    if value != value:
        return "NaN"
    return "Infinity" if value == math.inf else "-Infinity"


def _all(path: Path) -> Iterator[AnyRecord]:
    position = 0
    try:
        while True:
            before = position
            for record, end in read(path, position, READ_AT_ONCE):
                yield record
                position = end
            if position == before:
                return
    except TarmacError:
        return


def _whole_size(path: Path) -> int:
    return max((end for _, end in read(path, 0, READ_AT_ONCE)), default=0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
