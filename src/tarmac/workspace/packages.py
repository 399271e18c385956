"""How models become packages on this machine: of a run, of files that lie somewhere; and how packages are fetched."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.errors import Conflict, Invalid, TarmacError, bounded
from tarmac.core.ids import short, time_ordered
from tarmac.core.settings import Settings
from tarmac.formats import contract as contracts
from tarmac.formats import packing, probe, trust
from tarmac.formats.package import ABOUT, COMPILED, MLMODEL, Sealed, is_package
from tarmac.formats.packing import DESCRIPTION, Draft
from tarmac.formats.signature import infer
from tarmac.formats.spool import Begin
from tarmac.formats.trust import Trust
from tarmac.logging.examples import describe
from tarmac.registry.operations import GetPackage, GetVersion, ListPackageFiles
from tarmac.registry.records import Package, Version
from tarmac.store.operations import ListFiles
from tarmac.store.records import File
from tarmac.workspace import Workspace
from tarmac.workspace.registering import find, register

SEEN_AT_ONCE = 1000


# --- made ---


def package_of_run(
    workspace: Workspace,
    begin: Begin,
    name: str,
    files: Mapping[str, Path],
    id: str,
    *,
    foreign: bool,
    alive: Callable[[], None],
) -> None:
    """What a run kept of a model, packaged. Its code is the run's own, which has just run here, so that one prediction
    of it may be made and looked at; not so if the spool is foreign. The id is the same for who tries again. `alive` is
    called while that takes."""
    if (known := find(workspace, id)) is not None and any(ref.startswith(f"{name}@") for ref in known.versions):
        return
    if DESCRIPTION not in files:
        return  # somebody who was killed has packaged it, and taken the files away
    described = msgspec.json.decode(files[DESCRIPTION].read_bytes())
    with tempfile.TemporaryDirectory(prefix="tarmac-package-", dir=files[DESCRIPTION].parent) as place:
        folder = Path(place) / "package"
        folder.mkdir()
        rest = {path: file for path, file in files.items() if path != DESCRIPTION}
        draft = packing.of_run(described, rest, folder)
        draft.about = msgspec.structs.replace(
            draft.about, name=name, run=begin.run, project=begin.project, made=int(described.get("made") or begin.at)
        )
        python = begin.command[0] if begin.command and Path(begin.command[0]).exists() else sys.executable
        if foreign or described.get("kind") == "files":
            sealed, document = packing.seal(folder, draft), {}
        else:
            sealed = _probed(folder, draft, python, alive)
            document = {trust.MARK: trust.mark(Settings.from_environment().state, sealed.digest)}
        register(workspace, sealed, id, name=name, document={"origin": "run.model", **document}, run=begin.run)


def _probed(folder: Path, draft: Draft, python: str, alive: Callable[[], None]) -> Sealed:
    try:
        return probe.probe(folder, draft, python=python, alive=alive)
    except OSError as error:  # no process can be started: the package is whole without what one would have told
        note = f"no prediction could be made when it was packaged: {bounded(error)}"
        draft.about = msgspec.structs.replace(draft.about, notes=[*draft.about.notes, note])
        return packing.seal(folder, draft)


def add(
    workspace: Workspace,
    name: str,
    source: Path,
    *,
    example: Path | None = None,
    contract: Path | None = None,
    run_it: bool = False,
    **version: Any,
) -> Version:
    """A model that lies on this machine, packaged and added. Nothing of it is run, unless it is trusted or cannot
    carry code. A contract travels with it, and is asked of each row when it is served."""
    with tempfile.TemporaryDirectory(prefix="tarmac-package-") as place:
        folder = Path(place) / "package"
        folder.mkdir()
        if is_package(source):
            sealed = Sealed(source)
            sealed.verify()
        else:
            draft = packing.of_path(source, folder, name=name)
            draft.about = msgspec.structs.replace(draft.about, name=name)
            if contract is not None:
                kept = {"toml": contracts.dumps(contracts.load(contract))}
                draft.about = msgspec.structs.replace(draft.about, contract=kept)
            if example is not None:
                draft.example = describe(read_example(example))
                shown = draft.about.signature or infer(draft.example)
                draft.about = msgspec.structs.replace(draft.about, signature=shown)
            sealed = packing.seal(folder, draft)
            packing.check_example(packing.example_input(sealed), sealed.about.signature)
            if draft.about.entry.loader != "none" and (run_it or not sealed.runs_code()):
                sealed = probe.probe(folder, draft)
                if example is not None and not sealed.about.traced:
                    raise Invalid(
                        f"the example cannot be predicted: {sealed.about.notes[-1]}",
                        hint="give rows as the model takes them, or no example",
                    )
        return register(workspace, sealed, time_ordered(), name=name, document={"origin": "models.add"}, **version)


def read_example(file: Path) -> Any:
    """Rows in a file: JSON, CSV, Parquet, or an array of numpy."""
    suffix = file.suffix.lower()
    try:
        if suffix == ".json":
            return _as_rows(msgspec.json.decode(file.read_bytes()))
        if suffix == ".npy":
            import numpy as np

            return np.load(file, allow_pickle=False)
        if suffix in (".csv", ".parquet"):
            import pandas as pd

            return pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
    except ImportError as error:
        raise Invalid(f"{bounded(file, 300)} needs {error.name} to be read", hint=f"pip install {error.name}") from None
    except (OSError, ValueError) as error:
        raise Invalid(f"the example {bounded(file, 300)} cannot be read: {bounded(error, 300)}") from None
    raise Invalid(f"an example is not read from `{bounded(file.name)}`", hint="known are .json, .csv, .parquet, .npy")


def _as_rows(document: Any) -> Any:
    """JSON as it is, or as MLflow writes an example."""
    if isinstance(document, dict) and set(document) == {"columns", "data"}:
        return [dict(zip(document["columns"], row, strict=True)) for row in document["data"]]
    return document["inputs"] if isinstance(document, dict) and set(document) == {"inputs"} else document


# --- fetched ---


def fetch(workspace: Workspace, ref: str) -> tuple[Version, Sealed, str | None]:
    """A version's package as a folder in the cache, fetched if it is not there; and the digest of its compiled form."""
    version, package = _asked(workspace, ref)
    assert package.digest is not None
    folder = _cache() / package.digest
    try:
        sealed = Sealed(folder, package.digest) if folder.is_dir() else None
    except TarmacError:
        sealed = None
    if sealed is None:
        sealed = _fetched(workspace, package, folder)
    _fetch_compiled(workspace, package, folder)
    return version, sealed, package.compiled.digest if package.compiled else None


