"""Latency of a network or of an ONNX file, with the conditions under which it holds."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from parti.core.errors import InvalidSettings, PartiError, TrialError
from parti.core.protocols import Builder
from parti.core.trial import Job, Measurement
from parti.evaluators.modes import evaluating
from parti.evaluators.to_onnx import to_onnx

__all__ = ["Latency", "LatencyResult", "Runtime", "measure_latency"]

Runtime = Literal["onnxruntime", "torch"]


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


class Latency:
    """Evaluator of latency_ms (median) and latency_p95_ms, before any training.

    The network is built with fresh weights, and exported with a free batch dimension as the
    deployed model is. The values of weights do not matter to its speed with one exception:
    a deep untrained network may let its activations fade to denormal numbers, which CPUs compute
    some 20 times slower; so its layers are first scaled to keep their size. Measure on a quiet
    machine, and do not train beside it.

    Args:
        space: builds the networks.
        input_shape: (channels, height, width) of one image.
        runtime: "onnxruntime" (on the CPU) or "torch".
        batch: images per call.
        threads: CPU threads of the runtime.
        device: where the network runs with runtime "torch", for instance "cuda".
        deployed: turns the built network into the module that is deployed, if it is more than
            the network (normalisation, say). It must be picklable to work in processes.
        warmup: calls before timing begins.
        repeats: the fewest calls to time.
        min_seconds: the least time to spend on timing.

    Raises:
        InvalidSettings: a setting is not allowed.
    """

    provides: frozenset[str] = frozenset({"latency_ms", "latency_p95_ms"})

    def __init__(
        self,
        space: Builder,
        input_shape: Sequence[int],
        *,
        runtime: Runtime = "onnxruntime",
        batch: int = 1,
        threads: int = 1,
        device: str = "cpu",
        deployed: Callable[[nn.Module], nn.Module] | None = None,
        warmup: int = 10,
        repeats: int = 30,
        min_seconds: float = 0.2,
    ) -> None:
        self.space = space
        self.input_shape = tuple(input_shape)
        self.device = torch.device(device)
        self.deployed = deployed
        self.timing = _Timing(runtime, batch, threads, warmup, repeats, min_seconds)
        if runtime == "onnxruntime" and self.device.type != "cpu":
            raise InvalidSettings(
                f"device {device!r} with runtime 'onnxruntime': it is measured on the CPU; "
                "use runtime='torch' to measure on a GPU"
            )

    @property
    def conditions(self) -> str:
        """Under which conditions its measurements hold, in one line."""
        timing = self.timing
        return timing.describe(
            self.device, f"median of at least {timing.repeats} runs and {timing.min_seconds:g} s"
        )

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield one measurement.

        Raises:
            TrialError: the network cannot be exported or run.
        """
        began = time.perf_counter()
        with torch.random.fork_rng(devices=[]), _torch_threads(self.timing.threads):
            torch.manual_seed(job.seed)
            network = self.space.build(job.architecture)
            if self.deployed is not None:
                network = self.deployed(network)
            network.to(self.device)
            _keep_scale(network, _random_images(2, self.input_shape).to(self.device))
            result = _measure(network, self.input_shape, self.timing)
        yield Measurement(
            {"latency_ms": result.median_ms, "latency_p95_ms": result.p95_ms},
            seconds=time.perf_counter() - began,
        )


def measure_latency(
    model: nn.Module | Path | str,
    input_shape: Sequence[int],
    *,
    runtime: Runtime = "onnxruntime",
    batch: int = 1,
    threads: int = 1,
    warmup: int = 10,
    repeats: int = 100,
    min_seconds: float = 0.5,
) -> LatencyResult:
    """Time calls of a model on random images.

    Args:
        model: a network, or the path of an ONNX file with one input. A network is left as it
            was; with runtime "torch" it is timed on the device its weights are on.
        input_shape: (channels, height, width).
        runtime: "onnxruntime" (on the CPU) or "torch" (eager, inference mode, evaluation mode,
            contiguous images).
        batch: images per call.
        threads: CPU threads of the runtime; torch's own setting is put back afterwards.
        warmup: calls before timing begins.
        repeats: the fewest calls to time.
        min_seconds: the least time to spend on timing.

    Returns:
        Median and 95th percentile with their conditions.

    Raises:
        InvalidSettings: a setting is not allowed.
        TrialError: the model cannot be exported or does not run on images of that shape.
    """
    timing = _Timing(runtime, batch, threads, warmup, repeats, min_seconds)
    return _measure(model, tuple(input_shape), timing)


