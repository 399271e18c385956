"""`tarmac promote`: the gate is asked, what it names is measured, every rule is shown, and then the alias moves."""

from __future__ import annotations

from typing import Any

import click

from tarmac.cli.common import add_options, opened, take_options
from tarmac.cli.follow import follow
from tarmac.cli.show import show
from tarmac.core.errors import Refused, bounded
from tarmac.govern.operations import CheckGate, JudgeVersion
from tarmac.registry.operations import PromoteVersion
from tarmac.registry.records import Verdict
from tarmac.workspace import Workspace

MARKS = {"held": ("held", "green"), "failed": ("FAILED", "red"), "not applicable": ("n/a", "yellow")}


@click.command("promote")
@click.argument("ref", metavar="NAME@vN")
@click.option("--to", "alias", required=True, metavar="ALIAS", help="Where it is to be: production.")
@click.option("--reason", default="", help="Kept with the move.")
@click.option("--dry-run", is_flag=True, help="Ask and measure, but move nothing.")
@click.option("--override", is_flag=True, help="Move it though rules do not hold: an admin may, with a reason.")
@click.option("--expected", type=click.IntRange(min=0), help="Only if the alias points to this number now; 0: nowhere.")
def command(
    ref: str, alias: str, reason: str, dry_run: bool, override: bool, expected: int | None, **values: Any
) -> int:
    """Point an alias to a version, if the rules of its gate hold."""
    workspace, project, as_json = take_options(values)
    with opened(workspace, project) as door:
        verdict = judged(door, ref, alias, quiet=as_json)
        if not as_json:
            click.echo(rules(verdict), nl=False)
        if dry_run:
            return _would(verdict, as_json=as_json)
        if not verdict.passed and not override:
            raise _refusal(verdict)
        known = verdict.champion or 0 if expected is None and verdict.gate is not None else expected
        move = door(PromoteVersion(ref=ref, to=alias, reason=reason, expected=known, override=override))
    if as_json:
        return show(move, as_json=True)
    before = f"v{move.before}" if move.before else "nothing"
    same = verdict.champion == verdict.version
    what = f"points to v{move.after} already" if same else f"pointed to {before}, and points to v{move.after} now"
    click.echo(f"{bounded(verdict.model)}@{alias} {what}{_overridden(move.evidence)}")
    return 0


def judged(door: Workspace, ref: str, alias: str, *, quiet: bool) -> Verdict:
    """What the gate says, after what it needs was measured. A refusal leaves evidence too."""
    verdict = door(JudgeVersion(ref=ref, to=alias))
    if verdict.gate is None or (not verdict.to_measure and (verdict.passed or verdict.check)):
        return verdict
    pinned = f"{verdict.model}@v{verdict.version}"  # an alias could point elsewhere by the time it was measured
    follow(door, CheckGate(ref=pinned, to=alias), quiet=quiet)
    return door(JudgeVersion(ref=pinned, to=alias))


def rules(verdict: Verdict) -> str:
    """Each rule on a line, with what it looked at."""
    if verdict.gate is None:
        return ""
    widest = max((len(bounded(outcome.rule, 100)) for outcome in verdict.outcomes), default=0)
    lines = []
    for outcome in verdict.outcomes:
        mark, colour = MARKS[outcome.verdict]
        rule = bounded(outcome.rule, 100)
        lines.append(f"{click.style(f'{mark:<6}', fg=colour)}  {rule:<{widest}}  {bounded(outcome.why, 500)}\n")
    return "".join(lines)


def _would(verdict: Verdict, *, as_json: bool) -> int:
    if as_json:
        show(verdict, as_json=True)
    elif verdict.passed:
        click.echo(f"{bounded(verdict.model)}@v{verdict.version} may become `{verdict.alias}`; nothing was moved")
    else:
        error = _refusal(verdict)
        click.echo(f"{error.message}; nothing was moved")
    return 0 if verdict.passed else 1


def _refusal(verdict: Verdict) -> Refused:
    failed = [outcome for outcome in verdict.outcomes if outcome.verdict == "failed"]
    ref = f"{bounded(verdict.model)}@v{verdict.version}"
    return Refused(
        f"{ref} may not become `{verdict.alias}`: {len(failed)} of {len(verdict.outcomes)} rules "
        f"{'does' if len(failed) == 1 else 'do'} not hold",
        hint=f"the evidence is kept: `tarmac gates checks {ref}`" if verdict.check or verdict.gate else None,
        detail={"rules": [{"rule": outcome.rule, "why": outcome.why} for outcome in failed]},
    )


def _overridden(evidence: dict[str, Any]) -> str:
    rules_passed_over = evidence.get("overridden") or []
    return f", against {len(rules_passed_over)} of its rules; the history says so" if rules_passed_over else ""


command = add_options(command)
