"""Parquet, read in batches; and written so that a table that changes a little costs what changed.

Pages end where the content says so, values are not replaced by numbers of a dictionary (one new value would renumber
all), and pages are compressed each for itself. `docs/decisions` has what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from tarmac.core.errors import Invalid, bounded
from tarmac.data.tables.sources import BATCH_BYTES, FEWEST_ROWS, MOST_ROWS, File, chosen_of, fitted, portions, unified

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_IN_GROUP = 1 << 20
PAGE = 16 * 1024


class ParquetSource:
    def __init__(self, files: Sequence[File]) -> None:
        self._files = files
        schemas = []
        for file in files:
            with _opened(file) as opened:
                schemas.append((file.path, opened.schema_arrow))
        self.schema: pa.Schema = unified(schemas)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        schema = chosen_of(self.schema, columns)
        for file in self._files:
            with _opened(file) as opened:
                there = [name for name in schema.names if name in opened.schema_arrow.names]
                for batch in opened.iter_batches(batch_size=_rows(opened), columns=there):
                    for portion in portions(batch):
                        yield fitted(portion, schema)


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    with file.open() as handle:
        try:
            yield parquet.ParquetFile(handle)
        except (pa.ArrowException, OSError) as error:
            raise _fault(file.path, handle, error) from None


def _fault(path: str, handle: BinaryIO, error: Exception) -> Invalid:
    end = handle.seek(0, 2)
    if not end:
        return Invalid(f"{bounded(path)} is empty", hint="a Parquet file has at least its schema")
    handle.seek(max(0, end - 4))
    return unreadable(path, error) if handle.read(4) == b"PAR1" else _cut_short(path)


def _rows(opened: Any) -> int:
    """How many rows fill a batch."""
    facts = opened.metadata
    size = sum(facts.row_group(group).total_byte_size for group in range(facts.num_row_groups))
    row = max(1, size // max(1, facts.num_rows))
    return int(max(FEWEST_ROWS, min(MOST_ROWS, BATCH_BYTES // row)))


def _cut_short(path: str) -> Invalid:
    return Invalid(
        f"{bounded(path, 300)} is cut short, or is no Parquet file: it does not end as one does",
        hint="copy or write it again",
    )


def unreadable(path: str, error: Exception) -> Invalid:
    return Invalid(f"{bounded(path, 300)} cannot be read: {bounded(error, 300)}", hint="copy or write it again")


def write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, file: BinaryIO) -> int:
    """Write rows as Parquet; how many there were."""
    from pyarrow import parquet

    rows = 0
    with parquet.ParquetWriter(
        file,
        schema.remove_metadata(),
        compression="zstd",
        use_dictionary=False,
        use_content_defined_chunking={"min_chunk_size": PAGE // 2, "max_chunk_size": 2 * PAGE, "norm_level": 0},
        write_page_checksum=False,
        write_statistics=True,
        data_page_size=1 << 30,  # content alone says where a page ends
        store_schema=True,
    ) as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in batches:
            waiting.append(batch)
            rows += batch.num_rows
            if sum(one.num_rows for one in waiting) >= ROWS_IN_GROUP:
                waiting = _write_groups(writer, waiting, schema)
        _write_rest(writer, waiting, schema)
    return rows


def _write_groups(writer: Any, waiting: list[pa.RecordBatch], schema: pa.Schema) -> list[pa.RecordBatch]:
    import pyarrow as pa

    table = pa.Table.from_batches(waiting, schema=schema)
    whole = table.num_rows // ROWS_IN_GROUP * ROWS_IN_GROUP
    writer.write_table(table.slice(0, whole), row_group_size=ROWS_IN_GROUP)
    return list(table.slice(whole).to_batches())


def _write_rest(writer: Any, waiting: list[pa.RecordBatch], schema: pa.Schema) -> None:
    import pyarrow as pa

    if waiting:
        writer.write_table(pa.Table.from_batches(waiting, schema=schema), row_group_size=ROWS_IN_GROUP)
