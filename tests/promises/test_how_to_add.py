"""Adding an operation touches its declaration, its handler and its docs entry: the page that says so is carried out."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to-add" / "an-operation.md"
STEP = re.compile(r"<!-- append to (\S+) -->\n\n(`{3,})\w+\n(.*?)\n\2\n", re.DOTALL)

PYTHON_CALL = """\
import sys, tarmac
from tarmac.people.operations import ListAdmins
with tarmac.connect(sys.argv[1]) as workspace:
    print(workspace(ListAdmins()).admins)
"""


@pytest.mark.slow
def test_an_operation_is_added_by_what_the_page_says(tmp_path: Path):
    copy = tmp_path / "copy"
    for name in ("src", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "static"))
    here = tmp_path / "here"
    here.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TARMAC_")} | {
        "PYTHONPATH": str(copy / "src"),
        "TARMAC_STATE": str(tmp_path / "state"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(*words: str | Path, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=here,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    assert run(copy / "docs" / "generate.py", "--check") == ""
    steps = STEP.findall(PAGE.read_text(encoding="utf-8"))
    assert [path for path, _, _ in steps] == [
        "src/tarmac/people/operations.py",
        "src/tarmac/people/handlers.py",
        "docs/operations/people.md",
    ]

    for path, _, text in steps[:2]:
        append(copy / path, f"\n\n{text}\n")
    missing = run(copy / "docs" / "generate.py", "--check", code=1)
    assert missing.strip() in PAGE.read_text(encoding="utf-8")
    append(copy / steps[2][0], f"{steps[2][2]}\n")
    assert "stale" in run(copy / "docs" / "generate.py", "--check", code=1)
    run(copy / "docs" / "generate.py")
    assert run(copy / "docs" / "generate.py", "--check") == ""
    assert "people.admins" in (copy / "docs" / "reference" / "operations.md").read_text(encoding="utf-8")

    tarmac = ("-m", "tarmac")
    run(*tarmac, "init")
    run(*tarmac, "people", "add", "ada", "--role", "admin")
    example = re.search(r"\$ (tarmac people admins.*)\n((?:.*\n)*?)```", steps[2][2])
    assert example is not None
    assert run(*tarmac, *example[1].split()[1:]) == example[2]

    server = subprocess.Popen(
        [sys.executable, *tarmac, "up", "--port", "0"],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        assert server.stdout is not None
        url = re.findall(r"http://[^/\s]+", server.stdout.readline())[0]
        token = next((tmp_path / "state" / "servers").glob("*.token")).read_text()
        question = urllib.request.Request(
            f"{url}/api/v1/p/default/people.admins?in_project=*", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(question) as answer:
            assert json.load(answer) == {"admins": ["ada"]}
        for place in (str(here), url):
            assert run("-c", PYTHON_CALL, place).strip() == "['ada']"
        assert json.loads(run(*tarmac, "people", "admins", "--json", "-w", url)) == {"admins": ["ada"]}
    finally:
        server.terminate()
        server.communicate(timeout=30)


def append(path: Path, text: str) -> None:
    assert path.is_file()
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
