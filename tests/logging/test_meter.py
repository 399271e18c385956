"""What a run costs the machine: GPUs as a library of NVIDIA's kind tells it, disks as the kernel does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tarmac.logging import gpus
from tarmac.logging.system import Meter

LIBRARY = """
#include <stddef.h>
static int ready = 0;
static int devices[3] = {0, 1, 2};
typedef struct { unsigned int gpu, memory; } Use;
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlInit_v2(void) { ready = 1; return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { if (!ready) return 1; *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void **d) { if (i > 2) return 2; *d = &devices[i]; return 0; }
int nvmlDeviceGetUtilizationRates(void *d, Use *use) { use->gpu = 90 + *(int *) d; use->memory = 5; return 0; }
int nvmlDeviceGetMemoryInfo(void *d, Memory *m) {
    m->total = 80ULL << 30; m->used = (10ULL + *(int *) d) << 30; m->free = m->total - m->used; return 0;
}
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned int *t) { if (sensor) return 2; *t = 60; return 0; }
int nvmlDeviceGetPowerUsage(void *d, unsigned int *mw) { if (*(int *) d == 1) return 3; *mw = 250500; return 0; }
"""
NO_DRIVER = "int nvmlInit_v2(void) { return 9; }"


def built(text: str, folder: Path) -> str:
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    (folder / "nvml.c").write_text(text)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "libnvidia-ml.so.1", "nvml.c"], cwd=folder, check=True)
    return str(folder / "libnvidia-ml.so.1")


def test_gpus_through_the_library_itself(tmp_path: Path) -> None:
    found = gpus.Gpus(gpus.Nvml(built(LIBRARY, tmp_path)))
    sample = found.sample()
    assert {name: value for name, value in sample.items() if "gpu0" in name} == {
        "system/gpu0_percent": 90, "system/gpu0_memory_mb": 10 * 1024, "system/gpu0_celsius": 60,
        "system/gpu0_watts": 250.5,
    }  # fmt: skip
    assert "system/gpu1_watts" not in sample, "a device that does not tell its power"
    assert sample["system/gpu2_percent"] == 92
    assert gpus.Gpus(gpus.Nvml(built(LIBRARY, tmp_path)), "2").numbers == [2]
    (tmp_path / "none").mkdir()
    without_driver = gpus.Nvml(built(NO_DRIVER, tmp_path / "none"))
    with pytest.raises(OSError, match="nvmlInit_v2 answered 9"):
        gpus.Gpus(without_driver)


def test_a_meter_finds_the_library_where_the_system_has_it(tmp_path: Path) -> None:
    built(LIBRARY, tmp_path)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; from tarmac.logging.system import Meter; print(Meter(os.getpid()).sample())",
        ],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'system/gpu1_percent': 91.0" in done.stdout
    assert "gpu0" not in done.stdout
    assert "system/memory_mb" in done.stdout


def fake(**more: Any) -> SimpleNamespace:
    """As the module pynvml."""
    return SimpleNamespace(
        **{
            "nvmlInit": lambda: None,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda number: number,
            "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=7),
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=1 << 20),
            "nvmlDeviceGetTemperature": lambda handle, sensor: 40,
            "nvmlDeviceGetPowerUsage": lambda handle: 1000,
            **more,
        }
    )


def test_gpus_through_pynvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake())
    found = gpus.find()
    assert found is not None
    assert found.sample()["system/gpu1_percent"] == 7
    assert len(found.sample()) == 8


def test_no_gpu_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("Driver Not Loaded")

    broken = fake(nvmlInit=refuse), fake(nvmlDeviceGetCount=lambda: 0), fake(nvmlDeviceGetHandleByIndex=refuse)
    for module in (None, *broken):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        assert gpus.find() is None
    monkeypatch.setitem(sys.modules, "pynvml", fake(nvmlDeviceGetUtilizationRates=refuse))
    found = gpus.find("0")
    assert found is not None
    assert set(found.sample()) == {"system/gpu0_memory_mb", "system/gpu0_celsius", "system/gpu0_watts"}


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [(None, [0, 1]), ("1", [1]), ("1,0", [1, 0]), ("0,0,7", [0]), ("", []), ("GPU-3a", [0, 1]), ("-1", [0, 1])],
)
def test_which_gpus(visible: str | None, numbers: list[int]) -> None:
    assert gpus.Gpus(fake(), visible).numbers == numbers


def test_disks_of_a_process_and_those_below_it(tmp_path: Path) -> None:
    for pid, io in ((10, (5 << 20, 1 << 20)), (11, (1 << 20, 3 << 20))):
        (tmp_path / str(pid) / "task" / str(pid)).mkdir(parents=True)
        (tmp_path / str(pid) / "io").write_text(f"rchar: 9\nread_bytes: {io[0]}\nwrite_bytes: {io[1]}\n")
        (tmp_path / str(pid) / "task" / str(pid) / "children").write_text("11 " if pid == 10 else "")
    (tmp_path / "stat").write_text("cpu 1 2 3 4 5 6 7 8 9 10\n")
    meter = Meter(10, tmp_path)
    sample = meter.sample()
    assert (sample["system/disk_read_mb"], sample["system/disk_written_mb"]) == (6, 4)
    (tmp_path / "10" / "task" / "10" / "children").write_text("")
    assert meter.sample()["system/disk_read_mb"] == 6, "an account only grows"
    shutil.rmtree(tmp_path / "10")
    assert "system/disk_read_mb" not in meter.sample()


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this kernel keeps no such account")
def test_disks_for_real(tmp_path: Path) -> None:
    meter = Meter(os.getpid())
    before = meter.sample()["system/disk_written_mb"]
    with (tmp_path / "big").open("wb") as file:
        file.write(os.urandom(8 << 20))
        file.flush()
        os.fsync(file.fileno())
    assert meter.sample()["system/disk_written_mb"] - before >= 7
