"""Write the sources with models that the tests of import and export read: `python write_models.py`, with MLflow 3.

The same small registry is written twice by MLflow itself, as a folder and as a database, into `models`.
"""

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from write import HERE, kept  # type: ignore[import-not-found]  # it lies beside this file

MODELS = HERE / "models"
READ = [
    "registered_model_tags", "model_version_tags", "logged_models", "logged_model_params", "logged_model_tags",
    "logged_model_metrics",
]  # fmt: skip


def write(uri: str, artifacts: str | None) -> None:
    import mlflow
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        LoggedModelInput,
        LoggedModelOutput,
        LoggedModelStatus,
        Metric,
        Param,
    )
    from mlflow.tracking import MlflowClient

    mlflow.set_tracking_uri(uri)  # the registry looks for logged models there
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    churn = client.create_experiment("churn", artifact_location=artifacts and f"{artifacts}/churn")
    first = client.create_run(churn, start_time=1_700_000_000_000, run_name="first").info.run_id
    second = client.create_run(churn, start_time=1_700_000_050_000, run_name="second").info.run_id
    client.log_batch(first, metrics=[Metric("acc", 0.5, 1_700_000_001_000, 0)], params=[Param("depth", "3")])
    data = Dataset(name="rides", digest="abc123", source_type="local", source='{"uri": "rides.csv"}')
    client.log_inputs(first, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        (Path(folder) / "MLmodel").write_text("flavors: {}\n")
        (Path(folder) / "data" / "model.bin").write_bytes(bytes(range(64)))
        client.log_artifacts(first, folder, "model")
        model = client.create_logged_model(
            churn, name="clf", source_run_id=first, params={"depth": "3"}, tags={"kind": "tree"}, model_type="forest"
        )
        (Path(folder) / "MLmodel").write_text(f"model_id: {model.model_id}\n")
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(first, [LoggedModelOutput(model.model_id, 3)])
    client.log_inputs(second, models=[LoggedModelInput(model.model_id)])
    client.log_metric(
        first, "val", 0.75, timestamp=1_700_000_003_000, step=4, model_id=model.model_id, dataset_name="rides",
        dataset_digest="abc123",
    )  # fmt: skip
    client.create_logged_model(churn, name="unfinished")
    failed = client.create_logged_model(churn, name="failed").model_id
    client.finalize_logged_model(failed, LoggedModelStatus.FAILED)
    gone = client.create_logged_model(churn, name="in the bin").model_id
    client.finalize_logged_model(gone, LoggedModelStatus.READY)
    client.delete_logged_model(gone)
    client.set_terminated(first, "FINISHED", 1_700_000_010_000)
    client.set_terminated(second, "FINISHED", 1_700_000_060_000)

    client.create_registered_model("churn", tags={"team": "risk"}, description="Who leaves: ü\n'quoted'")
    client.create_model_version("churn", f"runs:/{first}/model", first, tags={"checked": "yes"}, description="v one")
    client.create_model_version("churn", f"models:/{model.model_id}", first, model_id=model.model_id)
    client.create_model_version("churn", "s3://elsewhere/mistake")
    client.create_model_version("churn", f"runs:/{first}/model", first, run_link="https://ci.example/7")
    client.delete_model_version("churn", "3")
    client.transition_model_version_stage("churn", "1", "Production")
    client.set_registered_model_alias("churn", "champion", "2")
    client.set_registered_model_alias("churn", "challenger", "4")
    client.create_registered_model("empty model")
    client.create_registered_model("outside")
    client.create_model_version("outside", "s3://elsewhere/model")
    client.copy_model_version("models:/churn/2", "copied")
    client.register_prompt("greeting", "Say hello to {{name}}", commit_message="first words")


def folder() -> None:
    with tempfile.TemporaryDirectory() as work:
        place = Path(work) / "mlruns"
        write(place.as_uri(), None)
        for file in place.rglob("meta.yaml"):
            file.write_text(file.read_text().replace(place.as_uri(), "file:///somewhere/mlruns"))
        shutil.copytree(place, MODELS / "mlruns")


def database() -> None:
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        file, root = Path(work) / "mlflow.db", f"{Path(work).as_uri()}/artifacts"
        write(f"sqlite:///{file}", root)
        opened = sqlite3.connect(file)
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            opened.execute(f"UPDATE {table} SET {column} = replace({column}, ?, 'mlflow-artifacts:')", (root,))
        opened.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0' WHERE experiment_id = 0")
        opened.commit()
        (MODELS / "mlflow.sql").write_text("\n".join(kept(list(opened.iterdump()), READ)) + "\n")
        shutil.copytree(Path(work) / "artifacts", MODELS / "artifacts")


if __name__ == "__main__":
    shutil.rmtree(MODELS, ignore_errors=True)
    MODELS.mkdir()
    folder()
    database()
