"""The carrier: `python -m tarmac.workspace.carrier SPOOLS WHERE` brings what training leaves to its workspace.

One for each folder of spools (a lock). It goes round the spools, sends what is new, says that their runs are alive, and
leaves when nothing has been there for a while. What it cannot send stays where it is; the next carrier, or `tarmac
sync`, goes on. Nothing here is ever in the way of training: this is another process, and a nicer one.
"""

from __future__ import annotations

import gc
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tarmac.core.clock import now
from tarmac.core.errors import (
    Busy,
    Forbidden,
    Full,
    TarmacError,
    Unauthenticated,
    Unreachable,
)
from tarmac.core.locks import FileLock
from tarmac.core.settings import Settings
from tarmac.formats.spool import Points
from tarmac.logging.carrier import LOCK_FILE, WAKE_FILE
from tarmac.logging.place import ADDRESS_FILE
from tarmac.logging.system import Meter
from tarmac.track.operations import BeatRun
from tarmac.workspace import RemoteWorkspace, Workspace, connect
from tarmac.workspace.cargo import Cargo

ROUND_SECONDS = 0.1
BEAT_SECONDS = 10.0
LINGER_SECONDS = 5.0
GIVE_UP_SECONDS = 60.0
"""How long it goes on trying when nobody trains any more."""
LONGEST_PAUSE_SECONDS = 10.0
SPOOL_PAUSE_SECONDS = 5.0
LONGEST_REQUEST_SECONDS = 30.0
STALE_SECONDS = 3600.0
NICER = 10


class Carrier:
    """Goes round the spools of one folder."""

    def __init__(self, spools: Path, where: str, *, send_held: bool = False, foreign: bool = False) -> None:
        self.spools = spools
        self.where = where
        self.send_held = send_held
        self.foreign = foreign
        """Whether the spools came from elsewhere: code in them is not ours to run."""
        self.cargos: dict[str, Cargo] = {}
        self.trouble = ""
        """Why the workspace cannot be reached."""
        self.refused = False
        """Whether that is because our token is not good enough: somebody else's may be."""
        self.troubles: dict[str, str] = {}
        """Why one spool cannot be sent, by its name."""
        self._done: set[str] = set()
        self._doors: dict[str, Workspace] = {}
        self._started: set[str] = set()
        self._try_after = 0.0
        self._spool_after: dict[str, float] = {}
        self._pause = 0.0
        self._asking_since = 0.0

    @property
    def sent(self) -> int:
        return len(self._done)

    # --- going round ---

    def go_round(self) -> bool:
        """Send a part of each spool; whether anything got on."""
        self._look()
        moved = False
        for name, cargo in list(self.cargos.items()):
            cargo_moved = self._serve(name, cargo)
            moved = moved or cargo_moved
            cargo.tell("" if cargo_moved else self.trouble or self.troubles.get(name, ""))
            if cargo.whole:
                self.cargos.pop(name)
                self.troubles.pop(name, None)
                self._done.add(name)
        return moved

    def _look(self) -> None:
        """Find new spools; the run above comes before the one below it."""
        found = []
        for folder in folders(self.spools):
            if folder.name in self.cargos or folder.name in self._done:
                continue
            try:
                cargo = Cargo.load(folder, foreign=self.foreign)
            except Exception as error:  # noqa: BLE001 - whatever lies there
                self.troubles[folder.name] = str(error)
                continue
            if cargo is not None:
                found.append(cargo)
        for cargo in sorted(found, key=lambda cargo: (cargo.begin.at, not cargo.begin.owner)):
            self.cargos[cargo.folder.name] = cargo
            cargo.working = self._asked_anew
            cargo.capture(None if self._is_held(cargo) or self.trouble else self._door_or_none(cargo.begin.project))

    def _is_held(self, cargo: Cargo) -> bool:
        return not self.send_held and cargo.is_held

    def _serve(self, name: str, cargo: Cargo) -> bool:
        if self._is_held(cargo) or time.monotonic() < max(self._try_after, self._spool_after.get(name, 0.0)):
            return False
        try:
            door = self._door(cargo.begin.project)
        except (TarmacError, OSError) as error:
            self._rest(str(error))
            return False
        try:
            return self._carry(name, cargo, door)
        except (Unauthenticated, Forbidden) as error:
            self._rest(str(error), refused=True)
            self._doors.pop(cargo.begin.project).close()  # a server that was started anew has left a new token
        except (Unreachable, Busy, Full, OSError) as error:
            self._rest(str(error))
        except Exception as error:  # noqa: BLE001 - of this spool alone, whatever it is: the others go on
            self.troubles[name] = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
            self._started.discard(name)
            self._spool_after[name] = time.monotonic() + SPOOL_PAUSE_SECONDS
        return False

    def _carry(self, name: str, cargo: Cargo, door: Workspace) -> bool:
        alive = cargo.is_alive()  # before looking for more: what it wrote last is then seen
        with self._asking():
            if name not in self._started:
                cargo.start(door)
                self._started.add(name)
            moved = cargo.send(door)
        self.trouble, self._pause = "", 0.0
        self.troubles.pop(name, None)
        if moved:
            return True
        if (alive and not cargo.ended) or self._others_write(cargo):
            return False
        cargo.finish(door)
        return True

    def _others_write(self, cargo: Cargo) -> bool:
        """Whether workers of the same run have left something that is not sent: its end comes after it."""
        return cargo.begin.owner and any(
            other is not cargo and other.begin.run == cargo.begin.run and other.carried() < other.size()
            for other in self.cargos.values()
        )

    def woken(self) -> None:
        """Somebody waits: try again at once, and say anew how it goes."""
        self._try_after = 0.0
        self._spool_after.clear()
        for cargo in self.cargos.values():
            cargo.say_again()

    def _rest(self, why: str, *, refused: bool = False) -> None:
        """The workspace cannot be reached: ask less and less often."""
        self.trouble, self.refused = why, refused
        self._pause = min(max(0.25, self._pause * 2), LONGEST_PAUSE_SECONDS)
        self._try_after = time.monotonic() + self._pause

    # --- the workspace ---

    def _door(self, project: str) -> Workspace:
        if project not in self._doors:
            self._doors[project] = connect(self.where, project)
        return self._doors[project]

    def _door_or_none(self, project: str) -> Workspace | None:
        try:
            return self._door(project)
        except (TarmacError, OSError):
            return None

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._asking_since = time.monotonic()
        try:
            yield
        finally:
            self._asking_since = 0.0

    def _asked_anew(self) -> None:
        self._asking_since = time.monotonic()

    def interrupt_long_request(self) -> None:
        """A server that answers a byte at a time would hold us for ever."""
        since = self._asking_since
        if since and time.monotonic() - since > LONGEST_REQUEST_SECONDS:
            for door in self._doors.values():
                if isinstance(door, RemoteWorkspace):
                    door.interrupt()

    def beat(self, meters: dict[str, Meter]) -> None:
        """Say of each run whose process lives here that it is alive, and what it costs the machine."""
        for name, cargo in list(self.cargos.items()):
            begin = cargo.begin
            if not begin.owner or not cargo.is_alive():
                meters.pop(name, None)
                continue
            if begin.meter:
                if name not in meters:
                    meters[name] = Meter(begin.pid)
                elif sample := meters[name].sample():
                    cargo.write(Points(cargo.samples, now(), sample))
                    cargo.samples += 1
            if not self.trouble and name in self._started:
                try:
                    self._door(begin.project)(BeatRun(id=begin.run))
                except (TarmacError, OSError):
                    continue

    def is_idle(self) -> bool:
        return not any(cargo.is_alive() for cargo in list(self.cargos.values()))

    def close(self) -> None:
        for door in self._doors.values():
            door.close()


