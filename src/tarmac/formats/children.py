"""Work on models in a process of its own: what crashes, hangs or eats memory there harms nobody here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tarmac.core.errors import bounded

SECONDS = 60.0
LOOK_SECONDS = 0.25
MEMORY_SHARE = 0.8
LONGEST_LOG = 4000


class Outcome(NamedTuple):
    """What a child found out; or why it did not."""

    answer: dict[str, Any] | None
    why: str = ""


def run(
    module: str,
    request: dict[str, Any],
    *,
    seconds: float = SECONDS,
    python: str = sys.executable,
    memory: int | None = None,
    environment: dict[str, str] | None = None,
    alive: Callable[[], None] = lambda: None,
) -> Outcome:
    """`python -m MODULE` with a request, until it has answered or its time is over. `alive` is called meanwhile."""
    with tempfile.TemporaryDirectory(prefix="tarmac-child-") as place:
        asked, answered, log = (Path(place) / name for name in ("request.json", "answer.json", "log"))
        asked.write_bytes(msgspec.json.encode({**request, "memory": memory or _memory()}))
        with log.open("wb") as out:
            process = subprocess.Popen(
                [python, "-P", "-W", "ignore", "-m", module, str(asked), str(answered)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=place,
                env={**_environment(), **(environment or {})},
                start_new_session=sys.platform != "win32",  # so that what it starts dies with it
            )
        try:
            code = _wait(process, seconds, alive)
        finally:
            _end(process)
        if code is None:
            return Outcome(None, f"it was not done after {seconds:.0f} s, and was stopped")
        try:
            return Outcome(msgspec.json.decode(answered.read_bytes()))
        except (OSError, msgspec.DecodeError):
            return Outcome(None, _why(code, log))


def _wait(process: subprocess.Popen[bytes], seconds: float, alive: Callable[[], None]) -> int | None:
    left = seconds
    while left > 0:
        try:
            return process.wait(min(LOOK_SECONDS, left))
        except subprocess.TimeoutExpired:
            left -= LOOK_SECONDS
            alive()
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        if sys.platform != "win32":
            os.killpg(process.pid, signal.SIGKILL)  # the child and what it left behind
        else:
            process.kill()
    except OSError:
        pass
    process.wait()


def _why(code: int, log: Path) -> str:
    text = log.read_bytes()[-LONGEST_LOG:].decode("utf-8", "replace").strip()
    last = text.splitlines()[-1] if text else ""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"its process died of {name}" + (f": {bounded(last, 300)}" if last else "")
    return bounded(last, 300) or f"its process ended with {code} and said nothing"


def _environment() -> dict[str, str]:
    """Nothing of tarmac's own settings, and none of its tokens, is a model's business."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TARMAC_")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "MLFLOW_TRACKING_URI": "file:///dev/null"}


def _memory() -> int:
    """How many bytes a child may take."""
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE)
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def serve(work: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """The child's side: read the request, keep within memory, answer."""
    asked, answered = Path(sys.argv[1]), Path(sys.argv[2])
    request = msgspec.json.decode(asked.read_bytes())
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (request["memory"],) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(5)
    except (ImportError, ValueError, OSError):
        pass  # where there is no such thing, its time is still limited
    answer = work(request)
    temporary = answered.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(answer, enc_hook=plain))
    temporary.replace(answered)
    sys.stdout.flush()
    os._exit(0)  # libraries that hang at exit have nothing more to say


def plain(value: Any) -> Any:
    """Numbers and arrays of libraries as JSON has them."""
    for way in ("tolist", "item", "isoformat"):
        method = getattr(value, way, None)
        if callable(method):
            return method()
    if isinstance(value, bytes | bytearray):
        return value.decode("latin-1")
    return str(value)
