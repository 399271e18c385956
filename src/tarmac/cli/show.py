"""An answer on the screen: JSON for programs; a table or a short list of facts for people."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from tarmac.cli.trees import tree
from tarmac.core.clock import iso
from tarmac.core.errors import bounded
from tarmac.core.operation import Operation

GAP = "  "
NARROWEST = 8
LEGIBLE = 14
SHORT_ID = 12
SPREAD = ("metrics", "params", "tags", "by")
SECOND = (
    "payload_digest", "project", "deleted_at", "heartbeat_at", "ended_at", "payload", "parent", "note", "actor",
)  # fmt: skip
"""Columns that give way when a terminal is narrow, the first of them first."""
BARS = "▁▂▃▄▅▆▇█"
SPARK = 40
ESCAPE = re.compile("\x1b(?!\\[[0-9;]*m)")
"""Colours in a log are shown; what would move the cursor or rename the terminal is not done."""


def show(answer: Any, *, as_json: bool, request: Operation[Any] | None = None) -> int:
    """Print it; the exit code is 1 when the answer itself reports faults."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        click.echo(text(msgspec.to_builtins(answer), request), nl=False)
    return 1 if getattr(answer, "faults", None) else 0


def text(answer: Any, request: Operation[Any] | None = None) -> str:
    if not isinstance(answer, dict):
        return f"{answer}\n"
    if set(answer) == {"text", "next", "ended"}:  # a log is shown as it was written
        return ESCAPE.sub("␛", str(answer["text"]))
    if set(answer) == {"runs", "differences"}:
        return differences(answer)
    if set(answer) == {"thing", "edges"}:
        return tree(answer["thing"], answer["edges"])
    if set(answer) == {"versions", "differences", "why"}:
        note = f"not predicted: {answer['why']}\n" if answer["why"] else ""
        return differences({"runs": answer["versions"], "differences": answer["differences"]}) + note
    lists = [key for key, value in answer.items() if isinstance(value, list)]
    if lists and set(answer) <= {lists[0], "next"}:
        shown = table(answer[lists[0]]) if answer[lists[0]] else f"no {lists[0]}\n"
        if answer.get("next"):
            shown += f"… more: --{_cursor(request)} {answer['next']}\n"
        return shown
    return facts(answer)


def _cursor(request: Operation[Any] | None) -> str:
    """The option that asks for the next page."""
    fields = request.__struct_fields__ if request is not None else ()
    if "before" in fields and getattr(request, "after", None) is None:
        return "before"
    return "cursor" if "cursor" in fields else "after"


def facts(record: dict[str, Any], indent: str = "") -> str:
    width = max((len(key) for key in record), default=0)
    lines = []
    for key, value in record.items():
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{key}\n{facts(value, indent + GAP)}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            inner = "".join(f"{indent}{GAP}{line}\n" for line in table(value).splitlines())
            lines.append(f"{indent}{key}\n{inner}")
        elif isinstance(value, list) and len(value) > 1 and isinstance(value[0], str):
            lines.append(f"{indent}{key}\n" + "".join(f"{indent}{GAP}{bounded(item, 500)}\n" for item in value))
        else:
            lines.append(f"{indent}{key:<{width}}{GAP}{cell(key, value, 2000)}".rstrip() + "\n")
    return "".join(lines)


def differences(answer: dict[str, Any]) -> str:
    """What differs as rows, a column for each run."""
    if not answer["differences"]:
        return "no differences\n"
    heads = [id[:12] if len({r[:12] for r in answer["runs"]}) == len(answer["runs"]) else id for id in answer["runs"]]
    return table(
        [{"": entry["what"], **dict(zip(heads, entry["values"], strict=True))} for entry in answer["differences"]]
    )


def table(rows: list[Any]) -> str:
    """Aligned columns; on a terminal cut to its width, in a pipe whole."""
    if not isinstance(rows[0], dict):
        return "".join(f"{bounded(row, 2000)}\n" for row in rows)
    flat = [flatten(row) for row in rows]
    names = dict.fromkeys(key for row in flat for key in row)
    columns = [key for key in names if any(row.get(key) not in (None, "", {}, []) for row in flat)]
    cells = [[cell(key, row.get(key), 200) for key in columns] for row in flat]
    widths = [max(len(key), *(len(line[i]) for line in cells)) for i, key in enumerate(columns)]
    left_out: list[str] = []
    room = shutil.get_terminal_size().columns
    if sys.stdout.isatty():
        if "id" in columns and sum(widths) + len(GAP) * len(widths) > room:
            place = columns.index("id")
            widths[place] = min(widths[place], SHORT_ID)
            cells = [[*line[:place], line[place][:SHORT_ID], *line[place + 1 :]] for line in cells]
        kept = choose(columns, widths, room)
        left_out = [columns[i] for i in range(len(columns)) if i not in kept]
        columns, cells = [columns[i] for i in kept], [[line[i] for i in kept] for line in cells]
        widths = fit([widths[i] for i in kept], room)
    lines = [click.style(_line(columns, widths), bold=True)]
    lines += [_line(row, widths) for row in cells]
    if left_out:
        lines.append(bounded(f"… not shown: {', '.join(left_out)}; a wider terminal or --json has all", room))
    return "\n".join(lines) + "\n"


def choose(columns: Sequence[str], widths: Sequence[int], room: int) -> list[int]:
    """Which columns a terminal has room for: those that matter less give way first, then the last ones."""
    kept = list(range(len(columns)))
    giving_way = [columns.index(name) for name in SECOND if name in columns]
    giving_way += [i for i in reversed(kept) if columns[i] not in SECOND]
    for index in giving_way:
        needed = sum(min(widths[i], LEGIBLE) for i in kept) + len(GAP) * (len(kept) - 1)
        if needed <= room or len(kept) == 1:
            break
        kept.remove(index)
    return kept


def flatten(row: dict[str, Any], head: str = "") -> dict[str, Any]:
    """Tables inside a row become columns of their own: metrics.acc, params.depth."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict) and (head or key in SPREAD):
            flat |= flatten(value, "" if key == "by" else f"{head}{key}.")
        elif key not in ("steps", "times"):
            flat[f"{head}{key}"] = value
    return flat


def _line(values: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(cut(value, width) for value, width in zip(values, widths, strict=False)).rstrip()


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
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        if key == "values" and value and not isinstance(value[0], list):
            return sparkline(value)
        return bounded(", ".join(map(_entry, value)), limit) if value else "none"
    if isinstance(value, dict):
        return bounded(", ".join(f"{k}={v}" for k, v in value.items()), limit)
    return bounded(value, limit)


def _entry(item: Any) -> str:
    """One of several things in a cell: what has a name and a value is no more than that there."""
    if isinstance(item, dict) and {"name", "value"} <= item.keys():
        return f"{item['name']}={cell('', item['value'], 20)}"
    return str(item)


def sparkline(values: Sequence[float | str]) -> str:
    """A curve in a few characters; what is no number is a gap."""
    step = max(1, -(-len(values) // SPARK))
    picked = [values[index] for index in range(0, len(values), step)]
    numbers = [value for value in picked if not isinstance(value, str)]
    if not numbers:
        return "·" * len(picked)
    low, high = min(numbers), max(numbers)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join("·" if isinstance(value, str) else BARS[round((value - low) * scale)] for value in picked)
