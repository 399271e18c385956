"""Parquet, read in batches; and written so that a table that changes a little costs what changed.

Pages end where the content says so, values are not replaced by numbers of a dictionary (one new value would renumber
all), and pages are compressed each for itself. `docs/decisions` has what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from tarmac.core.errors import Invalid, bounded
from tarmac.data.tables.sources import (
    BATCH_BYTES,
    FEWEST_ROWS,
    MOST_ROWS,
    File,
    as_frame,
    chosen_of,
    fitted,
    portions,
    unified,
)

if TYPE_CHECKING:
    import pyarrow as pa

SMALLEST_PAGE, LARGEST_PAGE = 8 * 1024, 32 * 1024
"""Bytes of values, before they are compressed."""
GROUP = 64 << 20


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
    import pyarrow as pa
    from pyarrow import parquet

    rows = 0
    with parquet.ParquetWriter(
        file,
        schema.remove_metadata(),
        compression="zstd",
        use_dictionary=False,
        use_content_defined_chunking={"min_chunk_size": SMALLEST_PAGE, "max_chunk_size": LARGEST_PAGE, "norm_level": 0},
        data_page_size=1 << 30,  # content alone says where a page ends
    ) as writer:
        for group in _groups(batches, schema):
            table = pa.Table.from_batches(group, schema=schema)
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            rows += table.num_rows
    return rows


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[list[pa.RecordBatch]]:
    """Rows in groups that end after a row whose content says so: rows that are inserted move no later group's end."""
    waiting: list[pa.RecordBatch] = []
    held, usual = 0, 0
    for batch in batches:
        usual = usual or _usual_rows(batch)
        start = 0
        for end in _ends(batch, usual):
            if held + end - start >= usual // 2:
                yield [*waiting, batch.slice(start, end - start)]
                waiting, held, start = [], 0, end
        waiting.append(batch.slice(start))
        held += batch.num_rows - start
        if held >= 4 * usual:
            yield waiting
            waiting, held = [], 0
    if held or not usual:
        yield waiting


def _usual_rows(batch: pa.RecordBatch) -> int:
    """How many rows a group has, about: a power of two, so that it hardly ever is another one for the next version."""
    row: int = max(1, batch.nbytes // max(1, batch.num_rows))
    return 1 << min(20, max(10, (GROUP // row).bit_length() - 1))


def _ends(batch: pa.RecordBatch, usual: int) -> list[int]:
    import numpy as np

    frame = as_frame(batch)
    if not frame.width:
        return []
    hashes = frame.hash_rows(seed=1).to_numpy()
    found: list[int] = (np.flatnonzero(hashes < np.uint64((1 << 64) // (usual // 2))) + 1).tolist()
    return found
