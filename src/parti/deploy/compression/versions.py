"""Versions of one model: what each is worth, and whether one pays against another."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from parti.core.study import Constraint
from parti.deploy.check import onnx_logits
from parti.deploy.model import DeployedModel
from parti.deploy.temperature import fitted_temperature
from parti.evaluators.complexity import complexity
from parti.evaluators.latency import LatencyResult, measure_latency
from parti.evaluators.to_onnx import to_onnx
from parti.tasks.classification import metrics

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["MEASURED", "Bench", "Version", "excess", "gain", "raw_images"]

MEASURED = frozenset(
    {
        *(f"val_{name}" for name in ("accuracy", "loss", "f1", "precision", "recall", "auc")),
        *("params", "macs", "activation_bytes", "bytes", "latency_ms", "latency_p95_ms"),
    }
)
"""What is measured of every version, and may be limited."""

ROUNDS = 3
"""Versions are timed in turns, so often; the quietest turn counts."""

LEAST_NOISE = 0.03
"""Latencies that differ by a smaller share are equal: the very same file differs by as much from
one process to the next, even where its turns in one process agree."""


@dataclass(frozen=True, slots=True)
class Version:
    """A model in one of its versions, with its ONNX file.

    Args:
        name: "source", or the step that made it.
        file: float32 or int8 ONNX, raw pixels to logits.
        network: the float32 network in it, or that it was quantized from.
        metrics: those of `MEASURED`.
        conditions: of the latency.
        noise: by which share of the quietest turn the middle one was slower.
        temperature: by which logits are to be divided for probabilities, fitted on validation
            images; None where there is no best one, as when every image is right.
    """

    name: str
    file: Path
    network: nn.Module
    metrics: Mapping[str, float]
    conditions: str
    noise: float = 0.0
    temperature: float | None = None

    def described(self) -> dict[str, object]:
        """Name, metrics and conditions as JSON values."""
        return {"name": self.name, **self.metrics, "latency_conditions": self.conditions}


class Bench:
    """Measures versions on the validation images and the clock.

    Args:
        data: its validation images are looked at.
        folder: where ONNX files are written.
    """

    def __init__(self, data: SearchData, folder: Path) -> None:
        self._data, self._folder = data, folder
        self._images = raw_images(data.val_images)
        self._labels = torch.from_numpy(np.asarray(data.val_labels))
        self._times = defaultdict[Path, list[LatencyResult]](list)

    def exported(self, name: str, network: nn.Module) -> Path:
        """Write a network as float32 ONNX, normalisation inside."""
        model = DeployedModel(network, self._data.mean, self._data.std).eval()
        file = self._folder / f"{name}.onnx"
        partial = file.with_suffix(".partial")
        partial.write_bytes(to_onnx(model, self._data.input_shape))
        partial.replace(file)
        self._times.pop(file, None)
        return file

    def accuracy(self, file: Path) -> float:
        """Validation accuracy of an ONNX file, from 0 to 1."""
        return metrics(self._logits(file), self._labels)["accuracy"]

    def version(
        self, name: str, file: Path, network: nn.Module, beside: Version | None = None
    ) -> Version:
        """Measure a file; its latency in turns with that of another version.

        Args:
            name: of the version.
            file: its ONNX.
            network: whose parameters and MACs count.
            beside: what it will be compared with.
        """
        cost = complexity(network, self._data.input_shape)
        self.race([file] if beside is None else [beside.file, file])
        counted = {
            "params": cost.params,
            "macs": cost.macs,
            "activation_bytes": cost.activation_bytes,
            "bytes": file.stat().st_size,
        }
        logits = self._logits(file)
        judged = {f"val_{key}": value for key, value in metrics(logits, self._labels).items()}
        fitted = fitted_temperature(logits, self._labels)
        measured = {**judged, **counted}
        return self.retimed(Version(name, file, network, measured, "", temperature=fitted))

    def race(self, files: Sequence[Path]) -> None:
        """Time files in turns, beside what is known of them."""
        for _ in range(ROUNDS):
            for file in files:
                found = measure_latency(file, self._data.input_shape, repeats=30, min_seconds=0.15)
                self._times[file].append(found)

    def retimed(self, version: Version) -> Version:
        """The version with the latency of its quietest turn by now."""
        turns = self._times[version.file]
        found = min(turns, key=lambda turn: turn.median_ms)
        middle = statistics.median(turn.median_ms for turn in turns)
        timed = {"latency_ms": found.median_ms, "latency_p95_ms": found.p95_ms}
        return replace(
            version,
            metrics={**version.metrics, **timed},
            conditions=f"{found.conditions}; the quietest of several rounds",
            noise=middle / found.median_ms - 1,
        )

    def _logits(self, file: Path) -> Tensor:
        return torch.from_numpy(onnx_logits(file)(self._images))


def excess(version: Version, limits: Sequence[Constraint]) -> float:
    """By how much a version breaks limits, as a share of each, summed; 0 when it keeps to all."""
    total = 0.0
    for limit in limits:
        value = version.metrics[limit.metric]
        bound = limit.at_most if math.isfinite(limit.at_most) else limit.at_least
        over = limit.excess(value)
        total += over / max(abs(bound), 1e-12) if over else 0.0
    return total


def gain(before: Version, after: Version) -> float:
    """How much smaller and faster: the product of the ratios of file size and latency.

    1 is no gain; 4 means, say, half the bytes and half the time. Latencies that differ by no more
    than the clock does count as equal: by the sum of what turns of either version differed by, at
    least `LEAST_NOISE`.
    """
    smaller = before.metrics["bytes"] / after.metrics["bytes"]
    faster = before.metrics["latency_ms"] / after.metrics["latency_ms"]
    noise = 1 + max(LEAST_NOISE, before.noise + after.noise)
    return smaller if 1 / noise <= faster <= noise else smaller * faster


def raw_images(images: NDArray[Any]) -> NDArray[np.float32]:
    """[n, h, w, c] pixels as [n, c, h, w] float32, as ONNX files take them."""
    return np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2), dtype=np.float32)
