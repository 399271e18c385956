"""What `run.save` takes: each kind of thing, the suffixes it can be saved under, and how it becomes a file.

Libraries are recognised by the names of their classes, so that nothing is imported that training did not import itself.
A new kind is a line in `KINDS`, or for a library's own classes in `KNOWN`.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.core.files import below, run_path
from tarmac.logging import arrays, documents, pictures, tables

Write = Callable[[Path], None]
SUPPORTED = (
    "files and folders as pathlib.Path, text, bytes, dicts and lists, numpy arrays, torch tensors, tables (pandas, "
    "polars, pyarrow), figures (matplotlib, plotly), PIL images; a model is saved by run.model(model)"
)
BINARY = frozenset({
    ".avif", ".avro", ".bin", ".bmp", ".bz2", ".cbm", ".ckpt", ".feather", ".gif", ".gz", ".h5", ".jpeg", ".jpg",
    ".keras", ".mp3", ".mp4", ".npy", ".npz", ".onnx", ".parquet", ".pdf", ".pickle", ".pkl", ".png", ".pt", ".pth",
    ".safetensors", ".tar", ".tif", ".tiff", ".ubj", ".wav", ".webp", ".xz", ".zip", ".zst",
})  # fmt: skip
"""Suffixes under which nobody looks for text."""


class Piece(NamedTuple):
    """A file to be: its path in the run, and where it is copied from or how it is written."""

    path: str
    source: Path | Write


class Kind(NamedTuple):
    """A sort of thing: what people call it, and how it is written under each suffix, the implied one first."""

    name: str
    ways: Mapping[str, Callable[[Any, Path], None]]


def pieces(name: str | os.PathLike[str], thing: Any = None, *, look: bool = True) -> Iterator[Piece]:
    """The files that saving a thing means. Wrong arguments are raised here; nothing is written.

    Without `look` nobody asks whether files are there: other ranks rarely have them.
    """
    if not isinstance(name, str | os.PathLike):
        raise Invalid(f"a file of a run has a name, which {_a(name)} is not", hint='like run.save("roc.png", figure)')
    if thing is None:
        source = Path(name)
        to = run_path(source.name or source.resolve().name)
        return _files(source, to, look=look)
    to = run_path(PurePosixPath(name).as_posix() if isinstance(name, os.PathLike) else name)
    if isinstance(thing, os.PathLike):
        return _files(Path(thing), to, look=look)
    if isinstance(thing, str):
        _not_a_path(to, thing)
    path, write = _written(to, thing)
    return iter([Piece(path, partial(write, thing))])


def _files(source: Path, to: str, *, look: bool) -> Iterator[Piece]:
    if not look:
        return iter(())
    if not os.path.lexists(source):
        raise NotFound(
            f"there is no file or folder `{bounded(source, 300)}`",
            hint='what is held in memory is saved as run.save("name", thing); paths start at the current folder',
        )
    found = [Piece(path, file) for path, file in below(source.resolve() if not source.name else source, to)]
    if not found:
        raise Invalid(f"the folder {bounded(source, 300)} is empty", hint="a run keeps files; there is none to save")
    return iter(found)


def _not_a_path(to: str, text: str) -> None:
    """The slip of writing `run.save("a.csv", "out/a.csv")` would keep the path as the text."""
    suffix = _suffix(to)
    if not suffix or not text.endswith(suffix) or len(text) > 4096 or "\n" in text or "\x00" in text:
        return
    if Path(text).is_file():
        raise Invalid(
            f"`{bounded(text)}` is text, and names a file: which of both shall be saved as `{bounded(to)}`?",
            hint="the file: pass pathlib.Path(…); the text: pass it as bytes",
        )


def _written(to: str, thing: Any) -> tuple[str, Callable[[Any, Path], None]]:
    """Where a thing in memory goes, with its suffix, and what writes it there."""
    kind, suffix = _kind(to, thing), _suffix(to)
    if not suffix:
        implied = next(iter(kind.ways))
        return f"{to}{implied}", kind.ways[implied]
    if suffix in kind.ways:
        return to, kind.ways[suffix]
    if "*" in kind.ways and (kind.name != "text" or suffix not in BINARY):
        return to, kind.ways["*"]
    fitting = ", ".join(way for way in kind.ways if way.startswith("."))
    raise Invalid(
        f"{kind.name} cannot be saved as `{bounded(to)}`",
        hint=f"its suffix can be {fitting}" + (" or any other of a text file" if kind.name == "text" else ""),
    )


def _suffix(path: str) -> str:
    """`.png` of `roc.PNG`; what follows the dot of `v1.2` is no suffix."""
    found = PurePosixPath(path).suffix.lower()
    return found if re.fullmatch(r"\.[a-z][a-z0-9]{0,15}", found) else ""


def _kind(to: str, thing: Any) -> Kind:
    if isinstance(thing, str):
        return TEXT
    if isinstance(thing, bytes | bytearray | memoryview | io.BytesIO):
        return BYTES
    for library, names, make in KNOWN:
        if is_a(thing, library, *names):
            return make(thing)
    figure = next((f for f in (getattr(thing, n, None) for n in ("figure", "figure_")) if is_figure(f)), None)
    if figure is not None:  # axes, a seaborn grid, a display of scikit-learn
        return Kind("a figure", {suffix: _of(figure, way) for suffix, way in pictures.FIGURE.items()})
    if isinstance(thing, Mapping | list | tuple | set | frozenset | msgspec.Struct) or (
        is_dataclass(thing) and not isinstance(thing, type)
    ):
        return _document(thing)
    if hasattr(thing, "__array__") and hasattr(thing, "shape"):  # jax, tensorflow, cupy on the host …
        return _array(thing)
    raise Invalid(f"`{bounded(to)}`: {_a(thing)} cannot be saved", hint=f"can be saved: {SUPPORTED}")


def is_a(thing: Any, library: str, *names: str) -> bool:
    """Whether a thing is of one of a library's classes, or of one derived from it; the library is not imported."""
    return any(
        cls.__name__ in names and (cls.__module__ == library or cls.__module__.startswith(f"{library}."))
        for cls in type(thing).__mro__
    )


