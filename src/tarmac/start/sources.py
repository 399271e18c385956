"""Which kind of source a place is."""

from __future__ import annotations

from pathlib import Path

from tarmac.core.errors import Invalid, NotFound, bounded
from tarmac.start.databases import POSTGRES, PostgresServer, SqliteFile
from tarmac.start.mlflow_database import MAGIC, MlflowDatabase
from tarmac.start.mlflow_server import MlflowServer
from tarmac.start.mlruns import Mlruns
from tarmac.start.source import Missed, Source

KINDS = "a folder `mlruns`, a database `mlflow.db` or postgresql://…, the address of a server"


def find(place: str, artifacts: str) -> Source:
    folder = Path(artifacts) if artifacts else None
    if folder is not None and not folder.is_dir():
        raise NotFound(
            f"there is no folder {bounded(artifacts, 300)}", hint="--artifacts names the folder with the files"
        )
    place = place.removeprefix("sqlite:///")
    if place.startswith(("http://", "https://")):
        return MlflowServer(place, Missed())
    if POSTGRES.match(place):
        return MlflowDatabase(PostgresServer(place), "this", Path.cwd(), folder, Missed())
    if "://" in place:
        raise Invalid(f"{bounded(place, 300)} cannot be imported from", hint=f"what can be: {KINDS}")
    path = Path(place)
    if not path.exists():
        raise NotFound(f"there is nothing at {bounded(path.absolute(), 300)}", hint=f"what can be imported: {KINDS}")
    if path.is_dir():
        if not any((entry / "meta.yaml").is_file() for entry in path.iterdir()):
            raise Invalid(f"{bounded(place, 300)} is not a folder of MLflow's", hint=f"what can be imported: {KINDS}")
        return Mlruns(path, folder, Missed())
    with path.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            return MlflowDatabase(SqliteFile(path), bounded(path), path.absolute().parent, folder, Missed())
    raise Invalid(f"{bounded(place, 300)} cannot be imported from", hint=f"what can be: {KINDS}")
