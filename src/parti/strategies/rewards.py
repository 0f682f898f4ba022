"""What a controller learns from: rewards of trials, and the baseline they are compared with."""

from __future__ import annotations

import math

from parti.core.errors import InvalidSettings
from parti.core.study import Study
from parti.core.trial import State, Trial
from parti.strategies.ranking import violation

__all__ = ["Baseline", "Rewards"]


class Rewards:
    """Turn trials that have ended into rewards; larger is better.

    The reward is the first objective's metric, negated when it is to be small, in its own unit.
    It is made worse when constraints are broken, as in Tan et al., "MnasNet: Platform-Aware Neural
    Architecture Search for Mobile", CVPR 2019, Equations 2 and 3 with alpha = 0: a positive reward
    is multiplied by (value / limit)^beta, here with the sum of all relative violations plus 1 as
    the quotient, and a negative one is divided by it.

    A trial that failed, was rejected or has no finite value gets the worst reward known so far;
    before anything is known, none.

    Args:
        study: its first objective and its constraints are used.
        penalty: how severe a broken constraint is (-beta; 1 in MnasNet's hard variant); 0 ignores
            constraints.

    Raises:
        InvalidSettings: the penalty is negative.
    """

    def __init__(self, study: Study, penalty: float = 1.0) -> None:
        if not penalty >= 0:
            raise InvalidSettings(
                f"penalty {penalty!r}: it must be 0 (constraints do not matter) or more"
            )
        self._study = study
        self._penalty = penalty
        self._worst = math.inf

    def of(self, trial: Trial) -> float | None:
        """The reward of a trial, which is noted; None when there is nothing to learn from it."""
        if trial.state is State.RUNNING:
            return None
        reward = self._measured(trial)
        if math.isfinite(reward):
            self._worst = min(self._worst, reward)
            return reward
        return self._worst if math.isfinite(self._worst) else None

    def _measured(self, trial: Trial) -> float:
        reward = -self._study.objectives[0].loss(trial)
        broken = violation(self._study, trial) if self._penalty else 0.0
        if not math.isfinite(reward) or math.isinf(broken):
            return math.nan
        factor = math.pow(1 + broken, self._penalty)
        return reward / factor if reward > 0 else reward * factor


class Baseline:
    """Exponential moving average of rewards, without bias towards 0 at its beginning.

    Args:
        momentum: weight of what was known before, from 0 to below 1.

    Raises:
        InvalidSettings: the momentum is not in this range.
    """

    def __init__(self, momentum: float) -> None:
        if not 0 <= momentum < 1:
            raise InvalidSettings(f"baseline {momentum!r}: its momentum must be 0 to below 1")
        self._momentum = momentum
        self._sum = 0.0
        self._weight = 0.0

    def update(self, reward: float) -> float:
        """Add a reward and return the average with it."""
        self._sum = self._momentum * self._sum + (1 - self._momentum) * reward
        self._weight = self._momentum * self._weight + (1 - self._momentum)
        return self._sum / self._weight
