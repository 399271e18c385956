"""Carrying out a plan: each file is written under another name and takes its place in one step."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tarmac.core.errors import Conflict, Full, Invalid, ReadOnly, TarmacError, bounded
from tarmac.core.ids import short
from tarmac.data.depot import Depot
from tarmac.data.listing import FOLDER, LINK, PROGRAM, Entry
from tarmac.data.packs import Wanted, fetch
from tarmac.data.plan import Plan
from tarmac.data.reading import read_file
from tarmac.data.scan import PARTIAL, clashes

Progress = Callable[[int, int, str], None]
LEFT_FREE = 16 * 1024 * 1024


def place_all(depot: Depot, target: Path, plan: Plan, progress: Progress, *, link: bool = False) -> None:
    """Remove, write, change modes, in this order. Files that are blobs of their own can be linked instead."""
    placing = _Placing(str(target))
    for path in sorted(plan.remove, reverse=True):
        placing.remove(path)
    total, done = sum(entry.size for entry in plan.write), 0
    large: list[Entry] = []
    small: list[tuple[Entry, Wanted]] = []
    for entry in plan.write:
        if entry.place and entry.place.pack == entry.digest:
            linked = link and entry.kind != PROGRAM and placing.link(entry, depot.locate(entry.digest.hex()))
            large += [] if linked else [entry]
        elif entry.place:
            small.append((entry, Wanted(entry.place, entry.size, entry.digest)))
        elif entry.recipe:
            large.append(entry)
        else:
            placing.without_bytes(entry)
    for entry, data in fetch(depot, small, lambda entry: entry.path):
        placing.write(entry, [data])
        done += entry.size
        progress(done, total, "bytes")
    for entry in large:
        placing.write(entry, read_file(depot, entry))
        done += entry.size
        progress(done, total, "bytes")
    for entry in plan.modes:
        placing.set_mode(entry)


def sweep(target: Path) -> None:
    """Remove what a checkout that was killed was just writing."""
    for folder, _, names in os.walk(target):
        for name in names:
            if name.startswith(PARTIAL):
                Path(folder, name).unlink(missing_ok=True)


class _Placing:
    """Writes below one folder, and never through a link that leads out of it."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._partial = f"{PARTIAL}{short()}"
        self._real = {target}

    def remove(self, path: str) -> None:
        """The file, link or empty folder, and folders above that hold nothing any more."""
        place = Path(self._target, path)
        if place.is_dir() and not place.is_symlink():
            _remove_folder(place)
        else:
            place.unlink(missing_ok=True)
        for folder in place.parents:
            if str(folder) == self._target or not _remove_folder(folder):
                return

    def without_bytes(self, entry: Entry) -> None:
        if entry.kind == FOLDER:
            self._folder(os.path.join(self._target, entry.path))  # noqa: PTH118
        elif entry.kind == LINK:
            place, partial = self._places(entry)
            os.symlink(entry.target, partial)  # noqa: PTH211
            os.replace(partial, place)  # noqa: PTH105
        else:
            self.write(entry, ())

    def link(self, entry: Entry, blob: Path | None) -> bool:
        """One file under two names, which nobody may write to; False where that cannot be."""
        place, partial = self._places(entry)
        if blob is None:
            return False
        try:
            os.link(blob, partial)
        except OSError:  # another file system
            return False
        Path(partial).chmod(0o444)
        os.replace(partial, place)  # noqa: PTH105
        return True

    def write(self, entry: Entry, pieces: Iterable[bytes]) -> None:
        place, partial = self._places(entry)
        mode = 0o777 if entry.kind == PROGRAM else 0o666  # less what the user's umask takes away
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        try:
            try:
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(handle, view) :]
            finally:
                os.close(handle)
            os.replace(partial, place)  # noqa: PTH105
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise

    def set_mode(self, entry: Entry) -> None:
        place = Path(self._target, entry.path)
        mode = place.stat().st_mode
        place.chmod(mode | 0o111 & (mode >> 2) if entry.kind == PROGRAM else mode & ~0o111)

    def _places(self, entry: Entry) -> tuple[str, str]:
        place = os.path.join(self._target, entry.path)  # noqa: PTH118
        folder = os.path.dirname(place)  # noqa: PTH120
        self._folder(folder)
        return place, os.path.join(folder, self._partial)  # noqa: PTH118

    def _folder(self, folder: str) -> None:
        if folder in self._real:
            return
        self._folder(os.path.dirname(folder))  # noqa: PTH120
        try:
            os.mkdir(folder)  # noqa: PTH102
        except FileExistsError:
            if Path(folder).is_symlink() or not Path(folder).is_dir():
                raise Conflict(
                    f"{folder} is not a folder, and files of the version belong into it", hint="move it away"
                ) from None
        self._real.add(folder)


def _remove_folder(place: Path) -> bool:
    """Whether the folder was empty, and is gone."""
    try:
        place.rmdir()
    except OSError:
        return False
    return True


def refuse_full(target: Path, plan: Plan) -> None:
    """Before anything is touched: whether there is room for what will be written."""
    needed = sum(entry.size for entry in plan.write)
    free = shutil.disk_usage(target).free
    if needed + LEFT_FREE > free:
        raise Full(
            f"{target} has room for {free // 1_000_000:,} MB, and {needed // 1_000_000:,} MB have to be written",
            hint="nothing was changed; make room, or check out elsewhere",
        )


def refuse_clashes(target: Path, wanted: Mapping[str, Entry]) -> None:
    """Names that differ only in case would overwrite each other where case does not matter."""
    if _tells_case(target) or (found := clashes(wanted)) is None:
        return
    raise Invalid(
        f"`{bounded(found[0])}` and `{bounded(found[1])}` are one file in {target}",
        hint="check out where names that differ in case are different files",
    )


def _tells_case(target: Path) -> bool:
    probe = target / f"{PARTIAL}{short()}aA"
    probe.touch()
    try:
        return not probe.with_name(probe.name.swapcase()).exists()
    finally:
        probe.unlink()


def translate(error: OSError, target: Path) -> TarmacError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Full(
            f"no room is left in {target}: a part of the files is written",
            hint="make room and check out again; it goes on from here",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ReadOnly(f"{error.filename or target} cannot be written: {error.strerror}")
    return Conflict(f"{error.filename or target} cannot be written: {error.strerror}", hint="move it away")
