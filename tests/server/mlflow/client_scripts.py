"""What people write with MLflow, as scripts: each runs in a process of its own against a real server.

They are checked by their own asserts. `SKINNY` needs `mlflow-skinny`; `WHOLE` what it names beside it.
"""

from __future__ import annotations

SKINNY = {
    "a life of a run": """
        import mlflow
        from mlflow import MlflowClient
        mlflow.set_experiment("first steps")
        with mlflow.start_run(run_name="parent", description="why") as parent:
            mlflow.log_params({"depth": 6, "name": "ä" * 500, "long": "x" * 5999})
            mlflow.log_metrics({"acc": 0.5, "val/loss": float("nan")}, step=1)
            mlflow.log_metric("acc", 0.75, step=2)
            mlflow.set_tags({"team": "red", "n": 5})
            mlflow.log_text("hello", "notes/a b.txt")
            mlflow.log_dict({"a": [1, 2]}, "config.json")
            with mlflow.start_run(run_name="child", nested=True) as child:
                mlflow.log_metric("acc", 1.0)
        client = MlflowClient()
        run = client.get_run(parent.info.run_id)
        assert run.info.status == "FINISHED" and run.info.end_time
        assert run.data.metrics["acc"] == 0.75 and run.data.metrics["val/loss"] != run.data.metrics["val/loss"]
        assert run.data.params["depth"] == "6" and len(run.data.params["long"]) == 5999
        assert run.data.tags["mlflow.note.content"] == "why" and run.data.tags["n"] == "5"
        assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "acc")] == [(1, 0.5), (2, 0.75)]
        assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == run.info.run_id
        assert mlflow.artifacts.load_text(run.info.artifact_uri + "/notes/a b.txt") == "hello"
        assert mlflow.artifacts.load_dict(run.info.artifact_uri + "/config.json") == {"a": [1, 2]}
        with mlflow.start_run(run_id=run.info.run_id):
            mlflow.log_metric("acc", 0.9, step=3)
        assert client.get_run(run.info.run_id).data.metrics["acc"] == 0.9
        client.update_run(run.info.run_id, name="renamed")
        assert client.get_run(run.info.run_id).info.run_name == "renamed"
        found = client.search_runs([run.info.experiment_id], "metrics.acc >= 0.9", order_by=["metrics.acc DESC"])
        assert [one.info.run_id for one in found] == [child.info.run_id, run.info.run_id]
        client.delete_run(child.info.run_id)
        assert len(client.search_runs([run.info.experiment_id])) == 1
        client.restore_run(child.info.run_id)
    """,
    "files up and down": """
        import hashlib, os, tempfile, mlflow
        from mlflow import MlflowClient
        folder = tempfile.mkdtemp()
        os.makedirs(folder + "/sub/deep")
        content = {"a.txt": b"one", "sub/b ü.bin": os.urandom(100_000), "sub/deep/c": b""}
        for path, data in content.items():
            open(folder + "/" + path, "wb").write(data)
        with mlflow.start_run() as run:
            mlflow.log_artifacts(folder, "all")
            mlflow.log_artifact(folder + "/a.txt")
        client = MlflowClient()
        assert [(f.path, f.is_dir) for f in client.list_artifacts(run.info.run_id)] == [("a.txt", False), ("all", True)]
        assert client.list_artifacts(run.info.run_id, "all/sub")[0].file_size == 100_000
        got = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="all")
        for path, data in content.items():
            assert open(got + "/" + path, "rb").read() == data, path
        try:
            mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="nothing.txt")
        except Exception as error:
            assert "Failed to download" in str(error) or "404" in str(error), error
        else:
            raise AssertionError("it should not be there")
    """,
    "in parts": """
        import os, tempfile, mlflow
        os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] = "true"
        os.environ["MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE"] = "5000000"
        os.environ["MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE"] = "5242880"
        path = tempfile.mkdtemp() + "/big.bin"
        data = os.urandom(12_000_000)
        open(path, "wb").write(data)
        with mlflow.start_run() as run:
            mlflow.log_artifact(path, "models")
        got = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="models/big.bin")
        assert open(got, "rb").read() == data
    """,
    "eight threads on one run": """
        import threading, mlflow
        from mlflow import MlflowClient
        client = MlflowClient()
        run = client.create_run("0").info.run_id
        faults = []
        def work(number):
            try:
                for step in range(40):
                    client.log_metric(run, f"m{step % 3}", number, step=step, timestamp=1000 + number)
                    client.log_param(run, f"p{number}", number)
                    client.set_tag(run, "shared", str(step))
            except Exception as fault:
                faults.append(fault)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not faults, faults
        assert sum(len(client.get_metric_history(run, f"m{n}")) for n in range(3)) == 320
        assert len(client.get_run(run).data.params) == 8
    """,
    "what is wrong comes at once": """
        import time, mlflow
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        client = MlflowClient()
        run = client.create_run("0").info.run_id
        client.log_param(run, "depth", 6)
        def refused(code, function, *args):
            began = time.monotonic()
            try:
                function(*args)
            except MlflowException as error:
                assert error.error_code == code, (error.error_code, error)
            else:
                raise AssertionError(function)
            assert time.monotonic() - began < 5, "the client repeated it"
        refused("INVALID_PARAMETER_VALUE", client.log_param, run, "depth", 7)
        refused("RESOURCE_DOES_NOT_EXIST", client.get_run, "ab" * 16)
        refused("RESOURCE_DOES_NOT_EXIST", client.get_experiment, "99")
        refused("INVALID_PARAMETER_VALUE", client.search_runs, ["0"], "nonsense")
        refused("RESOURCE_ALREADY_EXISTS", client.create_experiment, "Default")
        refused("RESOURCE_DOES_NOT_EXIST", client.delete_tag, run, "no tag")
        client.delete_run(run)
        refused("INVALID_PARAMETER_VALUE", client.log_metric, run, "m", 1)
        assert client.get_experiment_by_name("nobody") is None
    """,
}

