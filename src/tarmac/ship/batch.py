"""Predictions for files: rows are read, predicted and written in pieces, in memory that does not grow with them.

The pieces are numbered, and each becomes a file of its own under a name that says it is whole. A batch that was killed
goes on with the pieces that are not there yet, if neither the input nor the model has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tarmac.core.digest import digest
from tarmac.core.errors import Conflict, Invalid, NotFound, TarmacError, bounded
from tarmac.core.files import write_private
from tarmac.formats import arrays as holding
from tarmac.formats.engines.predictor import Predictor
from tarmac.formats.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from tarmac.formats.arrays import Array, Arrays

ROWS_AT_ONCE = 16_384
ROWS_IN_PART = 1_048_576
STATE = "batch.json"
SUFFIXES = (".parquet", ".csv", ".arrow", ".feather")
Progress = Callable[[int, int | None], None]
"""Rows that are done, and how many there are, where that is known."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch is about, in the folder of its parts: who goes on has to mean the same."""

    format: int = 1
    package: str
    source: str
    keep: list[str]


@dataclass(frozen=True, slots=True)
class Done:
    rows: int
    parts: int
    resumed: int
    """Rows that an earlier try had done."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the input: some row groups of a Parquet file, or a whole file of another kind."""

    number: int
    file: Path
    groups: tuple[int, ...] | None
    rows: int | None


def predict(
    predictor: Predictor, source: Path, target: Path, *, keep: Sequence[str] = (), workers: int = 2,
    progress: Progress = lambda done, total: None,
) -> Done:  # fmt: skip
    """All rows of `source`, a file or a folder, predicted into parts below `target`."""
    if predictor.signature is None:
        raise Invalid(
            f"package {bounded(predictor.about.name)} has no signature: nothing says which columns it takes",
            hint="make it with an example: `run.model(model, name=…, example=rows)`",
        )
    files = found(source)
    parts = list(_parts(files))
    total = (
        sum(part.rows for part in parts if part.rows is not None) if all(p.rows is not None for p in parts) else None
    )
    _begin(target, State(package=predictor.digest, source=_fingerprint(files), keep=list(keep)))
    done = resumed = 0
    waiting = []
    for part in parts:
        place = target / f"part-{part.number:06d}.parquet"
        if place.exists():
            resumed += _rows_of(place)
        else:
            waiting.append((part, place))
    progress(resumed, total)
    with ThreadPoolExecutor(workers, thread_name_prefix="batch") as pool:
        for part, place in waiting:
            done += _one(predictor, part, place, list(keep), pool, workers)
            progress(resumed + done, total)
    return Done(rows=done + resumed, parts=len(parts), resumed=resumed)


