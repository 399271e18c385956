"""As a Kubeflow pipeline (version 2): the document that its SDK compiles to, and what its Kubernetes is told."""

from __future__ import annotations

from typing import Any

from tarmac import __version__
from tarmac.flow.exports.containers import SECRET, Container, Exported

SCHEMA = "2.1.0"
MEGA = 1_000_000_000


def documents(exported: Exported) -> list[dict[str, Any]]:
    """The pipeline; and, for its platform, which secrets become variables."""
    containers = exported.containers
    spec = {
        "pipelineInfo": {"name": exported.name},
        "schemaVersion": SCHEMA,
        "sdkVersion": f"tarmac-{__version__}",
        "root": {
            "inputDefinitions": {
                "parameters": {
                    name: {"parameterType": "STRING", "defaultValue": value, "isOptional": True}
                    for name, value in exported.params.items()
                }
            },
            "dag": {"tasks": {one.name: _task(one, exported) for one in containers}},
        },
        "components": {f"comp-{one.name}": _component(one, exported) for one in containers},
        "deploymentSpec": {
            "executors": {f"exec-{one.name}": {"container": _container(one, exported)} for one in containers}
        },
    }
    secrets = [{"secretKey": name, "envVar": name} for name in exported.secrets]
    platform = {
        "platforms": {
            "kubernetes": {
                "deploymentSpec": {
                    "executors": {
                        f"exec-{one.name}": {
                            "secretAsEnv": [{"secretName": SECRET, "keyToEnv": secrets, "optional": True}]
                        }
                        for one in containers
                    }
                }
            }
        }
    }
    return [spec, platform]


def _task(one: Container, exported: Exported) -> dict[str, Any]:
    task: dict[str, Any] = {
        "taskInfo": {"name": one.name},
        "componentRef": {"name": f"comp-{one.name}"},
        "cachingOptions": {},  # what has not changed is reused by tarmac, which knows what it was made of
        "inputs": {"parameters": {name: {"componentInputParameter": name} for name in exported.params}},
    }
    if one.after:
        task["dependentTasks"] = one.after
    return task


def _component(one: Container, exported: Exported) -> dict[str, Any]:
    parameters = {name: {"parameterType": "STRING"} for name in exported.params}
    return {"executorLabel": f"exec-{one.name}", "inputDefinitions": {"parameters": parameters}}


def _container(one: Container, exported: Exported) -> dict[str, Any]:
    params = [part for name in exported.params for part in ("-p", f"{name}={{{{$.inputs.parameters['{name}']}}}}")]
    container: dict[str, Any] = {
        "image": exported.image,
        "command": ["tarmac"],
        "args": ["step", exported.pipeline, one.node, "--within", "{{$.pipeline_job_name}}", *params],
        "env": [
            {"name": "TARMAC_WORKSPACE", "value": exported.workspace},
            {"name": "TARMAC_PROJECT", "value": exported.project},
        ],
    }
    if exported.folder:
        container["args"] += ["--folder", exported.folder]
    wanted: dict[str, Any] = {"cpuRequest": one.cpu}
    if one.memory:
        wanted |= {"memoryRequest": one.memory / MEGA, "memoryLimit": one.memory / MEGA}
    if one.gpu:
        wanted["accelerator"] = {"type": "nvidia.com/gpu", "count": str(int(one.gpu))}
    return {**container, "resources": wanted}
