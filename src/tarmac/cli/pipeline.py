"""`tarmac run PIPELINE`, `tarmac plan`, `tarmac why`: which pipeline is meant, and how its steps are shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from tarmac.cli.common import opened
from tarmac.core import project_file
from tarmac.core.errors import Invalid, NotFound, TarmacError, bounded, nearest
from tarmac.flow.records import Mark

MARKS = {"run": ("●", "yellow"), "reuse": ("✓", "green"), "depends": ("◌", "cyan"), "skip": ("–", "bright_black")}


# --------------------------------------------------------------------------------------------------- which is meant


def is_pipeline(word: str | None) -> bool:
    """Whether a word means a pipeline: a script has a suffix or a folder, or is a file here; a pipeline has neither."""
    if word is None:
        return True
    if word.endswith((".py", ".ipynb")) or os.sep in word:
        return False
    return ":" in word or word in known() or not Path(word).is_file()


def known() -> dict[str, project_file.Pipeline]:
    file = project_file.find(Path.cwd())
    return project_file.load(file).pipelines if file is not None else {}


def find(word: str | None) -> Any:
    """The pipeline that a word names: one of `tarmac.toml`, or `module:function`."""
    from tarmac.flow.pipelines import Pipeline

    name, entry = _entry(word)
    module_name, _, attribute = entry.partition(":")
    _make_importable()
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise NotFound(
                f"pipeline `{name}`: there is no module `{bounded(error.name)}`",
                hint="`entry` is written from the folder of tarmac.toml, or from `src` in it",
            ) from None
        raise _broken(name, error) from error
    except TarmacError:
        raise
    except Exception as error:
        raise _broken(name, error) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [key for key, value in vars(found).items() if isinstance(value, Pipeline)]
            raise NotFound.named(f"pipeline in {module_name} called", part, names)
        found = getattr(found, part)
    if not isinstance(found, Pipeline):
        raise Invalid(
            f"pipeline `{name}`: {bounded(entry)} is a {type(found).__name__}, no pipeline",
            hint="mark the function with @tarmac.pipeline",
        )
    if word is None or word in known():
        found.name = name
    return found


def _entry(word: str | None) -> tuple[str, str]:
    pipelines = known()
    if word is None:
        if len(pipelines) == 1:
            name = next(iter(pipelines))
            return name, pipelines[name].entry
        if not pipelines:
            raise Invalid(
                "say which pipeline or script",
                hint='or name one in tarmac.toml: [pipelines.train] entry = "pipeline:train"',
            )
        raise Invalid("say which pipeline", hint=f"known: {bounded(', '.join(sorted(pipelines)), 300)}")
    if word in pipelines:
        return word, pipelines[word].entry
    if ":" in word:
        return word.partition(":")[2], word
    near = nearest(word, pipelines)
    raise NotFound(
        f"there is no pipeline `{bounded(word)}`, and no file called so",
        hint=f"did you mean `{near}`?"
        if near
        else f'name it in tarmac.toml: [pipelines.{bounded(word, 40)}] entry = "module:function"',
    )


def _root() -> Path:
    """The folder of the project."""
    file = project_file.find(Path.cwd())
    return file.parent if file is not None else Path.cwd()


def _make_importable() -> None:
    root = _root()
    for place in (root / "src", root):
        if place.is_dir() and str(place) not in sys.path:
            sys.path.insert(0, str(place))


def _broken(name: str, error: Exception) -> Invalid:
    from tarmac.flow.executors.work import fault_of

    fault = fault_of(error)
    return Invalid(
        f"pipeline `{name}` cannot be read: {fault.kind}: {fault.message}"
        + (f" ({fault.where})" if fault.where else "")
    )


# ------------------------------------------------------------------------------------------------------------ running


def run(
    word: str | None,
    params: Mapping[str, str],
    *,
    workspace: str | None,
    project: str | None,
    as_json: bool,
    resume: bool,
    workers: int,
    on: str | None,
    experiment: str | None,
    name: str | None,
    quiet: bool,
) -> int:
    from tarmac.flow import session

    pipeline = find(word)
    with opened(workspace, project) as door:
        from tarmac.cli.describe import Beside
        from tarmac.cli.progress import progress

        kept = Beside(door, word, _root())
        with progress(quiet=quiet or as_json) as shown:

            def begun(run: Any, graph: Any) -> None:
                shown.begun(run, graph)
                kept.begin(run)

            try:
                done = session.run(
                    pipeline, door, params, typed=True, resume=resume, workers=workers, on=on,
                    experiment=experiment, name=name, watch=shown.watch, show=shown.log, begun=begun,
                )  # fmt: skip
            finally:
                kept.end()
        value = done.value
        if as_json:
            click.echo(_json({"run": done.id, "steps": list(done.steps.values()), "result": _plain(value)}))
            return 0
        ran, reused = done.count("ran"), done.count("reused")
        click.echo(
            f"run {done.id} finished: {ran} run, {reused} reused; `tarmac pipelines show {done.id[:12]}`", err=True
        )
        if value is not None:
            click.echo(_result(value))
    return 0


def _result(value: Any) -> str:
    if isinstance(value, (str, int, float, bool, Path)):
        return str(value)
    return bounded(_plain(value), 2000)


def _plain(value: Any) -> Any:
    import msgspec

    try:
        return msgspec.to_builtins(value)
    except (TypeError, ValueError, OverflowError):
        return bounded(repr(value), 2000)


def _json(value: Any) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def pairs(texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise Invalid(f"`{bounded(text)}` is not KEY=VALUE", hint="like -p depth=6")
        if key in found:
            raise Invalid(f"`{bounded(key)}` is given twice")
        found[key] = value
    return found


# ------------------------------------------------------------------------------------------------------------ showing


def draw(plan: Any) -> str:
    """The plan as a tree: each step below the last of those it needs."""
    by_name = {one.node: one for one in plan.steps}
    below: dict[str, list[Any]] = {}
    for one in plan.steps:
        above = next((name for name in reversed(one.before) if name in by_name), "")
        below.setdefault(above, []).append(one)
    lines: list[str] = []
    todo = [(one, "", "") for one in reversed(below.get("", []))]
    while todo:
        one, head, indent = todo.pop()
        mark, colour = MARKS[one.mark]
        what = f"depends on {one.depends}" if one.mark == "depends" else one.mark
        seconds = f"  ~{_seconds(one.seconds)}" if one.seconds is not None and one.mark in ("run", "depends") else ""
        lines.append(f"{head}{click.style(mark, fg=colour)} {one.node}  {click.style(what, fg=colour)}{seconds}")
        children = below.get(one.node, [])
        lines += [f"{indent}{'│ ' if children else '  '}    {bounded(why, 300)}" for why in one.why]
        for index, child in reversed(list(enumerate(children))):
            last = index == len(children) - 1
            todo.append((child, f"{indent}{'└─' if last else '├─'}", f"{indent}{'  ' if last else '│ '}"))
    return "\n".join(lines)


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min"


def summary(plan: Any) -> str:
    from tarmac.flow.plan import counted

    count = counted(plan.steps)
    words: dict[Mark, str] = {
        "run": "to run", "depends": "depend on what comes out", "reuse": "to reuse", "skip": "left out",
    }  # fmt: skip
    texts = [f"{count[mark]} {word}" for mark, word in words.items() if mark in count]
    expected = (
        f"; about {_seconds(plan.seconds)} of work" if plan.seconds and ("run" in count or "depends" in count) else ""
    )
    return f"{', '.join(texts)}{expected}"
