"""CSV and JSON Lines: read in blocks of whole lines, so that memory is bounded and an error can name its line.

The types of columns are found in a first pass over everything, not guessed from the beginning.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from tarmac.core.errors import Invalid, Refused, bounded
from tarmac.data.tables.sources import File, chosen_of, fitted, portions

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 16 << 20
LONGEST_LINE = 64 << 20
MOST_NAMED = 5
BOM = b"\xef\xbb\xbf"
NULLS = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "#N/A"]


class Block(NamedTuple):
    data: bytes
    line: int
    """The number of its first line in the file."""


class CsvSource:
    def __init__(self, files: Sequence[File]) -> None:
        self._heads = [(file, _head(file)) for file in files]
        self.schema: pa.Schema = _common(self._heads, [_schema_of(file, head) for file, head in self._heads])

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        schema = chosen_of(self.schema, columns)
        for file, head in self._heads:
            for block in _csv_blocks(file):
                for batch in _parsed_csv(file, head, block, schema).to_batches():
                    for portion in portions(batch):
                        yield fitted(portion, schema)


class JsonSource:
    def __init__(self, files: Sequence[File]) -> None:
        self._files = files
        schemas = [_parsed_json(file, block, None).schema for file in files for block in _blocks(file, _line_end)]
        if not schemas:
            raise Invalid(f"{bounded(files[0].path)} is empty", hint="JSON Lines have one object on each line")
        self.schema: pa.Schema = _widest(schemas)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        schema = chosen_of(self.schema, columns)
        for file in self._files:
            for block in _blocks(file, _line_end):
                for batch in _parsed_json(file, block, self.schema).to_batches():
                    for portion in portions(batch.select(schema.names)):
                        yield fitted(portion, schema)


# -------------------------------------------------------------------------------------------------------------- blocks


@contextmanager
def _reading(file: File) -> Iterator[BinaryIO]:
    with file.open() as handle:
        if not file.path.lower().endswith(".gz"):
            yield handle
            return
        with gzip.GzipFile(fileobj=handle) as unpacked:
            yield cast("BinaryIO", unpacked)


def _blocks(file: File, end_of: Any) -> Iterator[Block]:
    """The file in blocks that end where a row does."""
    line, rest = 1, b""
    try:
        with _reading(file) as opened:
            while read := opened.read(BLOCK):
                data = rest + read
                if not rest and line == 1 and data.startswith(BOM):
                    data = data[len(BOM) :]
                _refuse_other_encodings(file, data, line)
                end = end_of(data)
                if end:
                    yield Block(data[:end], line)
                    line += data.count(b"\n", 0, end)
                rest = data[end:]
                if len(rest) > LONGEST_LINE:
                    raise Invalid(
                        f"{bounded(file.path)}, line {line:,}: longer than {LONGEST_LINE >> 20} MiB",
                        hint="is a quote missing?",
                    )
    except (OSError, EOFError) as error:
        raise Invalid(f"{bounded(file.path)} cannot be read: {bounded(error, 200)}") from None
    if rest.strip():
        yield Block(rest, line)


def _refuse_other_encodings(file: File, data: bytes, line: int) -> None:
    if line == 1 and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Invalid(f"{bounded(file.path)} is UTF-16", hint="write it as UTF-8")


def _line_end(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def _csv_end(data: bytes) -> int:
    """After the last line end that is not inside of quotes."""
    end = len(data)
    while (end := data.rfind(b"\n", 0, end)) >= 0:
        if data.count(b'"', 0, end) % 2 == 0:
            return end + 1
    return 0


def _csv_blocks(file: File) -> Iterator[Block]:
    """The rows after the first, which has the names."""
    for block in _blocks(file, _csv_end):
        if block.data.count(b'"') % 2:  # only the last one can have this
            raise Invalid(
                f"{bounded(file.path)}, from line {block.line:,} on: a quote is opened and never closed",
                hint="a quote inside of a value is written twice; `--plain` logs the file as it is",
            )
        if block.line > 1:
            yield block
        elif rows := block.data[_after_head(block.data) :]:
            yield Block(rows, 1 + block.data.count(b"\n", 0, len(block.data) - len(rows)))


def _after_head(data: bytes) -> int:
    end = -1
    while (end := data.find(b"\n", end + 1)) >= 0:
        if data.count(b'"', 0, end) % 2 == 0:
            return end + 1
    return len(data)


# ----------------------------------------------------------------------------------------------------------------- CSV


class Head(NamedTuple):
    names: list[str]
    delimiter: str


def _head(file: File) -> Head:
    """The names of the columns, and what stands between them."""
    for block in _blocks(file, _csv_end):
        first = block.data[: _after_head(block.data)]
        text = _decoded(file, Block(first, 1)).strip("\r\n")
        delimiter = "\t" if ".tsv" in file.path.lower() else _delimiter(text)
        if "\r" in text:
            raise Invalid(f"{bounded(file.path)} ends its lines with CR alone", hint="end them with LF")
        names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter), [])]
        if not names or not any(names):
            break
        if twice := {name for name in names if names.count(name) > 1}:
            raise Invalid(f"{bounded(file.path)}: the column `{bounded(min(twice))}` is there twice")
        return Head(names, delimiter)
    raise Invalid(f"{bounded(file.path)} has no first line with the names of its columns")


def _delimiter(text: str) -> str:
    return max(",;\t|", key=lambda sign: (text.count(sign), sign == ","))


def _schema_of(file: File, head: Head) -> pa.Schema:
    import pyarrow as pa

    found = [_parsed_csv(file, head, block, None).schema for block in _csv_blocks(file)]
    return _widest(found) if found else pa.schema([(name, pa.null()) for name in head.names])


def _parsed_csv(file: File, head: Head, block: Block, schema: pa.Schema | None) -> pa.Table:
    """The rows of a block; without a schema its types are found from all of the block."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    chosen = None if schema is None else [name for name in schema.names if name in head.names]
    types = None if schema is None else {name: schema.field(name).type for name in chosen or ()}
    at_once = len(block.data) + 1 if schema is None else 1 << 20
    try:
        found = arrow_csv.read_csv(
            io.BytesIO(block.data),
            read_options=arrow_csv.ReadOptions(column_names=head.names, block_size=at_once),
            parse_options=arrow_csv.ParseOptions(delimiter=head.delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=chosen,
                column_types=types,
                null_values=NULLS,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        _refuse_ragged(file, head, _decoded(file, block), block.line)
        raise Invalid(f"{bounded(file.path)}, from line {block.line:,}: {bounded(error, 300)}") from None
    if any(pa.types.is_binary(field.type) for field in found.schema):  # what Arrow takes for bytes is not UTF-8
        _decoded(file, block)
    return found


def _decoded(file: File, block: Block) -> str:
    try:
        return block.data.decode()
    except UnicodeDecodeError as error:
        line = block.line + block.data.count(b"\n", 0, error.start)
        raise Invalid(
            f"{bounded(file.path)}, line {line:,}: not UTF-8 (byte {block.data[error.start]:#04x})",
            hint="write it as UTF-8: `iconv -f latin1 -t utf-8` is the usual way",
        ) from None


def _refuse_ragged(file: File, head: Head, text: str, first: int) -> None:
    """Rows with more or fewer values than there are columns, by the number of their line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=head.delimiter)
    named: list[str] = []
    count, begins = 0, first
    for row in reader:
        if row and len(row) != len(head.names):
            count += 1
            if len(named) < MOST_NAMED:
                named.append(f"line {begins:,} has {len(row)}")
        begins = first + reader.line_num
    if count:
        more = f", and {count - len(named):,} more" if count > len(named) else ""
        raise Invalid(
            f"{bounded(file.path)} has {len(head.names)} columns, but {', '.join(named)}{more}",
            hint="a value with a comma or a line end in it stands in quotes; `--plain` logs the file as it is",
            detail={"rows": count},
        )


# ---------------------------------------------------------------------------------------------------------------- JSON


def _parsed_json(file: File, block: Block, schema: pa.Schema | None) -> pa.Table:
    import pyarrow as pa
    from pyarrow import json as arrow_json

    try:
        return arrow_json.read_json(
            io.BytesIO(block.data),
            read_options=arrow_json.ReadOptions(block_size=max(1 << 20, 2 * len(block.data))),
            parse_options=arrow_json.ParseOptions(explicit_schema=schema),
        )
    except pa.ArrowInvalid as error:
        _refuse_lines(file, block)
        raise Invalid(
            f"{bounded(file.path)}, from line {block.line:,}: {bounded(error, 300)}",
            hint="the values of one name have to be of one type",
        ) from None


def _refuse_lines(file: File, block: Block) -> None:
    _decoded(file, block)
    for number, line in enumerate(block.data.split(b"\n"), start=block.line):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"{bounded(file.path)}, line {number:,}: not JSON: {bounded(error, 200)}") from None
        if not isinstance(found, dict):
            raise Invalid(f"{bounded(file.path)}, line {number:,}: not an object, but {bounded(found, 60)}")


# --------------------------------------------------------------------------------------------------------------- types


def _common(heads: Sequence[tuple[File, Head]], schemas: Sequence[pa.Schema]) -> pa.Schema:
    first = heads[0]
    for file, head in heads[1:]:
        if sorted(head.names) != sorted(first[1].names):
            strange = sorted(set(head.names) ^ set(first[1].names))
            raise Refused(
                f"{bounded(file.path)} has other columns than {bounded(first[0].path)}: {bounded(', '.join(strange))}",
                hint="the files of a table have to agree on its columns; `--plain` keeps different tables as files",
            )
    return _widest(schemas)


def _widest(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """For each column the type that holds what all blocks have."""
    import pyarrow as pa

    types: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            types[field.name] = _wider(types[field.name], field.type) if field.name in types else field.type
    return pa.schema([(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in types.items()])


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other)]
    if all(numbers):
        return pa.float64()
    nested = [pa.types.is_nested(kind) for kind in (one, other)]
    if any(nested):
        if all(nested):
            found = pa.unify_schemas([pa.schema([("x", one)]), pa.schema([("x", other)])], promote_options="permissive")
            return found.field("x").type
        raise Invalid("a column holds both lists or objects and plain values", hint="make them of one kind")
    times = [pa.types.is_temporal(kind) for kind in (one, other)]
    return pa.timestamp("us") if all(times) else pa.string()