def folders(spools: Path) -> list[Path]:
    """The spools that have begun. What was given up half-made long ago is removed."""
    found = []
    try:
        for folder in spools.iterdir():
            if not folder.is_dir():
                continue
            if not folder.name.startswith("."):
                found.append(folder)
            elif time.time() - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass
    return found


def where_to(spools: Path) -> str | None:
    """The workspace that spools in a folder belong to, as the folder itself says."""
    try:
        return (spools / ADDRESS_FILE).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


# --- the process ---


def main(spools: Path, where: str) -> int:
    gc.freeze()
    gc.set_threshold(200_000)  # batches are many small objects that live for a moment
    lock = FileLock(spools / LOCK_FILE)
    while lock.acquire(wait=False):
        try:
            _work(spools, where)
        finally:
            lock.release()
        # whoever came after our last look saw the lock held and left it to us
        if not any(_is_written(folder) for folder in folders(spools)):
            break
    lock.close()
    return 0


def _is_written(folder: Path) -> bool:
    try:
        cargo = Cargo.load(folder)
    except (TarmacError, OSError):
        return False
    return cargo is not None and cargo.is_alive()


def _work(spools: Path, where: str) -> None:
    carrier = Carrier(spools, where)
    over = threading.Event()
    heart = threading.Thread(target=_beat, args=(carrier, over), name="tarmac-heart", daemon=True)
    heart.start()
    wakes = _Wake(spools / WAKE_FILE)
    last = time.monotonic()
    try:
        while True:
            if carrier.go_round():
                last = time.monotonic()
                continue
            if not carrier.is_idle():
                last = time.monotonic()
            may_pass = carrier.trouble and not carrier.refused and carrier.cargos
            patience = GIVE_UP_SECONDS if may_pass else LINGER_SECONDS
            if time.monotonic() - last > patience:
                return
            if wakes.wait(ROUND_SECONDS):
                carrier.woken()
    finally:
        over.set()
        heart.join()
        wakes.close()
        carrier.close()


def _beat(carrier: Carrier, over: threading.Event) -> None:
    meters: dict[str, Meter] = {}
    while not over.wait(BEAT_SECONDS):
        carrier.interrupt_long_request()
        try:
            carrier.beat(meters)
        except OSError:
            continue


class _Wake:
    """A named pipe that training writes a byte to when something was begun or ended."""

    def __init__(self, path: Path) -> None:
        self._file = -1
        if not hasattr(os, "mkfifo"):
            return
        try:
            if not path.exists():
                os.mkfifo(path)
            self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        except OSError:
            pass  # a file system without pipes: we look by ourselves, a little later

    def wait(self, seconds: float) -> bool:
        if self._file < 0:
            time.sleep(seconds)
            return False
        woken = bool(select.select([self._file], [], [], seconds)[0])
        if woken:
            os.read(self._file, 4096)
        return woken

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def sync(spools: Path, where: str, follow: Callable[[Carrier], None], *, foreign: bool = False) -> Carrier:
    """Send what lies here as far as it is now, in the foreground, and tell how it went."""
    carrier = Carrier(spools, where, send_held=True, foreign=foreign)
    try:
        while carrier.go_round():
            follow(carrier)
    finally:
        carrier.close()
    return carrier


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(NICER)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may go, and the work is not done
    Settings.from_environment()
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
