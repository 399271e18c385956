"""What the pages say is so: each command and each snippet is run, each declaration has its page, each link leads on.

A page is run like a person reading it would do it, from top to bottom in one folder. Ids, times and tokens differ each
time: the first time one is printed it is learned, and from then on stands for the real one. `…` is anything; on a line
of its own, any lines. `# exit code N` after a command says how it ends, `^C` stops the server that the page started.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("guides/*.md")), *sorted(DOCS.glob("operations/*.md"))]
EVERY_PAGE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
RUN = {"console", "console postgres", "python"}
SHOWN = {"text", "json", "sh"}
PORT = "127.0.0.1:5000"
SERVED = "127.0.0.1:8080"
POSTGRES = "postgresql://tarmac@db.example/tarmac"
CHANGES = re.compile(r"tarmac_[\w-]{43}|\b[0-9a-f]{16,64}\b|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|…|\s+")


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def anchors(page: Path) -> set[str]:
    anchor: Callable[[str], str] = generator().anchor
    return {anchor(head) for head in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)}


def test_everything_is_documented_and_generated_pages_are_fresh():
    assert generator().problems() == []


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} leads to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} leads to {target}"


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_tell_nothing_of_the_machine_they_were_written_on(page: Path):
    assert re.findall(r"/(?:root|work|home|Users)/\S+|pypi\.org\S*", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_of_a_page_is_run_or_only_shown(page: Path):
    kinds = {block.kind for block in blocks(page)}
    assert kinds <= RUN | SHOWN
    if page.parent.name == "guides":
        assert "sh" not in kinds, "a guide's commands are run: write ```console and `$ ` before each"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_is_true(page: Path, session: Session):
    if page.parent.name == "operations":
        session.command("tarmac init", [])
    for block in blocks(page):
        if block.kind in ("console", "python"):
            session.do(block)


WITH_POSTGRES = [page for page in PAGES if "```console postgres" in page.read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("page", WITH_POSTGRES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_is_true_on_postgres(page: Path, session: Session, new_database: Callable[[], str]):
    session.known[POSTGRES] = new_database()
    for block in blocks(page):
        if block.kind == "console postgres":
            session.do(block)


# ------------------------------------------------------------------------------------------------ running what is shown


@dataclass
class Block:
    """A fenced piece of a page."""

    kind: str
    text: str
    where: str


def blocks(page: Path) -> Iterator[Block]:
    kind, held, start = "", list[str](), 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("```"):
            held.append(line)
        elif kind:
            yield Block(kind, "\n".join(held), f"{page.name}:{start}")
            kind = ""
        else:
            kind, held, start = line[3:].strip() or "text", [], number


@dataclass
class Session:
    """A shell in a folder, and what has been learned about ids so far."""

    folder: Path
    environment: dict[str, str]
    known: dict[str, str] = field(default_factory=dict)
    server: subprocess.Popen[str] | None = None
    where: str = ""

    def do(self, block: Block) -> None:
        self.where = block.where
        if block.kind == "python":
            script = f'{self.exported()}exec "$0" -P -c "$1"'
            self.run(["bash", "-c", script, sys.executable, self.real(block.text)], block.text, 0)
            return
        command, expected = "", list[str]()
        for line in [*block.text.splitlines(), "$ "]:
            if line.startswith("$ ") or line == "^C":
                if command:
                    self.command(command, expected)
                command, expected = line.removeprefix("$ "), []
                if line == "^C":
                    self.stop()
                    command = ""
            elif (line.startswith("> ") or line == ">") and not expected:
                command += "\n" + line[2:]
            else:
                expected.append(line)

    def command(self, command: str, expected: list[str]) -> None:
        command, _, note = command.partition("  # exit code ")
        if command.startswith(("tarmac up", "tarmac serve")):
            out = self.start(command, int(note or 0))
        else:
            # what the next command has to see of this one: where we are and what was exported
            after = f"trap 'code=$?; pwd > {self.file('cwd')}; export -p > {self.file('exported')}; exit $code' EXIT"
            script = f"{after}\n{self.exported()}{self.real(command)}"
            out = self.run(["bash", "-c", script], command, int(note or 0))
        if expected:
            self.compare(command, expected, out.splitlines())

    def run(self, words: list[str], shown: str, code: int) -> str:
        done = subprocess.run(
            words,
            cwd=self.cwd(),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == code, (
            f"{self.where}: {shown}\nended with {done.returncode}, not {code}\n{done.stdout}"
        )
        return done.stdout

    def start(self, command: str, code: int) -> str:
        """A server goes on beside the page, at any free port; one that refuses is a command like any other."""
        process = subprocess.Popen(
            ["bash", "-c", f"{self.exported()}exec {self.real(command)} --port 0"],
            cwd=self.cwd(),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert process.stdout is not None
        out = ""
        for line in process.stdout:
            out += line
            if found := re.search(r"(?:is up:|answers at) http://([^/\s]+)/", line):
                assert self.server is None, f"{self.where}: the page has not stopped the server before"
                self.server = process
                self.known[PORT if command.startswith("tarmac up") else SERVED] = found[1]
                return out
        process.stdout.close()
        assert process.wait() == code, f"{self.where}: {command}\nended with {process.returncode}, not {code}\n{out}"
        return out

    def stop(self) -> None:
        assert self.server is not None, f"{self.where}: no server to stop"
        server, self.server = self.server, None
        server.send_signal(signal.SIGINT)
        assert server.stdout is not None
        rest = server.stdout.read()
        server.stdout.close()
        assert server.wait(30) == 0, rest

    def compare(self, command: str, expected: list[str], out: list[str]) -> None:
        at, free = 0, False
        for line in expected:
            if line.strip() == "…":
                free = True
                continue
            candidates = range(at, len(out)) if free else range(at, min(at + 1, len(out)))
            for found in candidates:
                if self.matches(line, out[found]):
                    at, free = found + 1, False
                    break
            else:
                pytest.fail(f"{self.where}: {command}\nsays `{line}`, and that is not in\n" + "\n".join(out[at:]))
        assert free or at == len(out), f"{self.where}: {command}\nalso printed\n" + "\n".join(out[at:])

    def matches(self, line: str, out: str) -> bool:
        pattern, position, learned = "", 0, list[str]()
        line = line.rstrip()
        for match in CHANGES.finditer(line):
            pattern += re.escape(self.real(line[position : match.start()]))
            position, text = match.end(), match[0]
            if text == "…":
                pattern += ".*"
            elif text.isspace():
                pattern += r"\s+"
            elif " " in text:
                pattern += r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
            elif text in self.known:
                pattern += re.escape(self.known[text])
            else:
                learned.append(text)
                pattern += r"(tarmac_[\w-]{43})" if text.startswith("tarmac_") else f"([0-9a-f]{{{len(text)}}})"
        found = re.fullmatch(pattern + re.escape(self.real(line[position:])), out.rstrip())
        if found:
            self.known.update(zip(learned, found.groups(), strict=True))
        return found is not None

    def real(self, text: str) -> str:
        """The text with what was learned in place of what the page says."""
        for shown, real in self.known.items():
            text = text.replace(shown, real)
        return text

    def cwd(self) -> str:
        return self.file("cwd").read_text().strip() if self.file("cwd").exists() else str(self.folder / "here")

    def exported(self) -> str:
        return f". {self.file('exported')}\n" if self.file("exported").exists() else ""

    def file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    (tmp_path / "here").mkdir()
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LOGNAME": "ada",  # the name by which the machine knows who reads
        "TARMAC_STATE": str(tmp_path / "state"),
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        # how this machine installs packages, and what it has of them already
        **{name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_CERT"))},
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR") or str(Path("~/.cache/uv").expanduser()),
    }
    made = Session(tmp_path, environment)
    yield made
    if made.server is not None:
        made.stop()
