"""A package as a folder: what it says of itself, and its bytes, each verified before anything is made of them.

`tarmac.json` names every other file with its digest. The package's own digest covers `tarmac.json` too, so whoever
knows that one number knows all bytes. `.compiled`, if it is there, holds the form that was proved to be equal; it has
a digest of its own, because it was made later.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Literal

import msgspec

from tarmac.core.digest import digest, digest_file, tree_digest
from tarmac.core.errors import Damaged, Invalid, NewerFormat, NotFound, bounded
from tarmac.core.names import Digest, RelativePath
from tarmac.formats.signature import Signature

FORMAT = 1
ABOUT = "tarmac.json"
MLMODEL = "MLmodel"
REQUIREMENTS = "requirements.txt"
EXAMPLE = "input_example.json"
OUTPUT_EXAMPLE = "output_example.json"
CODE = "code"
COMPILED = ".compiled"
REPORT = "report.json"
COMPILED_MODEL = "model.onnx"
LARGEST_ABOUT = 64 * 1024 * 1024
MOST_NAMED = 5

Loader = Literal["pickle", "onnx", "xgboost", "lightgbm", "keras", "torch", "mlflow", "none"]
RUNS_CODE: frozenset[Loader] = frozenset({"pickle", "torch", "mlflow"})
"""Those that carry out what the file says, whatever that is."""


class PackedFile(msgspec.Struct, frozen=True):
    path: RelativePath
    digest: Digest
    size: int


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the model is brought to life: what loads which file."""

    loader: Loader
    file: str = ""
    cls: str = ""
    """For files that say nothing of the Python class around the model: its name in the library."""
    classes: list[Any] | None = None
    """The labels that a classifier's numbers stand for."""
    before: str = ""
    after: str = ""
    """Pickled functions: what is done with the input before, and with the answer after."""


