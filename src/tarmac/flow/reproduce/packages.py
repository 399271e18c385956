"""What was installed, installed again from its lock by uv, and kept for the next time under the lock's digest."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tarmac.core.errors import NotFound, bounded
from tarmac.core.ids import short
from tarmac.core.locks import locked
from tarmac.flow.leash import leashed
from tarmac.flow.reproduce.needs import Needs
from tarmac.flow.reproduce.records import Cause

OURS = {"UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}
"""Unless the machine says otherwise: no Python is fetched from the network, and who this machine trusts is trusted."""
KEPT = 5
"""So many sets of installed packages stay; the one that was not used for longest goes."""
OF_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX", "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE", "PIP_NO_INDEX": "UV_NO_INDEX",
}  # fmt: skip
"""The machine's settings for pip, as uv calls them."""
PLAIN = frozenset({
    "PATH", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "WINDIR", "COMSPEC", "PATHEXT",
    "NUMBER_OF_PROCESSORS", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
})  # fmt: skip
"""What every program may see of this machine's environment."""
ONLY_UV = (
    "UV_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "XDG_",
    "HOME",
    "USERPROFILE",
    "LOCALAPPDATA",
    "APPDATA",
)


class Unbuildable(Exception):
    """The packages cannot be had."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.what)
        self.cause = cause


def find_uv() -> str:
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise NotFound("uv, which installs a run's packages, is not here", hint="pip install 'tarmac[reproduce]'")
    return found


def installed(kept: Path, needs: Needs, look: Callable[[], None], log: Callable[[str], None]) -> Path:
    """The folder with Python and all that a run was started with; made if it is not there yet."""
    folder = kept / needs.digest[:32]
    kept.mkdir(parents=True, exist_ok=True)
    with locked(kept / "making.lock"):
        if not (folder / "whole").is_file():
            _make(folder, needs, find_uv(), look, log)
        (folder / "whole").touch()
        _throw_away(kept)
    return folder


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _make(folder: Path, needs: Needs, uv: str, look: Callable[[], None], log: Callable[[str], None]) -> None:
    partial = folder.with_name(f".{folder.name}.{short()}")
    environment = _environment()
    try:
        said = ""
        log(f"installing {needs.lock.count(chr(10))} packages for Python {needs.python}")
        for python in _pythons(needs.python):
            words = [uv, "venv", "--quiet", "--no-project", "--python", python, str(partial)]
            code, said = _uv(words, environment, look)
            if not code:
                break
        else:
            raise Unbuildable(Cause(kind="python", what=f"Python {needs.python} is not on this machine: {said}"))
        lock = partial / "lock.txt"
        lock.write_text(needs.lock, encoding="utf-8")
        words = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python_of(partial)), "-r", str(lock)]
        code, said = _uv(words, environment, look)
        if code:
            raise Unbuildable(Cause(kind="package", what=f"its packages cannot be installed: {said}"))
        (partial / "whole").touch()
        shutil.rmtree(folder, ignore_errors=True)
        # scripts name the folder they were made in; they are found by name, and Python by where it lies
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _pythons(version: str) -> list[str]:
    """What to ask for, the best first: the very Python, or another patch of the same version."""
    if version == platform.python_version():
        return [sys.executable]
    return [version, ".".join(version.split(".")[:2])]


def version_of(folder: Path) -> str:
    """Which Python it came to be."""
    for line in (folder / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "version_info":
            return value.strip()
    return ""


def _uv(words: list[str], environment: Mapping[str, str], look: Callable[[], None]) -> tuple[int, str]:
    output = bytearray()
    code = leashed(words, Path.cwd(), environment, output.extend, look)
    lines = [line.strip(" ╰─▶×│") for line in output.decode("utf-8", "replace").splitlines()]
    return code, bounded("; ".join(line for line in lines if line), 500)


def _environment() -> dict[str, str]:
    """Also the build of a package sees no more than this."""
    found = {name: value for name, value in os.environ.items() if name in PLAIN or name.upper().startswith(ONLY_UV)}
    for pip, uv in OF_PIP.items():
        if pip in os.environ:
            found.setdefault(uv, os.environ[pip])
    for name, value in OURS.items():
        found.setdefault(name, value)
    return found


def _throw_away(kept: Path) -> None:
    marks = sorted(kept.glob("*/whole"), key=lambda path: path.stat().st_mtime, reverse=True)
    for mark in marks[KEPT:]:
        shutil.rmtree(mark.parent, ignore_errors=True)
