"""What people install is small, complete, carries its web page, and was locked without a word about our machines."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = [ROOT / "requirements" / "core.txt", ROOT / "requirements" / "dev.txt", ROOT / "web" / "package-lock.json"]

MOST_MEGABYTES = 60
MOST_DISTRIBUTIONS = 25


@dataclass(frozen=True)
class Built:
    sdist: Path
    wheel: Path
    log: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An sdist built from nothing but what git would keep, and a wheel built from that sdist."""
    source = tmp_path_factory.mktemp("source")
    for name in names_git_would_keep():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    assert not (source / "src" / "tarmac" / "server" / "static").exists()

    ended = run(sys.executable, "-m", "uv", "build", "--out-dir", source / "dist", source)
    return Built(
        sdist=only(source / "dist", "*.tar.gz"),
        wheel=only(source / "dist", "*.whl"),
        log=ended.stdout + ended.stderr,
    )


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment that holds the wheel and what requirements/core.txt pins, and nothing else."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "uv", "venv", "--python", sys.executable, environment)
    install: list[str | Path] = [sys.executable, "-m", "uv", "pip", "install", "--python", environment]
    run(*install, "--require-hashes", "-r", ROOT / "requirements" / "core.txt")
    run(*install, "--no-deps", built.wheel)
    run(sys.executable, "-m", "uv", "pip", "check", "--python", environment)
    return environment


@pytest.mark.slow
def test_wheel_carries_the_web_page_and_the_licence(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
        page = wheel.read("tarmac/server/static/index.html").decode()
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    for asset in re.findall(r'(?:src|href)="\./([^"]+)"', page):
        assert f"tarmac/server/static/{asset}" in names
    assert "<style" not in page, "the content policy refuses inline styles"
    assert not re.search(r"<script(?![^>]*\bsrc=)", page), "the content policy refuses inline scripts"
    assert "://" not in page, "the page asks nobody but its own server"


@pytest.mark.slow
def test_sdist_carries_the_page_so_that_its_users_need_no_node(built: Built) -> None:
    assert built.log.count("Building the web page") == 1, built.log


@pytest.mark.slow
def test_installed_command_runs(installed: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert version in run(script(installed, "tarmac"), "--version").stdout


@pytest.mark.slow
def test_core_install_is_small(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = only(installed, "**/site-packages")
    size = sum(path.stat().st_size for path in library.rglob("*") if path.is_file() and path.suffix != ".pyc")
    names = sorted(str(found.name) for found in distributions(path=[str(library)]))
    with capsys.disabled():
        print(f"\ncore install: {size / 1e6:.1f} MB in {len(names)} distributions: {', '.join(names)}")
    assert size <= MOST_MEGABYTES * 1e6
    assert len(names) <= MOST_DISTRIBUTIONS


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_files_record_no_addresses(lock: Path) -> None:
    """A lock names what to install and its hash; where to get it from is the business of who installs."""
    text = lock.read_text(encoding="utf-8")
    # People who maintain npm packages may be thanked; that address is never fetched.
    text = re.sub(r'"funding": (\{[^}]*\}|\[[^\]]*\]|"[^"]*")', "", text)
    assert re.findall(r"\w+://\S+|file:\S+", text) == []
    assert re.findall(r'(?:^|[\s"=@])(/[\w.-]+/\S+)', text) == [], "a path of somebody's machine"
    assert re.findall(r"--(?:extra-)?index-url|--find-links|\bresolved\b", text) == []


def names_git_would_keep() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not run: only a git checkout knows which files belong to the package")
    listed = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(map(str, command))}\n{ended.stdout}\n{ended.stderr}"
    return ended


def script(environment: Path, name: str) -> Path:
    return only(environment, f"Scripts/{name}.exe") if sys.platform == "win32" else environment / "bin" / name


def only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    assert len(found) == 1, f"{pattern} in {folder}: {found}"
    return found[0]
