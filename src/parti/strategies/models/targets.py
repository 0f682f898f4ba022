"""Trials as numbers that a model can learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from parti.core.study import Constraint, Objective, Study
from parti.core.trial import State, Trial

__all__ = ["LogRegret", "breach", "clipped", "loss_table", "penalized"]

Floats = npt.NDArray[np.float64]

TINY = 1e-6
"""A spread this small beside the extent of all losses is none."""


def loss_table(objectives: Sequence[Objective], trials: Sequence[Trial]) -> Floats:
    """Return the losses of trials, shape (trials, objectives); infinity where there is none."""
    losses = [[objective.loss(trial) for objective in objectives] for trial in trials]
    return np.array(losses, dtype=np.float64).reshape(len(trials), len(objectives))


@dataclass(frozen=True, slots=True)
class LogRegret:
    """The logarithm of how much worse than the best a loss is, in steps of the median's.

    log(1 + (loss - best) / (median - best)): like the logarithm of an error it magnifies what is
    good and draws in the long tail of what is bad, but needs no scale with a zero.

    Args:
        best: the lowest loss known; what is lower counts as equal.
        step: the median's distance from it, or that of the worst where the median is the best.
    """

    best: float
    step: float

    @staticmethod
    def of(losses: Floats) -> LogRegret:
        """Measure some losses, of any shape; infinite ones are left out."""
        finite = losses[np.isfinite(losses)]
        if not len(finite):
            return LogRegret(0.0, 1.0)
        best, extent = float(finite.min()), float(np.ptp(finite)) or 1.0
        half = float(np.median(finite)) - best
        return LogRegret(best, half if half > TINY * extent else extent)

    def __call__(self, losses: Floats) -> Floats:
        """Map losses of any shape; infinities stay."""
        mapped: Floats = np.log1p(np.maximum(losses - self.best, 0.0) / self.step)
        return mapped


def clipped(losses: Floats) -> Floats:
    """Cut the long tail of bad losses: the worst is as far from the median as the best.

    Args:
        losses: shape (trials, objectives); infinities stay.
    """
    cut = losses.copy()
    for column in cut.T:
        finite = np.isfinite(column)
        if finite.any():
            worst = 2 * np.median(column[finite]) - column[finite].min()
            column[finite] = np.minimum(column[finite], worst)
    return cut


def breach(constraints: Sequence[Constraint], trial: Trial) -> float:
    """By how much a trial breaks the constraints whose metrics it has, relative to their limits.

    Unlike `ranking.violation` it judges rejected trials too, which have some metrics only.
    """
    total = 0.0
    for constraint in constraints:
        value = trial.metric(constraint.metric)
        if not math.isnan(value) and not constraint.allows(value):
            limit = constraint.at_most if value > constraint.at_most else constraint.at_least
            total += constraint.excess(value) / (abs(limit) or 1.0)
    return total


def penalized(study: Study, trials: Sequence[Trial]) -> tuple[list[Trial], Floats]:
    """Turn the first objective and all constraints into one loss.

    Deb, "An Efficient Constraint Handling Method for Genetic Algorithms", Computer Methods in
    Applied Mechanics and Engineering 186, 2000, equation 3: what breaks a constraint is worse
    than the worst that breaks none, by how much it breaks them. Here the breach, at most 1, is
    counted in ranges of the losses, so that no outlier rules the model.

    Args:
        study: with its objectives and constraints.
        trials: ended; those of which nothing can be learned (failed, not measured) are left out.

    Returns:
        The others, and the loss of each, shape (trials,).
    """
    objective = study.objectives[0]
    learned: list[Trial] = []
    losses: list[float] = []
    breaches: list[float] = []
    for trial in trials:
        broken = breach(study.constraints, trial)
        usable = trial.state is State.DONE and math.isfinite(objective.loss(trial))
        if usable or (trial.state is State.REJECTED and broken):
            learned.append(trial)
            losses.append(math.inf if broken else objective.loss(trial))
            breaches.append(min(broken, 1.0))
    target = np.array(losses, dtype=np.float64)
    allowed = target[np.isfinite(target)]
    worst = float(allowed.max()) if len(allowed) else 0.0
    extent = (float(np.ptp(allowed)) if len(allowed) else 0.0) or 1.0
    penalty = worst + extent * np.array(breaches)
    return learned, np.where(np.isfinite(target), target, penalty)
