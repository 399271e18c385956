"""The command line. Commands are made from the declarations of operations; nothing is imported before it is called."""

from __future__ import annotations

import sys

import click

from tarmac.cli.lazy import LazyGroup, command_group

# every group of commands and where its operations are declared; a test holds this against the declarations
GROUPS = {
    "projects": ("store", "Owners of every named thing."),
    "data": ("data", "What models were fed: data sets and their versions."),
    "experiments": ("track", "Named groups of runs."),
    "runs": ("track", "Executions: start, log, look, compare, end."),
    "metrics": ("track", "Curves of runs."),
    "files": ("track", "Files that belong to no run."),
    "models": ("registry", "What was kept: names, versions, aliases and their history."),
    "versions": ("registry", "Numbered references to packages."),
    "packages": ("registry", "Immutable bundles that can predict."),
    "cuts": ("ship", "Endpoints that were stopped."),
    "import": ("start", "What was tracked elsewhere, brought here."),
    "export": ("start", "What is here, written for others."),
    "manifests": ("store", "Immutable lists of files."),
    "blobs": ("store", "Bytes by their digest."),
    "pipelines": ("flow", "Runs of pipelines, step by step."),
    "results": ("flow", "What steps made, kept by what it was made of."),
    "schedules": ("flow", "Pipelines that start by themselves."),
    "reproductions": ("flow", "Verdicts on runs that were done again."),
    "jobs": ("flow", "Work that takes longer than an answer may."),
    "gates": ("govern", "What has to hold before an alias moves."),
    "audit": ("govern", "The ledger: who did what, and proof of it."),
    "people": ("people", "Persons and their roles."),
    "tokens": ("people", "What people's programs show to a server."),
    "store": ("store", "Check, back up, restore, upgrade, collect garbage."),
}
SINGLE = {
    "status": ("store", "The workspace at a glance."),
    "reproduce": ("flow", "Do a run again from nothing, and compare."),
    "lineage": ("store", "What made a thing, or what was made of it."),
    "cut": ("ship", "Stop an endpoint's model at once."),
    "uncut": ("ship", "Let an endpoint's model answer again."),
}
OWN = {
    "demo": "The life of a model, on this machine.",
    "init": "Make a workspace here.",
    "run": "A pipeline, or any script, as a tracked run.",
    "plan": "What a pipeline would run, what it would reuse, and why.",
    "why": "Why a step of a pipeline would run.",
    "search": "Find the best params: trials over a space.",
    "step": "One step of a pipeline, as a container calls it.",
    "load-test": "What callers of a runtime see.",
    "predict": "A model on all rows of files.",
    "serve": "Answer with models: HTTP, batches, shares, a log.",
    "sync": "Send what runs left on this machine.",
    "promote": "Move an alias, if the rules of its gate hold.",
    "approve": "Consent to the bytes of a version.",
    "rollback": "Point an alias to what it pointed to before.",
    "up": "Server, UI and jobs: one process.",
    "connections": "Places outside that the project file names.",
    "doctor": "What is missing, and the command that mends it.",
}


def main() -> None:
    from tarmac.cli.errors import run

    sys.exit(run(root))


root = LazyGroup(
    name="tarmac",
    help="The road a model runs on: versioned, reproducible, deployed, watched and governed models from one install.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _name, _help in OWN.items():
    root.add_lazy(_name, _help, f"tarmac.cli.{_name.replace('-', '_')}:command")
root.add_lazy("pipeline", "A pipeline for other engines.", "tarmac.cli.pipeline_export:command")
for _name, (_stage, _help) in SINGLE.items():
    root.add_lazy(_name, _help, lambda name=_name, stage=_stage: command_group(name, stage, ""))  # type: ignore[misc]
for _name, (_stage, _help) in GROUPS.items():
    root.add_lazy(_name, _help, lambda name=_name, stage=_stage, text=_help: command_group(name, stage, text))  # type: ignore[misc]


def _version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from tarmac import __version__

        click.echo(f"tarmac {__version__}")
        context.exit()


root.params.append(
    click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
    )
)
