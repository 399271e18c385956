"""The project's source, as it goes to another machine: packed once, laid down there once for each content.

What belongs to it is what a run captures: what git tracks or would track, or what looks like source, up to a size;
and the files that steps say they read.
"""

from __future__ import annotations

import importlib
import io
import os
import shutil
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from tarmac.core import project_file
from tarmac.core.errors import Conflict, TooLarge
from tarmac.core.ids import short
from tarmac.core.locks import locked
from tarmac.flow.source import Stamp, stamp_of
from tarmac.logging import capture

LARGEST = 200 * 1024 * 1024
KEPT_SECONDS = 3 * 24 * 3600
FIRST_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Source:
    """The files of a project, packed."""

    root: str
    digest: str
    archive: bytes = field(repr=False)
    stamps: dict[str, Stamp] = field(repr=False)
    """Each file, with its time and size as it was packed."""

    def place(self, path: str) -> str | None:
        """What a path of this machine is called below the root; None if it is not packed."""
        whole = os.path.abspath(path)  # noqa: PTH100 - links stay what they are called
        if whole == self.root:
            return "."
        if whole in self.stamps or any(name.startswith(whole + os.sep) for name in self.stamps):
            return os.path.relpath(whole, self.root)
        return None

    def check(self, code: dict[str, Stamp]) -> None:
        """A step's code must be what was packed."""
        for file, stamp in code.items():
            packed = self.stamps.get(file)
            if packed is not None and stamp not in ((0, 0), packed):
                raise Conflict(f"{file} was changed while the pipeline runs", hint="run it again")


def pack(start: Path, reads: tuple[str, ...] = ()) -> Source:
    """The source of the project that a folder belongs to."""
    file = project_file.find(start)
    tree = capture.source_tree(file.parent if file is not None else start)
    root = tree.root
    read = [path for pattern in reads if not Path(pattern).is_absolute() for path in sorted(start.glob(pattern))]
    paths = [path for path in (*tree.files, *read) if path.is_relative_to(root) and path.is_file()]
    out, stamps, total = io.BytesIO(), dict[str, Stamp](), 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in dict.fromkeys(paths):
            stamps[str(path)] = stamp_of(str(path))
            total += stamps[str(path)][1]
            if total > LARGEST:
                raise TooLarge(
                    f"the source of {root} and what its steps read is more than {LARGEST // 2**20} MiB",
                    hint="give large files to steps as `tarmac.File`, or keep them out of git",
                )
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), FIRST_DATE)  # the same content, the same bytes
            entry.external_attr = (0o700 if os.access(path, os.X_OK) else 0o600) << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    data = out.getvalue()
    return Source(str(root), blake3(data).hexdigest(), data, stamps)


# ------------------------------------------------------------------------------------------------------------ there

_in_use = ""


def here() -> Path:
    """A folder of this user's own, on this machine."""
    if sys.platform == "win32":  # where each user has a folder for what is temporary
        place = Path(tempfile.gettempdir()) / "tarmac-steps"
        place.mkdir(exist_ok=True)
        return place
    place = Path(tempfile.gettempdir()) / f"tarmac-steps-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    facts = place.lstat()
    if facts.st_uid != os.getuid() or facts.st_mode & 0o077 or place.is_symlink():
        raise Conflict(f"{place} belongs to somebody else, or is open to others", hint="remove it")
    return place


def lay_down(digest: str, archive: bytes) -> Path:
    """The files of an archive, in a folder that has its digest as its name."""
    place = here() / digest[:32]
    if not place.is_dir():
        if blake3(archive).hexdigest() != digest:
            raise Conflict("the project's source came damaged")
        partial = here() / f"{short()}.partial"
        try:
            with zipfile.ZipFile(io.BytesIO(archive)) as files:
                files.extractall(partial)
            _executable(partial, archive)
            partial.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _tidy()
    os.utime(place)
    return place


def _executable(folder: Path, archive: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        for entry in files.infolist():
            if entry.external_attr >> 16 & 0o100:
                (folder / entry.filename).chmod(0o700)


def _tidy() -> None:
    """Sources that nobody has used for days go."""
    with locked(here() / "tidy.lock"):
        for one in here().iterdir():
            if one.is_dir() and one.name != "files" and time.time() - one.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(one, ignore_errors=True)


def enter(place: Path, folder: str, paths: list[str]) -> None:
    """Work from here: its modules are imported, and those of another source that this process has had are forgotten."""
    global _in_use
    root = str(place)
    if _in_use and _in_use != root:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(_in_use + os.sep):
                del sys.modules[name]
        sys.path[:] = [path for path in sys.path if path != _in_use and not path.startswith(_in_use + os.sep)]
        importlib.invalidate_caches()
    _in_use = root
    wanted = [str(place / path) if path != "." else root for path in paths]
    sys.path[:] = [*wanted, *(path for path in sys.path if path not in wanted)]
    os.chdir(place / folder)
