"""From the files of a model to a package: what is known of it is written beside them, and all of it is sealed.

Nothing of the model is loaded here. What only a prediction can tell (what it answers, what it imports) comes from
`probe`, in a process of its own, and only where the code may run.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.clock import now
from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.core.files import below
from tarmac.core.ids import time_ordered
from tarmac.formats import mlmodel
from tarmac.formats.package import (
    ABOUT,
    EXAMPLE,
    MLMODEL,
    OUTPUT_EXAMPLE,
    REQUIREMENTS,
    About,
    Entry,
    Loader,
    PackedFile,
    Sealed,
    digest_mapped,
    encode,
)
from tarmac.formats.signature import Signature, infer

WRITTEN = (ABOUT, MLMODEL, REQUIREMENTS, OUTPUT_EXAMPLE, "python_env.yaml", mlmodel.LOADER_FILE)
"""Files that are made anew each time a package is sealed."""
DESCRIPTION = "about.json"
"""What `run.model` says of a model that it kept."""
_SUFFIXES: dict[str, tuple[str, Loader]] = {
    ".onnx": ("onnx", "onnx"), ".ubj": ("xgboost", "xgboost"), ".keras": ("keras", "keras"),
    ".pkl": ("python", "pickle"), ".pickle": ("python", "pickle"), ".joblib": ("sklearn", "pickle"),
    ".pt": ("torch", "torch"), ".pth": ("torch", "torch"),
}  # fmt: skip


class Draft(msgspec.Struct, kw_only=True):
    """A package that is being made: its files lie in a folder already."""

    about: About
    example: dict[str, Any] | None = None
    """As it was described."""
    foreign: bool = False
    """Whether it is an MLflow folder, whose own description stays."""
    digests: dict[str, PackedFile] = {}
    """Of files that need not be read again."""


# --- what there is ---


def of_run(description: Mapping[str, Any], files: Mapping[str, Path], folder: Path) -> Draft:
    """What `run.model` kept: the form of it that runs no code, where there is one, is what the package holds."""
    kind = str(description.get("kind"))
    cls = str(description.get("class", ""))
    wanted, entry = _chosen(kind, cls, files, description)
    for path in wanted:
        _place(files[path], folder / path)
    if kind == "files":
        return _with(of_path(_top(folder), folder, inside=True), description)
    about = About(
        name=str(description.get("name", "model")),
        kind=kind,
        entry=entry,
        files=[],
        library=str(description.get("library") or ""),
        version=str(description.get("version") or ""),
        cls=cls,
        python=str(description.get("python") or ""),
        notes=[str(note) for note in description.get("notes", [])],
        made=int(description.get("made") or now()),
    )
    return _with(Draft(about=about), description)


def _with(draft: Draft, description: Mapping[str, Any]) -> Draft:
    example = description.get("example")
    if isinstance(example, dict):
        draft.example = example
        shown = infer(example)
        if draft.about.signature is None:
            draft.about = msgspec.structs.replace(draft.about, signature=shown)
    return draft


def _chosen(kind: str, cls: str, files: Mapping[str, Path], description: Mapping[str, Any]) -> tuple[list[str], Entry]:
    """The files that a package of this kind is made of, and how they are loaded."""
    name = cls.rpartition(".")[2]
    carried = {side: f"{side}.pkl" for side in ("before", "after") if f"{side}.pkl" in files}
    classes = description.get("classes")
    loader: Loader = "none"
    file = ""
    if kind == "xgboost" and cls.startswith("xgboost.") and "model.ubj" in files:
        loader, file = "xgboost", "model.ubj"
    elif kind == "lightgbm" and cls.startswith("lightgbm.") and "model.txt" in files:
        loader, file = "lightgbm", "model.txt"
        if name == "LGBMClassifier" and classes is None:
            loader, file = "pickle", "model.pkl"
    elif kind == "onnx":
        loader, file = "onnx", "model.onnx"
    elif kind == "keras":
        loader, file = "keras", "model.keras"
    elif kind == "torch" and "module.pt" in files:
        loader, file = "torch", "module.pt"
    elif "model.pkl" in files:
        loader, file = "pickle", "model.pkl"
    kept = [file, *carried.values()] if file else [path for path in files if path != DESCRIPTION]
    if kind == "torch":
        kept += [path for path in files if path.endswith(".safetensors")]
    kept += [path for path in files if path.startswith("code/") and path not in kept]
    own = loader in ("xgboost", "lightgbm")
    return kept, Entry(loader=loader, file=file, cls=name if own else "", classes=classes if own else None, **carried)


def _top(folder: Path) -> Path:
    found = list(folder.iterdir())
    return found[0] if len(found) == 1 else folder


def of_path(source: Path, folder: Path, *, name: str = "", inside: bool = False) -> Draft:
    """A model that lies somewhere: one file of a known kind, an MLflow folder. It is put into `folder`, not loaded."""
    if not os.path.lexists(source):
        raise NotFound(f"there is no file or folder `{bounded(source, 300)}`")
    name = name or source.stem
    if source.is_dir():
        if not (source / MLMODEL).is_file():
            raise Invalid(
                f"{bounded(source, 300)} is no model folder: there is no {MLMODEL} in it",
                hint="give the file of the model, or a folder that `mlflow` or `tarmac` wrote",
            )
        for path, found in below(source, ""):
            if path != ABOUT:
                _place(found, folder / path)
        if inside and source != folder:
            shutil.rmtree(source)
        return _of_mlflow(folder, name)
    kind, loader = _sort(source)
    file = source.name
    if not inside:
        _place(source, folder / file)
    about = About(
        name=name, kind=kind, entry=Entry(loader=loader, file=file), files=[], python=platform.python_version(),
        made=now(),
    )  # fmt: skip
    return Draft(about=about)


def _sort(file: Path) -> tuple[str, Loader]:
    """By its name, and where that could be anything by how it begins."""
    suffix = file.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    with file.open("rb") as opened:
        start = opened.read(4096)
    if start.startswith(b"tree\n"):
        return "lightgbm", "lightgbm"
    if suffix == ".json" and b'"learner"' in start:
        return "xgboost", "xgboost"
    raise Invalid(
        f"nobody knows what kind of model `{bounded(file.name)}` is",
        hint=f"known are {', '.join(sorted(_SUFFIXES))}, XGBoost's JSON, LightGBM's text, and MLflow's folders",
    )


def _of_mlflow(folder: Path, name: str) -> Draft:
    document = mlmodel.read((folder / MLMODEL).read_bytes())
    kind, entry = mlmodel.entry_of(document)
    notes = []
    if entry.file and not (folder / entry.file).is_file():
        notes.append(f"MLmodel names `{bounded(entry.file)}`, which is not there")
        entry = Entry(loader="mlflow")
    plain = document["flavors"].get("python_function")
    plain = plain if isinstance(plain, dict) else {}
    requirements = _lines(folder / REQUIREMENTS)
    about = About(
        name=name,
        kind=kind,
        entry=entry,
        files=[],
        signature=mlmodel.signature_of(document),
        python=mlmodel.text(plain.get("python_version"), ""),
        requirements=requirements,
        run=mlmodel.text(document.get("run_id"), ""),
        notes=notes,
        made=now(),
    )
    return Draft(about=about, foreign=True)


def adopt(folder: Path, name: str) -> Sealed:
    """A folder of MLflow's that was sealed as it was, made a package where it lies. Done again, it is the same."""
    draft = _of_mlflow(folder, name)
    draft.about = msgspec.structs.replace(draft.about, made=0)
    return seal(folder, draft)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")][:1000]


