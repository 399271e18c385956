"""What steps hand on, as bytes and back: frames as Arrow, arrays as npy, tensors as safetensors, files as they are,
plain values as msgpack, and what is none of these as a pickle, marked as one.

A value is a *root* of plain data with *leaves*: each typed thing inside of it is a leaf with bytes of its own.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import msgspec
from blake3 import blake3

from tarmac.core.digest import digest_file
from tarmac.core.errors import Unstorable, bounded
from tarmac.flow import plain
from tarmac.flow.plain import NotPlain
from tarmac.flow.records import Leaf, Output
from tarmac.store.records import File as StoredFile

INLINE = 4096
"""Bytes that are kept in the row itself: a blob costs two syncs of the disk."""
NOT_A_RESULT = "key"
"""What counts for a key and is not stored: a connection, a version of data."""
NOT_KEPT = ("generator", "coroutine", "async_generator", "module", "frame", "traceback")


@dataclass(slots=True)
class Packed:
    """A value as it is kept: what is said of it, and the bytes that are to be stored."""

    output: Output
    blobs: dict[str, bytes | Path] = field(default_factory=dict)


def pack(value: Any, what: str) -> Packed:
    """The bytes of a value. `what` names it in an error."""
    leaves: list[Leaf] = []
    blobs: dict[str, bytes | Path] = {}

    def leaf(inner: Any) -> int | None:
        made = _leaf(inner, blobs)
        if made is None:
            return None
        leaves.append(made)
        return len(leaves) - 1

    try:
        try:
            root = plain.encode(value, leaf)
        except NotPlain:
            leaves.clear()
            blobs.clear()
            leaves.append(_pickle(value, blobs))
            root = plain.encode(_Whole(), lambda _: 0)
    except Unstorable as error:
        raise Unstorable(
            f"{what} {error.message}",
            hint="return plain values, arrays, frames, models or files; `cache=False` hands it on in memory only",
        ) from None
    whole = blake3(root)
    for one in leaves:
        whole.update(msgspec.json.encode((one.codec, one.name, [(file.path, file.digest) for file in one.files])))
    big = len(root) > INLINE
    root_digest = blake3(root).hexdigest() if big else ""
    if big:
        blobs[root_digest] = root
    output = Output(
        digest=whole.hexdigest(),
        root=b"" if big else root,
        root_digest=root_digest,
        root_size=len(root),
        leaves=leaves,
        pickled=any(one.codec == "pickle" for one in leaves),
    )
    return Packed(output, blobs)


class _Whole:
    """Stands for a value that is one leaf as a whole."""


def digest_of(value: Any, what: str) -> str:
    """What stands for a value in a key."""
    return pack(value, what).output.digest


Fetch = Callable[[str], bytes]
Placed = Callable[[Leaf], Path]


def unpack(output: Output, fetch: Fetch, placed: Placed) -> Any:
    """The value again. `fetch` reads a blob, `placed` lays files down where a program can open them."""
    root = output.root if not output.root_digest else fetch(output.root_digest)

    def leaf(number: int) -> Any:
        one = output.leaves[number]
        if one.codec in ("file", "folder"):
            return placed(one)
        data = one.inline or fetch(one.files[0].digest)
        return DECODERS[one.codec](data)

    return plain.decode(root, leaf)


def files_of(output: Output) -> Iterator[StoredFile]:
    """The blobs that an output needs, each under a name of its own."""
    if output.root_digest:
        yield StoredFile(path="value.msgpack", digest=output.root_digest, size=output.root_size)
    for number, leaf in enumerate(output.leaves):
        if not leaf.inline:
            for file in leaf.files:
                name = f"{number}/{file.path}" if leaf.codec in ("file", "folder") else f"{number}.{leaf.codec}"
                yield StoredFile(path=name, digest=file.digest, size=file.size)


# ------------------------------------------------------------------------------------------------------------- leaves


def _leaf(value: Any, blobs: dict[str, bytes | Path]) -> Leaf | None:
    """A typed thing as a leaf; None if it is not one."""
    kind = type(value)
    top = kind.__module__.partition(".")[0]
    if isinstance(value, PurePath):
        path = Path(value)
        return _path(path, blobs) if path.exists() else None
    if hasattr(kind, "__tarmac_key__"):
        return Leaf(codec=NOT_A_RESULT, files=[], name=repr(value.__tarmac_key__()))
    encoder = ENCODERS.get(top)
    if encoder is not None:
        made = encoder(value)
        if made is not None:
            codec, data = made
            return _bytes(codec, data, blobs)
    return None


def _bytes(codec: str, data: bytes, blobs: dict[str, bytes | Path]) -> Leaf:
    found = blake3(data).hexdigest()
    small = len(data) <= INLINE
    if not small:
        blobs[found] = data
    file = StoredFile(path=codec, digest=found, size=len(data))
    return Leaf(codec=codec, files=[file], inline=data if small else b"")


def _path(path: Path, blobs: dict[str, bytes | Path]) -> Leaf:
    """A file, or a folder with all below it."""
    from tarmac.core.files import below

    files = []
    for name, file in below(path, ""):
        found = digest_file(file)
        blobs[found] = file
        files.append(StoredFile(path=name, digest=found, size=file.stat().st_size))
    return Leaf(codec="folder" if path.is_dir() else "file", files=files, name=path.name)


def _pickle(value: Any, blobs: dict[str, bytes | Path]) -> Leaf:
    import pickle

    name = type(value).__name__
    if name in NOT_KEPT:
        raise Unstorable(f"is a {name}, which cannot be stored")
    try:
        data = pickle.dumps(value, protocol=5)
    except Exception as error:  # noqa: BLE001 - whatever a class does when it is asked for its state
        raise Unstorable(f"is a `{bounded(name)}`, which cannot be stored: {bounded(error, 200)}") from None
    return _bytes("pickle", data, blobs)


def _unpickled(data: bytes) -> Any:
    import pickle

    return pickle.loads(data)  # noqa: S301 - what may be unpickled was decided when the result was looked up


def _array(value: Any) -> tuple[str, bytes] | None:
    import numpy as np

    if type(value) is not np.ndarray or value.dtype.hasobject:
        return None
    out = io.BytesIO()
    np.lib.format.write_array(out, value, allow_pickle=False)
    return "npy", out.getvalue()


def _array_again(data: bytes) -> Any:
    import numpy as np

    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _polars(value: Any) -> tuple[str, bytes] | None:
    import polars as pl

    out = io.BytesIO()
    if isinstance(value, pl.DataFrame):
        value.rechunk().write_ipc(out, compression="uncompressed")
        return "polars", out.getvalue()
    if isinstance(value, pl.Series):
        value.rechunk().to_frame().write_ipc(out, compression="uncompressed")
        return "polars-series", out.getvalue()
    return None


def _polars_again(data: bytes) -> Any:
    import polars as pl

    return pl.read_ipc(io.BytesIO(data))


def _pandas(value: Any) -> tuple[str, bytes] | None:
    """Through Arrow where it comes back the same; a frame of Python objects is a pickle."""
    import pandas as pd

    if not isinstance(value, (pd.DataFrame, pd.Series)):
        return None
    try:
        import pyarrow as pa
    except ImportError:
        return None
    series = isinstance(value, pd.Series)
    frame = value.to_frame("value" if value.name is None else value.name) if series else value
    if value.attrs or any(type(name) is not str for name in frame.columns) or not frame.columns.is_unique:
        return None
    try:
        table = pa.Table.from_pandas(frame)
        if not table.to_pandas().equals(frame) or list(table.to_pandas().dtypes) != list(frame.dtypes):
            return None
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"series": _name(value) if series else b""})
    return "pandas", _ipc(table)


def _name(series: Any) -> bytes:
    return b"none" if series.name is None else b"named"


def _ipc(table: Any) -> bytes:
    import pyarrow as pa

    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return out.getvalue()


def _pandas_again(data: bytes) -> Any:
    import pyarrow as pa

    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    frame = table.to_pandas()
    series = (table.schema.metadata or {}).get(b"series", b"")
    if not series:
        return frame
    column = frame.iloc[:, 0]
    return column.rename(None) if series == b"none" else column


def _arrow(value: Any) -> tuple[str, bytes] | None:
    import pyarrow as pa

    return ("arrow", _ipc(value)) if isinstance(value, pa.Table) else None


def _arrow_again(data: bytes) -> Any:
    import pyarrow as pa

    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def _tensor(value: Any) -> tuple[str, bytes] | None:
    torch = sys.modules["torch"]
    if type(value) is not torch.Tensor or value.requires_grad or value.layout != torch.strided:
        return None
    try:
        from safetensors.torch import save
    except ImportError:
        return None
    return "safetensors", save({"value": value.contiguous()})


def _tensor_again(data: bytes) -> Any:
    from safetensors.torch import load

    return load(data)["value"]


ENCODERS: dict[str, Callable[[Any], tuple[str, bytes] | None]] = {
    "numpy": _array,
    "polars": _polars,
    "pandas": _pandas,
    "pyarrow": _arrow,
    "torch": _tensor,
}
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "npy": _array_again,
    "polars": _polars_again,
    "polars-series": lambda data: _polars_again(data).to_series(),
    "pandas": _pandas_again,
    "arrow": _arrow_again,
    "safetensors": _tensor_again,
    "pickle": _unpickled,
}
