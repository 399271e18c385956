"""What is loaded when: a light start, clients without servers, and one public face."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tarmac
from tarmac import store
from tarmac.core.settings import Settings
from tarmac.store.folder import WorkspaceFolder
from tests.conftest import Server, tarmac_environment

SOURCE = Path(tarmac.__file__).parent
HEAVY = {
    "numpy", "pandas", "polars", "torch", "sklearn", "onnxruntime", "ray", "starlette", "uvicorn", "uvloop", "anyio",
    "sqlite3", "psycopg", "rich", "click", "asyncio",
}  # fmt: skip
MOST_MODULES = 150
EVERY_NAME = "import tarmac\nfor name in tarmac.__all__: getattr(tarmac, name)"
STAGES = ("start", "data", "track", "flow", "registry", "govern", "ship", "watch")


@pytest.fixture
def folder(tmp_path: Path) -> WorkspaceFolder:
    """What a client loads is the same whatever the server's database."""
    made = WorkspaceFolder(tmp_path / ".tarmac")
    store.create(made, Settings()).close()
    return made


def loaded_by(code: str) -> set[str]:
    """The modules of a new process that has run `code`, without those that Python itself starts with."""
    bare = _modules("")
    return _modules(code) - bare


def _modules(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.__stderr__)"],
        capture_output=True,
        text=True,
        env=tarmac_environment(),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_tarmac_is_light() -> None:
    loaded = loaded_by("import tarmac")
    assert len(loaded) <= MOST_MODULES
    assert roots(loaded) & HEAVY == set()
    everything = loaded_by(EVERY_NAME)
    assert len(everything) <= 2 * MOST_MODULES
    assert roots(everything) & (HEAVY - {"asyncio", "sqlite3"}) == set()


def test_the_help_loads_no_stage() -> None:
    loaded = loaded_by(
        "import sys; sys.argv = ['tarmac', '--help']\n"
        "from tarmac.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0"
    )
    assert {name for name in loaded if name.startswith("tarmac.") and name.split(".")[1] in STAGES} == set()
    assert {name for name in loaded if name.startswith(("tarmac.store", "tarmac.people", "tarmac.server"))} == set()
    assert roots(loaded) & (HEAVY - {"click"}) == set()


def loaded_by_client(how: str, url: str) -> set[str]:
    code = {
        "python": f"import tarmac; from tarmac.track.operations import CreateRun\n"
        f"with tarmac.connect({url!r}) as workspace: workspace(CreateRun()); workspace.put(b'bytes')",
        "command line": f"import sys; sys.argv = ['tarmac', 'runs', 'create', '-w', {url!r}]\n"
        "from tarmac.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0",
    }[how]
    return loaded_by(code)


@pytest.mark.parametrize("how", ["python", "command line"])
def test_a_client_of_a_server_loads_no_server_and_no_store(server: Server, how: str) -> None:
    loaded = loaded_by_client(how, server.url)
    assert {name for name in loaded if "handlers" in name.split(".") or name.endswith(".queries")} == set()
    assert {name for name in loaded if name.startswith(("tarmac.server", "tarmac.door.dispatch"))} == set()
    assert loaded & {"tarmac.store.sqlite", "tarmac.store.postgres"} == set()
    assert roots(loaded) & (HEAVY - {"click", "sqlite3"}) == set()


def test_neither_names_nor_a_client_of_a_server_load_a_database(server: Server) -> None:
    assert "sqlite3" not in roots(loaded_by(EVERY_NAME))
    assert "sqlite3" not in roots(loaded_by_client("python", server.url))


def test_a_sqlite_workspace_loads_no_server_and_no_postgres(tmp_path: Path) -> None:
    loaded = loaded_by(f"import tarmac; tarmac.connect({str(tmp_path)!r}, create=True).close()")
    assert roots(loaded) & (HEAVY - {"sqlite3"}) == set()
    assert "tarmac.server" not in loaded


def test_public_names_are_sorted_loaded_when_used_and_hide_nothing() -> None:
    assert sorted(tarmac.__all__) == tarmac.__all__
    assert dir(tarmac) == sorted([*tarmac.__all__, "__version__"])
    packages = {module.name for module in pkgutil.iter_modules(tarmac.__path__)}
    assert set(tarmac.__all__) & packages == set()
    for name in tarmac.__all__:
        assert getattr(tarmac, name) is getattr(tarmac, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tarmac.nothing  # noqa: B018


def imports_of(file: Path, *, late: bool = True) -> set[str]:
    """The modules a file imports, those inside of functions included unless `late` is False."""
    found = set()
    nodes: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    for node in nodes:
        if late or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize(
    ("package", "may"),
    [
        ("core", {"tarmac", "tarmac.core"}),
        ("formats", {"tarmac", "tarmac.core", "tarmac.formats"}),
        ("logging", {"tarmac", "tarmac.core", "tarmac.formats", "tarmac.logging"}),
        ("serve", {"tarmac", "tarmac.core", "tarmac.formats", "tarmac.serve"}),
    ],
)
def test_the_lowest_floors_know_nothing_above(package: str, may: set[str]) -> None:
    """Not even inside a function."""
    for file in (SOURCE / package).rglob("*.py"):
        own = {".".join(name.split(".")[:2]) for name in imports_of(file) if name.split(".")[0] == "tarmac"}
        assert own <= may, file


@pytest.mark.parametrize("package", ["logging"])
def test_what_training_imports_is_the_standard_library_and_msgspec(package: str) -> None:
    if not (SOURCE / package).is_dir():
        pytest.skip(f"not run: tarmac.{package} does not exist yet")
    for file in (SOURCE / package).rglob("*.py"):
        # a library of the user's own is imported where its thing is saved, and only then
        outside = {name.split(".")[0] for name in imports_of(file, late=False)} - set(sys.stdlib_module_names)
        assert outside <= {"tarmac", "msgspec"}, file


def test_operations_are_types_only() -> None:
    """A client imports every `operations.py`: each imports core, records and other operations, nothing that works."""
    for file in SOURCE.glob("*/operations.py"):
        for name in imports_of(file):
            if name.startswith("tarmac."):
                assert name.split(".")[1] == "core" or name.split(".")[-1] in ("records", "operations"), (file, name)
            else:
                assert name.split(".")[0] in {"msgspec", *sys.stdlib_module_names}, (file, name)
