"""A notebook as it is run: read, given its parameters, executed cell by cell.

Parameters are what the cell tagged `parameters` assigns (papermill's convention), or else the first code cell if it is
nothing but plain assignments. What is given is assigned in a cell right behind it.
"""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from tarmac.core.errors import Invalid, NotFound, bounded, nearest

LARGEST = 200 * 1024 * 1024
TAG, INJECTED = "parameters", "injected-parameters"
LONGEST_SOCKET = 90
LONGEST_OUTPUT = 1_000_000
"""So many characters of what one cell prints are kept in the executed copy; all of it is shown and in the log."""


@dataclass
class Failure(Exception):
    """A cell that failed: which, what stands in it, and how."""

    number: int
    source: str
    name: str
    value: str

    def __str__(self) -> str:
        lines = self.source.splitlines()
        width = len(str(len(lines)))
        shown = "".join(f"  {at:>{width}}  {line[:200]}\n" for at, line in enumerate(lines[:60], 1))
        return f"cell {self.number} failed: {self.name}: {bounded(self.value, 500)}\n{shown}"


@dataclass
class Parameters:
    """What a notebook may be told, and behind which of its cells it is told."""

    after: int = -1
    defaults: dict[str, Any] = field(default_factory=dict)
    """By name; a value that is no plain one is an Ellipsis."""


