"""What strategies that learn a policy have in common: a controller, as these papers call it.

A controller draws architectures from its policy, compares the reward of each trial with a moving
average, and improves the policy once for every batch of rewards. The policy is a function of the
trials that have ended, in the order in which they were told, so a search that is resumed goes on
as it would have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.strategies.lstm import LstmPolicy
from parti.strategies.memory import Memory
from parti.strategies.policies import Adam, LogitsPolicy, Policy, Steps, roll_out, steps_of
from parti.strategies.rewards import Baseline, Rewards

__all__ = ["Controller", "Lesson", "PolicyName", "make_policy"]

PolicyName = Literal["logits", "lstm"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from one trial.

    Args:
        steps: the architecture's decisions.
        advantage: by how much its reward was better than the baseline.
    """

    steps: Steps
    advantage: float


def make_policy(name: PolicyName, seed: int, *, layers: int, hidden: int, initial: float) -> Policy:
    """Return a policy by its name.

    Args:
        name: "logits": independent logits for each choice; "lstm": a recurrent network.
        seed: of the network's parameters.
        layers: how many layers the network has.
        hidden: how many cells each layer has.
        initial: the network's parameters are drawn uniformly from -initial to initial.

    Raises:
        InvalidSettings: there is no such policy, or the network has no cells.
    """
    if name not in ("logits", "lstm"):
        raise InvalidSettings(f"policy {name!r} is not known; the policies are 'logits', 'lstm'")
    if layers < 1 or hidden < 1 or not initial > 0:
        raise InvalidSettings(
            f"a controller with {layers!r} layers of {hidden!r} cells, initially within "
            f"{initial!r}: each must be more than 0"
        )
    if name == "logits":
        return LogitsPolicy()
    return LstmPolicy(seed, layers=layers, hidden=hidden, initial=initial)


class Controller(ABC):
    """Draw from a policy, and improve it by rewards; how, its heirs say in `_improve`.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        policy: what is drawn from and learned.
        learning_rate: Adam's step size.
        baseline: momentum of the moving average of rewards.
        batch: how many rewards make one improvement.
        entropy: weight of an entropy bonus, in the unit of rewards.
        penalty: how severe a broken constraint is; see `Rewards`.
        distinct: whether to draw again what is known already. If not, proposals repeat, and a
            finite space never ends.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: an argument is out of its range.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        policy: Policy,
        learning_rate: float,
        baseline: float,
        batch: int,
        entropy: float,
        penalty: float,
        distinct: bool,
        fidelity: int | None,
    ) -> None:
        if not learning_rate > 0 or batch < 1:
            raise InvalidSettings(
                f"a controller with learning rate {learning_rate!r} and batch {batch!r}: "
                "the first must be more than 0, the second at least 1"
            )
        if not entropy >= 0:
            raise InvalidSettings(f"entropy {entropy!r}: its weight must be 0 (no bonus) or more")
        self.policy = policy
        self._space = space
        self._memory = Memory(space, study.seed)
        self._rewards = Rewards(study, penalty)
        self._baseline = Baseline(baseline)
        self._adam = Adam(learning_rate)
        self._batch = batch
        self._entropy = entropy
        self._lessons: list[Lesson] = []
        self._distinct = distinct
        self._fidelity = fidelity

    def ask(self) -> Proposal | None:
        """Return a draw from the policy, or None when the whole space is known."""
        random = self._memory.random()
        draw = partial(roll_out, self.policy, self._space, random)
        drawn = self._memory.fresh(random, draw) if self._distinct else draw()
        return Proposal(drawn, self._fidelity) if drawn is not None else None

    def tell(self, trial: Trial) -> None:
        """Learn from a trial that has ended, once its batch is full."""
        self._memory.tell(trial)
        reward = self._rewards.of(trial)
        if reward is None:
            return
        advantage = reward - self._baseline.update(reward)
        self._lessons.append(Lesson(steps_of(self._space, trial.architecture), advantage))
        if len(self._lessons) == self._batch:
            self._improve(self._lessons)
            self._lessons = []

    @abstractmethod
    def _improve(self, lessons: Sequence[Lesson]) -> None:
        """Change the policy so that what was better than the baseline becomes more likely."""
