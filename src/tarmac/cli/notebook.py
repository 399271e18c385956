"""The process of a notebook that is run: `python -m tarmac.cli.notebook NOTEBOOK [-p NAME=VALUE]...`.

`tarmac run` starts it, and so does who does the run again. The executed copy becomes a file of the run.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

from tarmac.core.errors import TarmacError, bounded
from tarmac.flow import notebook
from tarmac.logging.place import TAKEN
from tarmac.workspace import connect
from tarmac.workspace.files import upload


def main(name: str, *words: str) -> int:
    run = os.environ.get("TARMAC_RUN", "").removesuffix(TAKEN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    path = Path(name)
    document = notebook.read(path)
    known = notebook.parameters(document)
    given = dict(word.partition("=")[::2] for word in words if word != "-p")
    notebook.inject(document, known, notebook.values(path, known, given))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / path.name
        try:
            notebook.execute(document, Path.cwd(), target)
        except notebook.Failure as error:
            sys.stderr.write(f"{error}")
            return 1
        finally:
            if target.exists() and run:
                with connect() as workspace:
                    upload(workspace, run, target, path.name)
    return 0


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        code = main(*sys.argv[1:])
    except TarmacError as error:
        sys.stderr.write(f"error: {bounded(error.message, 1000)}\n")
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
