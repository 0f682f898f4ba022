"""What the options of a space cost: timed as the latency of a search is, where that can be done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from parti.core.errors import InvalidSettings, TrialError
from parti.deploy.model import DeployedModel
from parti.evaluators.devices import parse_device
from parti.evaluators.latency import Latency, keep_scale, measure_latency
from parti.evaluators.remote_latency import RemoteLatency
from parti.finding.settings import LATENCIES, Settings
from parti.finding.supernet_plan import longest
from parti.recipes.costs import ExpectedCost, Measure, beyond_call, expected_cost, within
from parti.supernets.share import Relaxed, supernet
from parti.tasks.values import SearchData

__all__ = ["time_options"]

WARMUP, REPEATS, MIN_SECONDS = 3, 20, 0.02
"""How an option is timed; there may be hundreds."""

COSTS_SHARE, COSTS_SECONDS = 0.2, 300.0
"""Options are timed for so large a share of the supernet's time, and for so long at most; then
PyTorch does it, which takes seconds."""

_Clock = tuple[Measure, dict[str, Any]]
"""What times modules, and what is to be told of it."""


def time_options(
    space: Any, relaxed: Relaxed, data: SearchData, settings: Settings
) -> tuple[ExpectedCost, dict[str, Any]]:
    """Time all options where and how networks are timed; in PyTorch if that cannot be done.

    Args:
        space: whose options.
        relaxed: how they are built.
        data: whose images they take.
        settings: of the search: devices, runtime, precision, and for how long it may take.

    Returns:
        What they cost in milliseconds, and with what it was measured.
    """
    most = longest(settings)
    seconds = COSTS_SECONDS if most is None else min(COSTS_SECONDS, COSTS_SHARE * most)
    clocks: dict[str, Callable[[], _Clock]] = {}
    if settings.devices:
        clocks["the devices"] = partial(_on_devices, space, data, settings)
    clocks[settings.runtime] = partial(_here, space, data, settings.runtime, settings.precision)
    refused: list[str] = []

    def timed(clock: _Clock, seconds: float) -> tuple[ExpectedCost, dict[str, Any]]:
        return _timed_with(space, relaxed, data, settings.seed, refused, clock, seconds)

    for name, clock in clocks.items():
        try:
            return timed(clock(), seconds)
        except (TrialError, InvalidSettings) as error:
            refused.append(f"{name} ({error})")
    return timed(_here(space, data, "torch", "float32"), math.inf)


def _timed_with(
    space: Any,
    relaxed: Relaxed,
    data: SearchData,
    seed: int,
    refused: list[str],
    clock: _Clock,
    seconds: float,
) -> tuple[ExpectedCost, dict[str, Any]]:
    measure, told = clock
    began = time.monotonic()
    measure = within(measure, seconds)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shared = supernet(space, relaxed)
        keep_scale(shared, torch.randn(2, *data.input_shape))
    whole, option = DeployedModel(shared, data.mean, data.std), beyond_call(measure)

    def cost(module: nn.Module, shape: tuple[int, ...]) -> float:
        # The network is called once, and normalises its images once: a part of what is fixed.
        return measure(whole, shape) if module is shared else option(module, shape)

    found = expected_cost(shared, data.input_shape, cost)
    return found, {**told, "seconds": time.monotonic() - began, "instead_of": refused}


def _here(space: Any, data: SearchData, runtime: str, precision: str) -> _Clock:
    """Times modules on this machine, with the threads of `Latency`."""
    like = Latency(
        space, data.input_shape, runtime=runtime, precision=precision,
        warmup=WARMUP, repeats=REPEATS, min_seconds=MIN_SECONDS,
    )  # fmt: skip
    threads = like.setting.threads

    def measure(module: nn.Module, shape: tuple[int, ...]) -> float:
        return measure_latency(
            module, shape, runtime=runtime, precision=precision, threads=threads,
            warmup=WARMUP, repeats=REPEATS, min_seconds=MIN_SECONDS,
        ).median_ms  # fmt: skip

    return measure, {
        "runtime": runtime,
        "precision": precision,
        "threads": threads,
        "device": "this machine",
        "conditions": like.conditions,
    }


def _on_devices(space: Any, data: SearchData, settings: Settings) -> _Clock:
    """Times modules on the devices; of several, the slowest at each of them counts.

    Raises:
        InvalidSettings: a device does not answer.
    """
    judged = {metric.partition("@") for metric in settings.metrics}
    names = {name for metric, _, name in judged if metric in LATENCIES}
    everywhere = not names or "" in names
    urls = [u for u in settings.devices if everywhere or parse_device(u).name in names]

    @cache
    def clock(shape: tuple[int, ...]) -> RemoteLatency:
        return RemoteLatency(
            space, shape, urls,
            warmup=WARMUP, repeats=REPEATS, min_seconds=MIN_SECONDS,
        )  # fmt: skip

    def measure(module: nn.Module, shape: tuple[int, ...]) -> float:
        return max(found.median_ms for found in clock(shape).measure(module).values())

    like = clock(data.input_shape)
    return measure, {
        "runtime": "onnxruntime",
        "precision": "float32",
        "threads": like.timing.threads,
        "device": ", ".join(urls),
        "conditions": like.conditions,
    }
