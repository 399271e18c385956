"""Tables among the data sets, as Python sees them: logging frames and queries, contracts, reading rows.

tarmac.dataset("churn").log(frame)
tarmac.dataset("churn").latest.table(columns=["age", "plan"])     # polars, lazily; .to("pandas"), .to("arrow")
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tarmac.core import project_file
from tarmac.core.errors import Invalid, NotFound, Refused, bounded
from tarmac.data.listing import FILE, PROGRAM
from tarmac.data.records import DataName
from tarmac.data.scan import Found
from tarmac.data.tables import sources, versions
from tarmac.data.tables.sources import File, Source, as_frame
from tarmac.formats.contract import Contract, load

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from tarmac.workspace.datasets import Version

Progress = Callable[[int, int, str], None]
NAMED = {"picture": "pictures"}
SAMPLED_PICTURES = 500
"""Pictures that are looked into where no contract asks for all of them."""


class Care(NamedTuple):
    """How closely a table is looked at when it is logged."""

    plain: bool = False
    """Not at all: its files are files."""
    accept: bool = False
    """A contract that does not hold is reported, and the version made."""


class Looking:
    """Looks into the files that are logged, for the document of their version; remembers what there is to tell."""

    def __init__(self, name: str, care: Care, progress: Progress, more: dict[str, Any] | None = None) -> None:
        self._name = name
        self._care = care
        self._progress = progress
        self._more = more or {}
        self.told: list[str] = []

    def __call__(self, found: Sequence[Found]) -> dict[str, Any]:
        document = dict(self._more)
        files = [_on_disk(one) for one in found if one.kind in (FILE, PROGRAM)]
        kind = sources.table_format([file.path for file in files])
        if kind is None or self._care.plain:
            return document
        contract, place = contract_of(self._name)
        if not sources.are_there():
            if contract is not None:
                sources.require_libraries("checking a contract")
            self.told.append("its rows were not looked at: pip install 'tarmac[data]'")
            return document
        return {**document, **self._inspected(files, kind, contract, place)}

    def _inspected(self, files: list[File], kind: str, contract: Contract | None, place: Path | None) -> dict[str, Any]:
        from tarmac.data.tables.inspecting import document_of, inspect, refuse_failures

        chosen = files
        if kind == "picture" and contract is None and len(files) > SAMPLED_PICTURES:
            chosen = [files[at * len(files) // SAMPLED_PICTURES] for at in range(SAMPLED_PICTURES)]
        try:
            inspection = inspect(sources.open_table(chosen), contract, lambda rows: self._progress(rows, 0, "rows"))
        except (Invalid, Refused) as error:
            files_of_any_kind = kind == "picture" or isinstance(error, Refused)
            if contract is not None or not files_of_any_kind:
                raise
            self.told.append(f"its {NAMED.get(kind, 'rows')} were not looked into: {error.message}")
            return {}
        if inspection.verdict is not None:
            if not self._care.accept:
                refuse_failures(inspection.verdict, self._name)
            self.told.append(f"contract {inspection.verdict.told()}")
        document = document_of(inspection, self._name, inferred=contract is None)
        document["table"]["format"] = kind
        if len(chosen) < len(files):
            document["table"]["sampled"] = {"of": len(files), "files": len(chosen)}
        elif contract is None and place is not None and kind != "picture":
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("x", encoding="utf-8") as file:
                file.write(document["contract"])
            self.told.append(f"its contract was inferred: {_relative(place)}; tighten it by hand")
        return document


def _on_disk(found: Found) -> File:
    return File(found.path, found.size, lambda: Path(found.source).open("rb"))


def _relative(place: Path) -> str:
    return str(place.relative_to(Path.cwd())) if place.is_relative_to(Path.cwd()) else str(place)


def contract_of(name: str, start: Path | None = None) -> tuple[Contract | None, Path | None]:
    """The contract of a data set, if it has one, and where it lies or would lie; without a project file nowhere."""
    declared = project_file.find(start or Path.cwd())
    if declared is None:
        return None, None
    _refuse_as_path(name)
    table = project_file.load(declared).data.get(name)
    said = table.contract if table is not None else ""
    place = declared.parent / (said or f"contracts/{name}.toml")
    return (load(place) if place.is_file() else None), place


def _refuse_as_path(name: str) -> None:
    """A name becomes a file's name here, before anybody else has looked at it."""
    try:
        msgspec.convert(name, DataName)
    except msgspec.ValidationError:
        raise Invalid(
            f"`{bounded(name)}` cannot be the name of a data set", hint="letters, digits, `.`, `-`, `_`"
        ) from None