class About(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a package says of itself, in `tarmac.json`."""

    format: int = FORMAT
    name: str
    kind: str
    entry: Entry
    files: list[PackedFile]
    signature: Signature | None = None
    contract: dict[str, Any] | None = None
    """The rules that the training data kept."""
    library: str = ""
    version: str = ""
    cls: str = ""
    python: str = ""
    requirements: list[str] = []
    """What prediction needs; `traced` says that it was found by predicting, not by what the model is."""
    traced: bool = False
    run: str = ""
    project: str = ""
    data: list[str] = []
    probe: dict[str, Any] = {}
    """How a prediction on the example went, where one was made."""
    notes: list[str] = []
    made: int = 0


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of compiling: whether both forms were the same, and how that was found."""

    equal: bool
    why: str
    rows: int = 0
    from_data: int = 0
    """How many of the rows are of given data; the others are of the example or made from the signature."""
    largest_difference: float | None = None
    agreement: float | None = None
    """The share of rows that got the same label."""
    tolerance: float = 0.0
    size: int = 0
    native_size: int = 0
    native_us: float | None = None
    compiled_us: float | None = None
    """Microseconds of one row, here."""
    tools: dict[str, str] = {}
    tried: list[str] = []


class Compiled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`.compiled/report.json`: which package it is of, how its model is called, and the proof."""

    format: int = FORMAT
    package: Digest
    proof: Proof
    model: PackedFile | None = None
    feed: Literal["matrix", "columns", "tensors"] = "matrix"
    dtype: str = "float32"
    outputs: dict[str, str] = {}
    """The names of the model's answers, and ours."""
    flat: list[str] = []
    """Answers of one column that the native form gives without it."""
    classes: list[Any] | None = None


class Sealed:
    """A package folder. Making one reads `tarmac.json` and looks at sizes; bytes are verified as they are read.

    What is expected is the package's digest; or that of all its other files, for a folder of MLflow's that was sealed
    without a `tarmac.json` and was given one here (`packing.adopt`).
    """

    def __init__(self, folder: Path, expected: str | None = None) -> None:
        self.folder = folder
        data = _read_about(folder)
        self.about = decode_about(data, folder)
        self._files = {file.path: file for file in self.about.files}
        self.digest = package_digest(self.about.files, data)
        if expected is not None and expected not in (self.digest, tree_digest(_entries(self.about.files))):
            raise Damaged(
                f"package {bounded(folder, 300)} is not the one that was asked for: its digest is {self.digest}, not "
                f"{bounded(expected)}",
                hint="somebody has changed `tarmac.json`, or it is another package; fetch it again",
            )
        self._compare(expected)

    def _compare(self, expected: str | None) -> None:
        """Every file that is said to be there is, with its size, and no other."""
        there = {path: size for path, size in _walk(self.folder) if path != ABOUT}
        faults = [f"`{bounded(path)}` is missing" for path in self._files if path not in there]
        faults += [
            f"`{bounded(path)}` has {size} bytes, not {self._files[path].size}"
            for path, size in there.items()
            if path in self._files and self._files[path].size != size
        ]
        faults += [f"`{bounded(path)}` is no part of it" for path in there if path not in self._files]
        if faults:
            raise _damaged(self.folder, faults)

    def read(self, path: str) -> bytes:
        """The bytes of a file, which are those that were sealed: what is verified is what is used."""
        file = self._file(path)
        data = bytearray(file.size)
        with (self.folder / path).open("rb", buffering=0) as opened:
            found = _read_hashed(opened, memoryview(data))
        if found != file.digest:
            raise _damaged(self.folder, [f"`{bounded(path)}` has other bytes"])
        return data  # type: ignore[return-value]

    def path(self, path: str) -> Path:
        """Where a verified file lies, for libraries that read only files."""
        file = self._file(path)
        if digest_mapped(self.folder / path, file.size) != file.digest:
            raise _damaged(self.folder, [f"`{bounded(path)}` has other bytes"])
        return self.folder / path

    def verify(self) -> None:
        """Read all of it; every damaged file is named."""
        faults = [
            f"`{bounded(file.path)}` has other bytes"
            for file in self.about.files
            if digest_mapped(self.folder / file.path, file.size) != file.digest
        ]
        if faults:
            raise _damaged(self.folder, faults)

    def has(self, path: str) -> bool:
        return path in self._files

    def below(self, folder: str) -> list[str]:
        return [path for path in self._files if path.startswith(f"{folder}/")]

    def _file(self, path: str) -> PackedFile:
        if path not in self._files:
            raise NotFound.named("file", path, self._files, hint=f"of package {bounded(self.about.name)}")
        return self._files[path]

    def compiled(self, expected: str | None = None) -> tuple[Compiled, bytes] | None:
        """The form that was proved to be equal, and its bytes; None where there is none. It has to be of this package,
        and, where its digest is known, to be that one."""
        place = self.folder / COMPILED
        if not (place / REPORT).is_file():
            return None
        data = (place / REPORT).read_bytes()
        report = decode_compiled(data, place)
        if report.package != self.digest:
            raise _damaged(self.folder, [f"`{COMPILED}` was made of another package"])
        if expected is not None and compiled_digest(report, data) != expected:
            raise _damaged(self.folder, [f"`{COMPILED}/{REPORT}` has other bytes"])
        if report.model is None or not report.proof.equal:
            return None
        model = (place / COMPILED_MODEL).read_bytes()
        if digest(model) != report.model.digest:
            raise _damaged(self.folder, [f"`{COMPILED}/{COMPILED_MODEL}` has other bytes"])
        return report, model

    def runs_code(self) -> list[str]:
        """The files through which the package itself decides what is carried out when it is loaded as it is."""
        entry = self.about.entry
        found = [entry.file] if entry.loader in RUNS_CODE else []
        return [*found, *self.brings()]

    def brings(self) -> list[str]:
        """Code beside the model, which its compiled form needs as well."""
        entry = self.about.entry
        return [path for path in (entry.before, entry.after) if path]


def is_package(folder: Path) -> bool:
    return (folder / ABOUT).is_file()


def package_digest(files: list[PackedFile], about: bytes) -> str:
    """What a store computes too when it binds these files to a manifest."""
    return tree_digest(sorted([*_entries(files), (ABOUT, digest(about), len(about))]))


def _entries(files: list[PackedFile]) -> list[tuple[str, str, int]]:
    return sorted((file.path, file.digest, file.size) for file in files)


def compiled_digest(report: Compiled, data: bytes) -> str:
    files = [(REPORT, digest(data), len(data))]
    if report.model is not None:
        files.append((report.model.path, report.model.digest, report.model.size))
    return tree_digest(sorted(files))


def encode(document: About | Compiled) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode_about(data: bytes, where: object) -> About:
    about: About = _decode(data, About, f"{bounded(where, 300)}/{ABOUT}")
    paths = [file.path for file in about.files]
    if len(set(paths)) != len(paths) or ABOUT in paths:
        raise Damaged(f"{bounded(where, 300)}/{ABOUT} names a file twice, or itself")
    named = [path for path in (about.entry.file, about.entry.before, about.entry.after) if path]
    for path in named:
        if path not in paths and about.entry.loader not in ("mlflow", "none"):
            raise Damaged(f"{bounded(where, 300)}/{ABOUT} names a model `{bounded(path)}` that is no file of it")
    return about


def decode_compiled(data: bytes, where: object) -> Compiled:
    report: Compiled = _decode(data, Compiled, f"{bounded(where, 300)}/{REPORT}")
    return report


def _decode(data: bytes, kind: Any, name: str) -> Any:
    try:
        found = msgspec.json.decode(data)
        number = found.get("format") if isinstance(found, dict) else None
        if isinstance(number, int) and number > FORMAT:
            raise NewerFormat.of(name, number, FORMAT)
        return msgspec.convert(found, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{name} is not what a package says of itself: {bounded(error, 300)}") from None


def _read_about(folder: Path) -> bytes:
    path = folder / ABOUT
    try:
        if path.stat().st_size > LARGEST_ABOUT:
            raise Damaged(f"{path} is too long to be true")
        return path.read_bytes()
    except OSError as error:
        raise Invalid(
            f"{bounded(folder, 300)} is no package: {ABOUT} cannot be read: {error.strerror}",
            hint="`tarmac models add NAME PATH` makes one of a model",
        ) from None


def _walk(folder: Path) -> list[tuple[str, int]]:
    found = []
    for place, folders, names in os.walk(folder):
        if Path(place) == folder:
            folders[:] = [name for name in folders if name != COMPILED]
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in [*names, *(name for name in folders if (Path(place) / name).is_symlink())]:
            path = Path(place) / name
            facts = path.lstat()
            if not stat.S_ISREG(facts.st_mode):
                raise _damaged(folder, [f"`{bounded(name)}` is not a regular file"])
            found.append((path.relative_to(folder).as_posix(), facts.st_size))
    return found


def _damaged(folder: Path, faults: list[str]) -> Damaged:
    named = "; ".join(faults[:MOST_NAMED]) + (f"; and {len(faults) - MOST_NAMED} more" if len(faults) > 5 else "")
    return Damaged(
        f"package {bounded(folder, 300)} is damaged: {named}",
        hint="nothing of it was loaded; fetch it again",
        detail={"faults": faults[:100]},
    )


LARGE = 1 << 20
STEP = 16 << 20


def _read_hashed(opened: Any, view: memoryview) -> str:
    """Fill the view; the digest of what came. A large file is hashed by one thread while another reads on."""
    from blake3 import blake3

    if len(view) < LARGE:
        _fill(opened, view)
        return _ended(opened, blake3(view))
    from concurrent.futures import ThreadPoolExecutor

    hasher = blake3()
    with ThreadPoolExecutor(1) as beside:
        hashed = None
        for start in range(0, len(view), STEP):
            piece = view[start : start + STEP]
            _fill(opened, piece)
            if hashed is not None:
                hashed.result()
            hashed = beside.submit(hasher.update, piece)
        if hashed is not None:
            hashed.result()
    return _ended(opened, hasher)


def _ended(opened: Any, hasher: Any) -> str:
    """Nothing, if the file is longer than was said."""
    return "" if opened.read(1) else str(hasher.hexdigest())


def _fill(opened: Any, view: memoryview) -> None:
    at = 0
    while at < len(view) and (step := opened.readinto(view[at:])):
        at += step


def digest_mapped(path: Path, size: int) -> str:
    """The digest of a file by all cores, where it is large enough for that."""
    if size < LARGE:
        return digest_file(path)
    from blake3 import blake3

    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(path)
    return hasher.hexdigest()
