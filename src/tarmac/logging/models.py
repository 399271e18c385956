"""What `run.model` keeps of a model: its native form, and `about.json`, which says all that packaging it needs.

A library is recognised by the names of its classes and imported only if the model is its own.
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from tarmac.core.clock import now
from tarmac.core.errors import Invalid, bounded, nearest
from tarmac.core.files import run_path
from tarmac.formats.spool import SavedFile
from tarmac.logging import things
from tarmac.logging.documents import write_json
from tarmac.logging.examples import describe
from tarmac.logging.things import Piece, Write, is_a

FORMAT = 1
FOLDER = "models"
ABOUT = "about.json"
PICKLE_PROTOCOL = 5

Forms = list[tuple[str, Write]]
"""Names of files, and what writes them."""


def packaged(
    model: Any, name: str = "model", example: Any = None, *, before: Any = None, after: Any = None, look: bool = True
) -> tuple[list[Piece], Callable[[list[SavedFile]], Piece]]:
    """The files of a model, and what makes `about.json` of them when their sizes are known. Nothing is written yet."""
    folder = _folder(name)
    about: dict[str, Any] = {"format": FORMAT, "name": name, **_origin(model), **_classes(model), "notes": []}
    if example is not None:
        about["example"] = describe(example)
        if before is None:
            _check_example(model, about["example"])
    if isinstance(model, os.PathLike):
        about["kind"] = "files"
        source = Path(model)
        found = list(things.pieces(f"{folder}/{source.name or source.resolve().name}", source, look=look))
    else:
        about["kind"], forms = _forms(model, about["notes"])
        found = [Piece(f"{folder}/{file}", write) for file, write in forms]
    for side, function in (("before", before), ("after", after)):
        if function is not None and not callable(function):
            raise Invalid(f"`{side}` is a function, not {bounded(repr(function))}")
        if function is not None:
            found.append(Piece(f"{folder}/{side}.pkl", partial(_pickle, function)))

    def last(saved: list[SavedFile]) -> Piece:
        files = [{"path": file.path.removeprefix(f"{folder}/"), "size": file.size} for file in saved]
        return Piece(f"{folder}/{ABOUT}", partial(write_json, {**about, "files": files, "made": now()}))

    return found, last


def check_name(name: Any) -> None:
    """What a model can be called, which is less than a folder."""
    if isinstance(name, str) and (not name.strip() or any(mark in name for mark in "/:@")):
        raise Invalid(
            f"`{bounded(name)}` cannot be the name of a model", hint="text without `/`, `:` and `@`, like churn"
        )


def _folder(name: Any) -> str:
    if not isinstance(name, str) or "/" in name or not name:
        raise Invalid(f"`{bounded(name)}` cannot be the name of a model", hint="text without `/`, like churn")
    return run_path(f"{FOLDER}/{name}")


def _origin(model: Any) -> dict[str, Any]:
    cls = type(model)
    library = cls.__module__.partition(".")[0]
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "library": library,
        "version": _version(library),
        "python": platform.python_version(),
    }


def _classes(model: Any) -> dict[str, Any]:
    """The labels of a classifier: some file formats keep its numbers only."""
    if not is_a(model, "xgboost", "XGBModel") and not is_a(model, "lightgbm", "LGBMModel"):
        return {}
    try:
        labels = model.classes_.tolist()
    except Exception:  # noqa: BLE001 - it is no classifier, or was not trained
        return {}
    return {"classes": labels} if all(isinstance(label, str | int | float | bool) for label in labels) else {}


def _check_example(model: Any, example: dict[str, Any]) -> None:
    """An example of another width than the model was trained with is no example of its input."""
    try:
        width = getattr(model, "n_features_in_", None)
        names = getattr(model, "feature_names_in_", None)
    except Exception:  # noqa: BLE001 - untrained models have many ways to say so
        return
    columns = [column["name"] for column in example.get("columns", [])]
    if names is not None and columns and hasattr(names, "tolist"):
        missing = [name for name in names.tolist() if name not in columns]
        if missing:
            near = nearest(str(missing[0]), columns)
            raise Invalid(
                f"the example has no column `{bounded(missing[0])}`, and the model was trained with it",
                hint=f"is it `{bounded(near)}`?" if near else "give some rows of what it was trained on",
            )
    shape = example.get("shape") or []
    if isinstance(width, int) and len(shape) == 2 and not (columns and names is not None) and shape[1] != width:
        raise Invalid(
            f"the example has {shape[1]} columns, and the model was trained with {width}",
            hint="give some rows of what it was trained on",
        )


def _version(library: str) -> str | None:
    """Of the distribution a module came with, which may be called otherwise (sklearn is scikit-learn)."""
    found = getattr(sys.modules.get(library), "__version__", None)
    if isinstance(found, str):
        return str(found)  # torch has a class of its own for it
    try:
        return metadata.version(library)
    except (metadata.PackageNotFoundError, ValueError):
        return None


# --- each kind of model ---


def _forms(model: Any, notes: list[str]) -> tuple[str, Forms]:
    if model is None or isinstance(model, str | int | float | types.ModuleType):
        raise Invalid(
            f"{bounded(repr(model))} is no model",
            hint="a model is the object itself, the bytes of an ONNX model, or pathlib.Path(…) of its file or folder",
        )
    if isinstance(model, bytes | bytearray):
        return "onnx", [("model.onnx", partial(_onnx_bytes, bytes(model)))]
    for library, names, kind, forms in KNOWN:
        if is_a(model, library, *names):
            return kind, forms(model, notes)
    return ("sklearn" if is_a(model, "sklearn", "BaseEstimator") else "python"), _pickled(model, notes)


def _pickled(model: Any, notes: list[str]) -> Forms:
    if type(model).__module__ == "__main__" and _cloudpickle() is None:
        notes.append(
            f"class {type(model).__qualname__} is defined in __main__: only a script that defines it too can load it; "
            "with cloudpickle installed it would be kept with the model"
        )
    return [("model.pkl", partial(_pickle, model))]


def _pickle(model: Any, path: Path) -> None:
    by_value = _cloudpickle()
    own = own_modules() if by_value else []
    # code of the script and its project is nowhere to be found by whoever loads the model: keep it with the model
    first, second = (by_value, pickle) if own else (pickle, by_value)
    try:
        with _kept_by_value(by_value, own):
            return _dump(first, model, path)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        why = error
    if second is not None:
        try:
            return _dump(second, model, path)
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            why = error
    raise Invalid(
        f"a {type(model).__module__}.{type(model).__qualname__} cannot be pickled: {bounded(why, 300)}",
        hint="drop what is open or running (files, locks, connections) from it; lambdas and classes made inside "
        "functions belong to the top of a module" + ("" if by_value else ", or are kept by `pip install cloudpickle`"),
    ) from why


def own_modules() -> list[types.ModuleType]:
    """What is loaded of the project's own code: `__main__`, and modules that lie where its script or the current
    folder is, and were not installed there."""
    main = sys.modules.get("__main__")
    roots = {Path.cwd().resolve()}
    if (file := getattr(main, "__file__", None)) is not None:
        roots.add(Path(file).resolve().parent)
    found = [main] if main is not None else []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or name == "__main__" or name.partition(".")[0] == "tarmac":
            continue
        if not file.endswith(".py") or "site-packages" in file or "dist-packages" in file:
            continue
        if file.startswith((sys.base_prefix + os.sep, sys.prefix + os.sep)):
            continue
        if any(root in Path(file).resolve().parents for root in roots):
            found.append(module)
    return found


@contextmanager
def _kept_by_value(by_value: Any, modules: list[types.ModuleType]) -> Iterator[None]:
    """Meanwhile cloudpickle writes what classes and functions of these modules are, not where they are."""
    registered = []
    for module in modules:
        if by_value is not None and module.__name__ != "__main__":
            try:
                by_value.register_pickle_by_value(module)
                registered.append(module)
            except ValueError:
                continue
    try:
        yield
    finally:
        for module in registered:
            by_value.unregister_pickle_by_value(module)


def _dump(pickler: Any, model: Any, path: Path) -> None:
    with path.open("wb") as file:
        pickler.dump(model, file, protocol=PICKLE_PROTOCOL)


def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle


def _torch(model: Any, notes: list[str]) -> Forms:
    def state(path: Path) -> None:
        import torch

        torch.save(model.state_dict(), path)

    def safe(path: Path) -> None:
        from safetensors.torch import save_model

        save_model(model, str(path))  # which keeps tensors that share memory once

    def whole(path: Path) -> None:
        import torch

        torch.save(model, path, pickle_protocol=PICKLE_PROTOCOL)

    # the state alone is enough for who has the code that makes the module
    forms: Forms = [("state.pt", state), ("module.pt", _if_possible("module.pt", whole, notes))]
    if _has("safetensors.torch"):
        forms.append(("state.safetensors", _if_possible("state.safetensors", safe, notes)))
    return forms


def _if_possible(file: str, write: Write, notes: list[str]) -> Write:
    """A form beside another one: where it cannot be written, a note says why."""

    def attempt(path: Path) -> None:
        try:
            write(path)
        except Exception as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno is not None:
                raise
            notes.append(f"there is no {file}: {type(error).__name__}: {bounded(error, 300)}")

    return attempt


def _has(module: str) -> bool:
    from importlib import import_module

    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _method(name: str, file: str) -> Callable[[Any, list[str]], Forms]:
    """A model that writes itself: `save_model(path)`."""

    def forms(model: Any, notes: list[str]) -> Forms:
        return [(file, lambda path: getattr(model, name)(str(path)))]

    return forms


def _estimator(of: Callable[[Any], Any], file: str) -> Callable[[Any, list[str]], Forms]:
    """One in the clothes of scikit-learn: its native form, and a pickle, which has its classes and settings too."""

    def forms(model: Any, notes: list[str]) -> Forms:
        return [(file, lambda path: of(model).save_model(str(path))), *_pickled(model, notes)]

    return forms


def _onnx(model: Any, notes: list[str]) -> Forms:
    return [("model.onnx", lambda path: _onnx_bytes(model.SerializeToString(), path))]


def _onnx_bytes(data: bytes, path: Path) -> None:
    path.write_bytes(data)


KNOWN: list[tuple[str, tuple[str, ...], str, Callable[[Any, list[str]], Forms]]] = [
    ("keras", ("Model",), "keras", _method("save", "model.keras")),  # which may be a torch module as well
    ("torch", ("Module",), "torch", _torch),
    ("xgboost", ("Booster",), "xgboost", _method("save_model", "model.ubj")),
    ("xgboost", ("XGBModel",), "xgboost", _estimator(lambda model: model, "model.ubj")),
    ("lightgbm", ("Booster",), "lightgbm", _method("save_model", "model.txt")),
    ("lightgbm", ("LGBMModel",), "lightgbm", _estimator(lambda model: model.booster_, "model.txt")),
    ("catboost", ("CatBoost",), "catboost", _method("save_model", "model.cbm")),
    ("onnx", ("ModelProto",), "onnx", _onnx),
]
"""Library, its classes, what the kind is called, and its files."""
