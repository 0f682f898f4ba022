"""Which of two trials is better, where constraints and failures count too."""

from __future__ import annotations

import math

from parti.core.study import Study
from parti.core.trial import State, Trial

__all__ = ["rank", "violation"]


def violation(study: Study, trial: Trial) -> float:
    """By how much a trial breaks the constraints, each relative to its limit.

    0 when it keeps to all of them; infinity when it was not measured to the end. A metric that
    was not measured breaks its constraint without bound.
    """
    if trial.state is not State.DONE:
        return math.inf
    total = 0.0
    for constraint in study.constraints:
        value = trial.metric(constraint.metric)
        if math.isnan(value):
            return math.inf
        limit = constraint.at_most if value > constraint.at_most else constraint.at_least
        if not constraint.allows(value):
            total += constraint.excess(value) / (abs(limit) or 1.0)
    return total


def rank(study: Study, trial: Trial) -> tuple[float, float]:
    """Sort key, best first: by how far constraints are broken, then by the first objective."""
    return violation(study, trial), study.objectives[0].loss(trial)
