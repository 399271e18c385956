"""What GPUs do, as NVIDIA's library says: through `pynvml` where it is installed, else by a few calls of our own."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

MEGA = 1024 * 1024
MOST_GPUS = 16
CELSIUS = 0
"""NVML_TEMPERATURE_GPU: the sensor of the chip."""

ASKED: dict[str, Callable[[Any, Any], float]] = {
    "percent": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "memory_mb": lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used / MEGA,
    "celsius": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, CELSIUS),
    "watts": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
}


def find(visible: str | None = None) -> Gpus | None:
    """The GPUs of this machine, or those that `CUDA_VISIBLE_DEVICES` names by number; None where there are none."""
    for load in (_pynvml, Nvml):
        try:
            found = Gpus(load(), visible)
        except Exception:  # noqa: BLE001, S112 - no driver, no device, a library of another kind: there is no GPU to us
            continue
        return found if found.numbers else None
    return None


class Gpus:
    """Asks a library that has the functions of NVML by their names, as `pynvml` has them."""

    def __init__(self, nvml: Any, visible: str | None = None) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        self.numbers = _numbers(visible, nvml.nvmlDeviceGetCount())[:MOST_GPUS]
        self._handles = {number: nvml.nvmlDeviceGetHandleByIndex(number) for number in self.numbers}

    def sample(self) -> dict[str, float]:
        """What a device does not tell is left out."""
        found: dict[str, float] = {}
        for number, handle in self._handles.items():
            for name, ask in ASKED.items():
                try:
                    found[f"system/gpu{number}_{name}"] = float(ask(self._nvml, handle))
                except Exception:  # noqa: BLE001, S112 - each device lacks something
                    continue
        return found


def _numbers(visible: str | None, count: int) -> list[int]:
    """Devices named otherwise than by numbers (UUIDs) are not told apart: then it is all of them."""
    if visible is None or any(not part.strip().isdecimal() for part in visible.split(",")):
        return [] if visible == "" else list(range(count))
    return [number for number in dict.fromkeys(int(part) for part in visible.split(",")) if number < count]


def _pynvml() -> Any:
    import pynvml

    return pynvml


class _Use(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Nvml:
    """The few functions of NVML that are needed, under their names in `pynvml`."""

    def __init__(self, path: str = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1") -> None:
        self._library = ctypes.CDLL(path)

    def nvmlInit(self) -> None:  # noqa: N802
        self._call("nvmlInit_v2")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return self._number("nvmlDeviceGetCount_v2")

    def nvmlDeviceGetHandleByIndex(self, number: int) -> ctypes.c_void_p:  # noqa: N802
        handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(number), ctypes.byref(handle))
        return handle

    def nvmlDeviceGetUtilizationRates(self, handle: ctypes.c_void_p) -> _Use:  # noqa: N802
        use = _Use()
        self._call("nvmlDeviceGetUtilizationRates", handle, ctypes.byref(use))
        return use

    def nvmlDeviceGetMemoryInfo(self, handle: ctypes.c_void_p) -> _Memory:  # noqa: N802
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        return memory

    def nvmlDeviceGetTemperature(self, handle: ctypes.c_void_p, sensor: int) -> int:  # noqa: N802
        return self._number("nvmlDeviceGetTemperature", handle, ctypes.c_uint(sensor))

    def nvmlDeviceGetPowerUsage(self, handle: ctypes.c_void_p) -> int:  # noqa: N802
        return self._number("nvmlDeviceGetPowerUsage", handle)

    def _number(self, name: str, *words: Any) -> int:
        found = ctypes.c_uint()
        self._call(name, *words, ctypes.byref(found))
        return found.value

    def _call(self, name: str, *words: Any) -> None:
        function: Callable[..., int] = getattr(self._library, name)
        if code := function(*words):
            raise OSError(f"{name} answered {code}")
