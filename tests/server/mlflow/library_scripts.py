"""What people write with MLflow and other libraries, as scripts: each runs in a process of its own.

The keys say what must be installed beside `mlflow-skinny`.
"""

from __future__ import annotations

LIBRARIES = {
    "xgboost": """
        import mlflow, numpy as np, xgboost
        from mlflow import MlflowClient
        mlflow.xgboost.autolog(log_models=False, log_datasets=False)
        chance = np.random.default_rng(1)
        X = chance.random((80, 4)); y = (X[:, 0] > 0.5).astype(int)
        data = xgboost.DMatrix(X, label=y)
        with mlflow.start_run() as run:
            xgboost.train(
                {"max_depth": 2, "objective": "binary:logistic"}, data, num_boost_round=12, evals=[(data, "train")],
                verbose_eval=False,
            )
        client = MlflowClient()
        found = client.get_run(run.info.run_id)
        assert (found.data.params["max_depth"], found.data.params["num_boost_round"]) == ("2", "12")
        curve = client.get_metric_history(run.info.run_id, "train-logloss")
        assert [point.step for point in curve] == list(range(12))
        assert curve[-1].value == found.data.metrics["train-logloss"] < curve[0].value
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert "feature_importance_weight.json" in names, names
    """,
    "lightgbm": """
        import lightgbm, mlflow, numpy as np
        from mlflow import MlflowClient
        mlflow.lightgbm.autolog(log_models=False, log_datasets=False)
        chance = np.random.default_rng(1)
        X = chance.random((120, 4)); y = X[:, 0] * 2
        data = lightgbm.Dataset(X, label=y)
        with mlflow.start_run() as run:
            lightgbm.train(
                {"objective": "regression", "num_leaves": 4, "verbosity": -1, "num_threads": 1}, data,
                num_boost_round=12, valid_sets=[data], valid_names=["train"],
            )
        client = MlflowClient()
        found = client.get_run(run.info.run_id)
        assert found.data.params["num_leaves"] == "4"
        curve = client.get_metric_history(run.info.run_id, "train-l2")
        assert [point.step for point in curve] == list(range(12))
        assert curve[-1].value < curve[0].value
    """,
    "sklearn": """
        import mlflow, numpy as np
        from mlflow import MlflowClient
        from mlflow.models import infer_signature
        from sklearn.linear_model import LinearRegression
        X = np.arange(20.0).reshape(-1, 1); y = 3 * X[:, 0] + 1
        model = LinearRegression().fit(X, y)
        client = MlflowClient()
        with mlflow.start_run() as run:
            info = mlflow.sklearn.log_model(
                model, name="line", signature=infer_signature(X, y), input_example=X[:2], pip_requirements=["numpy"],
                serialization_format="cloudpickle",
            )
        version = mlflow.register_model(info.model_uri, "line")
        client.set_registered_model_alias("line", "live", version.version)
        loaded = mlflow.pyfunc.load_model("models:/line@live")
        assert np.allclose(loaded.predict(X), y)
        assert abs(mlflow.sklearn.load_model("models:/line@live").coef_[0] - 3) < 1e-6
        assert client.get_logged_model(info.model_id).tags["mlflow.modelVersions"] == '[{"name": "line", "version": 1}]'
    """,
    "optuna": """
        import mlflow, optuna
        from mlflow import MlflowClient
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        client = MlflowClient()
        experiment = mlflow.set_experiment("study").experiment_id

        class Callback:
            '''As optuna-integration's MLflowCallback logs: a run for each trial, nested in the study's.'''

            def __call__(self, study, trial):
                with mlflow.start_run(run_name=str(trial.number), nested=True):
                    mlflow.log_metrics({"value": trial.value})
                    mlflow.log_params(trial.params)
                    tags = {
                        "number": str(trial.number), "datetime_start": str(trial.datetime_start),
                        "state": str(trial.state), "direction": str(study.direction),
                        **{f"{name}_distribution": str(kind) for name, kind in trial.distributions.items()},
                    }
                    mlflow.set_tags({name: text[:5000] for name, text in tags.items()})

        def objective(trial):
            x = trial.suggest_float("x", -10, 10)
            kind = trial.suggest_categorical("kind", ["a", "b"])
            return (x - 2) ** 2 + (kind == "b")

        with mlflow.start_run(run_name="study") as parent:
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
            study.optimize(objective, n_trials=12, callbacks=[Callback()])
            mlflow.log_params(study.best_params)
            mlflow.log_metric("best", study.best_value)
        children = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
        found = client.search_runs([experiment], children, order_by=["metrics.value ASC"])
        assert len(found) == 12
        best = found[0]
        assert best.data.metrics["value"] == study.best_value
        assert best.data.params["x"] == str(study.best_params["x"])
        assert best.data.tags["number"] == best.info.run_name == str(study.best_trial.number)
        kinds = client.search_runs([experiment], f"{children} AND params.kind = 'b'")
        assert len(kinds) == sum(trial.params["kind"] == "b" for trial in study.trials)
    """,
    "pandas": """
        # a logged model may be mended until a version of it is registered
        import mlflow
        from mlflow import MlflowClient
        from mlflow.models import infer_signature, set_signature
        from mlflow.models.model import update_model_requirements

        class Twice(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                return [number * 2 for number in model_input]

        client = MlflowClient()
        mlflow.set_experiment("mended")
        with mlflow.start_run():
            info = mlflow.pyfunc.log_model(name="m", python_model=Twice(), pip_requirements=["numpy"])
        signature = infer_signature([1.0, 2.0], [2.0, 4.0])
        set_signature(info.model_uri, signature)
        update_model_requirements(info.model_uri, "add", ["requests==2.0"])
        assert mlflow.models.get_model_info(info.model_uri).signature == signature
        assert "requests==2.0" in open(mlflow.artifacts.download_artifacts(info.model_uri) + "/requirements.txt").read()
        assert str(client.get_logged_model(info.model_id).status) == "READY"
        assert mlflow.pyfunc.load_model(info.model_uri).metadata.signature == signature

        outside = mlflow.create_external_model(name="outside")
        assert str(outside.status) == "READY"
        again = mlflow.pyfunc.log_model(model_id=outside.model_id, name="m", python_model=Twice(), pip_requirements=[])
        assert again.model_id == outside.model_id
        assert mlflow.pyfunc.load_model(again.model_uri).predict([1]) == [2]

        version = mlflow.register_model(info.model_uri, "mended")
        assert version.status == "READY"
        try:
            set_signature(info.model_uri, infer_signature(["a"], ["b"]))
        except Exception as error:
            assert "400" in str(error) and "mended@v1 is made of it" in str(error), error
        else:
            raise AssertionError("what is registered does not change")
        assert mlflow.models.get_model_info("models:/mended/1").signature == signature
    """,
}

