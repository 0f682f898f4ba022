"""Latency on other devices than this machine: the network is sent to them as an ONNX model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import nn

from parti.core.errors import InvalidSettings, TrialError
from parti.core.protocols import Builder
from parti.core.trial import Job, Measurement
from parti.evaluators.devices import Device, Link, Timing, parse_device
from parti.evaluators.latency import LatencyResult, keep_scale
from parti.evaluators.to_onnx import to_onnx

__all__ = ["RemoteLatency"]

SAME = ("hardware", "runtime", "cores")
"""What devices that share the work must have in common."""

Info = Mapping[str, Any]


class RemoteLatency:
    """Evaluator of latency_ms (median) and latency_p95_ms on devices that run `parti device serve`.

    Equal devices share the work: a network is measured by the one that has the least to do.
    Devices that differ must be named, `pi=http://host:port`; then every network is measured on
    one device of each name, its metrics are `latency_ms@pi` and so on, and `latency_ms` is the
    largest of them. Networks are exported as `Latency` does, with fresh weights.

    Args:
        space: builds the networks.
        input_shape: (channels, height, width) of one image.
        urls: the devices: `http://host:port` or `NAME=http://host:port`.
        token: what the devices ask for. None takes that of PARTI_DEVICE_TOKEN whenever it is
            needed, so that it is kept nowhere.
        batch: images per call.
        threads: CPU threads of the runtime.
        provider: an execution provider of ONNX Runtime on the device.
        deployed: turns the built network into the module that is deployed, if it is more than
            the network. It must be picklable to work in processes.
        warmup: calls before timing begins.
        repeats: the fewest calls to time.
        min_seconds: the least time to spend on timing.
        timeout: seconds within which a measurement must be there, waiting in a queue included.
        patience: seconds for which requests are repeated while devices are busy or away.

    Raises:
        InvalidSettings: a URL is none, or only some devices have names.
    """

    def __init__(
        self,
        space: Builder,
        input_shape: Sequence[int],
        urls: Sequence[str],
        *,
        token: str | None = None,
        batch: int = 1,
        threads: int = 1,
        provider: str = "CPUExecutionProvider",
        deployed: Callable[[nn.Module], nn.Module] | None = None,
        warmup: int = 10,
        repeats: int = 30,
        min_seconds: float = 0.2,
        timeout: float = 300.0,
        patience: float = 120.0,
    ) -> None:
        devices = [parse_device(url) for url in urls]
        if len({bool(device.name) for device in devices}) > 1 or len(set(devices)) < len(devices):
            raise InvalidSettings(
                f"devices {', '.join(urls)}: give all of them names, as pi=http://host:port, or "
                "none, and none twice"
            )
        self.space = space
        self.input_shape = tuple(input_shape)
        self.deployed = deployed
        self.timing = Timing(batch, threads, warmup, repeats, min_seconds, provider)
        pools: dict[str, list[Device]] = {}
        for device in devices:
            pools.setdefault(device.name, []).append(device)
        self._links = {
            name: Link(pool, token=token, timeout=timeout, patience=patience)
            for name, pool in pools.items()
        } or {"": Link((), token=token)}
        self._known: dict[str, Info] = {}

    @property
    def provides(self) -> frozenset[str]:
        """The metrics: those of the slowest device, and where they have names, of each."""
        names = ["", *(f"@{name}" for name in self._links if name)]
        return frozenset(f"latency{kind}_ms{name}" for kind in ("", "_p95") for name in names)

    def check(self) -> None:
        """Ask every device what it is; to be called before a search.

        Raises:
            InvalidSettings: one cannot be reached, refuses the token, is of another version,
                lacks the provider or cores, or those that share the work differ.
        """
        known: dict[str, Info] = {}
        for name, link in self._links.items():
            infos = {device.url: link.info(device) for device in link.devices}
            for url, info in infos.items():
                self._check_able(url, info)
            if len({_identity(info) for info in infos.values()}) > 1:
                seen = "; ".join(f"{u}: {', '.join(_identity(i))}" for u, i in infos.items())
                raise InvalidSettings(
                    f"devices that share the work must be equal, and these are not: {seen}. Give "
                    "them different names: --device pi=http://host:port"
                )
            known[name] = next(iter(infos.values()))
        self._known = known

    @property
    def conditions(self) -> str:
        """Under which conditions its measurements hold, in one line.

        Raises:
            InvalidSettings: a device does not answer.
        """
        if not self._known:
            self.check()
        timing = self.timing
        provider = timing.provider.replace("ExecutionProvider", "")
        threads = "1 thread" if timing.threads == 1 else f"{timing.threads} threads"
        each = [
            f"{f'{name}: ' if name else ''}{info['runtime']} {provider}, device "
            f"{info['name']}: {info['hardware']}"
            for name, info in self._known.items()
        ]
        return (
            f"{'; '.join(each)}; batch {timing.batch}, {threads}, float32, median of at least "
            f"{timing.repeats} runs and {timing.seconds:g} s after {timing.warmup} warm-ups"
        )

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield one measurement.

        Raises:
            TrialError: the network cannot be exported or measured, or no device answered.
        """
        began = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            network = self.space.build(job.architecture)
            if self.deployed is not None:
                network = self.deployed(network)
            keep_scale(network, torch.randn(2, *self.input_shape))
            found = self.measure(network)
        metrics = {
            "latency_ms": max(each.median_ms for each in found.values()),
            "latency_p95_ms": max(each.p95_ms for each in found.values()),
        }
        for name, each in found.items():
            if name:
                metrics |= {
                    f"latency_ms@{name}": each.median_ms,
                    f"latency_p95_ms@{name}": each.p95_ms,
                }
        yield Measurement(metrics, seconds=time.perf_counter() - began)

    def measure(self, network: nn.Module) -> dict[str, LatencyResult]:
        """Measure a network, as it is to be deployed, on one device of each name.

        Args:
            network: maps images [batch, channels, height, width] to one tensor.

        Returns:
            By name of device ("" where devices have none) what it measured, with the device's own
            account of the conditions.

        Raises:
            TrialError: the network cannot be exported or measured, or no device answered.
        """
        if not self._known:
            self.check()
        model = to_onnx(network, self.input_shape, quick=True)
        with ThreadPoolExecutor(len(self._links)) as threads:
            asked = {name: threads.submit(self._measured, name, model) for name in self._links}
            return {name: each.result() for name, each in asked.items()}

    def _measured(self, name: str, model: bytes) -> LatencyResult:
        most = self._known[name]["limits"]["model_bytes"]
        if len(model) > most:
            raise TrialError(
                f"the model has {len(model)} bytes and the device takes up to {most}; start it "
                "with a larger --max-mb"
            )
        answer = self._links[name].measure(model, self.timing)
        device = answer["device"]
        if _identity(device) != _identity(self._known[name]):
            raise TrialError(
                f"the device has changed from {', '.join(_identity(self._known[name]))} to "
                f"{', '.join(_identity(device))}; latencies of both cannot be compared"
            )
        return LatencyResult(
            median_ms=float(answer["median_ms"]),
            p95_ms=float(answer["p95_ms"]),
            n=int(answer["n"]),
            conditions=str(answer["conditions"]),
        )

    def _check_able(self, url: str, info: Info) -> None:
        if self.timing.provider not in info["providers"]:
            raise InvalidSettings(
                f"device {url} has no {self.timing.provider}; it has {', '.join(info['providers'])}"
            )
        if self.timing.threads > info["cores"]:
            raise InvalidSettings(
                f"device {url} has {info['cores']} cores, fewer than {self.timing.threads} threads"
            )


def _identity(info: Info) -> tuple[str, ...]:
    return tuple(str(info[what]) for what in SAME)