@dataclass(frozen=True, slots=True)
class _Timing:
    runtime: Runtime
    batch: int
    threads: int
    warmup: int
    repeats: int
    min_seconds: float

    def __post_init__(self) -> None:
        if self.runtime not in ("onnxruntime", "torch"):
            raise InvalidSettings(
                f"runtime {self.runtime!r} is unknown; it is 'onnxruntime' or 'torch'"
            )
        for name in ("batch", "threads", "repeats"):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= 1):
                raise InvalidSettings(f"{name} {value!r} must be a whole number, at least 1")
        if self.warmup < 0 or not self.min_seconds >= 0:
            raise InvalidSettings(
                f"warmup {self.warmup!r} and min_seconds {self.min_seconds!r} must not be negative"
            )

    def describe(self, device: torch.device, procedure: str) -> str:
        if self.runtime == "onnxruntime":
            import onnxruntime

            runtime = f"ONNX Runtime {onnxruntime.__version__} CPU"
        else:
            runtime = f"PyTorch {torch.__version__} eager, contiguous NCHW"
        threads = f", {_plural(self.threads, 'thread')}" if device.type == "cpu" else ""
        return (
            f"{runtime}, batch {self.batch}{threads}, float32, {procedure} after "
            f"{_plural(self.warmup, 'warm-up')}, {_hardware(device)}"
        )


def _measure(
    model: nn.Module | Path | str, input_shape: tuple[int, ...], timing: _Timing
) -> LatencyResult:
    device = torch.device("cpu")
    if timing.runtime == "torch":
        if not isinstance(model, nn.Module):
            raise InvalidSettings(f"{model!s} is a file; with runtime 'torch' pass the network")
        device = next((p.device for p in model.parameters()), device)
        opened = _torch_call(model, input_shape, timing, device)
    else:
        opened = _onnx_call(model, input_shape, timing)
    try:
        with _torch_threads(timing.threads), opened as call:
            seconds = _timed(call, timing)
    except PartiError:
        raise
    except Exception as error:
        raise TrialError(
            f"the model does not run on images of shape {(timing.batch, *input_shape)}: "
            f"{type(error).__name__}: {str(error)[:300]}. Pass the shape it was made for"
        ) from error
    median, p95 = np.percentile(seconds, [50, 95]) * 1e3
    n = len(seconds)
    return LatencyResult(
        median_ms=float(median),
        p95_ms=float(p95),
        n=n,
        conditions=timing.describe(device, f"median of {n} runs"),
    )


@contextmanager
def _torch_call(
    network: nn.Module, input_shape: tuple[int, ...], timing: _Timing, device: torch.device
) -> Iterator[Callable[[], Any]]:
    images = _random_images(timing.batch, input_shape).to(device)

    def call() -> None:
        network(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with evaluating(network), torch.inference_mode():
        yield call


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _onnx_call(
    model: nn.Module | Path | str, input_shape: tuple[int, ...], timing: _Timing
) -> Iterator[Callable[[], Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = timing.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    if isinstance(model, nn.Module):
        graph: bytes | str = to_onnx(model, input_shape, quick=True)
    elif Path(model).is_file():
        graph = os.fspath(model)
    else:
        raise InvalidSettings(f"{model!s} is not a file; pass the path of an ONNX file")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    images = {session.get_inputs()[0].name: _random_images(timing.batch, input_shape).numpy()}
    yield lambda: session.run(None, images)


def _timed(call: Callable[[], Any], timing: _Timing) -> list[float]:
    """Seconds of each call."""
    for _ in range(timing.warmup):
        call()
    seconds: list[float] = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        began = before = time.perf_counter()
        while len(seconds) < timing.repeats or before - began < timing.min_seconds:
            before = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - before)
    finally:
        if collecting:
            gc.enable()
    return seconds


def _random_images(batch: int, input_shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *input_shape, generator=generator)


_SCALED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


def _keep_scale(network: nn.Module, images: Tensor) -> None:
    """Scale the weights of a fresh network so that every layer's outputs have unit deviation."""
    done = set()

    def rescale(layer: nn.Module, _: Any, out: Tensor) -> Tensor | None:
        scale = out.std()
        if layer in done or not 0 < scale < torch.inf:
            return None
        done.add(layer)
        for parameter in layer.parameters(recurse=False):
            parameter.div_(scale)
        return out / scale

    handles = [
        module.register_forward_hook(rescale)
        for module in network.modules()
        if isinstance(module, _SCALED)
    ]
    try:
        with evaluating(network), torch.no_grad():
            network(images)
    except Exception as error:
        raise TrialError(
            f"{type(network).__name__} does not run on images of shape {tuple(images.shape)}: "
            f"{type(error).__name__}: {str(error)[:300]}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _hardware(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()


@cache
def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown CPU"
