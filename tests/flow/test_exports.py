"""A pipeline for other engines: the files fit the published schemas, and what their containers call does the work.

No cluster can be had here; the containers' commands are run one after the other, each with a copy of the project.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uv

from tarmac.flow.operations import ShowPipeline
from tarmac.store.folder import WorkspaceFolder
from tarmac.track.operations import ListRuns
from tarmac.workspace import connect
from tests.conftest import Ran, Server, tarmac_environment

ONE_DATABASE = pytest.mark.parametrize("address", ["sqlite"], indirect=True)
PIPELINE = """
import tarmac

@tarmac.step(cpu=2, memory="1GiB")
def load(n: int) -> list[int]:
    return list(range(n))

@tarmac.step(gpu=1)
def fit(rows: list[int], depth: int) -> int:
    return sum(rows) * depth

@tarmac.step
def good(x: int) -> bool:
    return x > 3

@tarmac.step
def report(x: int) -> str:
    return f"good: {x}"

@tarmac.step
def excuse() -> str:
    return "bad"

@tarmac.pipeline
def train(n: int = 4, depth: int = 2):
    value = fit(load(n), depth)
    return tarmac.when(good(value), report(value), excuse())
"""
WORKSPACE = "https://tarmac.example/p/churn"
SCHEMAS = ("hera==7.1.0", "kfp-pipeline-spec==2.17.3", "googleapis-common-protos", "pyyaml", "kfp-kubernetes")
JUDGE = """
import importlib.util, json, pathlib, sys
import yaml
from google.protobuf import json_format

def lost(given, kept, path=""):
    if isinstance(given, dict):
        absent = [f"{path}/{key}" for key in given if key not in kept]
        return absent + [one for key in given if key in kept for one in lost(given[key], kept[key], f"{path}/{key}")]
    if isinstance(given, list):
        return [one for at, inner in enumerate(given) for one in lost(inner, kept[at], f"{path}/{at}")]
    return [] if given == kept else [path]

documents = list(yaml.safe_load_all(sys.stdin))
if sys.argv[1] == "argo":
    from hera.workflows.models import Workflow
    (document,) = documents
    kept = Workflow.model_validate(document).model_dump_json(by_alias=True, exclude_none=True)
    print(json.dumps(lost(document, json.loads(kept))))
else:
    from kfp.pipeline_spec import pipeline_spec_pb2 as spec
    import kfp.pipeline_spec
    file = pathlib.Path(kfp.pipeline_spec.__file__).parents[1] / "kubernetes" / "kubernetes_executor_config_pb2.py"
    found = importlib.util.spec_from_file_location("config", file)
    config = importlib.util.module_from_spec(found)
    found.loader.exec_module(config)
    pipeline, platform = documents
    json_format.ParseDict(pipeline, spec.PipelineSpec())
    json_format.ParseDict(pipeline["deploymentSpec"], spec.PipelineDeploymentConfig())
    json_format.ParseDict(platform, spec.PlatformSpec())
    for one in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        json_format.ParseDict(one, config.KubernetesExecutorConfig())
    print("[]")
"""


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Any]:
    """The schemas as their projects publish them, in a place of their own: they want another protobuf than others."""
    folder = tmp_path_factory.mktemp("schemas") / "v"
    python = folder / "bin" / "python"
    binary = uv.find_uv_bin()
    subprocess.run([binary, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    for words in (SCHEMAS[:-1], ("--no-deps", SCHEMAS[-1])):
        done = subprocess.run([binary, "pip", "install", "-q", "--python", str(python), *words], capture_output=True)
        if done.returncode:
            pytest.skip("not run: the published schemas cannot be installed")

    def run(kind: str, text: str) -> Any:
        done = subprocess.run([str(python), "-c", JUDGE, kind], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def project(folder: WorkspaceFolder) -> Path:
    home = folder.path.parent / "project"
    home.mkdir()
    (home / "ours.py").write_text(PIPELINE)
    (home / "tarmac.toml").write_text(
        '[pipelines.train]\nentry = "ours:train"\n[connections.db]\nkind = "postgres"\nsecret = "env:DB_PASSWORD"\n'
    )
    return home


@ONE_DATABASE
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["argo", "kfp"])
def test_the_file_fits_the_published_schema(
    project: Path, tarmac: Callable[..., Ran], judge: Callable[[str, str], Any], kind: str
) -> None:
    words = ("pipeline", "export", "train", "--to", kind, "--image", "registry/churn:1", "-w", WORKSPACE)
    done = tarmac(*words, "-p", "depth=7", cwd=project)
    assert done.code == 0, done.err
    assert judge(kind, done.out) == []
    for said in (
        '"7"',
        "registry/churn:1",
        "DB_PASSWORD",
        '"https://tarmac.example"',
        '"churn"',
        '"1Gi"' if kind == "argo" else "1.07",
    ):
        assert said in done.out, said
    assert "excuse" not in done.out  # it runs where the branch is chosen


@ONE_DATABASE
def test_what_cannot_be_exported_is_refused(project: Path, tarmac: Callable[..., Ran]) -> None:
    words = ("pipeline", "export", "--to", "argo", "--image", "x")
    for more, says in {
        ("train", "-w", "/folder"): "no server's address",
        ("trian", "-w", WORKSPACE): "did you mean `train`?",
        ("train", "-w", WORKSPACE, "-p", "dept=3"): "did you mean `depth`?",
        ("train", "-w", WORKSPACE, "-o", "ours.py"): "exists already",
    }.items():
        done = tarmac(*words, *more, cwd=project)
        assert done.code != 0
        assert says in done.err


@ONE_DATABASE
@pytest.mark.slow
def test_what_the_containers_call_does_each_step_once(
    project: Path, server: Server, tmp_path: Path, tarmac: Callable[..., Ran]
) -> None:
    import re

    out = tarmac("pipeline", "export", "train", "--to", "argo", "--image", "x", "-w", server.url, cwd=project).out
    calls = re.findall(r'- "step"\n\s+- "(\w+)"\n\s+- "(\w+)"\n', out)
    assert [step for _, step in calls] == ["load", "fit", "good", "when"]
    for number, (pipeline, step) in enumerate(calls):
        copy = tmp_path / f"container{number}"
        shutil.copytree(project, copy)
        words = [
            sys.executable,
            "-m",
            "tarmac",
            "step",
            pipeline,
            step,
            "--within",
            "train-x7",
            "-p",
            "n=4",
            "-p",
            "depth=2",
        ]
        environment = tarmac_environment(TARMAC_WORKSPACE=server.url)
        done = subprocess.run(words, cwd=copy, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
    with connect(server.url) as workspace:
        runs = workspace(ListRuns(filter="tags.`tarmac.pipeline` = 'train'", order=["started"])).runs
        assert [run.name for run in runs] == [f"train-x7/{step}" for _, step in calls]
        done_by = [
            sorted(step.node for step in workspace(ShowPipeline(run=run.id)).steps if step.done == "ran")
            for run in runs
        ]
        assert done_by == [["load"], ["fit"], ["good"], ["report", "when"]] or done_by == [
            ["load"],
            ["fit"],
            ["good"],
            ["report"],
        ]
    unknown = tarmac("step", "train", "fi", cwd=project, TARMAC_WORKSPACE=server.url)
    assert (unknown.code, "did you mean `fit`?" in unknown.err) == (1, True)
