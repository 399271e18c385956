"""What people write with MLflow's registry, as scripts: each runs in a process of its own against a real server."""

from __future__ import annotations

SKINNY = {
    "log, register, point an alias, load": """
        import mlflow
        from mlflow import MlflowClient

        class Twice(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                return [number * 2 for number in model_input]

        mlflow.set_experiment("registry")
        client = MlflowClient()
        with mlflow.start_run() as run:
            mlflow.log_param("depth", 6)
            info = mlflow.pyfunc.log_model(
                name="m", python_model=Twice(), registered_model_name="churn", pip_requirements=[]
            )
            mlflow.log_metric("acc", 0.9, model_id=info.model_id)
        assert str(info.registered_model_version) == "1"
        logged = mlflow.get_logged_model(info.model_id)
        assert str(logged.status) == "READY" and logged.params == {"depth": "6"}
        assert logged.source_run_id == run.info.run_id and logged.metrics[0].value == 0.9
        outputs = client.get_run(run.info.run_id).outputs.model_outputs
        assert [one.model_id for one in outputs] == [info.model_id]
        client.set_registered_model_alias("churn", "production", 1)
        found = client.get_model_version_by_alias("churn", "production")
        assert (found.version, found.aliases, found.run_id) == ("1", ["production"], run.info.run_id)
        for uri in ("models:/churn@production", "models:/churn/1", "models:/churn/latest", info.model_uri):
            assert mlflow.pyfunc.load_model(uri).predict([1, 2]) == [2, 4], uri

        with mlflow.start_run():
            mlflow.pyfunc.log_model(name="m", python_model=Twice(), registered_model_name="churn", pip_requirements=[])
        client.set_registered_model_alias("churn", "production", 2)
        assert client.get_model_version_by_alias("churn", "production").version == "2"
        found = mlflow.search_logged_models(
            experiment_ids=[run.info.experiment_id], filter_string="metrics.acc > 0.5", output_format="list"
        )
        assert [one.model_id for one in found] == [info.model_id]
        copy = client.copy_model_version("models:/churn@production", "served")
        assert copy.source == "models:/churn/2"
        assert mlflow.pyfunc.load_model("models:/served/1").predict([3]) == [6]
        client.delete_registered_model("churn")
        assert mlflow.pyfunc.load_model("models:/served/1").predict([3]) == [6], "a copy needs nothing of the first"
    """,
    "models, versions, tags, search": """
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        client = MlflowClient()
        client.create_registered_model("a", tags={"team": "red"}, description="first")
        client.create_registered_model("b")
        for number in range(3):
            made = client.create_model_version("a", f"s3://bucket/{number}", run_id=f"gone{number}", tags={"n": number})
            assert (made.version, made.run_id, made.status) == (str(number + 1), f"gone{number}", "READY")
        assert client.get_model_version_download_uri("a", "2") == "s3://bucket/1"
        client.set_registered_model_tag("a", "k", "v")
        client.set_model_version_tag("a", "1", "k", "v")
        client.update_model_version("a", "1", "note")
        client.update_registered_model("a", "other")
        model, version = client.get_registered_model("a"), client.get_model_version("a", "1")
        assert (model.description, model.tags) == ("other", {"team": "red", "k": "v"})
        assert (version.description, version.tags) == ("note", {"n": "0", "k": "v"})
        client.delete_registered_model_tag("a", "k")
        client.delete_model_version_tag("a", "1", "k")
        assert [one.name for one in client.search_registered_models("tags.team = 'red'")] == ["a"]
        assert [one.name for one in client.search_registered_models(order_by=["name DESC"])][-2:] == ["b", "a"]
        page = client.search_model_versions("name = 'a'", max_results=2, order_by=["version_number ASC"])
        rest = client.search_model_versions(
            "name = 'a'", max_results=2, order_by=["version_number ASC"], page_token=page.token
        )
        assert [one.version for one in [*page, *rest]] == ["1", "2", "3"]
        assert [one.version for one in client.search_model_versions("run_id = 'gone1'")] == ["2"]
        client.rename_registered_model("a", "c")
        assert client.get_model_version("c", "3").source == "s3://bucket/2"
        client.delete_model_version("c", "3")
        assert client.create_model_version("c", "s3://bucket/4").version == "4"
        for code, call in (
            ("RESOURCE_DOES_NOT_EXIST", lambda: client.get_registered_model("a")),
            ("RESOURCE_DOES_NOT_EXIST", lambda: client.get_model_version("c", "3")),
            ("RESOURCE_ALREADY_EXISTS", lambda: client.create_registered_model("b")),
            ("RESOURCE_ALREADY_EXISTS", lambda: client.rename_registered_model("b", "c")),
            ("INVALID_PARAMETER_VALUE", lambda: client.get_model_version_by_alias("c", "nothing")),
            ("INVALID_PARAMETER_VALUE", lambda: client.set_registered_model_alias("c", "latest", "1")),
            ("INVALID_PARAMETER_VALUE", lambda: client.set_registered_model_alias("c", "v3", "1")),
            ("INVALID_PARAMETER_VALUE", lambda: client.create_registered_model("a/b")),
            ("INVALID_PARAMETER_VALUE", lambda: client.create_model_version("c", "/etc/passwd")),
            ("INVALID_PARAMETER_VALUE", lambda: client.search_registered_models("nme = 'x'")),
            ("RESOURCE_DOES_NOT_EXIST", lambda: client.get_logged_model("m-" + "0" * 32)),
        ):
            try:
                call()
            except MlflowException as error:
                assert error.error_code == code, (code, error)
            else:
                raise AssertionError(code)
    """,
    "as it was written for MLflow 2": """
        import warnings
        warnings.simplefilter("ignore")
        import mlflow
        from mlflow import MlflowClient

        class Twice(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                return [number * 2 for number in model_input]

        client = MlflowClient()
        with mlflow.start_run() as run:
            mlflow.pyfunc.log_model("model", python_model=Twice(), registered_model_name="old", pip_requirements=[])
        assert client.get_model_version("old", "1").run_id == run.info.run_id
        made = mlflow.register_model(f"runs:/{run.info.run_id}/model", "old")
        assert made.version in ("2", 2)
        client.set_registered_model_alias("old", "production", "2")
        for uri in ("models:/old@production", "models:/old/1", f"runs:/{run.info.run_id}/model"):
            assert mlflow.pyfunc.load_model(uri).predict([1, 2]) == [2, 4], uri
    """,
    "stages": """
        import warnings
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient
        client = MlflowClient()
        client.create_registered_model("staged")
        for number in range(3):
            client.create_model_version("staged", f"s3://bucket/{number}")
        client.transition_model_version_stage("staged", "1", "Production")
        client.transition_model_version_stage("staged", "2", "Production", archive_existing_versions=True)
        found = {one.current_stage: one.version for one in client.get_latest_versions("staged")}
        assert found == {"Archived": "1", "Production": "2", "None": "3"}
        assert [one.version for one in client.get_latest_versions("staged", ["Production"])] == ["2"]
    """,
    "prompts are models with a tag": """
        import mlflow
        from mlflow import MlflowClient
        first = mlflow.genai.register_prompt("greeting", "hello {{name}}")
        assert (first.version, mlflow.genai.load_prompt("prompts:/greeting/1").template) == (1, "hello {{name}}")
        mlflow.genai.register_prompt("greeting", "good day {{name}}")
        mlflow.genai.set_prompt_alias("greeting", "live", 2)
        assert mlflow.genai.load_prompt("prompts:/greeting@live").version == 2
        assert "greeting" not in [one.name for one in MlflowClient().search_registered_models()]
        assert "greeting" in [one.name for one in mlflow.genai.search_prompts()]
    """,
}
