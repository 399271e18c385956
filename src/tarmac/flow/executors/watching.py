"""What a step reads without having been given it: files, variables of the environment, sockets, other programs.

Python's audit events tell of files and sockets, by whichever library they are opened, as long as that is written in
Python or opens them by Python. Variables have no event, and neither has the start of a thread before Python 3.12: what
`os.environ` is asked for is noted by its class, and a thread is told by whom it was started.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path, PurePath
from types import FrameType, TracebackType
from typing import Any

from tarmac.flow import source
from tarmac.flow.executors import logs
from tarmac.flow.steps import Options

OURS = str(Path(__file__).parents[2]) + os.sep
MOST = 20
MOST_LOOKED = 100_000
SYSTEM = ("/dev/", "/proc/", "/sys/", "/etc/", "/usr/", "/lib/", "/lib64/", "/opt/", "/run/", "/bin/")
READS = os.O_RDONLY | os.O_RDWR
_IMPORTS = "<frozen importlib"


class _Local(threading.local):
    watch: Watch | None = None
    busy: bool = False


_local = _Local()


class Watch:
    """Over one step, in its thread and in the threads it starts."""

    def __init__(self, allowed: tuple[str, ...], code: Collection[str], options: Options) -> None:
        self._allowed = {str(Path(path).absolute()) for path in allowed}
        self._folders = tuple(f"{path}{os.sep}" for path in self._allowed)
        self._code = code
        self._env = frozenset(options.env)
        self._network = options.network
        self._reads = frozenset(str(path.absolute()) for pattern in options.reads for path in _matching(pattern))
        self._written: set[str] = set()
        self._found: dict[str, str] = {}
        self._before: Watch | None = None

    def allow(self, *given: Any) -> None:
        """Paths among the arguments are what the step was given."""
        todo = list(given)
        while todo:
            value = todo.pop()
            if isinstance(value, PurePath):
                self._allow_below(Path(value))
            elif hasattr(type(value), "__tarmac_thing__"):
                for place in value.__tarmac_thing__()[1]:
                    if "://" in place:
                        self._network = True
                    else:
                        self._allow_below(Path(place))
            elif type(value) in (list, tuple):
                todo += value if len(value) < MOST_LOOKED else ()
            elif type(value) is dict:
                todo += value.values()

    def _allow_below(self, path: Path) -> None:
        name = str(path.absolute())
        self._allowed.add(name)
        self._folders += (f"{name}{os.sep}",)

    def __enter__(self) -> None:
        _install()
        self._before, _local.watch = _local.watch, self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _local.watch = self._before

    def found(self) -> list[str]:
        return [f"{what} ({where})" if where else what for what, where in self._found.items()]

    def note(self, what: str, frame: FrameType | None) -> None:
        if len(self._found) < MOST:
            self._found.setdefault(what, _line(frame))

    def opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return  # a file that is open already
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - many times faster than Path, and links stay
        if (isinstance(mode, str) and mode[:1] in "wax" and "+" not in mode) or (
            mode is None and isinstance(flags, int) and flags & os.O_ACCMODE == os.O_WRONLY
        ):
            self._written.add(name)
            return
        if name in self._allowed or name in self._written or name in self._reads or name.startswith(self._folders):
            return
        if name.startswith(_known_places()) or name.endswith((".py", ".pyc", ".so")):
            return
        frame = sys._getframe(2)  # noqa: SLF001 - who asked
        if _importing(frame):
            return
        if isinstance(mode, str) and "+" in mode and not os.path.exists(name):  # noqa: PTH110
            self._written.add(name)
            return
        if isinstance(flags, int) and flags & os.O_CREAT and flags & os.O_EXCL:
            self._written.add(name)
            return
        if not os.path.exists(name):  # noqa: PTH110 - a file that is not there says something too
            self.note(f"looks for the file {short(name)}", frame)
            return
        self.note(f"reads the file {short(name)}", frame)

    def variable(self, name: str, frame: FrameType | None) -> None:
        if name in self._env or frame is None or _importing(frame):
            return
        file = frame.f_code.co_filename
        if source.is_ours(file) and not file.startswith(OURS):
            self.note(f"reads the variable {name}", frame)

    def connected(self, address: Any) -> None:
        if self._network or not isinstance(address, tuple):
            return
        frame = sys._getframe(2)  # noqa: SLF001
        self.note(f"talks to {address[0]}:{address[1]}", frame)

    def started(self, program: Any) -> None:
        frame = sys._getframe(2)  # noqa: SLF001
        nearest = _beyond_python(frame)
        if nearest is not None and source.is_ours(nearest.f_code.co_filename) and not _importing(frame):
            name = program[0] if isinstance(program, (list, tuple)) and program else program
            self.note(
                f"starts the program {short(os.fsdecode(name)) if isinstance(name, (str, bytes)) else '?'}", frame
            )


def _matching(pattern: str) -> list[Path]:
    return [Path(pattern)] if Path(pattern).is_absolute() else list(Path().glob(pattern))


_places: tuple[str, ...] = ()


def _known_places() -> tuple[str, ...]:
    """Where nothing lies that belongs to a project: Python, packages, the system."""
    global _places
    if not _places:
        paths = sysconfig.get_paths()
        found = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "data")}
        found |= {sys.prefix, sys.base_prefix, site.getusersitepackages()}
        found -= {os.sep, ""}
        temporary = tempfile.gettempdir()
        keep = tuple(f"{place}{os.sep}" for place in found if not temporary.startswith(place))
        _places = (*SYSTEM, *keep, OURS)
    return _places


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTS):
            return True
        frame = frame.f_back
    return False


def _line(frame: FrameType | None) -> str:
    """The nearest line of the project."""
    while frame is not None:
        file = frame.f_code.co_filename
        if source.is_ours(file) and not file.startswith(OURS):
            return f"{short(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _beyond_python(frame: FrameType | None) -> FrameType | None:
    """The nearest frame that is not of Python's own library."""
    library = sysconfig.get_paths()["stdlib"]
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((library, "<frozen")) or "site-packages" in file:
            return frame
        frame = frame.f_back
    return None