def is_figure(thing: Any) -> bool:
    return is_a(thing, "matplotlib", "Figure")


def _of(other: Any, way: Callable[[Any, Path], None]) -> Callable[[Any, Path], None]:
    return lambda _, path: way(other, path)


def _document(thing: Any) -> Kind:
    ways = dict(documents.JSON)
    if isinstance(thing, list) and thing and all(isinstance(row, Mapping) for row in thing):
        ways |= documents.ROWS
    if "torch" in sys.modules:  # a checkpoint
        ways |= arrays.TORCH
    return Kind(f"a {type(thing).__name__}", ways)


def _array(thing: Any) -> Kind:
    shape = tuple(thing.shape)
    image = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    name = f"an array of shape {bounded(shape)}"
    return Kind(name, {**arrays.NUMBERS, **(arrays.IMAGE if image and 0 not in shape else {})})


def _a(thing: Any) -> str:
    cls = type(thing)
    where = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return f"a thing of type {where}{cls.__qualname__}"


TEXT = Kind("text", documents.TEXT)
BYTES = Kind("bytes", documents.BYTES)

KNOWN: list[tuple[str, tuple[str, ...], Callable[[Any], Kind]]] = [
    ("pandas", ("DataFrame", "Series"), lambda thing: Kind("a pandas table", tables.pandas())),
    ("polars", ("DataFrame", "LazyFrame", "Series"), lambda thing: Kind("a polars table", tables.POLARS)),
    ("pyarrow", ("Table", "RecordBatch"), lambda thing: Kind("an Arrow table", tables.ARROW)),
    ("numpy", ("ndarray",), _array),
    ("torch", ("Tensor",), lambda thing: Kind("a tensor", arrays.TENSOR)),
    ("matplotlib", ("Figure",), lambda thing: Kind("a figure", pictures.FIGURE)),
    ("plotly", ("BaseFigure",), lambda thing: Kind("a plotly figure", pictures.PLOTLY)),
    ("PIL", ("Image",), lambda thing: Kind("an image", pictures.IMAGE)),
]
