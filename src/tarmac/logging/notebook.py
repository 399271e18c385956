"""In a notebook: one line below the cell that started a run, which says how it gets on."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tarmac.logging.run import Run

UPDATE_SECONDS = 1.0


class Line:
    """What is shown of a run. It may fail in any way without anybody noticing; it is then not updated any more."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._points = 0
        self._state = "running"
        self._handle: Any = None
        self._next = time.monotonic() + UPDATE_SECONDS

    def show(self) -> bool:
        """Put it below the current cell."""
        try:
            from IPython.display import HTML, display

            self._handle = display(HTML(self.html()), display_id=True)
        except Exception:  # noqa: BLE001 - a notebook of another kind has the line on stderr
            return False
        return self._handle is not None

    def add(self, points: int) -> None:
        """More was logged: say so now and then."""
        self._points += points
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + UPDATE_SECONDS
            self._update()

    def end(self, state: str) -> None:
        self._state = state
        self._update()

    def html(self) -> str:
        return html(self._run, self._state, self._points)

    def _update(self) -> None:
        try:
            if self._handle is not None:
                from IPython.display import HTML

                self._handle.update(HTML(self.html()))
        except Exception:  # noqa: BLE001 - as above
            self._handle = None


def is_here() -> bool:
    """Whether this process is the kernel of a notebook. Nothing is imported to find out."""
    ipython = sys.modules.get("IPython")
    try:
        shell = ipython.get_ipython() if ipython is not None else None
    except Exception:  # noqa: BLE001 - half-imported, or another thing of that name
        return False
    return getattr(shell, "kernel", None) is not None


def start(run: Run) -> Line | None:
    """Show a run that begins; None outside of notebooks."""
    if run.quiet or not is_here():
        return None
    line = Line(run)
    return line if line.show() else None


def html(run: Run, state: str, points: int) -> str:
    """A run on one line; whatever people called it is text."""
    name, url = escape(run.name), escape(run.url)
    if run.place.is_server:
        name = f'<a href="{url}" target="_blank" rel="noopener">{name}</a>'
        url = ""
    parts = [f"run <b>{name}</b> of {escape(run.experiment)}", escape(state)]
    if points:
        parts.append(f"{points:,} points" if points > 1 else "1 point")
    if url:
        parts.append(f"<code>{url}</code>")
    return f'<div class="tarmac-run">{" · ".join(parts)}</div>'
