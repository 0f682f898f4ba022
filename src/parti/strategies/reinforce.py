"""REINFORCE: a controller that is trained by policy gradients.

Zoph and Le, "Neural Architecture Search with Reinforcement Learning", ICLR 2017, Section 3.2, with
the rule of Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist
Reinforcement Learning", Machine Learning 1992. Two policies are to be had:

"lstm" is the paper's controller: two layers of 35 cells, parameters drawn from -0.08 to 0.08, Adam
with learning rate 0.0006, one update for 8 architectures.

"logits" is that of the tabular benchmarks, one row of logits for each choice: Ying et al.,
"NAS-Bench-101", ICML 2019, and Dong et al., "NATS-Bench", TPAMI 2021, whose settings are taken:
Adam with learning rate 0.01, an average of rewards with momentum 0.9, one update for each
architecture.

Departures: an architecture that is known already is drawn again (the papers use it again, and
NATS-Bench spends its training time again: `distinct=False`). Then, and in a parallel search, a
trial is not quite drawn from the policy that learns from it; its gradient is not corrected for
that. The reward is the metric itself (Zoph and Le cube the accuracy). The average that a reward is
compared with has seen this reward, as in NATS-Bench; in the first paper it has seen only those
before, which makes the advantage larger by the same factor for all but the first rewards, and Adam
indifferent to it. Logits begin at 0, as in NAS-Bench-101 (NATS-Bench: within some 0.001 of it). One
controller learns, not a hundred that share parameters, and skip connections are choices like any
other (the paper has attention for them).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parti.core.protocols import Space
from parti.core.study import Study
from parti.strategies.controller import Controller, Lesson, PolicyName, make_policy

__all__ = ["Reinforce"]

LEARNING_RATES = {"lstm": 0.0006, "logits": 0.01}
BATCHES = {"lstm": 8, "logits": 1}


class Reinforce(Controller):
    """Make decisions more likely by how much better than usual their architectures were.

    Args:
        space: what is searched; any walk can be learned.
        study: its first objective is optimized; its seed and constraints are used.
        policy: "logits": each choice is decided by itself; "lstm": with what was decided before.
        learning_rate: Adam's step size; None: 0.0006 for "lstm", 0.01 for "logits".
        baseline: momentum of the moving average of rewards (b).
        batch: architectures for one update (m); None: 8 for "lstm", 1 for "logits".
        entropy: weight of an entropy bonus, in the unit of rewards; the papers have none.
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
        policy: PolicyName = "logits",
        learning_rate: float | None = None,
        baseline: float = 0.9,
        batch: int | None = None,
        entropy: float = 0.0,
        layers: int = 2,
        hidden: int = 35,
        initial: float = 0.08,
        penalty: float = 1.0,
        distinct: bool = True,
        fidelity: int | None = None,
    ) -> None:
        super().__init__(
            space,
            study,
            policy=make_policy(policy, study.seed, layers=layers, hidden=hidden, initial=initial),
            learning_rate=LEARNING_RATES[policy] if learning_rate is None else learning_rate,
            baseline=baseline,
            batch=BATCHES[policy] if batch is None else batch,
            entropy=entropy,
            penalty=penalty,
            distinct=distinct,
            fidelity=fidelity,
        )

    def _improve(self, lessons: Sequence[Lesson]) -> None:
        trace = self.policy.trace([lesson.steps for lesson in lessons])
        advantages = np.array([[lesson.advantage] for lesson in lessons])
        # The last equation of Section 3.2: the mean of (R - b) * d log P(a_t | a_1..a_t-1).
        weights = np.broadcast_to(advantages / len(lessons), trace.log_probs.shape)
        gradient = trace.gradient(weights, self._entropy / len(lessons))
        self._adam.ascend(self.policy.parameters, gradient)
