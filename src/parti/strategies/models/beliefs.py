"""What Gaussian processes expect of candidates: every objective, and whether constraints hold.

Schonlau, Welch, Jones, "Global versus Local Search in Constrained Optimization of Computer
Models", 1998: an expected improvement counts as much as the constraints are likely to hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from parti.core.study import Study
from parti.core.trial import State, Trial
from parti.strategies.models.gaussian import Posterior, condition
from parti.strategies.models.improvement import probability_below
from parti.strategies.models.kernels import Kernel, Rows

__all__ = ["Beliefs", "believe"]

Floats = npt.NDArray[np.float64]

MOST_TRIALS = 500
"""A constrained metric is learned from the last so many trials that have it: rejected trials cost
no budget, so there may be thousands."""


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Independent posteriors.

    Args:
        objectives: of each loss.
        limits: of each constrained metric, with its smallest and largest allowed value.
        losses: of the trials that keep to all constraints, shape (trials, losses).
    """

    objectives: tuple[Posterior, ...]
    limits: tuple[tuple[Posterior, float, float], ...]
    losses: Floats

    def predict(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return means and standard deviations of the losses, each (rows, losses)."""
        found = [posterior.predict(rows) for posterior in self.objectives]
        means, deviations = zip(*found, strict=True)
        return np.column_stack(means), np.column_stack(deviations)

    def feasible(self, rows: Rows) -> Floats:
        """Return the probability that all constraints hold, shape (rows,)."""
        chance = np.ones(len(rows))
        for posterior, least, most in self.limits:
            mean, deviation = posterior.predict(rows)
            below = probability_below(most, mean, deviation)
            chance *= np.maximum(below - probability_below(least, mean, deviation), 0.0)
        return chance


def believe(kernel: Kernel, study: Study, trials: Sequence[Trial], losses: Floats) -> Beliefs:
    """Learn from trials.

    Losses are learned from the trials where all of them are finite; a constrained metric from all
    trials that have it, rejected ones included. A metric that no trial has is not judged.

    Args:
        kernel: compares architectures.
        study: for its constraints.
        trials: that have ended; at least one of them with finite losses.
        losses: to learn, shape (trials, losses).
    """
    usable = np.flatnonzero(np.isfinite(losses).all(axis=1))
    done = [trials[place] for place in usable.tolist()]
    table = losses[usable]
    allowed = np.array([study.feasible(trial) for trial in done], dtype=np.bool_)
    limits = []
    for constraint in study.constraints:
        name = constraint.metric
        known = [
            trial
            for trial in trials
            if trial.state is not State.FAILED and math.isfinite(trial.metric(name))
        ][-MOST_TRIALS:]
        if known:
            values = np.array([trial.metric(name) for trial in known])
            (posterior,) = condition(kernel, _rows(kernel, known), [values])
            limits.append((posterior, constraint.at_least, constraint.at_most))
    posteriors = condition(kernel, _rows(kernel, done), list(table.T))
    return Beliefs(tuple(posteriors), tuple(limits), table[allowed])


def _rows(kernel: Kernel, trials: Sequence[Trial]) -> Rows:
    return kernel.rows(trial.architecture for trial in trials)
