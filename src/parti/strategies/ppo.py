"""Proximal policy optimization of a controller.

Schulman, Wolski, Dhariwal, Radford, Klimov, "Proximal Policy Optimization Algorithms", arXiv
1707.06347, 2017, with which Zoph, Vasudevan, Shlens, Le, "Learning Transferable Architectures for
Scalable Image Recognition", CVPR 2018 (NASNet), train theirs. Settings are those of NASNet's
Appendix A: an LSTM of one layer with 100 cells, parameters drawn from -0.1 to 0.1, learning rate
0.00035, an entropy bonus of 0.00001, an average of rewards with weight 0.95, one update for 20
architectures. What NASNet does not say is taken from Schulman et al.: the clipping range 0.2
(Section 6.1) and 10 epochs (Table 3). Each decision is a time step of an episode without discount,
whose reward comes at its end; so all its decisions have the same advantage.

Departures: no value function is learned, the advantage is the distance to the average of rewards
(NASNet's too); each epoch is one step on the whole batch. The old policy is the one with which an
update begins. In a serial search that is the very policy which drew the batch; in a parallel one,
a trial that was drawn before the last update is taken as if it had been drawn after it. An
architecture that is known already is drawn again, unless `distinct=False`. With "logits" the
learning rate is 0.01, as REINFORCE has it there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.strategies.controller import Controller, Lesson, PolicyName, make_policy
from parti.strategies.policies import Array

__all__ = ["PPO", "clipped_weights"]

LEARNING_RATES = {"lstm": 0.00035, "logits": 0.01}


class PPO(Controller):
    """Learn several times from each batch, but never go far from the policy that drew it.

    Args:
        space: what is searched; any walk can be learned.
        study: its first objective is optimized; its seed and constraints are used.
        policy: "lstm": each decision depends on those before; "logits": on none.
        learning_rate: Adam's step size; None: 0.00035 for "lstm", 0.01 for "logits".
        clip: how far the ratio of new to old probability may be from 1 (epsilon).
        epochs: steps on each batch (K).
        batch: architectures for one update.
        baseline: momentum of the moving average of rewards.
        entropy: weight of the entropy bonus (c_2), in the unit of rewards; the default is meant
            for accuracies from 0 to 1.
        layers: layers of the LSTM.
        hidden: cells in each.
        initial: its parameters begin uniformly within this distance of 0.
        penalty: how severe a broken constraint is; see `Rewards`.
        distinct: whether to draw again what is known already; see the departures.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: an argument is out of its range.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        policy: PolicyName = "lstm",
        learning_rate: float | None = None,
        clip: float = 0.2,
        epochs: int = 10,
        batch: int = 20,
        baseline: float = 0.95,
        entropy: float = 0.00001,
        layers: int = 1,
        hidden: int = 100,
        initial: float = 0.1,
        penalty: float = 1.0,
        distinct: bool = True,
        fidelity: int | None = None,
    ) -> None:
        if not clip > 0 or epochs < 1:
            raise InvalidSettings(
                f"PPO with clip {clip!r} and {epochs!r} epochs: the first must be more than 0, "
                "the second at least 1"
            )
        super().__init__(
            space,
            study,
            policy=make_policy(policy, study.seed, layers=layers, hidden=hidden, initial=initial),
            learning_rate=LEARNING_RATES[policy] if learning_rate is None else learning_rate,
            baseline=baseline,
            batch=batch,
            entropy=entropy,
            penalty=penalty,
            distinct=distinct,
            fidelity=fidelity,
        )
        self._clip = clip
        self._epochs = epochs

    def _improve(self, lessons: Sequence[Lesson]) -> None:
        batch = [lesson.steps for lesson in lessons]
        advantages = np.array([[lesson.advantage] for lesson in lessons])
        trace = self.policy.trace(batch)
        old = trace.log_probs
        for epoch in range(self._epochs):
            if epoch:
                trace = self.policy.trace(batch)
            weights = clipped_weights(trace.log_probs, old, advantages, self._clip)
            gradient = trace.gradient(weights / len(lessons), self._entropy / len(lessons))
            self._adam.ascend(self.policy.parameters, gradient)


def clipped_weights(new: Array, old: Array, advantages: Array, clip: float) -> Array:
    """Slope of the clipped objective by each new log-probability.

    The objective is min(r A, clip(r, 1 - epsilon, 1 + epsilon) A) (Equation 7), r = new / old
    probability. Its slope is r A, and 0 where r has already gone too far in the direction in which
    A points.

    Args:
        new: log-probabilities now.
        old: log-probabilities before the update, of the same shape.
        advantages: A, of a shape that fits.
        clip: how far the ratio may be from 1 (epsilon).
    """
    ratios = np.exp(new - old)
    stopped = np.where(advantages > 0, ratios > 1 + clip, ratios < 1 - clip)
    return np.where(stopped, 0.0, ratios * advantages)
