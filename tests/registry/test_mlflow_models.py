"""Models that MLflow's own client made: logged to a server, or saved in a folder; loaded, compiled, trusted here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tarmac
from tarmac.core.errors import Refused
from tarmac.registry.operations import CompileModel, GetVersion
from tarmac.workspace import connect, packages
from tests.conftest import Server, tarmac_environment

LOG = """
import sys, json, mlflow, pandas as pd
from sklearn.linear_model import LogisticRegression
rows = pd.DataFrame({"a": [0.1, 3.0, 6.0, 1.0], "b": [1.0, 4.0, 7.0, 0.0]})
model = LogisticRegression().fit(rows, [0, 1, 1, 0])
if sys.argv[1] == "save":
    mlflow.sklearn.save_model(model, "saved", input_example=rows, serialization_format="cloudpickle")
else:
    mlflow.set_tracking_uri(sys.argv[1])
    with mlflow.start_run():
        mlflow.sklearn.log_model(model, name="model", input_example=rows, registered_model_name="churn",
                                 serialization_format="cloudpickle")
print(json.dumps(model.predict(rows).tolist()))
"""
ROWS = {"a": [0.1, 3.0, 6.0, 1.0], "b": [1.0, 4.0, 7.0, 0.0]}


def mlflow(tmp_path: Path, where: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOG, where], cwd=tmp_path, text=True, capture_output=True,
        env=tarmac_environment(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("address", ["sqlite"])
def test_a_logged_model(server: Server, tmp_path: Path) -> None:
    expected = mlflow(tmp_path, server.url)
    with connect(server.url) as opened:
        with pytest.raises(Refused, match="brings code") as caught:
            tarmac.load_model("churn@v1", workspace=opened)
        digest = str(caught.value.detail["digest"])
        native = tarmac.load_model("churn@v1", workspace=opened, trust=digest)
        assert native.predict(ROWS).tolist() == expected
        assert native.signature is not None
        assert native.signature.names() == ["a", "b"]
        assert tarmac.load_model("churn@v1", workspace=opened, trust=digest).digest == digest, "from the cache"
        report = opened.wait(opened(CompileModel(ref="churn@v1", trust=[digest])))
        assert report.equal, report
        ready = tarmac.load_model("churn@v1", workspace=opened)
        assert (ready.form, ready.predict(ROWS).tolist()) == ("compiled", expected)


@pytest.mark.filterwarnings("ignore")  # MLflow's own, as it is imported
def test_a_saved_folder(tmp_path: Path) -> None:
    expected = mlflow(tmp_path, "save")
    with connect(tmp_path, create=True) as opened:
        version = packages.add(opened, "churn", tmp_path / "saved")
        assert opened(GetVersion(ref="churn@v1")).digest == version.digest
        model = tarmac.load_model("churn@v1", workspace=opened, trust=version.digest or "")
        assert model.predict(ROWS).tolist() == expected
        assert model.about.requirements, "MLflow's own"
        from mlflow import pyfunc

        assert sorted(path.name for path in (tmp_path / "saved").iterdir() if path.name == "tarmac.json") == []
        assert pyfunc.load_model(str(model.folder)).predict(frame()).tolist() == expected


def frame() -> object:
    import pandas as pd

    return pd.DataFrame(ROWS)
