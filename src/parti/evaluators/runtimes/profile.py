"""Everything about running a model, for several models and runtimes side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from parti.core.errors import InvalidSettings, PartiError, TrialError
from parti.evaluators.runtimes import load_runtime
from parti.evaluators.runtimes.energy import NOT_EXPOSED, energy_counter, joules_per_call
from parti.evaluators.runtimes.measuring import (
    LatencyResult,
    Timing,
    device_of,
    prepared,
    random_images,
    torch_threads,
    turns,
)
from parti.evaluators.runtimes.memory import memory_bytes
from parti.evaluators.runtimes.runtime import Call, Prepared, Setting

__all__ = ["Contender", "Profile", "profile"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way of running one model.

    Args:
        model: a network, or a file that the runtime opens.
        runtime: its name, as in `parti.evaluators.runtimes.RUNTIMES`.
        precision: "float32" or "bfloat16"; a quantized file is found to be "int8".
        name: how to call it in a table.
    """

    model: nn.Module | Path
    runtime: str = "onnxruntime"
    precision: str = "float32"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """What was measured of one contender.

    Args:
        name: of the contender.
        runtime: likewise.
        precision: what it computed with.
        latency: of calls with the small batch.
        images_per_second: with the large batch: images per call over the median call.
        throughput_conditions: those it holds under.
        cold_seconds: to open the model and make the first call; compilation is in it, and for the
            first model of a runtime in this process loading the runtime.
        file_bytes: of the file that the runtime opens; of a network, of its weights.
        memory_bytes: the rise of the peak resident memory of a fresh process that opens the model
            and calls it with the small batch; None when it was not measured.
        joules_per_image: of the processor's whole package, with the large batch; None when the
            machine does not expose it.
        energy: under which conditions, or why there is none.
    """

    name: str
    runtime: str
    precision: str
    latency: LatencyResult
    images_per_second: float
    throughput_conditions: str
    cold_seconds: float
    file_bytes: int
    memory_bytes: int | None
    joules_per_image: float | None
    energy: str


@dataclass(frozen=True, slots=True)
class _Pass:
    """One batch size, for all contenders."""

    settings: list[Setting]
    ready: list[Prepared]
    cold: list[float]
    results: list[LatencyResult]
    joules: list[float | None]


def profile(
    contenders: Sequence[Contender],
    input_shape: Sequence[int],
    *,
    batch: int = 1,
    throughput_batch: int = 64,
    threads: int = 1,
    warmup: int = 5,
    repeats: int = 50,
    min_seconds: float = 0.5,
    memory: bool = True,
) -> list[Profile]:
    """Measure latency, throughput, memory, file size and energy of several models, in turn.

    All models are open at the same time and timed in turns of 20 ms, so that what else the
    machine does disturbs all alike; memory is measured afterwards, each in a process of its own.

    Args:
        contenders: what is compared.
        input_shape: (channels, height, width).
        batch: images per call for latency.
        throughput_batch: images per call for throughput and energy.
        threads: CPU threads of each runtime.
        warmup: calls of each before timing begins.
        repeats: the fewest calls to time of each.
        min_seconds: the least time to spend on each.
        memory: whether to measure memory, some 3 to 10 seconds each; on the CPU only.

    Returns:
        A profile for each contender, in their order.

    Raises:
        InvalidSettings: a runtime or precision is not there, or a file not the runtime's.
        TrialError: a model cannot be exported or run.
    """
    if not contenders:
        raise InvalidSettings("there is nothing to measure; give at least one contender")
    timing, shape = Timing(warmup, repeats, min_seconds), tuple(input_shape)
    with TemporaryDirectory() as folder:
        near = _pass(contenders, shape, (batch, threads), timing, Path(folder), energy=False)
        far = _pass(contenders, shape, (throughput_batch, threads), timing, Path(folder))
        profiles = []
        for i, one in enumerate(contenders):
            on_cpu = device_of(one.model).type == "cpu"
            used: int | None = None
            if memory and on_cpu:
                used = memory_bytes(near.ready[i], one.runtime, shape, near.settings[i])
            joules = far.joules[i]
            profiles.append(
                Profile(
                    name=one.name or one.runtime,
                    runtime=one.runtime,
                    precision=near.settings[i].precision,
                    latency=near.results[i],
                    images_per_second=throughput_batch / far.results[i].median_ms * 1e3,
                    throughput_conditions=far.results[i].conditions,
                    cold_seconds=near.cold[i],
                    file_bytes=_bytes(near.ready[i]),
                    memory_bytes=used,
                    joules_per_image=joules,
                    energy=NOT_EXPOSED if joules is None else far.results[i].conditions,
                )
            )
    return profiles


def _pass(
    contenders: Sequence[Contender],
    input_shape: tuple[int, ...],
    size: tuple[int, int],
    timing: Timing,
    folder: Path,
    energy: bool = True,
) -> _Pass:
    """Prepare all, open all, time all in turn."""
    done = _Pass([], [], [], [], [])
    runtimes, calls = [], list[Call]()
    images = random_images((size[0], *input_shape))
    with torch_threads(size[1]), ExitStack() as stack:
        for i, one in enumerate(contenders):
            runtime = load_runtime(
                one.runtime,
                one.precision,
                device_of(one.model).type,
                network=isinstance(one.model, nn.Module),
            )
            place = folder / f"{size[0]}-{i}"
            place.mkdir(exist_ok=True)
            asked = Setting(*size, one.precision)
            ready, setting = prepared(one.model, runtime, input_shape, asked, place)
            runtimes.append(runtime)
            done.ready.append(ready)
            done.settings.append(setting)
        for one, runtime, ready, setting in zip(
            contenders, runtimes, done.ready, done.settings, strict=True
        ):
            began = time.perf_counter()
            try:
                calls.append(stack.enter_context(runtime.open(ready, images, setting)))
                calls[-1]()
            except PartiError:
                raise
            except Exception as error:
                raise TrialError(
                    f"{one.name or one.runtime} does not run on images of shape {images.shape}: "
                    f"{type(error).__name__}: {str(error)[:300]}. Leave it out, or pass the shape "
                    "it was made for"
                ) from error
            done.cold.append(time.perf_counter() - began)
        seconds = turns(calls, timing)
        for one, runtime, setting, call, each in zip(
            contenders, runtimes, done.settings, calls, seconds, strict=True
        ):
            device = device_of(one.model)
            done.results.append(timing.result(each, runtime, setting, device))
            counter = energy_counter(device) if energy else None
            done.joules.append(joules_per_call(call, counter) / size[0] if counter else None)
    return done


def _bytes(prepared: Prepared) -> int:
    if isinstance(prepared, nn.Module):
        return sum(t.numel() * t.element_size() for t in prepared.state_dict().values())
    weights = prepared.with_suffix(".bin")  # OpenVINO's, beside its .xml
    more = weights.stat().st_size if prepared.suffix == ".xml" and weights.exists() else 0
    return prepared.stat().st_size + more
