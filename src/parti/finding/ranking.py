"""Which of several networks is the better one: by what was asked, by accuracy, then by size."""

from __future__ import annotations

import math
from collections.abc import Iterable

from parti.core.study import Study, pareto_front
from parti.core.trial import Trial

__all__ = ["best_first", "loss_when_trained"]

COSTS = ("params", "macs", "latency_ms")
"""What decides between networks that are equally good, as far as it was measured."""


def best_first(study: Study, trials: Iterable[Trial]) -> list[Trial]:
    """Return feasible trials, best first, none of an architecture twice.

    The objective decides, and between equals validation accuracy, then `COSTS`, then who came
    first; of several objectives the front comes first, and validation accuracy decides in it.

    Args:
        study: what was asked.
        trials: any.
    """
    done = [t for t in trials if study.feasible(t)]
    front = {t.number for t in pareto_front(study, done)} if len(study.objectives) > 1 else set()
    ranked = sorted(done, key=lambda t: (t.number not in front, *_losses(study, t), t.number))
    return list({t.architecture: t for t in reversed(ranked)}.values())[::-1]


def loss_when_trained(study: Study, trial: Trial) -> tuple[float, ...]:
    """Return by what finalists are ranked once they are trained in full: lower is better.

    Training changes validation metrics, so that limits on those come first; between equals the
    smaller network is better.

    Args:
        study: what was asked of the search.
        trial: a training in full.
    """
    limits = [limit for limit in study.constraints if limit.metric.startswith("val_")]
    broken = any(not limit.allows(trial.metric(limit.metric)) for limit in limits)
    return (float(broken), *_losses(study, trial))


def _losses(study: Study, trial: Trial) -> tuple[float, ...]:
    only = study.objectives[0].loss(trial) if len(study.objectives) == 1 else 0.0
    costs = (trial.metrics.get(cost, math.inf) for cost in COSTS)
    return only, -trial.metric("val_accuracy"), *costs
