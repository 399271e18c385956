"""Steps of a pipeline while they run: a live table on a terminal, a line for each end elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from tarmac.cli.show import ESCAPE

AGAIN_SECONDS = 0.1
MOST_ROWS = 20
LINES = 2000


@contextmanager
def progress(*, quiet: bool) -> Iterator[Plain]:
    shown: Plain
    if quiet:
        shown = Silent()
    elif sys.stderr.isatty():
        shown = Live()
    else:
        shown = Plain()
    try:
        yield shown
    finally:
        shown.close()


class Plain:
    """A line when a step ends; what steps print, with their names before it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partial: dict[str, str] = {}
        self._lines: dict[str, int] = {}
        self.total = 0

    def begun(self, run: Any, graph: Any) -> None:
        self.total = sum(not node.choice for node in graph.nodes)
        self.say(f"run {run.id} ({run.experiment}/{run.name})")

    def watch(self, what: str, node: Any, more: Any) -> None:
        if what == "reused":
            self.say(f"{click.style('✓', fg='green')} {node.name}  reused")
        elif what == "ended":
            outcome, not_kept = more
            self.rest(node.name)
            self.say(f"{click.style('●', fg='yellow')} {node.name}  {outcome.seconds:.2f} s")
            if not_kept and node.step.options.cache:
                self.say(f"    {click.style('not kept:', fg='yellow')} it {not_kept}")
        elif what == "lost":
            self.rest(node.name)
            self.say(f"{click.style('↻', fg='yellow')} {node.name}  {more.message}: it is run again")
        elif what == "failed":
            outcome, fault = more
            self.rest(node.name)
            self.say(f"{click.style('✗', fg='red')} {node.name}  {fault.kind}: {fault.message}")

    def log(self, node: str, text: str) -> None:
        """Whole lines only; a step that prints a million of them is not shown to its end."""
        with self._lock:
            text = self._partial.pop(node, "") + text
            *lines, rest = text.split("\n")
            if rest:
                self._partial[node] = rest[-10_000:]
            shown = self._lines.get(node, 0)
            self._lines[node] = shown + len(lines)
        for line in lines[: max(0, LINES - shown)]:
            self.line(node, line)
        if shown < LINES <= shown + len(lines):
            self.line(node, f"… more than {LINES} lines: the rest is in its log")

    def rest(self, node: str) -> None:
        with self._lock:
            text = self._partial.pop(node, "")
        if text:
            self.line(node, text)

    def line(self, node: str, text: str) -> None:
        safe = ESCAPE.sub("␛", text.rpartition("\r")[2])[:2000]
        self.say(f"{click.style(node, dim=True)} │ {safe}")

    def say(self, text: str) -> None:
        real = getattr(sys.stderr, "_tarmac_real", sys.stderr)
        try:
            click.echo(text, file=real)
        except (OSError, ValueError):
            pass  # nobody reads the screen any more; the run goes on

    def close(self) -> None:
        pass


class Silent(Plain):
    def say(self, text: str) -> None:
        pass


class Live(Plain):
    """What runs now stands below what has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._live: Any = None
        self._running: dict[str, float] = {}
        self._ended = 0
        self._drawn = 0.0
        self._began = time.monotonic()

    def watch(self, what: str, node: Any, more: Any) -> None:
        if what == "begin":
            self._running[node.name] = time.monotonic()
        elif what in ("ended", "reused", "failed"):
            self._running.pop(node.name, None)
            self._ended += 1
        super().watch(what, node, more)
        moment = time.monotonic()
        if moment - self._drawn > AGAIN_SECONDS and (self._live is not None or moment - self._began > 1):
            self._drawn = moment
            self._draw()

    def _draw(self) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live as RichLive

            console = Console(file=getattr(sys.stderr, "_tarmac_real", sys.stderr))
            self._live = RichLive(console=console, refresh_per_second=8, transient=True)
            self._live.start()
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        moment = time.monotonic()
        for name, since in list(self._running.items())[:MOST_ROWS]:
            table.add_row("…", name, f"{moment - since:.0f} s")
        table.add_row("", f"{self._ended} of {self.total} steps", f"{moment - self._began:.0f} s")
        self._live.update(table)

    def say(self, text: str) -> None:
        if self._live is None:
            super().say(text)
            return
        from rich.text import Text

        self._live.console.print(Text.from_ansi(text))

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
