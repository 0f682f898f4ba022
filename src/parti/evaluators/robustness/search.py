"""Robustness as metrics of a search: measured at the end of a trial, on validation images."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from torch import nn

from parti.core.errors import InvalidSettings
from parti.core.protocols import Builder, Evaluator
from parti.core.trial import Job, Measurement
from parti.evaluators.feed import Pictures
from parti.evaluators.inherited import recalibrate
from parti.evaluators.learner import explained
from parti.evaluators.machine import derive, isolated, machine_for, place
from parti.evaluators.robustness.measured import (
    LIGHT,
    PRECISE,
    Gallery,
    RobustnessPlan,
    attacked,
    corrupted,
)
from parti.evaluators.trained import load_trained
from parti.supernets.subnets import extract

if TYPE_CHECKING:
    from parti.supernets.share import Supernet
    from parti.tasks.values import SearchData

__all__ = ["IN_SEARCH", "METRICS", "Robust"]

METRICS = frozenset({"val_accuracy_corrupted", "val_accuracy_fgsm", "val_accuracy_pgd"})
"""What can be measured: mean accuracies, over corruptions and severities, or over eps."""

IN_SEARCH = replace(LIGHT, images=256)
"""What is tried of each trial: less than in a report, for there are many."""


class Robust:
    """An evaluator that also measures how robust what another one has trained is.

    Nothing is trained again: the network is read from the checkpoint of the trial, or cut out of
    the supernet whose weights it inherits.

    Args:
        evaluator: trains, or measures with inherited weights.
        space: builds the networks.
        data: its validation images are looked at.
        metrics: some of `METRICS`; what was not asked for is not measured.
        plan: how much is tried.
        load: gives the trained supernet, for networks with inherited weights; called once in
            every process. Their batch norms are measured anew, as `InheritedWeights` does.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.

    Raises:
        InvalidSettings: a metric does not exist, or none was given, or there is no such device.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        space: Builder,
        data: SearchData,
        metrics: Collection[str],
        *,
        plan: RobustnessPlan = IN_SEARCH,
        load: Callable[[], Supernet] | None = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        if not metrics or not METRICS.issuperset(metrics):
            raise InvalidSettings(
                f"metrics {sorted(metrics)}: give at least one, of {', '.join(sorted(METRICS))}"
            )
        self._machine = machine_for(PRECISE, device, threads)
        self._evaluator, self._space, self._data = evaluator, space, data
        self._metrics = tuple(sorted(metrics))
        self._plan, self._load = plan, load
        self._device, self._threads = device, threads
        self._gallery: Gallery | None = None
        self._supernet: Supernet | None = None

    @property
    def provides(self) -> frozenset[str]:
        """The metrics of the evaluator, and those asked for."""
        return self._evaluator.provides | set(self._metrics)

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield what the evaluator measures, then how robust the result is.

        Raises:
            InvalidSettings: the job has no folder for the checkpoint to be read from.
            TrialError: the network raises, or does not fit into memory.
        """
        if self._load is None and job.workdir is None:
            raise InvalidSettings(
                f"{', '.join(self._metrics)} are measured on a trial's checkpoint, and this job "
                "has no folder for one; pass search(workdir=...)"
            )
        last = Measurement({})
        for last in self._evaluator(job):
            yield last
        began = time.perf_counter()
        with explained():
            network = self._network(job)
            measured = {metric: self._measure(metric, network) for metric in self._metrics}
        yield Measurement(measured, last.step, last.seconds + time.perf_counter() - began)

    def _measure(self, metric: str, network: nn.Module) -> float:
        if self._gallery is None:
            self._gallery = Gallery(self._data, self._plan)
        where: dict[str, Any] = {"device": self._device, "threads": self._threads}
        if metric == "val_accuracy_corrupted":
            rows = corrupted(network, self._gallery, **where).values()
            return fmean(value for row in rows for value in row)
        if metric == "val_accuracy_fgsm":
            return fmean(attacked(network, self._gallery, "fgsm", **where))
        return fmean(attacked(network, self._gallery, "pgd", **where))

    def _network(self, job: Job) -> nn.Module:
        if self._load is None:
            assert job.workdir is not None
            return load_trained(self._space, job.architecture, job.workdir)
        if self._supernet is None:
            self._supernet = self._load().eval()
        network = extract(self._supernet, job.architecture)
        self._settle(network)
        return network

    def _settle(self, network: nn.Module) -> None:
        """Measure batch norms on the training images that `InheritedWeights` takes."""
        data, machine = self._data, self._machine
        with isolated(machine, derive(0, "inherited")):
            train = Pictures(data.train_images, data.mean, data.std, machine.device)
            layout = place(network, machine, train.part(0, 2))
            recalibrate(network, train, layout)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_gallery": None, "_supernet": None}