def read(path: Path) -> dict[str, Any]:
    """The document of a notebook; what is none is refused before anything starts."""
    try:
        if path.stat().st_size > LARGEST:
            raise Invalid(f"{path} has more than {LARGEST:,} bytes", hint="clear its outputs")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        why = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise Invalid(f"{path} is no notebook: it is not JSON: {why}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"{path} is no notebook: it is not JSON: {bounded(error)}") from None
    try:
        shape = msgspec.convert(document, _Shape)
    except msgspec.ValidationError as error:
        hint = "open it in a Jupyter of this decade and save it" if '"worksheets"' in str(document)[:1000] else None
        raise Invalid(f"{path} is no notebook: {bounded(error, 300)}", hint=hint) from None
    if shape.nbformat != 4:
        raise Invalid(f"{path} has the format {shape.nbformat}; 4 is what is run here", hint="save it as that")
    if shape.metadata.kernelspec.language.lower() != "python":
        language = bounded(shape.metadata.kernelspec.language)
        raise Invalid(f"{path} is written in {language}; only Python is run here")
    found: dict[str, Any] = document
    return found


class _Spec(msgspec.Struct):
    language: str = "python"


class _Metadata(msgspec.Struct):
    kernelspec: _Spec = msgspec.field(default_factory=_Spec)


class _About(msgspec.Struct):
    tags: list[str] = []


class _Cell(msgspec.Struct):
    cell_type: str
    metadata: _About
    source: str | list[str]


class _Shape(msgspec.Struct):
    """As much of a notebook's form as is relied upon here."""

    nbformat: int
    cells: list[_Cell]
    metadata: _Metadata


def source_of(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(map(str, source))


def parameters(document: dict[str, Any]) -> Parameters:
    code = [(at, cell) for at, cell in enumerate(document["cells"]) if cell["cell_type"] == "code"]
    for at, cell in code:
        if TAG in cell["metadata"].get("tags", []):
            return Parameters(at, _assigned(source_of(cell)))
    for at, cell in code[:1]:
        if assigned := _assigned(source_of(cell), plain=True):
            return Parameters(at, assigned)
    return Parameters()


def _assigned(source: str, *, plain: bool = False) -> dict[str, Any]:
    """What a cell assigns at its top; with `plain`, nothing if it does anything else."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[str, Any] = {}
    for node in body:
        target, value = _target(node)
        if target is None:
            if plain and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                return {}
            continue
        try:
            found[target] = ast.literal_eval(value) if value is not None else ...
        except (ValueError, TypeError, SyntaxError, RecursionError):
            if plain:
                return {}
            found[target] = ...
    return found


def _target(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    return None, None


def values(path: Path, known: Parameters, given: dict[str, str]) -> dict[str, Any]:
    """What is given, as values of the kind that the notebook itself assigns."""
    if given and known.after < 0:
        raise Invalid(
            f"{path} has no parameters", hint="tag the cell that assigns them `parameters`, or make it the first one"
        )
    found = {}
    for name, text in given.items():
        if name not in known.defaults:
            near = nearest(name, known.defaults)
            hint = f"did you mean `{near}`?" if near else f"it has: {bounded(', '.join(known.defaults), 300)}"
            raise Invalid(f"{path} has no parameter `{bounded(name)}`", hint=hint)
        found[name] = _value(name, text, known.defaults[name])
    return found


def _value(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        value = {"true": True, "false": False}.get(text.lower(), text)
    if default is None or default is ... or type(value) is type(default):
        return value
    if isinstance(default, float) and type(value) is int:
        return float(value)
    kind = type(default).__name__
    raise Invalid(
        f"`{bounded(name)}` is {bounded(repr(default))} in the notebook, of type {kind}; `{bounded(text)}` is not"
    )


def inject(document: dict[str, Any], known: Parameters, given: dict[str, Any]) -> None:
    """Assign what is given, in a cell behind that with the parameters."""
    if not given:
        return
    cells = document["cells"]
    cells[:] = [cell for cell in cells if INJECTED not in cell["metadata"].get("tags", [])]
    at = parameters(document).after if known.after >= 0 else -1
    source = "".join(f"{name} = {value!r}\n" for name, value in given.items()).rstrip("\n")
    cell: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {"tags": [INJECTED]},
        "outputs": [],
        "source": source,
    }
    if (document.get("nbformat", 4), document.get("nbformat_minor", 0)) >= (4, 5):
        cell["id"] = INJECTED
    cells.insert(at + 1, cell)


def refuse_without_library() -> None:
    missing = [name for name in ("nbclient", "nbformat", "ipykernel") if find_spec(name) is None]
    if missing:
        raise NotFound(f"notebooks need {', '.join(missing)}", hint="pip install 'tarmac[notebooks]'")


def execute(document: dict[str, Any], folder: Path, target: Path) -> None:
    """Run all cells in a kernel of this very Python. The copy is written whatever happens; raises `Failure`."""
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    kept: dict[int, int] = {}

    class Client(NotebookClient):  # type: ignore[misc]
        """Shows what cells print as it comes."""

        def output(self, outs: Any, msg: Any, display_id: str, cell_index: int) -> Any:
            content = msg["content"]
            text = _shown(msg["msg_type"], content)
            kept[cell_index] = kept.get(cell_index, 0) + len(text)
            stream = sys.stderr if content.get("name") == "stderr" else sys.stdout
            stream.write(text)
            stream.flush()
            if msg["msg_type"] == "stream" and kept[cell_index] > LONGEST_OUTPUT:
                return None
            return super().output(outs, msg, display_id, cell_index)

    numbers = [at for at, cell in enumerate(document["cells"]) if INJECTED not in cell["metadata"].get("tags", [])]
    book = nbformat.reads(json.dumps(document), as_version=4)
    # no kernel that somebody has set up under this name, but this Python with what is installed here
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    socket = str(target.with_name("k.json"))
    if sys.platform != "win32" and len(socket) < LONGEST_SOCKET:
        # the folder is ours alone; anybody on this machine could listen to a port
        manager.transport, manager.connection_file = "ipc", socket
    client = Client(
        book,
        km=manager,
        timeout=None,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--HistoryManager.enabled=False"],
    )
    try:
        client.execute(cleanup_kc=True)
    except CellExecutionError as error:
        at, cell = _failed(book)
        raise Failure(
            numbers.index(at) + 1 if at in numbers else 0, cell["source"], error.ename, error.evalue
        ) from None
    except DeadKernelError:
        raise Failure(0, "", "the kernel died", "it was killed, ran out of memory or crashed") from None
    finally:
        target.write_text(nbformat.writes(book), encoding="utf-8")


def _failed(book: Any) -> tuple[int, Any]:
    for at, cell in enumerate(book.cells):
        if any(out.get("output_type") == "error" for out in cell.get("outputs", [])):
            return at, cell
    return -1, {"source": ""}


def _shown(kind: str, content: dict[str, Any]) -> str:
    if kind == "stream":
        return str(content["text"])
    if kind in ("execute_result", "display_data"):
        text = str(content.get("data", {}).get("text/plain", ""))
        return f"{text}\n" if text else ""
    return ""
