"""Where the rows of a table come from: files of a folder or of a version, opened when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from tarmac.core.errors import Invalid, Refused, TarmacError, UnknownKey, bounded

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

BATCH_BYTES = 32 << 20
MOST_ROWS = 65_536
FEWEST_ROWS = 256
DEEPEST = 20
"""Lists in lists in …"""

SUFFIXES: dict[str, str] = {
    ".parquet": "parquet", ".pq": "parquet",
    ".csv": "csv", ".tsv": "csv", ".csv.gz": "csv", ".tsv.gz": "csv",
    ".jsonl": "json", ".ndjson": "json", ".jsonl.gz": "json", ".ndjson.gz": "json",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".png": "picture", ".jpg": "picture", ".jpeg": "picture", ".webp": "picture", ".bmp": "picture",
    ".gif": "picture", ".tif": "picture", ".tiff": "picture",
}  # fmt: skip


class File(NamedTuple):
    """A file with rows: how it is called, how big it is, how it is opened for reading anywhere in it."""

    path: str
    size: int
    open: Callable[[], BinaryIO]


class Source(Protocol):
    """The rows of some files, with one schema."""

    @property
    def schema(self) -> pa.Schema: ...
    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]: ...


def format_of(path: str) -> str | None:
    """How a file of this name holds rows; None if it does not say."""
    name = path.rpartition("/")[2].lower()
    found = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    return SUFFIXES[max(found, key=len)] if found else None


def table_format(paths: Sequence[str]) -> str | None:
    """The one format of all these files; None if they are no table together."""
    found = {format_of(path) for path in paths if not path.rpartition("/")[2].startswith((".", "_"))}
    return found.pop() if len(found) == 1 else None


def rows_of(files: Sequence[File]) -> Sequence[File]:
    """Those that hold rows: hidden files and marks like `_SUCCESS` lie beside them."""
    return [file for file in files if not file.path.rpartition("/")[2].startswith((".", "_"))]


def open_table(files: Sequence[File]) -> Source:
    """The rows of these files, which are all of one format."""
    require_libraries("reading a table")
    chosen = sorted(rows_of(files), key=lambda file: file.path)
    kind = table_format([file.path for file in chosen])
    if not chosen or kind is None:
        seen = sorted({Path(file.path).suffix or file.path.rpartition("/")[2] for file in chosen})
        raise Invalid(
            f"these files are no table: {bounded(', '.join(seen) or 'there are none', 200)}",
            hint="a table is one file, or a folder of files of one kind: Parquet, CSV, JSON Lines, Arrow, pictures",
        )
    source = _opened(kind, chosen)
    check_types(source.schema)
    return source


def _opened(kind: str, chosen: Sequence[File]) -> Source:
    if kind == "parquet":
        from tarmac.data.tables.parquet import ParquetSource

        return ParquetSource(chosen)
    if kind == "arrow":
        from tarmac.data.tables.arrow import ArrowSource

        return ArrowSource(chosen)
    if kind == "picture":
        from tarmac.data.tables.pictures import PictureSource

        return PictureSource(chosen)
    from tarmac.data.tables.lines import CsvSource, JsonSource

    return CsvSource(chosen) if kind == "csv" else JsonSource(chosen)


def check_types(schema: pa.Schema) -> None:
    """Refuse what could not be looked into: some types end the whole process instead of failing."""
    names = schema.names
    if len(set(names)) < len(names):
        twice = min(name for name in names if names.count(name) > 1)
        raise Invalid(f"the column `{bounded(twice)}` is there twice", hint="give one of them another name")
    for field in schema:
        if not _is_known(field.type, 0):
            raise Invalid(
                f"the column `{bounded(field.name)}` is of a type that is not known here: {bounded(field.type)}",
                hint="make it another type; `--plain` logs the files without looking into them",
            )


def _is_known(kind: pa.DataType, deep: int) -> bool:
    from pyarrow import types

    if deep > DEEPEST or types.is_decimal256(kind) or types.is_interval(kind) or types.is_union(kind):
        return False
    if types.is_run_end_encoded(kind):
        return False
    if types.is_dictionary(kind):
        return _is_known(kind.value_type, deep + 1)
    return all(_is_known(kind.field(at).type, deep + 1) for at in range(kind.num_fields))


def require_libraries(why: str) -> None:
    """Tables need libraries that data sets of files do not."""
    for name in ("numpy", "polars", "pyarrow"):
        if find_spec(name) is None:
            raise Invalid(f"{why} needs {name}, which is not installed", hint="pip install 'tarmac[data]'")


def are_there() -> bool:
    """Whether tables can be read here."""
    return all(find_spec(name) is not None for name in ("numpy", "polars", "pyarrow"))


def on_disk(path: Path, name: str) -> File:
    return File(name, path.stat().st_size, lambda: path.open("rb"))


def unified(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """One schema for files that agree, but for whole numbers beside fractions and columns that are all null.

    Files that do not are no table together, and refused: each may be one by itself.
    """
    import pyarrow as pa

    whole = schemas[0][1].remove_metadata()
    for path, schema in schemas[1:]:
        try:
            whole = pa.unify_schemas([whole, schema.remove_metadata()], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            raise _disagreement(schemas[0][0], whole, path, schema) from None
    return whole


def _disagreement(first: str, whole: Any, path: str, schema: Any) -> TarmacError:
    for field in schema:
        index = whole.get_field_index(field.name)
        if index >= 0 and whole.field(index).type != field.type:
            known, other = whole.field(index).type, field.type
            return Refused(
                f"the column `{bounded(field.name)}` is {known} in {bounded(first)} and {other} in {bounded(path)}",
                hint="the files of a table have to agree on its columns; `--plain` keeps different tables as files",
            )
    return Refused(f"{bounded(path)} has other columns than {bounded(first)}")


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch with all columns of `schema`: those it lacks are null, others are cast where that loses nothing."""
    import pyarrow as pa

    if batch.schema.equals(schema):
        return batch
    columns = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        found = batch.column(index) if index >= 0 else pa.nulls(batch.num_rows, field.type)
        columns.append(found if found.type == field.type else found.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def chosen_of(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    import pyarrow as pa

    if columns is None:
        return schema
    for name in columns:
        if name not in schema.names:
            raise UnknownKey.at("the table", name, schema.names)
    return pa.schema([schema.field(name) for name in columns])


def as_frame(rows: pa.RecordBatch | pa.Table) -> pl.DataFrame:
    """Rows of Arrow as polars has them."""
    import polars as pl
    import pyarrow as pa

    try:
        found = pl.from_arrow(rows)
    except (pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise Invalid(
            f"a column of the table is of a type that is not known here: {bounded(error, 200)}",
            hint="`--plain` logs the files without looking into them",
        ) from None
    assert isinstance(found, pl.DataFrame)
    return found


def portions(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in pieces that are small in rows and in bytes."""
    if not batch.num_rows:
        return
    row = max(1, batch.nbytes // batch.num_rows)
    step = max(FEWEST_ROWS, min(MOST_ROWS, BATCH_BYTES // row))
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)
