"""An answer on the screen: JSON for programs; a table or a short list of facts for people."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import click
import msgspec

from tarmac.core.clock import iso
from tarmac.core.errors import bounded

GAP = "  "
NARROWEST = 8


def show(answer: Any, *, as_json: bool) -> int:
    """Print it; the exit code is 1 when the answer itself reports faults."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        click.echo(text(msgspec.to_builtins(answer)), nl=False)
    return 1 if getattr(answer, "faults", None) else 0


def text(answer: Any) -> str:
    if not isinstance(answer, dict):
        return f"{answer}\n"
    lists = [key for key, value in answer.items() if isinstance(value, list)]
    if lists and len(answer) <= 2 and set(answer) - set(lists) <= {"next"}:
        shown = table(answer[lists[0]]) if answer[lists[0]] else f"no {lists[0]}\n"
        if answer.get("next"):
            shown += f"… more: --{'before' if lists[0] != 'files' else 'after'} {answer['next']}\n"
        return shown
    return facts(answer)


def facts(record: dict[str, Any], indent: str = "") -> str:
    width = max((len(key) for key in record), default=0)
    lines = []
    for key, value in record.items():
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{key}\n{facts(value, indent + GAP)}")
        elif isinstance(value, list) and value and isinstance(value[0], str) and len(value) > 1:
            lines.append(f"{indent}{key}\n" + "".join(f"{indent}{GAP}{bounded(item, 500)}\n" for item in value))
        else:
            lines.append(f"{indent}{key:<{width}}{GAP}{cell(key, value, 2000)}\n")
    return "".join(lines)


def table(rows: list[Any]) -> str:
    """Aligned columns; on a terminal cut to its width, in a pipe whole."""
    if not isinstance(rows[0], dict):
        return "".join(f"{bounded(row, 2000)}\n" for row in rows)
    columns = [key for key in rows[0] if any(row[key] not in (None, "", {}, []) for row in rows)]
    cells = [[cell(key, row[key], 200) for key in columns] for row in rows]
    widths = [max(len(key), *(len(line[i]) for line in cells)) for i, key in enumerate(columns)]
    if sys.stdout.isatty():
        widths = fit(widths, shutil.get_terminal_size().columns)
    head = GAP.join(cut(key, width) for key, width in zip(columns, widths, strict=True)).rstrip()
    lines = [click.style(head, bold=True)]
    lines += [GAP.join(cut(c, width) for c, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join(lines) + "\n"


def fit(widths: list[int], room: int) -> list[int]:
    """Take from the widest column until all fit."""
    widths = list(widths)
    while sum(widths) + len(GAP) * (len(widths) - 1) > room and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def cut(value: str, width: int) -> str:
    return value.ljust(width) if len(value) <= width else value[: width - 1] + "…"


def cell(key: str, value: Any, limit: int) -> str:
    if value is None:
        return ""
    if key == "at" or key.endswith("_at"):
        return iso(value)[:19].replace("T", " ") if isinstance(value, int) else str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return bounded(", ".join(map(str, value)), limit)
    if isinstance(value, dict):
        return bounded(", ".join(f"{k}={v}" for k, v in value.items()), limit)
    return bounded(value, limit)
