"""What processes cost, from the kernel's own accounts."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, threads included, finished children not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def pss_megabytes(pid: int) -> float:
    total = 0
    for member in tree(pid):
        try:
            total += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{member}/smaps_rollup").read_text(), re.MULTILINE)[1])  # type: ignore[index]
        except OSError:
            continue
    return total / 1024


@dataclass
class Running:
    process: subprocess.Popen[str]
    url: str
    seconds_to_answer: float

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)


@contextmanager
def server(command: list[str], url: str, health: str, *, expect: bool = True, **environment: str) -> Iterator[Running]:
    """A server process, from its start to its first answer; one that may be an error, unless a good one is expected."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **environment}
    )
    try:
        while True:
            try:
                urllib.request.urlopen(url + health, timeout=1).read()
                break
            except OSError as error:
                if not expect and isinstance(error, urllib.error.HTTPError):
                    break
                if process.poll() is not None or time.perf_counter() - start > 120:
                    raise SystemExit(f"{' '.join(command)} did not start") from None
                time.sleep(0.005)
        yield Running(process, url, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(30)


def whole_process(command: list[str], times: int = 7, **environment: str) -> tuple[float, float]:
    """Median wall and CPU seconds of a command."""
    walls, cpus = [], []
    for _ in range(times + 1):
        before, start = os.times(), time.perf_counter()
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment}
        )
        walls.append(time.perf_counter() - start)
        after = os.times()
        cpus.append(after.children_user + after.children_system - before.children_user - before.children_system)
    middle = times // 2
    return sorted(walls[1:])[middle], sorted(cpus[1:])[middle]


def describe() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    import sqlite3

    return (
        f"{os.cpu_count()} × {model}, {platform.system()} {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def python() -> str:
    return sys.executable