SEARCHES = """
    import itertools, math, random
    from mlflow import MlflowClient
    client = MlflowClient()
    chance = random.Random(5)
    experiment = client.create_experiment("searched")
    runs = []
    for number in range(40):
        def some(keys, share, values):
            return {key: chance.choice(values()) for key in keys if chance.random() < share}
        metrics = some(["acc", "val loss"], 0.8, lambda: [chance.random(), math.nan, 0.0, 1.0])
        params = some(["depth", "Depth", "my param"], 0.7, lambda: ["6", "10", "x'y", "Adam", "adam", ""])
        tags = some(["a.b-c"], 0.7, lambda: ["red", "Red", "blue"])
        run = client.create_run(experiment, start_time=1000 + number, tags=tags).info.run_id
        for key, value in metrics.items():
            client.log_metric(run, key, value, timestamp=1)
        for key, value in params.items():
            client.log_param(run, key, value)
        runs.append((run, metrics, params, tags))

    def metric(key, test): return lambda run: key in run[1] and test(run[1][key])
    def param(key, test): return lambda run: key in run[2] and test(run[2][key])
    def tag(key, test): return lambda run: key in run[3] and test(run[3][key])

    asked = [
        ("metrics.acc > 0.5", metric("acc", lambda v: v > 0.5)),
        ("metrics.acc <= 0", metric("acc", lambda v: v <= 0)),
        ('metrics."val loss" >= 1', metric("val loss", lambda v: v >= 1)),
        ("metrics.`val loss` = 0", metric("val loss", lambda v: v == 0)),
        ("params.depth = '6'", param("depth", lambda v: v == "6")),
        ("params.Depth = '6'", param("Depth", lambda v: v == "6")),
        ("params.`my param` != 'adam'", param("my param", lambda v: v != "adam")),
        ('params.depth = "x\\'y"', param("depth", lambda v: v == "x'y")),
        ("params.depth LIKE 'A%'", param("depth", lambda v: v.startswith("A"))),
        ("params.depth ILIKE 'A%'", param("depth", lambda v: v.lower().startswith("a"))),
        ("tags.`a.b-c` = 'red'", tag("a.b-c", lambda v: v == "red")),
        ("tags.`a.b-c` ILIKE 'RED'", tag("a.b-c", lambda v: v.lower() == "red")),
        ("attributes.start_time >= 1020", lambda run: runs.index(run) >= 20),
    ]
    def ids(text, **more):
        found, token = [], None
        while True:
            page = client.search_runs([experiment], text, max_results=7, page_token=token, **more)
            found += [run.info.run_id for run in page]
            token = page.token
            if not token:
                return found
    for (one, first), (other, second) in itertools.combinations(asked, 2):
        expected = [run[0] for run in reversed(runs) if first(run) and second(run)]
        assert ids(f"{one} AND {other}") == expected, (one, other)
    for text, test in asked:
        assert ids(text) == [run[0] for run in reversed(runs) if test(run)], text
    for way in ("ASC", "DESC"):
        there = [run for run in reversed(runs) if not math.isnan(run[1].get("acc", math.nan))]
        rest = [run for run in reversed(runs) if run not in there]
        there.sort(key=lambda run: run[1]["acc"], reverse=way == "DESC")
        values = [run[1]["acc"] for run in there]
        order = ids("", order_by=[f"metrics.acc {way}"])
        assert [dict((r[0], r[1]) for r in runs)[id]["acc"] for id in order[:len(there)]] == values
        assert sorted(order[len(there):]) == sorted(run[0] for run in rest), "NaN and nothing come last both ways"
"""