WHOLE = {
    "autolog": """
        import mlflow, numpy
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression
        mlflow.sklearn.autolog(log_models=False)
        X, y = load_iris(return_X_y=True)
        with mlflow.start_run() as run:
            LogisticRegression(max_iter=300).fit(X, y)
        run = mlflow.get_run(run.info.run_id)
        assert run.data.params["max_iter"] == "300"
        assert run.data.metrics["training_score"] > 0.9
        assert len(run.inputs.dataset_inputs) == 1
        names = [f.path for f in mlflow.MlflowClient().list_artifacts(run.info.run_id)]
        assert "training_confusion_matrix.png" in names, names
    """,
    "grid search": """
        import mlflow
        from sklearn.datasets import load_iris
        from sklearn.model_selection import GridSearchCV
        from sklearn.tree import DecisionTreeClassifier
        mlflow.sklearn.autolog(log_models=False, max_tuning_runs=None)
        X, y = load_iris(return_X_y=True)
        with mlflow.start_run() as run:
            GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2, 3], "min_samples_leaf": [1, 5]}, cv=3).fit(X, y)
        children = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{run.info.run_id}'")
        assert len(children) == 6, len(children)
        score = "metrics.mean_test_score"
        best = mlflow.search_runs(filter_string=f"{score} > 0.9", order_by=[f"{score} DESC"])
        scores = list(best["metrics.mean_test_score"])
        assert scores and scores == sorted(scores, reverse=True)
    """,
    "figures, tables, images, data": """
        import matplotlib
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt, mlflow, numpy as np, pandas as pd
        figure, axes = plt.subplots()
        axes.plot([1, 2, 3])
        frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
        with mlflow.start_run() as run:
            mlflow.log_figure(figure, "plots/line.png")
            mlflow.log_table(frame, "table.json")
            mlflow.log_table(frame, "table.json")
            mlflow.log_image(np.zeros((8, 8, 3), dtype=np.uint8), "black.png")
            mlflow.log_input(mlflow.data.from_pandas(frame, name="frame"), context="training", tags={"x": "y"})
        assert len(mlflow.load_table("table.json", [run.info.run_id])) == 4
        one = mlflow.get_run(run.info.run_id).inputs.dataset_inputs[0]
        assert one.dataset.name == "frame" and {t.key: t.value for t in one.tags}["mlflow.data.context"] == "training"
        assert len(mlflow.search_runs(filter_string="dataset.name = 'frame' AND dataset.context = 'training'")) == 1
    """,
}
