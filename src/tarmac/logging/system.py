"""What a run costs the machine: read from the kernel's own accounts, where there are such (Linux)."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from tarmac.logging import gpus

MEGA = 1024 * 1024


class Meter:
    """Samples of one process with all below it, and of the machine; each call answers for the time since the last."""

    def __init__(self, pid: int, root: Path = Path("/proc")) -> None:
        self._pid = pid
        self._proc = root
        self._at = time.monotonic()
        self._used = self._process_seconds()
        self._busy, self._all = self._machine_seconds()
        self._read = self._written = 0
        self._gpus = gpus.find(self._visible_gpus())

    def sample(self) -> dict[str, float]:
        """Nothing where the kernel does not tell."""
        found = self._gpus.sample() if self._gpus is not None else {}
        if not (self._proc / "stat").exists():
            return found
        now, used = time.monotonic(), self._process_seconds()
        busy, every = self._machine_seconds()
        if now > self._at:
            found["system/cpu_percent"] = max(0.0, 100 * (used - self._used) / (now - self._at))
        if every > self._all:
            found["system/machine_cpu_percent"] = 100 * (busy - self._busy) / (every - self._all)
        self._at, self._used, self._busy, self._all = now, used, busy, every
        found["system/memory_mb"] = self._resident() / MEGA
        found |= self._machine_memory()
        found |= self._network()
        found |= self._disk()
        found["system/disk_percent"] = _disk_percent()
        return found

    def _tree(self) -> list[Path]:
        found = [self._proc / str(self._pid)]
        for process in found:
            try:
                for task in (process / "task").iterdir():
                    found += [self._proc / child for child in (task / "children").read_text().split()]
            except OSError:
                continue
        return found

    def _process_seconds(self) -> float:
        """User and system time, that of children who have ended included."""
        total = 0
        for process in self._tree():
            try:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += sum(int(field) for field in fields[11:15])
        return total / os.sysconf("SC_CLK_TCK") if total else 0.0

    def _resident(self) -> int:
        total = 0
        for process in self._tree():
            try:
                total += int((process / "statm").read_text().split()[1])
            except (OSError, IndexError):
                continue
        return total * os.sysconf("SC_PAGE_SIZE") if total else 0

    def _disk(self) -> dict[str, float]:
        """What went to disks and came from them, that of children who have ended included."""
        read = written = told = 0
        for process in self._tree():
            try:
                lines = dict(line.split(": ") for line in (process / "io").read_text().splitlines())
                read, written = read + int(lines["read_bytes"]), written + int(lines["write_bytes"])
            except (OSError, KeyError, ValueError):
                continue
            told += 1
        if not told:
            return {}
        # a child that left our tree takes its account along
        self._read, self._written = max(self._read, read), max(self._written, written)
        return {"system/disk_read_mb": self._read / MEGA, "system/disk_written_mb": self._written / MEGA}

    def _visible_gpus(self) -> str | None:
        """As the process was started: the kernel does not tell what it has set since."""
        try:
            words = (self._proc / str(self._pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            return None
        name = b"CUDA_VISIBLE_DEVICES="
        return next((word[len(name) :].decode("ascii", "replace") for word in words if word.startswith(name)), None)

    def _machine_seconds(self) -> tuple[int, int]:
        try:
            fields = [int(field) for field in (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return 0, 0
        idle = fields[3] + fields[4]
        return sum(fields) - idle, sum(fields)

    def _machine_memory(self) -> dict[str, float]:
        try:
            lines = dict(line.split(":", 1) for line in (self._proc / "meminfo").read_text().splitlines())
            total, free = (int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
        except (OSError, KeyError, ValueError):
            return {}
        return {"system/machine_memory_percent": 100 * (total - free) / total}

    def _network(self) -> dict[str, float]:
        received = sent = 0
        try:
            for line in (self._proc / "net" / "dev").read_text().splitlines()[2:]:
                name, _, numbers = line.partition(":")
                if name.strip() != "lo":
                    fields = numbers.split()
                    received, sent = received + int(fields[0]), sent + int(fields[8])
        except (OSError, ValueError, IndexError):
            return {}
        return {"system/network_received_mb": received / MEGA, "system/network_sent_mb": sent / MEGA}


def _disk_percent() -> float:
    usage = shutil.disk_usage(Path.cwd())
    return 100 * usage.used / usage.total