def declared(name: str) -> project_file.DataTable | None:
    """What the project file says of a data set."""
    found = project_file.find(Path.cwd())
    return project_file.load(found).data.get(name) if found else None


# ---------------------------------------------------------------------------------------------------------- writing


@contextmanager
def written(frame: Any, name: str, folder: Path) -> Iterator[Path]:
    """A frame of polars, pandas or Arrow as a Parquet file, as long as it is needed."""
    from tarmac.data.tables import parquet

    schema, batches = as_batches(frame)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="table-", dir=folder) as place:
        path = Path(place) / f"{name}.parquet"
        with path.open("wb") as file:
            parquet.write(batches, schema, file)
        yield path


def is_frame(thing: Any) -> bool:
    """Whether this is a table, and not a path. Nothing is imported to find out."""
    return any(hasattr(thing, name) for name in ("collect_schema", "num_rows", "columns"))


def as_batches(frame: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    sources.require_libraries("logging a table")
    import polars as pl
    import pyarrow as pa

    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect(engine="streaming")
    if isinstance(frame, pl.DataFrame):
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    elif isinstance(frame, pa.Table | pa.RecordBatch):
        table = frame if isinstance(frame, pa.Table) else pa.Table.from_batches([frame])
    elif type(frame).__module__.startswith("pandas"):
        plain = type(frame.index).__name__ == "RangeIndex" and frame.index.name is None
        table = pa.Table.from_pandas(frame.rename(columns=str), preserve_index=not plain)
    else:
        raise Invalid(
            f"a {bounded(type(frame).__name__)} is no table that can be logged",
            hint="a frame of polars or pandas, an Arrow table, or paths",
        )
    sources.check_types(table.schema)
    return table.schema, (part for batch in table.to_batches() for part in sources.portions(batch))


# ---------------------------------------------------------------------------------------------------------- reading


def source_of(version: Version) -> Source:
    """The rows of a version, read where it lies."""
    return versions.source_of(version.depot(), version.entries(), version.ref)


class Table:
    """The rows of a version. Nothing is read before they are asked for, and then only these columns."""

    def __init__(self, version: Version, columns: Sequence[str] | None) -> None:
        self._source = source_of(version)
        self._columns = list(columns) if columns is not None else None
        self.ref = version.ref
        sources.chosen_of(self._source.schema, self._columns)

    @property
    def columns(self) -> list[str]:
        return self._columns if self._columns is not None else list(self._source.schema.names)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in portions that fit into memory."""
        return self._source.batches(self._columns)

    def arrow(self) -> pa.Table:
        import pyarrow as pa

        return pa.Table.from_batches(self.batches(), schema=sources.chosen_of(self._source.schema, self._columns))

    def pandas(self) -> Any:
        return self.arrow().to_pandas()

    def polars(self) -> pl.DataFrame:

        return as_frame(self.arrow())

    def lazy(self) -> pl.LazyFrame:
        """A lazy frame of polars: it reads only the columns and as many rows as its query needs."""
        from polars.io.plugins import register_io_source

        source, chosen = self._source, self._columns

        def read(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            left = n_rows
            for batch in source.batches(with_columns if with_columns is not None else chosen):
                frame = as_frame(batch)
                frame = frame if left is None else frame.head(left)
                left = None if left is None else left - frame.height
                yield frame if predicate is None else frame.filter(predicate)
                if left == 0:
                    return

        empty = as_frame(sources.chosen_of(source.schema, chosen).empty_table())
        return register_io_source(read, schema=empty.schema)

    def __repr__(self) -> str:
        return f"<tarmac table {self.ref}: {bounded(', '.join(self.columns), 200)}>"


def judged(version: Version, contract: Contract, progress: Progress) -> Any:
    """What a contract says of a version."""
    from tarmac.data.tables.inspecting import judge_table

    return judge_table(source_of(version), contract, lambda rows: progress(rows, 0, "rows"))


def files_at(paths: Sequence[Path]) -> list[File]:
    """The files of a folder, or some files, that are no version yet."""
    found: list[File] = []
    for path in paths:
        if not path.exists():
            raise NotFound(f"there is nothing at {bounded(path, 300)}")
        if path.is_dir():
            inside = sorted(one for one in path.rglob("*") if one.is_file())
            found += [sources.on_disk(one, one.relative_to(path).as_posix()) for one in inside]
        else:
            found.append(sources.on_disk(path, path.name))
    return found
