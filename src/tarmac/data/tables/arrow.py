"""Arrow files and streams, and Feather, which is one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tarmac.data.tables.parquet import unreadable
from tarmac.data.tables.sources import File, chosen_of, fitted, portions, unified

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowSource:
    def __init__(self, files: Sequence[File]) -> None:
        self._files = files
        schemas = []
        for file in files:
            with _opened(file) as opened:
                schemas.append((file.path, opened.schema))
        self.schema: pa.Schema = unified(schemas)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        schema = chosen_of(self.schema, columns)
        for file in self._files:
            with _opened(file) as opened:
                for batch in _batches(opened):
                    there = [name for name in schema.names if name in batch.schema.names]
                    for portion in portions(batch.select(there)):
                        yield fitted(portion, schema)


def _batches(opened: Any) -> Iterator[pa.RecordBatch]:
    if hasattr(opened, "num_record_batches"):
        yield from (opened.get_batch(number) for number in range(opened.num_record_batches))
    else:
        yield from opened


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import ipc

    with file.open() as handle:
        try:
            whole = handle.read(6) == b"ARROW1"
            handle.seek(0)
            yield ipc.open_file(handle) if whole else ipc.open_stream(handle)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(file.path, error) from None
