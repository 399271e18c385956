"""Clients that people have: curl, MLflow's scoring client, NVIDIA's `tritonclient`; and a model that MLflow logged."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Server
from tests.serve.conftest import Running
from tests.server.mlflow.test_clients import need, run, token
from tests.ship.test_serve import Served, tarmac

LOG = """
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

table, labels = load_iris(return_X_y=True, as_frame=True)
with mlflow.start_run():
    mlflow.sklearn.log_model(
        LogisticRegression(max_iter=500).fit(table, labels), name="m", registered_model_name="flowers",
        input_example=table[:2], pip_requirements=[], serialization_format="cloudpickle",
    )
mlflow.MlflowClient().set_registered_model_alias("flowers", "production", 1)
"""
ASK = """
import sys
import pandas
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from sklearn.datasets import load_iris

client = ScoringServerClient("127.0.0.1", int(sys.argv[1]))
client.wait_server_ready(timeout=10)
assert client.get_version()
table, labels = load_iris(return_X_y=True, as_frame=True)
found = client.invoke(table)
assert (labels == found.get_predictions().iloc[:, 0]).mean() > 0.95, found
try:
    client.invoke(table.drop(columns=table.columns[0]))
except Exception as error:
    assert "sepal length (cm)" in str(error), error
else:
    raise AssertionError("a missing column was not refused")
print("ok")
"""


@pytest.mark.slow
@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_a_model_that_mlflow_logged_is_served_to_mlflows_client(server: Server, tmp_path: Path) -> None:
    need("mlflow", "sklearn", "pandas", "cloudpickle")
    run(LOG, server.url, tmp_path, **token(Path(os.environ["TARMAC_STATE"]), server))
    where = ("--workspace", server.url)
    refused = tarmac("serve", "flowers@production", *where, code=2)
    found = re.search(r"--trust ([0-9a-f]{64})", refused)
    assert found, refused
    served = Served(tmp_path, "flowers@production", *where, "--trust", found[1])
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ASK, str(served.port)], capture_output=True, text=True, timeout=120
        )
        assert done.stdout == "ok\n", done.stdout + done.stderr
    finally:
        served.stop()


def test_curl(quiet: Running) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("not run: curl is not installed")

    def asked(path: str, *words: str, body: str | bytes) -> Any:
        data = body if isinstance(body, bytes) else body.encode()
        url = f"http://127.0.0.1:{quiet.port}{path}"
        done = subprocess.run([curl, "-sS", url, "--data-binary", "@-", *words], input=data, capture_output=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    as_json = ("-H", "Content-Type: application/json")
    assert asked("/predict/add", *as_json, body="[[1,2,3,4]]")["predictions"] == [1010]
    assert asked("/predict/add", body="[[1,2,3,4]]")["error"]["code"] == "wrong_content_type"
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    assert asked("/v2/models/add/infer", body=json.dumps({"inputs": [tensor]}))["outputs"][0]["data"] == [1010]
    large = json.dumps([[number, 0, 0, 0] for number in range(20_000)])  # curl asks first: Expect: 100-continue
    assert asked("/predict/add", *as_json, body=large)["predictions"][-1] == 20_999
    chunked = asked("/predict/add", *as_json, "-H", "Transfer-Encoding: chunked", body="[[1,2,3,4]]")
    assert chunked["predictions"] == [1010]


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_tritonclient(quiet: Running, way: str) -> None:
    """`TRITON_PYTHON` names the Python of an environment that has it: it brings too much for ours."""
    python = os.environ.get("TRITON_PYTHON", sys.executable)
    if python == sys.executable and importlib.util.find_spec("tritonclient") is None:
        pytest.skip("not run: tritonclient is not installed")
    port = quiet.port if way == "http" else quiet.supervisor.grpc_port
    script = Path(__file__).with_name("triton_script.py")
    done = subprocess.run([python, str(script), way, str(port)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "ok\n", done.stdout + done.stderr
