"""A command on a leash: whoever started it dies, and it dies too, with all that it started in its group.

The leash is a small process between the two. It runs this file alone, without tarmac, and watches a pipe that closes
when its holder is gone, by whatever death.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

PATIENCE_SECONDS = 3.0
LOOK_SECONDS = 0.5


def leashed(
    words: list[str],
    folder: Path,
    environment: Mapping[str, str],
    hear: Callable[[bytes], object],
    look: Callable[[], None],
) -> int:
    """Run a command to its end: its exit code. `hear` is told what it prints; what `look` raises ends it."""
    process = subprocess.Popen(
        on_leash(words),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    out = process.stdout

    def listen() -> None:
        while data := os.read(out.fileno(), 65536):
            hear(data)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        while process.returncode is None:
            try:
                process.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                look()
    finally:
        process.stdin.close()  # the leash lets go of nothing: it ends what still runs
        process.wait()
        listener.join(PATIENCE_SECONDS)  # something that left the group may hold the pipe for good
        if not listener.is_alive():
            out.close()
    return int(process.returncode)


def on_leash(words: list[str]) -> list[str]:
    """The words that start a command so: its leash has to have a pipe as its standard input."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *words]


def _hold(words: list[str]) -> int:
    """The leash itself."""
    apart = {"process_group": 0} if os.name != "nt" else {}
    try:
        held = subprocess.Popen(words, stdin=subprocess.DEVNULL, **apart)  # type: ignore[call-overload]
    except OSError as error:
        sys.stderr.write(f"{words[0]}: {error.strerror}\n")
        return 127

    def watch() -> None:
        while os.read(0, 1024):
            pass
        _end(held, signal.SIGTERM)
        try:
            held.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        _end(held, getattr(signal, "SIGKILL", signal.SIGTERM))

    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, lambda number, frame: _end(held, number))
    threading.Thread(target=watch, daemon=True).start()
    code = int(held.wait())
    _end(held, getattr(signal, "SIGKILL", signal.SIGTERM))  # what it left behind
    return code if code >= 0 else 128 - code


def _end(held: subprocess.Popen[bytes], number: int) -> None:
    try:
        if os.name != "nt":
            os.killpg(held.pid, number)
        else:
            held.terminate()
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(_hold(sys.argv[1:]))