def short(file: str) -> str:
    here = os.getcwd() + os.sep  # noqa: PTH109
    return file.removeprefix(here)


# ----------------------------------------------------------------------------------------------------------- the hook

_installed = False
_installing = threading.Lock()


def _of_this_thread() -> Watch | None:
    if _local.watch is not None:
        return _local.watch
    # not current_thread(): it makes an object for a thread it does not know, which opens nothing but may recurse
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]  # noqa: SLF001
    watch: Watch | None = getattr(thread, "tarmac_watch", None)
    return watch


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event not in _EVENTS or _local.busy:
        return
    watch = _of_this_thread()
    if watch is None:
        return
    _local.busy = True
    try:
        _EVENTS[event](watch, args)
    except Exception:  # noqa: BLE001, S110 - whatever is wrong here must not become the step's error
        pass
    finally:
        _local.busy = False


def _inherit(thread: threading.Thread) -> None:
    """A thread that a step starts works for that step."""
    watch = _of_this_thread()
    if watch is not None:
        thread.tarmac_watch = watch  # type: ignore[attr-defined]
        thread.tarmac_log = logs.current()  # type: ignore[attr-defined]


_EVENTS: dict[str, Any] = {
    "open": lambda watch, args: watch.opened(*args[:3]),
    "sqlite3.connect": lambda watch, args: watch.opened(args[0], "r", 0) if args[0] != ":memory:" else None,
    "socket.connect": lambda watch, args: watch.connected(args[1]),
    "subprocess.Popen": lambda watch, args: watch.started(args[1] or args[0]),
    "os.system": lambda watch, args: watch.started(args[0]),
    "os.exec": lambda watch, args: watch.started(args[0]),
    "os.posix_spawn": lambda watch, args: watch.started(args[0]),
}


def _install() -> None:
    """Once in a process that runs steps: an audit hook cannot be taken away again."""
    global _installed
    with _installing:
        if _installed:
            return
        _installed = True
        environ = type(os.environ)
        asked = environ.__getitem__

        def noting(self: Any, key: Any) -> Any:
            if self is os.environ and not _local.busy:
                watch = _of_this_thread()
                if watch is not None and isinstance(key, str):
                    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
                    while frame is not None and frame.f_code.co_filename in _BETWEEN:
                        frame = frame.f_back
                    watch.variable(key, frame)
            return asked(self, key)

        start = threading.Thread.start

        def starting(self: threading.Thread) -> None:
            _inherit(self)
            start(self)

        threading.Thread.start = starting  # type: ignore[method-assign]
        environ.__getitem__ = noting  # type: ignore[method-assign]
        sys.addaudithook(_hook)


_BETWEEN = {os.__file__, "<frozen os>", "<frozen _collections_abc>"}
