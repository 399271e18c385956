"""Write the sources that the tests of the import read: `python write.py`, with MLflow 3 installed, beside this file.

The same small project is written twice by MLflow itself, as a folder and as a database, and shrunk to what is read.
"""

import math
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
HERE = Path(__file__).resolve().parent


def write(uri: str, artifacts: str | None) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunStatus
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    names = ["taxi fares", "gone"]
    taxi, gone = (
        client.create_experiment(name, artifact_location=artifacts and f"{artifacts}/{name.split()[0]}")
        for name in names
    )
    client.set_experiment_tag(taxi, "team", "rides")
    client.set_experiment_tag(taxi, "mlflow.note.content", "What a ride costs")

    parent = client.create_run(taxi, start_time=1_700_000_000_000, run_name="sweep").info.run_id
    child = client.create_run(
        taxi,
        start_time=1_700_000_001_000,
        tags={"mlflow.parentRunId": parent, "mlflow.note.content": "The first child"},
        run_name="child: a 'quoted' \"name\" é",
    ).info.run_id
    client.log_param(child, "optim/lr", "0.1")
    client.log_param(child, "text", "two\nlines")
    points = [Metric("loss", 1.0 / (step + 1), 1_700_000_001_000 + step, step) for step in range(5)]
    points += [
        Metric("odd", value, 1_700_000_002_000, step) for step, value in enumerate([math.nan, math.inf, -math.inf])
    ]
    points += [Metric("val/loss", 0.5, 1_700_000_003_000, -1), Metric("val/loss", 0.25, 1_700_000_003_000, 0)]
    client.log_batch(child, metrics=points)
    client.log_inputs(
        child,
        [
            DatasetInput(
                Dataset(name="rides", digest="abc123", source_type="local", source='{"uri": "rides.csv"}'),
                [InputTag("mlflow.data.context", "training")],
            )
        ],
    )
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.txt"
        model.write_text("fare = 3 + 2 * km\n")
        client.log_artifact(child, str(model), "model")
        empty = Path(folder) / "empty.txt"
        empty.write_text("")
        client.log_artifact(child, str(empty))
    client.set_terminated(child, "FAILED", 1_700_000_009_000)
    client.set_terminated(parent, "FINISHED", 1_700_000_010_000)

    killed = client.create_run(taxi, start_time=1_700_000_020_000, run_name="killed").info.run_id
    client.set_terminated(killed, "KILLED", 1_700_000_021_000)
    client.create_run(taxi, start_time=1_700_000_030_000, run_name="running")
    planned = client.create_run(taxi, start_time=1_700_000_040_000, run_name="planned").info.run_id
    client.update_run(planned, RunStatus.to_string(RunStatus.SCHEDULED))
    dropped = client.create_run(taxi, start_time=1_700_000_050_000, run_name="dropped").info.run_id
    client.set_terminated(dropped, "FINISHED", 1_700_000_051_000)
    client.delete_run(dropped)
    client.create_run(gone, start_time=1_700_000_060_000, run_name="in the bin")
    client.delete_experiment(gone)


def folder() -> None:
    with tempfile.TemporaryDirectory() as work:
        place = Path(work) / "mlruns"
        write(place.as_uri(), None)
        shutil.rmtree(HERE / "mlruns", ignore_errors=True)
        for file in place.rglob("meta.yaml"):  # the folder must read the same wherever it is put
            file.write_text(file.read_text().replace(place.as_uri(), "file:///somewhere/mlruns"))
        shutil.copytree(place, HERE / "mlruns")


def database() -> None:
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)  # MLflow makes a folder where it stands
        file = Path(work) / "mlflow.db"
        write(f"sqlite:///{file}", f"{Path(work).as_uri()}/artifacts")
        database = sqlite3.connect(file)
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            root = f"{Path(work).as_uri()}/artifacts"
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, 'mlflow-artifacts:')", (root,))
        database.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0' WHERE experiment_id = 0")
        database.commit()
        (HERE / "mlflow.sql").write_text("\n".join(kept(list(database.iterdump()))) + "\n")
        shutil.rmtree(HERE / "artifacts", ignore_errors=True)
        shutil.copytree(Path(work) / "artifacts", HERE / "artifacts")


READ = [
    "alembic_version", "experiments", "experiment_tags", "runs", "params", "metrics", "latest_metrics", "tags",
    "datasets", "inputs", "input_tags", "registered_models", "model_versions", "registered_model_aliases",
]  # fmt: skip


def kept(lines: list[str], more: list[str] | None = None) -> list[str]:
    def table(line: str) -> str:
        words = line.replace('"', " ").replace("(", " ").split()
        return words[2] if len(words) > 2 else ""

    return [line for line in lines if line.startswith(("BEGIN", "COMMIT")) or
            (line.startswith(("CREATE TABLE", "INSERT")) and table(line) in READ + (more or []))]  # fmt: skip


if __name__ == "__main__":
    folder()
    database()
