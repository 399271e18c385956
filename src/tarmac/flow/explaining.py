"""Why a step would run: what it was made of the last time, and what it would be made of now."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

from tarmac.core.errors import bounded
from tarmac.flow.records import CodePart, MadeOf, StepResult
from tarmac.flow.source import Closure, Part

Texts = Callable[[list[str]], dict[str, CodePart]]
MOST = 6
ASKED = "asked: "


def reasons(made: MadeOf, code: Closure, before: StepResult | None, texts: Texts) -> list[str]:
    """What is different, most telling first; one sentence each."""
    if before is None:
        return ["it has not been run yet"]
    old = before.made_of
    found = [*_steps(made, old), *_values(made, old), *_code(made, code, old, texts), *_files(made, old)]
    found += _packages(made, old) + _env(made, old)
    if not found and before.not_kept:
        found = [_not_kept(why) for why in before.not_kept.split("; ")]
    if not found and made.step != old.step:
        found = [f"it is another step now: {made.step}, not {old.step}"]
    if len(found) > MOST:
        found = [*found[:MOST], f"and {len(found) - MOST} more"]
    return found or ["its result is not there any more"]


def _not_kept(why: str) -> str:
    return why if why.startswith(("it ", "`")) else f"its result was not kept: it {why}"


def _steps(made: MadeOf, old: MadeOf) -> list[str]:
    found = []
    for name, (node, digest) in made.steps.items():
        if name not in old.steps:
            found.append(f"`{name}` comes from `{node}` now")
        elif old.steps[name][1] != digest:
            found.append(f"`{name}` has changed: `{node}` made something else")
    return found


def _values(made: MadeOf, old: MadeOf) -> list[str]:
    found = []
    for name, (digest, shown) in made.values.items():
        if name not in old.values:
            if name not in old.steps:
                found.append(f"`{name}` is new: {shown}")
            else:
                found.append(f"`{name}` is {shown} now, and came from `{old.steps[name][0]}`")
        elif old.values[name][0] != digest:
            was = old.values[name][1]
            found.append(f"`{name}` was {was}, is {shown}" if was != shown else f"the content of {shown} has changed")
    found += [
        f"`{name}` is not given any more" for name in old.values if name not in made.values and name not in made.steps
    ]
    return found


def _code(made: MadeOf, code: Closure, old: MadeOf, texts: Texts) -> list[str]:
    changed = [label for label, digest in made.code.items() if label in old.code and old.code[label] != digest]
    known = texts([old.code[label] for label in changed]) if changed else {}
    found = []
    for label in changed:
        part = code.parts[label]
        before = known.get(old.code[label])
        line, how = _first_difference(part, before.text if before else None)
        found.append(f"{_called(label)} has changed: {_place(part.file)}:{line}{how}")
    added = [label for label in made.code if label not in old.code]
    gone = [label for label in old.code if label not in made.code]
    found += [
        f"{_called(label)} is used now: {_place(code.parts[label].file)}:{code.parts[label].line}" for label in added
    ]
    found += [f"{_called(label)} is not used any more" for label in gone]
    return found


def _called(label: str) -> str:
    name = label.partition(":")[2]
    return f"`{name}`" if name != "*" else f"module `{label.partition(':')[0]}`"


def _place(file: str) -> str:
    from tarmac.flow.executors.watching import short

    return short(file)


def _first_difference(part: Part, before: str | None) -> tuple[int, str]:
    """The first line that says something else, and how it was; comments and layout say nothing."""
    if before is None:
        return part.line, ""
    if "\n" not in part.text and "\n" not in before:
        return part.line, f": `{bounded(part.text, 60)}`, was `{bounded(before, 60)}`"
    try:
        new, old = _lines(part.text), _lines(before)
    except (SyntaxError, ValueError):
        return part.line, ""
    for (line, text), (_, was) in zip(new, old, strict=False):
        if text != was:
            return _start(part) + line - 1, f": `{bounded(text, 60)}`, was `{bounded(was, 60)}`"
    if len(new) > len(old):
        line, text = new[len(old)]
        return _start(part) + line - 1, f": `{bounded(text, 60)}` is new"
    if len(old) > len(new):
        return _start(part) + (new[-1][0] if new else 1) - 1, f": `{bounded(old[len(new)][1], 60)}` is gone"
    return part.line, ""


def _start(part: Part) -> int:
    """Where the text begins: decorators stand above the line of a definition."""
    lines = part.text.split("\n")
    for index, line in enumerate(lines):
        if line.lstrip().startswith(("def ", "async def ", "class ")):
            return part.line - index
    return part.line


def _lines(text: str) -> list[tuple[int, str]]:
    """Each simple statement, and the head of each compound one, with its line."""
    import textwrap

    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(textwrap.dedent(text))):
        if not isinstance(node, ast.stmt):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            continue
        bare = ast.unparse(node).split("\n")
        skipped = len(getattr(node, "decorator_list", []))
        found.append((node.lineno, bare[skipped] if hasattr(node, "body") else " ".join(bare)))
    return sorted(found)


def _files(made: MadeOf, old: MadeOf) -> list[str]:
    found = [
        f"the content of {name} has changed"
        for name in made.files
        if old.files.get(name, made.files[name]) != made.files[name]
    ]
    found += [f"{name} is read now" for name in made.files if name not in old.files]
    return found + [f"{name} is gone" for name in old.files if name not in made.files]


def _packages(made: MadeOf, old: MadeOf) -> list[str]:
    found = []
    for name, before, now in _differences(made.packages, old.packages):
        found.append(f"{name} was {before or 'not used'}, is {now or 'not used'}")
    for name in sorted(made.packages.keys() ^ old.packages.keys()):
        if name.startswith(ASKED):
            how = "asks" if name in made.packages else "does not ask"
            found.append(f"it {how} for {name.removeprefix(ASKED)}" + (" any more" if how != "asks" else " now"))
    return found


def _env(made: MadeOf, old: MadeOf) -> list[str]:
    return [f"the variable {name} has changed" for name, _, _ in _differences(made.env, old.env)]


def _differences(new: Mapping[str, str], old: Mapping[str, str]) -> list[tuple[str, str, str]]:
    names = sorted(new.keys() | old.keys())
    return [(name, old.get(name, ""), new.get(name, "")) for name in names if old.get(name) != new.get(name)]
