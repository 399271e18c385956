"""As an Argo Workflow: a DAG of containers, parameters of the workflow, one secret."""

from __future__ import annotations

from typing import Any

from tarmac.flow.exports.containers import SECRET, Container, Exported, memory_text


def workflow(exported: Exported) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "generateName": f"{exported.name}-",
            "labels": {"app.kubernetes.io/managed-by": "tarmac"},
            "annotations": {"tarmac/pipeline": exported.pipeline},
        },
        "spec": {
            "entrypoint": "pipeline",
            "arguments": {
                "parameters": [{"name": name, "value": value} for name, value in exported.params.items()],
            },
            "templates": [
                {"name": "pipeline", "dag": {"tasks": [_task(one) for one in exported.containers]}},
                *(_template(one, exported) for one in exported.containers),
            ],
        },
    }


def _task(one: Container) -> dict[str, Any]:
    task: dict[str, Any] = {"name": one.name, "template": f"step-{one.name}"}
    if one.after:
        task["dependencies"] = one.after
    return task


def _template(one: Container, exported: Exported) -> dict[str, Any]:
    params = [part for name in exported.params for part in ("-p", f"{name}={{{{workflow.parameters.{name}}}}}")]
    container: dict[str, Any] = {
        "name": "main",
        "image": exported.image,
        "command": ["tarmac"],
        "args": ["step", exported.pipeline, one.node, "--within", "{{workflow.name}}", *params],
        "env": [
            {"name": "TARMAC_WORKSPACE", "value": exported.workspace},
            {"name": "TARMAC_PROJECT", "value": exported.project},
            *(
                {
                    "name": name,
                    "valueFrom": {"secretKeyRef": {"name": SECRET, "key": name, "optional": True}},
                }
                for name in exported.secrets
            ),
        ],
        "resources": resources(one),
    }
    if exported.folder:
        container["workingDir"] = exported.folder
    return {"name": f"step-{one.name}", "container": container}


def resources(one: Container) -> dict[str, Any]:
    wanted = {"cpu": f"{one.cpu:g}"}
    if one.memory:
        wanted["memory"] = memory_text(one.memory)
    limits = {name: value for name, value in wanted.items() if name == "memory"}
    if one.gpu:
        limits["nvidia.com/gpu"] = f"{one.gpu:g}"
    return {"requests": wanted, "limits": limits} if limits else {"requests": wanted}
