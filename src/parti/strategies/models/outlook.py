"""What is expected of architectures, metric by metric and fidelity by fidelity.

A *belief* is the posterior of one metric at one fidelity. Fidelities are stacked: the mean of the
one below is one more number that the one above knows of an architecture, and is what it expects
before anything else (recursive co-kriging: Le Gratiet and Garnier, International Journal for
Uncertainty Quantification 4(5), 2014). Losses are lower for better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parti.core.study import Study
from parti.core.trial import State, Trial
from parti.strategies.models.additive import Part, Settings, Surface, fit
from parti.strategies.models.described import Described
from parti.strategies.models.improvement import (
    boxes,
    expected_hypervolume,
    expected_improvement,
    probability_below,
    sampled_hypervolume,
)
from parti.strategies.models.targets import LogRegret
from parti.strategies.pareto import nondominated

__all__ = ["Metric", "Outlook", "metrics_of"]

Floats = NDArray[np.float64]

TRUST = 0.5
"""How many deviations of its loss an architecture is expected to be better for each deviation of
the trusted scores, before any trial."""

FITTED = 200
"""Settings are found from so many trials at most: the best half and the latest."""

LEARNED = 600
"""So many trials are learned from at most, likewise; rejected ones, which cost no budget, may be
thousands."""

EXACT = 3
"""Up to so many objectives the expected hypervolume improvement is exact."""


@dataclass(frozen=True, slots=True)
class Metric:
    """Something to learn.

    Args:
        value: of a trial; NaN or infinite where it cannot be used.
        loss: whether it is a loss: then failed trials are as bad as the worst.
        trust: how much the trusted scores are expected to lower it, in deviations.
    """

    value: Callable[[Trial], float]
    loss: bool
    trust: float = 0.0


def metrics_of(study: Study) -> tuple[Metric, ...]:
    """The losses of a study, and then the metrics that it constrains.

    Scores are trusted to tell the first objective when it is maximized, as accuracies are.
    """
    first = study.objectives[0]
    losses = [
        Metric(objective.loss, True, TRUST if objective is first and first.goal == "max" else 0.0)
        for objective in study.objectives
    ]
    limits = [
        Metric(lambda trial, name=constraint.metric: trial.metric(name), False)  # type: ignore[misc]
        for constraint in study.constraints
    ]
    return (*losses, *limits)


@dataclass(frozen=True, slots=True)
class _Scale:
    """A rising map from values to what a Gaussian process learns: mean 0, deviation 1.

    Losses are taken as logarithms of regret: one network in a few does not train at all, and how
    badly says nothing of what is best, while small steps near the best do.
    """

    regret: LogRegret | None
    centre: float
    spread: float

    @staticmethod
    def of(values: Floats, loss: bool) -> _Scale:
        regret = LogRegret.of(values) if loss else None
        mapped = values if regret is None else regret(values)
        if not len(values):
            return _Scale(regret, 0.0, 1.0)
        return _Scale(regret, float(mapped.mean()), float(mapped.std()) or 1.0)

    def __call__(self, values: Floats) -> Floats:
        mapped = values if self.regret is None else self.regret(values)
        return (mapped - self.centre) / self.spread


@dataclass(frozen=True)
class _Belief:
    """The posterior of one metric at one fidelity, on its own scale."""

    surface: Surface
    scale: _Scale
    expected: Callable[[Floats], Floats]

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        mean, deviation = self.surface.predict(rows)
        return mean + self.expected(rows), deviation


class Outlook:
    """What trials say of other architectures.

    Args:
        described: gives rows for architectures.
        study: what is wanted.
        ended: the trials that have ended, fidelity by fidelity, the lowest first.
        running: those that run, likewise; they are believed to come out as expected.
        settings: found from an earlier part of the trials; for each fidelity, of each metric.
    """

    def __init__(
        self,
        described: Described,
        study: Study,
        ended: Sequence[Sequence[Trial]],
        running: Sequence[Sequence[Trial]],
        settings: Sequence[Sequence[Settings]],
    ) -> None:
        self._described = described
        self._study = study
        self._metrics = metrics_of(study)
        self._ended = ended
        self._beliefs: list[list[_Belief]] = []
        for level, trials in enumerate(ended):
            beliefs = []
            for place, metric in enumerate(self._metrics):
                learn = _Learning(described, metric, self._stack(place), trials)
                beliefs.append(learn.belief(settings[level][place], running[level]))
            self._beliefs.append(beliefs)

    @staticmethod
    def settings(
        described: Described, study: Study, ended: Sequence[Sequence[Trial]]
    ) -> list[list[Settings]]:
        """Find the settings of every belief."""
        found: list[list[Settings]] = []
        for level in range(len(ended)):
            below = Outlook(described, study, ended[:level], [()] * level, found)
            found.append(
                [
                    _Learning(described, metric, below._stack(place), ended[level]).settings()
                    for place, metric in enumerate(below._metrics)
                ]
            )
        return found

    def gains(self, rows: Floats, level: int) -> Floats:
        """How much is expected to be gained by a trial at a fidelity, shape (rows,).

        Args:
            rows: of `Described`, shape (architectures, columns).
            level: place of the fidelity.
        """
        count = len(self._study.objectives)
        found = [self._predict(rows, place, level) for place in range(len(self._metrics))]
        chance = np.ones(len(rows))
        for constraint, (mean, deviation), belief in zip(
            self._study.constraints, found[count:], self._beliefs[level][count:], strict=True
        ):
            limits = belief.scale(np.array([constraint.at_least, constraint.at_most]))
            chance *= np.maximum(
                probability_below(limits[1], mean, deviation)
                - probability_below(limits[0], mean, deviation),
                1e-12,
            )
        return chance * self._improvement(found[:count], level)

    def _improvement(self, found: Sequence[tuple[Floats, Floats]], level: int) -> Floats:
        """Expected improvement on the feasible trials, before constraints are looked at."""
        means = np.column_stack([mean for mean, _ in found])
        deviations = np.column_stack([deviation for _, deviation in found])
        feasible = [t for t in self._ended[level] if self._study.feasible(t)]
        feasible = [t for t in feasible if all(map(math.isfinite, self._study.losses(t)))]
        if not feasible:
            # Nothing to improve on yet: the lower the expected losses the better, all positive.
            hopes: Floats = np.exp(-means.sum(axis=1))
            return hopes
        rows = self._described.rows(trial.architecture for trial in feasible)
        known = np.column_stack(
            [self._predict(rows, place, level)[0] for place in range(len(found))]
        )
        if len(found) == 1:
            return expected_improvement(known.min(), means[:, 0], deviations[:, 0])
        front = known[nondominated(known)]
        corner = front.max(axis=0) + 0.1 * np.maximum(np.ptp(front, axis=0), 0.1)
        if len(found) <= EXACT:
            return expected_hypervolume(boxes(front, corner), means, deviations)
        rng = np.random.default_rng(len(feasible))
        return sampled_hypervolume(front, corner, means, deviations, rng)

    def _predict(self, rows: Floats, place: int, level: int) -> tuple[Floats, Floats]:
        """Mean and deviation of a metric at a fidelity."""
        return self._beliefs[level][place].predict(self._stack(place, level)(rows))

    def _stack(self, place: int, level: int | None = None) -> Callable[[Floats], Floats]:
        """Return what adds to rows what the fidelity below expects of a metric."""
        below = (len(self._beliefs) if level is None else level) - 1

        def stacked(rows: Floats) -> Floats:
            if below < 0:
                return rows
            return np.column_stack([rows, self._predict(rows, place, below)[0]])

        return stacked


class _Learning:
    """The trials of one fidelity as rows and targets of one metric.

    Args:
        described: gives the rows.
        metric: gives the targets.
        stack: adds what the fidelity below expects.
        trials: that have ended.
    """

    def __init__(
        self,
        described: Described,
        metric: Metric,
        stack: Callable[[Floats], Floats],
        trials: Sequence[Trial],
    ) -> None:
        self._described = described
        self._metric = metric
        self._stack = stack
        self._stacked = stack(np.zeros((0, described.width))).shape[1] > described.width
        values = np.array([metric.value(trial) for trial in trials])
        usable = np.isfinite(values)
        if metric.loss and usable.any():
            failed = np.array([trial.state is State.FAILED for trial in trials])
            values = np.where(failed, values[usable].max(), values)
            usable |= failed
        places = np.flatnonzero(usable)
        places = places[_telling(values[places], LEARNED)]
        self._rows = self._of([trials[int(place)] for place in places])
        self._scale = _Scale.of(values[places], metric.loss)
        self._targets = self._scale(values[places]) - self._expected(self._rows)

    def settings(self) -> Settings:
        """Find the settings from the trials."""
        kept = _telling(self._targets, FITTED)
        return fit(self._parts, self._rows[kept], self._targets[kept])

    def belief(self, settings: Settings, running: Sequence[Trial]) -> _Belief:
        """The posterior under given settings."""
        surface = Surface(self._parts, settings, self._rows, self._targets)
        if running:
            rows = self._of(running)
            believed = np.concatenate([self._targets, surface.predict(rows)[0]])
            surface = Surface(self._parts, settings, np.vstack([self._rows, rows]), believed)
        return _Belief(surface, self._scale, self._expected)

    @property
    def _parts(self) -> tuple[Part, ...]:
        own, width = self._described.parts, self._described.width
        return (*own, Part(slice(width, width + 1), "linear")) if self._stacked else own

    def _of(self, trials: Sequence[Trial]) -> Floats:
        return self._stack(self._described.rows(trial.architecture for trial in trials))

    def _expected(self, rows: Floats) -> Floats:
        if self._stacked:
            return rows[:, self._described.width]
        return -self._metric.trust * self._described.prior(rows)


def _telling(values: Floats, most: int) -> NDArray[np.intp]:
    """Places of all values, or of the lowest and the latest, half and half, in order."""
    if len(values) <= most:
        return np.arange(len(values))
    latest = np.arange(len(values) - most // 2, len(values))
    lowest = np.argsort(values[: latest[0]], kind="stable")[: most - len(latest)]
    return np.concatenate([np.sort(lowest), latest])
