"""Evaluation without training: proxies on one real batch, in milliseconds to seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parti.core.errors import InvalidData, InvalidSettings, TrialError
from parti.core.protocols import Builder
from parti.core.trial import Job, Measurement
from parti.evaluators.feed import Pictures, as_tensor
from parti.evaluators.machine import arranged, choose_device, derive, isolated, machine_for
from parti.evaluators.recipe import Recipe
from parti.proxies.probe import Loss, Proxy
from parti.proxies.scoring import load_proxies, score

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["TrainingFree", "drawn", "metric_name"]

COUNTS = ("params", "macs")
"""Proxies that are metrics of their own, and keep their names."""

PLAIN = Recipe(precision="float32", compile=False)


def metric_name(proxy: str) -> str:
    """The name under which a proxy is reported: `params`, `macs`, else `proxy_NAME`.

    Args:
        proxy: its name; of "package.module:Name" what follows the colon counts.
    """
    short = proxy.rpartition(":")[2]
    return short if short in COUNTS else f"proxy_{short}"


class TrainingFree:
    """Scores each architecture with fresh weights on one batch of training images.

    All architectures meet the same batch. Weights follow from the seed of the job, as in training.
    A score that is NaN or infinite is left out of the measurement: as an objective it then counts
    as the worst, as a limit as broken.

    Args:
        space: gives the network of an architecture.
        data: the training images the batch is drawn from, or a batch: a pair of inputs,
            normalised as for training, and what the loss wants to know of them.
        proxies: names as in `proxies.scoring.load_proxies`, or proxies by name.
        batch: images in the batch; all of them when there are fewer, and of a ready batch its own.
        loss: of (outputs, targets), a mean over the batch.
        seed: of the draw of the batch.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.

    Raises:
        InvalidSettings: a value is not allowed, or there is no such proxy.
        InvalidData: there are fewer than 2 images.
    """

    def __init__(
        self,
        space: Builder,
        data: SearchData | tuple[Tensor, Tensor],
        proxies: Iterable[str] | Mapping[str, Proxy] = ("params", "macs", "naswot", "jacov"),
        *,
        batch: int = 64,
        loss: Loss = F.cross_entropy,
        seed: int = 0,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        if batch < 2:
            raise InvalidSettings(f"batch={batch}: proxies need at least 2 images, best 64")
        chosen = dict(proxies) if isinstance(proxies, Mapping) else load_proxies(proxies)
        self.proxies = {metric_name(name): proxy for name, proxy in chosen.items()}
        if len(self.proxies) < len(chosen) or not chosen:
            raise InvalidSettings(
                f"proxies {', '.join(chosen) or 'of no name'}: name at least one, and none of them "
                "alike after the colon"
            )
        self._space, self._loss = space, loss
        self._machine = machine_for(PLAIN, str(choose_device(device)), threads)
        self._inputs, self._targets = data if isinstance(data, tuple) else drawn(data, batch, seed)
        if len(self._inputs) < 2 or len(self._inputs) != len(self._targets):
            raise InvalidData(
                f"{len(self._inputs)} inputs and {len(self._targets)} targets; give a target for "
                "each of at least 2 inputs"
            )

    @property
    def provides(self) -> frozenset[str]:
        """Names of the metrics it measures."""
        return frozenset(self.proxies)

    @property
    def goals(self) -> dict[str, Literal["min", "max"]]:
        """Of each metric, whether good networks score high or low."""
        return {name: proxy.goal for name, proxy in self.proxies.items()}

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield one measurement.

        Raises:
            TrialError: the network raises, or gives what a proxy does not understand.
        """
        began = time.perf_counter()
        with isolated(self._machine, derive(job.seed, "weights")):
            network = self._space.build(job.architecture)
            scores = self._scores(network, derive(job.seed, "proxies"))
        finite = {name: value for name, value in scores.items() if math.isfinite(value)}
        yield Measurement(finite, seconds=time.perf_counter() - began)

    def _scores(self, network: nn.Module, seed: int) -> dict[str, float]:
        """Score with channels last, which is faster; networks that `view` feature maps cannot."""
        if self._inputs.ndim == 4:
            try:
                return self._scored(network, torch.channels_last, seed)
            except TrialError as error:
                if "view" not in str(error):
                    raise
        return self._scored(network, torch.contiguous_format, seed)

    def _scored(
        self, network: nn.Module, layout: torch.memory_format, seed: int
    ) -> dict[str, float]:
        inputs, device = self._inputs, self._machine.device
        if inputs.ndim == 4:
            inputs = arranged(inputs.to(device), layout)
            if inputs.shape[1] == 1:  # images of one channel look alike in both layouts
                network.to(memory_format=layout)  # type: ignore[call-overload]
        if device.type != "cpu":  # where it was built
            network.to(device)
        return score(network, inputs, self._targets, self.proxies, loss=self._loss, seed=seed)


def drawn(data: SearchData, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw some training images, normalised [n, channels, height, width], and their labels [n].

    Args:
        data: of whose training images.
        batch: how many; all when there are fewer.
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(derive(seed, "batch"))
    picks = torch.randperm(len(data.train_labels), generator=generator)[:batch].numpy()
    cpu = torch.device("cpu")
    pictures = Pictures(data.train_images[picks], data.mean, data.std, cpu, "resident")
    return pictures.part(0, batch), as_tensor(data.train_labels[picks])
