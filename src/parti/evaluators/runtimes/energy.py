"""Energy of calls, where the machine exposes it: RAPL counters of CPUs, NVML of NVIDIA GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch

from parti.evaluators.runtimes.runtime import Call

__all__ = ["NOT_EXPOSED", "POWERCAP", "energy_counter", "joules_per_call"]

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of processor packages."""

NOT_EXPOSED = "this machine does not expose energy"

Counter = Callable[[], float]
"""Joules since some moment; only differences mean something."""


def energy_counter(device: torch.device, powercap: Path = POWERCAP) -> Counter | None:
    """Return a counter of the joules that the device's whole package has used.

    Args:
        device: a CPU, whose packages are all counted, or an NVIDIA GPU (with `pynvml`).
        powercap: the folder of Linux's counters.

    Returns:
        The counter; None when the machine does not expose one that can be read.
    """
    return _nvml(device) if device.type == "cuda" else _rapl(powercap)


def joules_per_call(call: Call, counter: Counter, min_seconds: float = 1.0) -> float:
    """Use energy for a while, and divide it by the calls; what the machine idles with is in it.

    Args:
        call: of an opened, warm model.
        counter: of `energy_counter`.
        min_seconds: counters are updated every millisecond or later, so measure this long.
    """
    calls, began, before = 0, time.perf_counter(), counter()
    while time.perf_counter() - began < min_seconds:
        call()
        calls += 1
    return (counter() - before) / max(1, calls)


def _rapl(powercap: Path) -> Counter | None:
    # Packages are intel-rapl:0, intel-rapl:1 (AMD's too); intel-rapl:0:0 is a part of the first.
    packages = [p for p in sorted(powercap.glob("intel-rapl:*")) if p.name.count(":") == 1]
    try:
        limits = [_number(p / "max_energy_range_uj") for p in packages]
        last = [_number(p / "energy_uj") for p in packages]
    except OSError:  # root's only, since 2020
        return None
    if not packages:
        return None
    total = 0

    def joules() -> float:
        nonlocal total
        for i, package in enumerate(packages):
            now = _number(package / "energy_uj")
            total += (now - last[i]) % (limits[i] + 1)  # it starts again from 0
            last[i] = now
        return total / 1e6

    return joules


def _number(file: Path) -> int:
    return int(file.read_text())


def _nvml(device: torch.device) -> Counter | None:
    if find_spec("pynvml") is None:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
