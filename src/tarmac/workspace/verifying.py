"""Whether a package still is what was sealed, and predicts where only its requirements are installed."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.errors import Conflict, Invalid, bounded
from tarmac.formats import alone, mlmodel, trust
from tarmac.formats.package import EXAMPLE, OUTPUT_EXAMPLE, REQUIREMENTS, Sealed
from tarmac.formats.signature import PREDICTION
from tarmac.formats.trust import Trust

INSTALL_SECONDS = 900
PREDICT_SECONDS = 120
NEAR = 1e-5


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A package whose bytes are all what they were. `fresh` says what came of predicting in a new environment."""

    name: str
    digest: str
    files: int
    size: int
    fresh: str = ""
    signed: str = ""
    faults: list[str] = []


def verify(sealed: Sealed) -> Verified:
    sealed.verify()
    about = sealed.about
    return Verified(
        name=about.name, digest=sealed.digest, files=len(about.files) + 1, size=sum(file.size for file in about.files)
    )


def fresh(sealed: Sealed, vouched: Trust) -> Verified:
    """The same, and a prediction of the example in an environment that has the package's requirements only."""
    # what a package wants to have installed may run code as well, and so does the loader that it brings
    trust.check(sealed, vouched, [*sealed.runs_code(), REQUIREMENTS, mlmodel.LOADER_FILE])
    found = verify(sealed)
    if not sealed.has(EXAMPLE) or not sealed.has(OUTPUT_EXAMPLE):
        raise Conflict(
            f"package {bounded(sealed.about.name)} has no example with its answer: there is nothing to predict",
            hint="`run.model(model, name=…, example=rows)` keeps one",
        )
    with tempfile.TemporaryDirectory(prefix="tarmac-fresh-") as place:
        python = _environment(Path(place), sealed)
        answer = _predicted(python, Path(place), sealed)
    expected = msgspec.json.decode(bytes(sealed.read(OUTPUT_EXAMPLE)))
    fault = _difference(expected.get(PREDICTION, expected), _prediction(answer, expected))
    said = f"predicts the same with {len(sealed.about.requirements)} requirements" if not fault else ""
    return msgspec.structs.replace(found, fresh=said, faults=[fault] if fault else [])


def _prediction(answer: Any, expected: Any) -> Any:
    return answer.get(PREDICTION, answer) if isinstance(answer, dict) and PREDICTION in expected else answer


def _uv() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise Invalid("a new environment is made by uv, which is not installed", hint="pip install uv")
    return found


def _environment(place: Path, sealed: Sealed) -> Path:
    uv = _uv()
    environment = {**os.environ}
    # pip and uv name the same setting differently; who has set the first means both
    for theirs, ours in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_FIND_LINKS", "UV_FIND_LINKS")):
        if theirs in environment:
            environment.setdefault(ours, environment[theirs])
    version = ".".join(sealed.about.python.split(".")[:2]) or f"{sys.version_info[0]}.{sys.version_info[1]}"
    mine = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = sys.executable if version == mine else version
    _run([uv, "venv", "--quiet", "--python", wanted, str(place / "venv")], INSTALL_SECONDS, environment)
    python = place / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    listed = sealed.folder / REQUIREMENTS
    if sealed.about.requirements:
        install = [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(listed)]
        _run(install, INSTALL_SECONDS, environment)
    return python


def _predicted(python: Path, place: Path, sealed: Sealed) -> Any:
    answer = place / "answer.json"
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    script = str(Path(alone.__file__))
    _run([str(python), "-I", "-W", "ignore", script, str(sealed.folder), str(answer)], PREDICT_SECONDS, clean)
    return msgspec.json.decode(answer.read_bytes().replace(b"NaN", b"null").replace(b"Infinity", b"null"))


def _run(words: list[str], seconds: float, environment: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=seconds, env=environment, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Conflict(f"`{bounded(Path(words[0]).name)} {bounded(words[1])}` took more than {seconds:.0f} s") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.strip().splitlines() if line.strip()]
        step = "the example cannot be predicted" if "-I" in words else "its requirements cannot be installed"
        raise Conflict(f"in a new environment {step}: {bounded(said[-1] if said else 'no reason given', 500)}")


def _difference(expected: Any, found: Any, where: str = "the answer") -> str:
    """What differs, in a sentence; empty where nothing does."""
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{where} has {len(found)} values, not {len(expected)}"
        faults = (
            _difference(one, other, f"row {index}")
            for index, (one, other) in enumerate(zip(expected, found, strict=True))
        )
        return next((fault for fault in faults if fault), "")
    if isinstance(expected, float | int) and isinstance(found, float | int) and not isinstance(expected, bool):
        same = math.isclose(expected, found, rel_tol=NEAR, abs_tol=NEAR)
        return "" if same else f"{where} is {bounded(found)}, not {bounded(expected)}"
    return "" if expected == found else f"{where} is {bounded(found)}, not {bounded(expected)}"
