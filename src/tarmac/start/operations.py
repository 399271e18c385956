"""What can be asked about bringing in what was made elsewhere."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tarmac.core.operation import Job, operation

Place = Annotated[
    str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00\ud800-\udfff]*$", description="a path or an address")
]
MaybePlace = Annotated[
    str, Meta(max_length=4096, pattern=r"^[^\x00\ud800-\udfff]*$", description="the folder with the files of the runs")
]


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be carried."""

    what: str
    why: str


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What is here now and was not before, and what could not be carried."""

    experiments: int
    runs: int
    points: int
    files: int
    bytes: int
    packages: int = 0
    models: int = 0
    versions: int = 0
    aliases: int = 0
    skipped: list[Skipped] = []


@operation("import.mlflow", needs="admin", scope="workspace", positional=("source",))
class ImportMlflow(Job[Imported], frozen=True, kw_only=True):
    """Bring in runs and models from MLflow: a folder `mlruns`, its database or a server. It may be repeated."""

    source: Place
    artifacts: MaybePlace = ""
