"""Timing calls of opened models: one alone, or several in turn so that noise hits all alike."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from parti.core.errors import InvalidSettings, PartiError, TrialError
from parti.evaluators.runtimes.onnx_runtime import onnx_precision
from parti.evaluators.runtimes.openvino import openvino_precision
from parti.evaluators.runtimes.runtime import Call, Prepared, Runtime, Setting

__all__ = [
    "LatencyResult",
    "Timing",
    "checked_file",
    "device_of",
    "hardware",
    "opened",
    "prepared",
    "random_images",
    "timed",
    "torch_threads",
    "turns",
]

_PRECISION = {".onnx": onnx_precision, ".xml": openvino_precision}
"""Of files that tell their precision; ExecuTorch's do not."""

TURN_SECONDS = 0.02
"""How long one model is timed before it is the next one's turn."""


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """How long one call takes.

    Args:
        median_ms: half of the calls took at most this, in milliseconds a call (not an image).
        p95_ms: 95 % of the calls took at most this.
        n: how many calls were timed.
        conditions: runtime, hardware, batch, threads and procedure, in one line.
    """

    median_ms: float
    p95_ms: float
    n: int
    conditions: str


@dataclass(frozen=True, slots=True)
class Timing:
    """How calls are timed.

    Args:
        warmup: calls before timing begins.
        repeats: the fewest calls to time.
        min_seconds: the least time to spend on timing.

    Raises:
        InvalidSettings: a value is not allowed.
    """

    warmup: int
    repeats: int
    min_seconds: float

    def __post_init__(self) -> None:
        if not (isinstance(self.repeats, int) and self.repeats >= 1):
            raise InvalidSettings(f"repeats {self.repeats!r} must be a whole number, at least 1")
        if self.warmup < 0 or not self.min_seconds >= 0:
            raise InvalidSettings(
                f"warmup {self.warmup!r} and min_seconds {self.min_seconds!r} must not be negative"
            )

    def result(
        self, seconds: Sequence[float], runtime: Runtime, setting: Setting, device: torch.device
    ) -> LatencyResult:
        """Summarize the seconds of the timed calls, with their conditions."""
        median, p95 = np.percentile(seconds, [50, 95]) * 1e3
        n = len(seconds)
        conditions = self.describe(runtime, setting, device, f"median of {n} runs")
        return LatencyResult(float(median), float(p95), n, conditions)

    def describe(
        self, runtime: Runtime, setting: Setting, device: torch.device, procedure: str
    ) -> str:
        """Conditions of a measurement, in one line."""
        threads = f", {_plural(setting.threads, 'thread')}" if device.type == "cpu" else ""
        return (
            f"{runtime.describe(setting)}, batch {setting.batch}{threads}, {setting.precision}, "
            f"{procedure} after {_plural(self.warmup, 'warm-up')}, {hardware(device)}"
        )


def prepared(
    model: nn.Module | Path | str,
    runtime: Runtime,
    input_shape: Sequence[int],
    setting: Setting,
    folder: Path,
) -> tuple[Prepared, Setting]:
    """Make of a model what the runtime opens.

    Args:
        model: a network, or the path of a file that the runtime opens.
        runtime: that is to open it.
        input_shape: (channels, height, width).
        setting: how it will be run.
        folder: for a file that has to be made.

    Returns:
        What to open, and the setting with the precision that a quantized file has.

    Raises:
        InvalidSettings: the file is missing, of another runtime, or not of that precision.
        TrialError: the network cannot be exported.
    """
    if isinstance(model, nn.Module):
        return runtime.prepare(model, input_shape, setting, folder), setting
    file = checked_file(Path(model), runtime)
    if file.suffix in _PRECISION:
        try:
            found = _PRECISION[file.suffix](file)
        except Exception as error:
            raise InvalidSettings(
                f"{file} cannot be read as ONNX: {str(error)[:200]}; export it again"
            ) from error
        if found == "int8":
            return file, replace(setting, precision=found)
        if setting.precision == "int8":
            raise InvalidSettings(
                f"{file.name} holds no quantized operators, so it is not run in int8; quantize it, "
                "or leave out the precision"
            )
    return file, setting


def checked_file(file: Path, runtime: Runtime) -> Path:
    """Return a file that a runtime opens.

    Raises:
        InvalidSettings: there is no such file, or the runtime opens others.
    """
    if not runtime.suffixes:
        raise InvalidSettings(f"{file} is a file; with runtime 'torch' pass the network")
    if not file.is_file():
        raise InvalidSettings(f"{file} is not a file; pass the path of a model")
    if file.suffix not in runtime.suffixes:
        raise InvalidSettings(
            f"{file.name} is not for this runtime, which opens {', '.join(runtime.suffixes)}"
        )
    return file


@contextmanager
def opened(
    model: nn.Module | Path | str, runtime: Runtime, input_shape: Sequence[int], setting: Setting
) -> Iterator[tuple[Call, Setting, torch.device]]:
    """Prepare and open a model on random images; what goes wrong inside is explained.

    Args:
        model: as in `prepared`.
        runtime: that opens it.
        input_shape: (channels, height, width).
        setting: how it will be run.

    Yields:
        The call, the setting with the precision found, and the device.

    Raises:
        TrialError: it cannot be exported, or does not run on images of that shape.
        InvalidSettings: as in `prepared`.
    """
    shape = (setting.batch, *input_shape)
    with TemporaryDirectory() as folder, torch_threads(setting.threads), ExitStack() as stack:
        ready, found = prepared(model, runtime, input_shape, setting, Path(folder))
        try:
            call = stack.enter_context(runtime.open(ready, random_images(shape), found))
            yield call, found, device_of(model)
        except PartiError:
            raise
        except Exception as error:
            raise TrialError(
                f"the model does not run on images of shape {shape}: {type(error).__name__}: "
                f"{str(error)[:300]}. Pass the shape it was made for"
            ) from error


def device_of(model: object) -> torch.device:
    """Where the weights of a network are; of a file, and of a network without any, the CPU."""
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next((p.device for p in parameters), torch.device("cpu"))


def timed(call: Call, timing: Timing) -> list[float]:
    """Time calls one after the other.

    Returns:
        The seconds of each.
    """
    for _ in range(timing.warmup):
        call()
    seconds: list[float] = []
    with _uncollected():
        began = before = time.perf_counter()
        while len(seconds) < timing.repeats or before - began < timing.min_seconds:
            before = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - before)
    return seconds


def turns(calls: Sequence[Call], timing: Timing) -> list[list[float]]:
    """Time several models in turn, 20 ms each, so that what disturbs one disturbs all.

    Each turn begins with a call that is not timed, which brings the model back into the caches.

    Args:
        calls: one for each model.
        timing: warm-up, repeats and seconds of each model.

    Returns:
        The seconds of each call, for each model.
    """
    turn = Timing(1, 1, TURN_SECONDS)
    seconds: list[list[float]] = [[] for _ in calls]
    for call in calls:
        for _ in range(timing.warmup):
            call()
    while any(len(s) < timing.repeats or sum(s) < timing.min_seconds for s in seconds):
        for call, measured in zip(calls, seconds, strict=True):
            measured += timed(call, turn)
    return seconds


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads; what was set before comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def random_images(shape: Sequence[int]) -> NDArray[np.float32]:
    """Normal random images, equal in every process."""
    generator = torch.Generator().manual_seed(0)
    images: NDArray[np.float32] = torch.randn(*shape, generator=generator).numpy()
    return images


def hardware(device: torch.device) -> str:
    """Name of the processor or of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()


@cache
def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown CPU"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from collecting garbage in the middle of a measurement."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