def fetch_anew(workspace: Workspace, ref: str, folder: Path) -> tuple[Version, Sealed]:
    """The same into a folder of one's own, whatever is in the cache."""
    version, package = _asked(workspace, ref)
    return version, _written(workspace, package, folder)


def _asked(workspace: Workspace, ref: str) -> tuple[Version, Package]:
    version = workspace(GetVersion(ref=ref))
    if version.package is None:
        raise Conflict(
            f"{version.model}@v{version.number} only names {bounded(version.location, 300)}: its bytes are not here",
            hint="`tarmac models add NAME PATH` keeps a model's bytes",
        )
    package = workspace(GetPackage(id=version.package))
    if package.digest is None or package.manifest is None:
        raise Conflict(f"package {package.id} of {version.model}@v{version.number} has no files")
    return version, package


def _cache() -> Path:
    return Settings.from_environment().state / "packages"


def _fetched(workspace: Workspace, package: Package, folder: Path) -> Sealed:
    """All or nothing: what is under its name is whole."""
    assert package.digest is not None
    partial = folder.with_name(f".{folder.name}.{short()}")
    try:
        _written(workspace, package, partial).verify()
        shutil.rmtree(folder, ignore_errors=True)
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else somebody was faster
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Sealed(folder, package.digest)


def _written(workspace: Workspace, package: Package, folder: Path) -> Sealed:
    """The files of a package, which says how it is loaded, or is one of MLflow's."""
    files = list(_files(workspace, package))
    paths = {file.path for file in files}
    if not paths & {ABOUT, MLMODEL}:
        raise Invalid(
            f"package {package.id} is not one that tarmac or MLflow made: it does not say how it is loaded",
            hint="`tarmac packages files ID` shows what it has; `tarmac models add NAME PATH` packages a model anew",
        )
    write(workspace, files, folder)
    if ABOUT not in paths:
        packing.adopt(folder, package.name)
    return Sealed(folder, package.digest)


def _files(workspace: Workspace, package: Package) -> Iterator[File]:
    after = ""
    while True:
        page = workspace(ListPackageFiles(id=package.id, after=after, limit=SEEN_AT_ONCE))
        yield from page.files
        if page.next is None:
            return
        after = page.next


def write(workspace: Workspace, files: list[File], folder: Path) -> None:
    for file in files:
        place = folder / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as out:
            for piece in workspace.read(file.digest):
                out.write(piece)


def _fetch_compiled(workspace: Workspace, package: Package, folder: Path) -> None:
    """The compiled form beside the package's own files; another one than the newest is replaced."""
    place = folder / COMPILED
    if package.compiled is None:
        shutil.rmtree(place, ignore_errors=True)
        return
    mark = place / "digest"
    try:
        if mark.read_text(encoding="ascii") == package.compiled.digest:
            return
    except OSError:
        pass
    files = workspace(ListFiles(id=package.compiled.manifest, limit=SEEN_AT_ONCE)).files
    partial = folder.with_name(f".{folder.name}.{short()}")
    try:
        write(workspace, files, partial)
        (partial / "digest").write_text(package.compiled.digest, encoding="ascii")
        shutil.rmtree(place, ignore_errors=True)
        partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# --- trusted ---


def trust_here(workspace: Workspace, version: Version, sealed: Sealed, digests: list[str]) -> Trust:
    """What vouches for a package here: who made it, the project file, or whoever names its digest."""
    command = f'tarmac.load_model("{version.model}@v{version.number}", trust="{{digest}}")'
    vouched = Trust(Trust.digests([*digests, *listed()]).reasons, command)
    package = workspace(GetPackage(id=version.package or ""))
    if trust.is_marked(Settings.from_environment().state, sealed.digest, package.document):
        return vouched.of(sealed.digest, "a run of yours made it on this machine")
    if sealed.digest not in vouched.reasons and (keys := trusted_keys()):
        from tarmac.workspace import signing

        if by := signing.signed_by(workspace, version, sealed, keys):
            return vouched.of(sealed.digest, f"it is signed with key {by[:16]}, which the project file trusts")
    return vouched


def listed() -> list[str]:
    """Digests that the project file trusts."""
    from tarmac.core import project_file

    file = project_file.find(Path.cwd())
    return project_file.load(file).trust.digests if file else []


def trusted_keys() -> list[str]:
    """Public keys, as text, whose signature the project file trusts."""
    from tarmac.core import project_file

    file = project_file.find(Path.cwd())
    try:
        return [(file.parent / path).read_text() for path in project_file.load(file).trust.keys] if file else []
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{file} [trust]: a key cannot be read: {bounded(error, 300)}") from None


def forget(sealed: Sealed) -> None:
    """Throw a damaged copy in the cache away."""
    if sealed.folder.parent == _cache():
        shutil.rmtree(sealed.folder, ignore_errors=True)
