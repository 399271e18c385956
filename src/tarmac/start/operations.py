"""What can be asked about bringing in what was made elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tarmac.core.operation import Job, operation

Release = Literal["3", "2"]
NO_NUL = r"^[^\x00\ud800-\udfff]*$"
# who starts a job is recorded with what was asked, so a password must not even get here
Place = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=4096,
        pattern=r"^(?![^/]*://[^/?#]*:[^/?#]+@)(?!.*[?&]password=)[^\x00\ud800-\udfff]*$",
        description="a path or an address; it must not carry a password: set MLFLOW_TRACKING_TOKEN or PGPASSWORD",
    ),
]
MaybePlace = Annotated[str, Meta(max_length=4096, pattern=NO_NUL, description="the folder with the files of the runs")]


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


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and what could not be."""

    experiments: int
    runs: int
    points: int
    files: int
    bytes: int
    packages: int
    models: int
    versions: int
    aliases: int
    skipped: list[Skipped] = []


@operation("export.mlflow", needs="admin", scope="workspace", positional=("target",))
class ExportMlflow(Job[Exported], frozen=True, kw_only=True):
    """Write a project's runs and models for MLflow: a folder with its database `mlflow.db` and all files."""

    target: Annotated[str, Meta(min_length=1, max_length=4096, pattern=NO_NUL, description="a folder to make")]
    release: Annotated[Release, Meta(description="which MLflow has to open it: 3 and all later, or 2 for 2.22")] = "3"
