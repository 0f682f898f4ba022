"""Metrics of robustness in a search, measured only where they are an objective or limited."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from parti.core.protocols import Evaluator
from parti.evaluators.robustness.label_noise import METRIC, SHARE, NoisyLabels, flipped
from parti.evaluators.robustness.search import METRICS, Robust
from parti.finding.settings import Settings
from parti.tasks.values import SearchData

if TYPE_CHECKING:
    from parti.supernets.share import Supernet

__all__ = ["robust", "robust_training"]


def robust(
    evaluator: Evaluator,
    settings: Settings,
    space: Any,
    data: SearchData,
    threads: int | None,
    load: Callable[[], Supernet] | None = None,
) -> Evaluator:
    """Return an evaluator that measures what was asked of `METRICS`, too; itself if nothing was.

    Args:
        evaluator: trains, or measures with inherited weights.
        settings: say what was asked.
        space: builds the networks.
        data: as the evaluator has it.
        threads: of the CPU.
        load: gives the supernet of inherited weights.
    """
    asked = METRICS & settings.metrics
    if not asked:
        return evaluator
    return Robust(evaluator, space, data, asked, load=load, device=settings.device, threads=threads)


def robust_training(
    training: Callable[[SearchData], Evaluator],
    settings: Settings,
    space: Any,
    data: SearchData,
    threads: int | None,
) -> Evaluator:
    """Return an evaluator that trains, and measures what was asked of robustness.

    Args:
        training: trains on the data that it is given.
        settings: say what was asked.
        space: builds the networks.
        data: training and validation images.
        threads: of the CPU.
    """
    measured = robust(training(data), settings, space, data, threads)
    if METRIC not in settings.metrics:
        return measured
    return NoisyLabels(measured, training(flipped(data, SHARE, seed=settings.seed)))
