"""A pipeline as containers: each calls `tarmac step`, and hands its result on through the workspace."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tarmac.core.errors import Invalid, bounded
from tarmac.flow import needs
from tarmac.flow.graph import Graph, Node
from tarmac.flow.pipelines import Pipeline, as_texts

SECRET, TOKEN = "tarmac", "TARMAC_TOKEN"
"""What the cluster's secret is called; its keys are the variables."""
LONGEST_NAME = 50


@dataclass(frozen=True)
class Container:
    """One step, as a container runs it."""

    name: str
    node: str
    after: list[str]
    cpu: float
    memory: int
    gpu: float


@dataclass(frozen=True)
class Exported:
    """All that an engine has to be told."""

    name: str
    pipeline: str
    """How `tarmac step` is told which pipeline is meant."""
    image: str
    workspace: str
    project: str
    params: dict[str, str]
    containers: list[Container]
    folder: str = ""
    secrets: list[str] = field(default_factory=list)
    """Variables that come from the cluster's secret."""


def export(
    pipeline: Pipeline[..., Any],
    params: Mapping[str, Any],
    *,
    target: str,
    image: str,
    workspace: str,
    project: str,
    folder: str = "",
    secrets: list[str] | None = None,
) -> Exported:
    graph, values = pipeline.graph(params, typed=True)
    texts = as_texts(values)
    for name, text in texts.items():
        if text == "***":
            raise Invalid(
                f"parameter `{name}` is a secret: a file for a cluster would show it", hint="use a connection"
            )
    return Exported(
        name=k8s_name(pipeline.name),
        pipeline=target,
        image=image,
        workspace=workspace,
        project=project,
        params=texts,
        containers=list(_containers(graph)),
        folder=folder,
        secrets=sorted({TOKEN, *(secrets or [])}),
    )


def _containers(graph: Graph) -> Iterator[Container]:
    """The steps that run whatever comes out. One that only a branch asks for runs where the branch is chosen."""
    nodes = needs.unconditional(graph, needs.consumers(graph))
    names: dict[Node, str] = {}
    for node in nodes:
        name = wanted = k8s_name(node.name)
        number = 1
        while name in names.values():
            number += 1
            name = f"{wanted}-{number}"
        names[node] = name
        inside = [node, *_folded(node, names)]
        options = [one.step.options for one in inside if not one.choice]
        yield Container(
            name=name,
            node=node.name,
            after=sorted({names[before] for one in inside for before in one.before if before in names} - {name}),
            cpu=max((one.cpu for one in options), default=1),
            memory=max((one.memory for one in options), default=0),
            gpu=max((one.gpu for one in options), default=0),
        )


def _folded(node: Node, own: Mapping[Node, str]) -> list[Node]:
    """What it needs that has no container of its own."""
    found: list[Node] = []
    todo = [before for before in node.before if before not in own]
    while todo:
        one = todo.pop()
        if one not in found:
            found.append(one)
            todo += [before for before in one.before if before not in own]
    return found


def k8s_name(text: str) -> str:
    """A name as Kubernetes has them: lower case, digits and dashes, a letter first."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].strip("-")
    if not name:
        raise Invalid(f"`{bounded(text)}` has no letter that a cluster's names could have")
    return name if name[0].isalpha() else f"s-{name}"


def memory_text(size: int) -> str:
    """Bytes as Kubernetes writes them."""
    for unit, factor in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
