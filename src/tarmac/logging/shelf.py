"""The folder of a spool that holds the bytes of saved files until they are carried."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tarmac.core.errors import Invalid, NotFound, TarmacError, bounded
from tarmac.core.ids import short
from tarmac.formats.spool import SavedFile
from tarmac.logging.things import Piece, Write

FILES = "files"
AT_ONCE = 1 << 20
AT_ONCE_IN_KERNEL = 1 << 30
SOME_ROOM = 1 << 20


class NoRoom(Exception):
    """The machine does not take the bytes: nobody's mistake, and no reason to end training."""


class Paths:
    """What a run's files are called so far: the workspace takes no path that is both a file and a folder."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def take(self, paths: Iterable[str]) -> None:
        """Raises before anything is taken, while somebody listens who can choose another name."""
        files = set(paths)
        folders = {above.as_posix() for path in files for above in PurePosixPath(path).parents}
        if clash := next(iter((files & (folders | self._folders)) | (self._files & folders)), None):
            raise Invalid(
                f"`{bounded(clash)}` would be a file and a folder of this run", hint="save one under another name"
            )
        self._files |= files
        self._folders |= folders


class Shelf:
    """What is put is there whole, or not at all."""

    def __init__(self, spool: Path) -> None:
        self._folder = spool / FILES
        self._mine: list[Path] = []

    def put(self, pieces: Iterable[Piece]) -> list[SavedFile]:
        """Copy or write each piece; one that writes nothing is left out.

        Raises NoRoom, or what is wrong with a piece; then nothing is left behind.
        """
        try:
            return [saved for piece in pieces if (saved := self._one(piece)) is not None]
        except BaseException:  # Ctrl-C too
            self.clear()
            raise

    def clear(self) -> None:
        """Take away what was put."""
        for path in self._mine:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                pass
        self._mine.clear()

    def _one(self, piece: Piece) -> SavedFile | None:
        # libraries choose their format by the suffix
        path = self._folder / f"{short()}{PurePosixPath(piece.path).suffix[:16].lower()}"
        self._mine.append(path)
        try:
            self._folder.mkdir(exist_ok=True)
            if isinstance(piece.source, Path):
                size = copy(piece.source, path)
            else:
                self._write(piece.path, piece.source, path)
                if not path.exists():
                    return None
                size = path.stat().st_size
        except OSError as error:
            raise NoRoom(f"{error.strerror or error}: {piece.path}") from error
        return SavedFile(piece.path, path.name, size)

    def _write(self, name: str, write: Write, path: Path) -> None:
        try:
            write(path)
        except TarmacError as error:
            raise type(error)(f"`{bounded(name)}` cannot be written: {error.message}", hint=error.hint) from error
        except ImportError as error:
            raise Invalid(
                f"`{bounded(name)}` cannot be written: {bounded(error, 300)}",
                hint=f"install {error.name}, or choose another suffix" if error.name else "choose another suffix",
            ) from error
        except MemoryError as error:
            raise NoRoom(f"not enough memory to write {name}") from error
        except Exception as error:
            if (isinstance(error, OSError) and error.errno is not None) or _is_full(path):
                raise NoRoom(f"{bounded(error)}: {name}") from error
            raise Invalid(
                f"`{bounded(name)}` cannot be written: {type(error).__name__}: {bounded(error, 300)}",
                hint="choose another suffix, or save it in a file yourself and give its path",
            ) from error


def _is_full(path: Path) -> bool:
    """Whether this file, which is given up, could not have been longer: libraries say it in words of their own."""
    try:
        with path.open("ab", buffering=0) as file:
            return file.write(bytes(SOME_ROOM)) < SOME_ROOM
    except OSError:
        return True


def copy(source: Path, target: Path) -> int:
    """Copy bytes into a new file, by the file system where it can; how many. An OSError is one of the target."""
    try:
        come = os.open(source, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise NotFound(f"{source} is gone", hint="it was there a moment ago: does something else clean up?") from None
    except OSError as error:
        raise Invalid(f"{source} cannot be read: {error.strerror}", hint="who trains has to be allowed to") from None
    try:
        go = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            return _in_kernel(come, go) or _by_hand(come, go)
        finally:
            os.close(go)
    finally:
        os.close(come)


def _in_kernel(come: int, go: int) -> int:
    """Blocks are shared where the file system can do that. 0 where the kernel has no such call for these two."""
    if sys.platform != "linux":
        return 0
    done = 0
    while True:
        try:
            step = os.copy_file_range(come, go, AT_ONCE_IN_KERNEL)
        except OSError:
            if done == 0:
                return 0  # whatever it is, copying by hand meets it again, or not
            raise
        if step == 0:
            return done
        done += step


def _by_hand(come: int, go: int) -> int:
    done = 0
    buffer = memoryview(bytearray(AT_ONCE))
    with open(come, "rb", buffering=0, closefd=False) as file:
        while step := file.readinto(buffer):
            at = 0
            while at < step:
                at += os.write(go, buffer[at:step])
            done += step
    return done
