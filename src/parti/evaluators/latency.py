"""Latency of a network or of a file, with the conditions under which it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parti.core.errors import TrialError
from parti.core.protocols import Builder
from parti.core.trial import Job, Measurement
from parti.evaluators.modes import evaluating
from parti.evaluators.runtimes import load_runtime
from parti.evaluators.runtimes.measuring import (
    LatencyResult,
    Timing,
    device_of,
    opened,
    random_images,
    timed,
    torch_threads,
)
from parti.evaluators.runtimes.runtime import Setting

__all__ = ["Latency", "LatencyResult", "Runtime", "keep_scale", "measure_latency"]

Runtime = str
"""A name as in `parti.evaluators.runtimes.RUNTIMES`, or "package.module:Name"."""


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
        runtime: "onnxruntime", "openvino", "executorch" (on the CPU), "torch" (eager), or
            "torch_compiled", which compiles every network, half a minute each.
        precision: "float32", or "bfloat16" with a runtime and a CPU that have it.
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
        precision: str = "float32",
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
        self.setting = Setting(batch, threads, precision)
        self.timing = Timing(warmup, repeats, min_seconds)
        self.runtime = runtime
        load_runtime(runtime, precision, device)

    @property
    def conditions(self) -> str:
        """Under which conditions its measurements hold, in one line."""
        timing = self.timing
        procedure = f"median of at least {timing.repeats} runs and {timing.min_seconds:g} s"
        return timing.describe(load_runtime(self.runtime), self.setting, self.device, procedure)

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield one measurement.

        Raises:
            TrialError: the network cannot be exported or run.
        """
        began = time.perf_counter()
        with torch.random.fork_rng(devices=[]), torch_threads(self.setting.threads):
            torch.manual_seed(job.seed)
            network = self.space.build(job.architecture)
            if self.deployed is not None:
                network = self.deployed(network)
            network.to(self.device)
            images = torch.from_numpy(random_images((2, *self.input_shape)))
            keep_scale(network, images.to(self.device))
            result = _measure(network, self.input_shape, self.runtime, self.setting, self.timing)
        yield Measurement(
            {"latency_ms": result.median_ms, "latency_p95_ms": result.p95_ms},
            seconds=time.perf_counter() - began,
        )


def measure_latency(
    model: nn.Module | Path | str,
    input_shape: Sequence[int],
    *,
    runtime: Runtime = "onnxruntime",
    precision: str = "float32",
    batch: int = 1,
    threads: int = 1,
    warmup: int = 10,
    repeats: int = 100,
    min_seconds: float = 0.5,
) -> LatencyResult:
    """Time calls of a model on random images.

    Args:
        model: a network, or the path of a file with one input that the runtime opens: ONNX
            (also quantized) for "onnxruntime" and "openvino", model.xml for "openvino", .pte for
            "executorch". A network is left as it was; with runtime "torch" it is timed on the
            device its weights are on.
        input_shape: (channels, height, width).
        runtime: a key of `parti.evaluators.runtimes.RUNTIMES`; "torch" is eager, in inference
            and evaluation mode with contiguous images.
        precision: "float32", or "bfloat16" with a runtime and a CPU that have it. The precision
            of a quantized file is found, and said in the conditions.
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
    setting, timing = Setting(batch, threads, precision), Timing(warmup, repeats, min_seconds)
    return _measure(model, tuple(input_shape), runtime, setting, timing)


def _measure(
    model: nn.Module | Path | str,
    input_shape: tuple[int, ...],
    named: Runtime,
    setting: Setting,
    timing: Timing,
) -> LatencyResult:
    network = isinstance(model, nn.Module)
    runtime = load_runtime(named, setting.precision, device_of(model).type, network=network)
    with opened(model, runtime, input_shape, setting) as (call, found, device):
        return timing.result(timed(call, timing), runtime, found, device)


_SCALED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


def keep_scale(network: nn.Module, images: Tensor) -> None:
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