def _place(source: Path, target: Path) -> None:
    """The same bytes in another place: one more name of them where the disk can do that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


# --- sealing ---


def seal(folder: Path, draft: Draft) -> Sealed:
    """Write what describes the package, and bind all of it to one digest. May be done again when more is known."""
    about = draft.about
    about = msgspec.structs.replace(about, requirements=about.requirements or _declared(about))
    if not draft.foreign:
        _describe(folder, draft, about)
    files = []
    for path, file in below(folder, ""):
        if path == ABOUT or "__pycache__" in path:
            continue
        size = file.stat().st_size
        known = draft.digests.get(path)
        if known is None or known.size != size or path in WRITTEN:
            known = PackedFile(path, digest_mapped(file, size), size)
            draft.digests[path] = known
        files.append(known)
    about = msgspec.structs.replace(about, files=sorted(files, key=lambda file: file.path))
    draft.about = about
    (folder / ABOUT).write_bytes(encode(about))
    return Sealed(folder)


def _describe(folder: Path, draft: Draft, about: About) -> None:
    info = None
    if draft.example is not None and (told := mlmodel.example_of(draft.example)) is not None:
        data, info = told
        (folder / EXAMPLE).write_bytes(data)
    (folder / "code").mkdir(exist_ok=True)
    (folder / mlmodel.LOADER_FILE).write_text(mlmodel.LOADER_CODE, encoding="utf-8")
    (folder / REQUIREMENTS).write_text("".join(f"{line}\n" for line in about.requirements), encoding="utf-8")
    (folder / "python_env.yaml").write_bytes(mlmodel.python_env(about))
    (folder / MLMODEL).write_bytes(mlmodel.write(about, example=info, id=time_ordered()))


_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def _declared(about: About) -> list[str]:
    """What is known without predicting: the library that the model is of."""
    if not about.library or about.library in ("__main__", "builtins") or not about.version:
        return []
    return [f"{_DISTRIBUTIONS.get(about.library, about.library)}=={about.version}"]


def example_input(sealed: Sealed) -> Any:
    """The example that the package holds, as rows of JSON by column or array; None without one."""
    if not sealed.has(EXAMPLE):
        return None
    document = msgspec.json.decode(bytes(sealed.read(EXAMPLE)))
    if "columns" in document:
        rows = document["data"]
        return {name: [row[index] for row in rows] for index, name in enumerate(document["columns"])}
    return document.get("inputs")


def check_example(example: Any, signature: Signature | None) -> None:
    """An example that the signature would refuse is refused now."""
    if example is None or signature is None:
        return
    from tarmac.formats.arrays import accept

    try:
        accept(example, signature)
    except Invalid as error:
        raise Invalid(f"the example does not fit the signature: {error.message}", hint=error.hint) from None