def found(source: Path) -> list[Path]:
    if not source.exists():
        raise NotFound(f"there is no {bounded(source, 300)}", hint="a Parquet or CSV file, or a folder of those")
    files = (
        [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    )
    for file in files:
        if file.suffix not in SUFFIXES:
            raise Invalid(f"`{bounded(file.name)}` cannot be read as rows", hint=f"known are {', '.join(SUFFIXES)}")
    if not files:
        raise NotFound(f"{bounded(source, 300)} holds no file of rows", hint=f"known are {', '.join(SUFFIXES)}")
    return files


def _fingerprint(files: list[Path]) -> str:
    """Names, sizes and times: whoever changes an input gets a batch of its own."""
    facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return digest(msgspec.json.encode(facts))


def _begin(target: Path, state: State) -> None:
    target.mkdir(parents=True, exist_ok=True)
    place = target / STATE
    if place.exists():
        before = msgspec.json.decode(place.read_bytes(), type=State)
        if before != state:
            what = "another model" if before.package != state.package else "other rows"
            raise Conflict(
                f"{bounded(target, 300)} holds predictions of {what}", hint="name a folder that does not exist yet"
            )
    elif any(target.iterdir()):
        raise Conflict(f"{bounded(target, 300)} holds other files", hint="name a folder that does not exist yet")
    else:
        write_private(place, msgspec.json.encode(state).decode())
    for left in target.glob("*.new"):  # of a try that was killed
        left.unlink()


# --- reading ---


def _parts(files: list[Path]) -> Iterator[Part]:
    number = 0
    for file in files:
        if file.suffix != ".parquet":
            yield Part(number, file, None, None)
            number += 1
            continue
        opened = _opened(file)
        groups: list[int] = []
        rows = 0
        for group in range(opened.num_row_groups):
            groups.append(group)
            rows += opened.metadata.row_group(group).num_rows
            if rows >= ROWS_IN_PART or group == opened.num_row_groups - 1:
                yield Part(number, file, tuple(groups), rows)
                number, groups, rows = number + 1, [], 0


def _opened(file: Path) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise Invalid(f"{bounded(file, 300)} cannot be read: {bounded(error, 300)}") from None


def _unnamed(signature: Signature) -> bool:
    """A model of one matrix takes whatever columns there are, but for those that only go along."""
    return signature.layout == "tensors" and len(signature.inputs) == 1


def _batches(part: Part, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """All columns if none is named."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if part.groups is not None:
            opened = parquet.ParquetFile(part.file)
            there = [name for name in columns if name in set(opened.schema_arrow.names)]
            yield from opened.iter_batches(ROWS_AT_ONCE, row_groups=list(part.groups), columns=there or None)
        elif part.file.suffix == ".csv":
            for batch in csv.open_csv(part.file):
                for at in range(0, batch.num_rows, ROWS_AT_ONCE):
                    yield batch.slice(at, ROWS_AT_ONCE)
        else:
            with pa.ipc.open_file(part.file) as opened:
                for number in range(opened.num_record_batches):
                    yield opened.get_batch(number)
    except (pa.ArrowException, OSError) as error:
        raise Invalid(f"{bounded(part.file, 300)} cannot be read: {bounded(error, 300)}") from None


# --- predicting ---


def _one(predictor: Predictor, part: Part, place: Path, keep: list[str], pool: ThreadPoolExecutor, workers: int) -> int:
    """A part: its batches go to the workers, and come back in order."""
    from pyarrow import parquet

    signature = predictor.signature
    assert signature is not None
    columns = [] if _unnamed(signature) else list(dict.fromkeys([*signature.names(), *keep]))
    beside = place.with_suffix(".new")
    writer: Any = None
    rows = 0
    waiting: list[Future[pa.RecordBatch]] = []

    def take() -> None:
        nonlocal writer, rows
        answered = waiting.pop(0).result()
        if writer is None:
            writer = parquet.ParquetWriter(beside, answered.schema, compression="zstd")
        writer.write_batch(answered)
        rows += answered.num_rows

    at = 0
    try:
        for batch in _batches(part, columns):
            waiting.append(pool.submit(_answer, predictor, signature, batch, keep, part.file, at))
            at += batch.num_rows
            if len(waiting) > workers * 2:
                take()
        while waiting:
            take()
        if writer is None:  # a file without rows
            beside.write_bytes(b"")
            return 0
        writer.close()
        writer = None
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(place)
    finally:
        for future in waiting:
            future.cancel()
        if writer is not None:
            writer.close()
        beside.unlink(missing_ok=True)
    return rows


def _answer(
    predictor: Predictor, signature: Signature, batch: pa.RecordBatch, keep: list[str], file: Path, at: int
) -> pa.RecordBatch:
    import pyarrow as pa

    try:
        outputs = _predicted(predictor, signature, batch, keep)
    except TarmacError as error:
        raise type(error)(
            f"{file.name}, in the {batch.num_rows:,} rows from row {at:,} on: {error.message}", hint=error.hint
        ) from None
    names = [name for name in keep if name in batch.schema.names]
    if len(names) < len(keep):
        missing = next(name for name in keep if name not in names)
        raise NotFound.named("column", missing, batch.schema.names)
    arrays = [batch.column(name) for name in names]
    for name, array in outputs.items():
        names.append(name)
        arrays.append(_column(array))
    return pa.RecordBatch.from_arrays(arrays, names)


def _predicted(predictor: Predictor, signature: Signature, batch: pa.RecordBatch, keep: list[str]) -> Arrays:
    names = signature.names()
    if _unnamed(signature) and names[0] not in batch.schema.names:
        names = [name for name in batch.schema.names if name not in keep]
    if predictor.matrix is not None and (rows := _matrix(signature, batch, names, predictor.matrix)) is not None:
        return predictor.predict_matrix(rows)
    given: Any = {name: _plain(batch, name) for name in names if name in batch.schema.names}
    if _unnamed(signature) and list(given) != signature.names():
        given = _side_by_side(given, nullable=signature.inputs[0].nullable)
    return predictor.predict(holding.accept(given, signature))


def _matrix(signature: Signature, batch: pa.RecordBatch, names: list[str], kind: str) -> Array | None:
    """Numbers without nulls go straight into the matrix; whatever is not that takes the careful road."""
    import numpy as np
    import pyarrow as pa

    if len(names) != signature.width():
        return None
    found = np.empty((batch.num_rows, len(names)), kind)
    for place, name in enumerate(names):
        index = batch.schema.get_field_index(name)
        if index < 0:
            return None
        column = batch.column(index)
        if column.null_count or not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            return None
        found[:, place] = column.to_numpy()
    return found if np.isfinite(found).all() else None


def _plain(batch: pa.RecordBatch, name: str) -> Any:
    column = batch.column(batch.schema.get_field_index(name))
    if column.null_count or column.type.id in _texts():
        return column.to_pylist()
    return column.to_numpy(zero_copy_only=False)


def _texts() -> set[int]:
    import pyarrow as pa

    return {pa.string().id, pa.large_string().id, pa.binary().id}


def _side_by_side(columns: dict[str, Any], *, nullable: bool) -> Array:
    import numpy as np

    if not columns:
        raise Invalid("there are no columns to predict from")
    found = np.column_stack([np.asarray(_numbers(name, values)) for name, values in columns.items()])
    if not nullable and np.isnan(found).any():
        row, place = (int(index[0]) for index in np.nonzero(np.isnan(found)))
        raise Invalid(f"`{bounded(list(columns)[place])}` is null in row {row}, and the model was not made for that")
    return found


def _numbers(name: str, values: Any) -> Array:
    import numpy as np

    try:
        return np.array([np.nan if value is None else value for value in values], "float64")
    except (ValueError, TypeError):
        raise Invalid(
            f"`{bounded(name)}` is no column of numbers, and the model takes one matrix",
            hint=f"leave it out of the matrix: `--keep {bounded(name, 40)}`",
        ) from None


def _column(array: Array) -> pa.Array:
    import pyarrow as pa

    if array.ndim == 1:
        return pa.array(array)
    flat = array.reshape(len(array), -1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])


def _rows_of(place: Path) -> int:
    return int(_opened(place).metadata.num_rows)


# --- as one file ---


def gather(folder: Path, target: Path) -> None:
    """The parts as one file, Parquet or CSV, in the order of the rows."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    beside = target.with_name(f"{target.name}.new")
    writer: Any = None
    try:
        for place in sorted(folder.glob("part-*.parquet")):
            for read in parquet.ParquetFile(place).iter_batches(ROWS_IN_PART // 8):
                batch = _flat(read) if target.suffix == ".csv" else read
                if writer is None:
                    make: Any = csv.CSVWriter if target.suffix == ".csv" else parquet.ParquetWriter
                    writer = make(beside, batch.schema)
                writer.write_batch(batch)
        if writer is None:
            raise Invalid("there were no rows to predict")
        writer.close()
        writer = None
        beside.replace(target)
    except pa.ArrowException as error:
        raise Invalid(f"{bounded(target, 300)} cannot be written: {bounded(error, 300)}") from None
    finally:
        if writer is not None:
            writer.close()
        beside.unlink(missing_ok=True)


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """CSV has no lists: `probabilities` becomes `probabilities.0`, `probabilities.1` …"""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in batch.schema.names:
        column = batch.column(batch.schema.get_field_index(name))
        if pa.types.is_fixed_size_list(column.type):
            for place in range(column.type.list_size):
                columns[f"{name}.{place}"] = column.flatten()[place :: column.type.list_size]
        else:
            columns[name] = column
    return pa.RecordBatch.from_pydict(columns)
