"""What the Pareto front trades: how much accuracy the last bit of cost buys, in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from parti.core.study import Objective, Study, pareto_front
from parti.core.trial import Trial

__all__ = ["COSTS", "Tradeoff", "tradeoffs"]

COSTS = ("params", "macs", "latency_ms", "activation_bytes", "energy_mj")
"""Metrics of cost that accuracy is set against, where they were measured."""


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """The front of the first objective against one cost, from the best to the cheapest.

    Args:
        cost: the metric.
        trials: numbers of the trials on the front.
        values: their first objective.
        costs: their cost.
        knee: place of the trial after which more cost buys least: the one farthest from the line
            between both ends, each axis scaled to 1, cost in logarithms; None below three trials.
        level: place of the cheapest trial whose accuracy is within one standard error of the
            difference from the best (the rule by which Breiman et al., "Classification and
            Regression Trees", 1984, choose the simpler of two trees); None when it is not known.
    """

    cost: str
    trials: tuple[int, ...]
    values: tuple[float, ...]
    costs: tuple[float, ...]
    knee: int | None
    level: int | None

    @property
    def gain(self) -> float:
        """How much better the best is than the knee, or than the cheapest where there is none."""
        return abs(self.values[0] - self.values[self._turn])

    @property
    def factor(self) -> float:
        """How many times the cost that takes."""
        return self.costs[0] / self.costs[self._turn]

    @property
    def _turn(self) -> int:
        return len(self.trials) - 1 if self.knee is None else self.knee


def tradeoffs(study: Study, trials: Sequence[Trial], samples: int | None = None) -> list[Tradeoff]:
    """Return what the first objective costs, by every cost that was measured.

    Args:
        study: its constraints say what counts.
        trials: comparable ones.
        samples: how many the first objective was measured on, where it is a share of them; None
            when it is none, or not known.

    Returns:
        One for each cost that differs along its front; fronts of a single trial are left out.
    """
    first = study.objectives[0]
    found = []
    for cost in COSTS:
        if cost == first.metric:
            continue
        known = [t for t in trials if t.metric(cost) > 0]
        both = replace(study, objectives=(first, Objective(cost, "min")))
        front = pareto_front(both, known)
        if len(front) < 2:
            continue
        values = tuple(t.metric(first.metric) for t in front)
        costs = tuple(t.metric(cost) for t in front)
        level = _level(values, samples) if first.metric.endswith("accuracy") else None
        numbers = tuple(t.number for t in front)
        found.append(Tradeoff(cost, numbers, values, costs, _knee(values, costs), level))
    return found


def _knee(values: Sequence[float], costs: Sequence[float]) -> int | None:
    """The place farthest on the good side of the line between both ends."""
    if len(values) < 3:
        return None
    logs = [math.log(cost) for cost in costs]
    # Along the front both go down together: 0 at the cheapest end, 1 at the best one.
    heights = [(v - values[-1]) / (values[0] - values[-1]) for v in values]
    lengths = [(c - logs[-1]) / (logs[0] - logs[-1]) for c in logs]
    over = [height - length for height, length in zip(heights, lengths, strict=True)]
    place = max(range(len(over)), key=over.__getitem__)
    return place if 0 < place < len(over) - 1 else None


def _level(values: Sequence[float], samples: int | None) -> int | None:
    """The last place whose accuracy is within one standard error of the best."""
    if not samples:
        return None
    best = values[0]
    places = [
        place
        for place, value in enumerate(values)
        if best - value <= math.sqrt((best * (1 - best) + value * (1 - value)) / samples)
    ]
    return places[-1]
