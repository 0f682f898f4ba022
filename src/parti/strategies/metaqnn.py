"""MetaQNN: Q-learning with an epsilon-greedy policy and experience replay.

Baker, Gupta, Naik, Raskar, "Designing Neural Network Architectures using Reinforcement Learning",
ICLR 2017. A walk through the space is an episode: in each state an option is taken, and at the end
comes the architecture's performance as the only reward. With probability epsilon an option is
taken at random, else one of the largest Q; epsilon falls from 1 to 0.1 on a schedule. After each
model, 100 known ones are drawn and learned from again.

A state is the choice that has come up together with the decision before it (the paper: the
previous layer with its parameters and depth; here the depth is in the choice's name).

Departures: rewards are taken to the range from 0 to 1 in which accuracies lie, by the worst and
best reward known so far, unless `rewards` says what counts as 0 and as 1. The schedule is stretched
to the study's budget of trials when it has one. A model that is known already is drawn again, but
not put into the replay again. Failed models count as the worst known (the paper draws others in
their place). Epsilon depends on how many models are known, running ones included.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, Trial
from parti.strategies.memory import Memory
from parti.strategies.policies import Step, Steps, steps_of
from parti.strategies.rewards import Rewards

__all__ = ["SCHEDULE", "MetaQNN", "QTable", "epsilon_after"]

SCHEDULE = (
    (1.0, 1500),
    (0.9, 100),
    (0.8, 100),
    (0.7, 100),
    (0.6, 150),
    (0.5, 150),
    (0.4, 150),
    (0.3, 150),
    (0.2, 150),
    (0.1, 150),
)
"""Table 2 of the paper: for each epsilon, how many models are trained with it."""

_MODELS = tuple(accumulate(models for _, models in SCHEDULE))


def epsilon_after(models: int, total: int = _MODELS[-1]) -> float:
    """Epsilon for the next model when some are known; the last one holds after the schedule.

    Args:
        models: how many are known.
        total: over how many the schedule is stretched; the paper's 2,700 by default.
    """
    stage = bisect_right(_MODELS, models * _MODELS[-1] / total)
    return SCHEDULE[min(stage, len(SCHEDULE) - 1)][0]


class QTable:
    """The value of each option in each state.

    Args:
        learning_rate: alpha.
        discount: gamma.
        initial: the value of what was never taken.
    """

    def __init__(self, learning_rate: float, discount: float, initial: float) -> None:
        self._learning_rate = learning_rate
        self._discount = discount
        self._initial = initial
        self._values: dict[tuple[Choice, Step | None], list[float]] = {}

    def values(self, choice: Choice, previous: Step | None) -> list[float]:
        """Q of each option of a choice, after the decision before it; to be changed in place."""
        state = (choice, previous)
        if state not in self._values:
            self._values[state] = [self._initial] * len(choice.options)
        return self._values[state]

    def path(self, steps: Steps) -> list[tuple[list[float], int]]:
        """The states of an episode, as their values, each with the place of what was taken."""
        before = (None, *steps)
        return [
            (self.values(step.choice, previous), step.place)
            for previous, step in zip(before, steps, strict=False)
        ]

    def learn(self, path: list[tuple[list[float], int]], reward: float) -> None:
        """Update an episode's values from its end to its beginning (Equation 3)."""
        if not path:
            return
        alpha = self._learning_rate
        values, place = path[-1]
        values[place] += alpha * (reward - values[place])
        for (after, _), (values, place) in pairwise(reversed(path)):
            values[place] += alpha * (self._discount * max(after) - values[place])


@dataclass(frozen=True, slots=True)
class _Episode:
    path: list[tuple[list[float], int]]
    reward: float


class MetaQNN:
    """Learn what each decision leads to; try at random first, then take what is best.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed, constraints and budget are used.
        models: over how many models epsilon falls; None: the study's budget of trials, or the
            paper's 2,700 when it has none.
        learning_rate: of Q (alpha).
        discount: of later values (gamma).
        initial: Q of what was never taken; about the performance of an average model, and rather
            less.
        replay: how many known models are learned from after each.
        rewards: which rewards count as 0 and as 1: (0, 1) for accuracies, (0, 100) for accuracies
            in percent, as in the paper; None: the worst and the best known so far.
        penalty: how severe a broken constraint is; see `Rewards`.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: an argument is out of its range.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        models: int | None = None,
        learning_rate: float = 0.01,
        discount: float = 1.0,
        initial: float = 0.5,
        replay: int = 100,
        rewards: tuple[float, float] | None = None,
        penalty: float = 1.0,
        fidelity: int | None = None,
    ) -> None:
        if models is None:
            models = study.budget.trials or _MODELS[-1]
        if models < 1 or replay < 1:
            raise InvalidSettings(
                f"MetaQNN over {models!r} models with {replay!r} replayed: both must be at least 1"
            )
        if not (0 < learning_rate <= 1 and 0 <= discount <= 1):
            raise InvalidSettings(
                f"MetaQNN with learning rate {learning_rate!r} and discount {discount!r}: the "
                "first must be in (0, 1], the second in [0, 1]"
            )
        if rewards is not None and not rewards[0] < rewards[1]:
            raise InvalidSettings(
                f"MetaQNN with rewards {rewards!r}: give what counts as 0, then, larger, as 1"
            )
        self._space = space
        self._models = models
        self._replay = replay
        self._fidelity = fidelity
        self._memory = Memory(space, study.seed)
        self._rewards = Rewards(study, penalty)
        self._fixed = rewards
        self._worst, self._best = math.inf, -math.inf
        self._episodes: list[_Episode] = []
        self.table = QTable(learning_rate, discount, initial)

    @property
    def epsilon(self) -> float:
        """How likely a decision of the next model is taken at random."""
        return epsilon_after(len(self._memory), self._models)

    def ask(self) -> Proposal | None:
        """Return an architecture of the epsilon-greedy policy, None when the space is known."""
        random = self._memory.random()
        drawn = self._memory.fresh(random, lambda: self._draw(random))
        return Proposal(drawn, self._fidelity) if drawn is not None else None

    def tell(self, trial: Trial) -> None:
        """Learn from a trial that has ended, and again from earlier ones."""
        self._memory.tell(trial)
        reward = self._rewards.of(trial)
        if reward is None:
            return
        self._worst, self._best = min(self._worst, reward), max(self._best, reward)
        path = self.table.path(steps_of(self._space, trial.architecture))
        self._episodes.append(_Episode(path, reward))
        random = Random(f"{self._memory.seed}/replay/{len(self._episodes)}")
        for _ in range(self._replay):
            episode = self._episodes[int(random.random() * len(self._episodes))]
            self.table.learn(episode.path, self._scaled(episode.reward))

    def _draw(self, random: Random) -> Architecture:
        epsilon = self.epsilon
        previous: Step | None = None

        def pick(choice: Choice) -> Option:
            nonlocal previous
            values = self.table.values(choice, previous)
            places = list(range(len(values)))
            if random.random() >= epsilon:
                best = max(values)
                places = [place for place in places if values[place] == best]
            previous = Step(choice, places[int(random.random() * len(places))])
            return choice.options[previous.place]

        return self._space.walk(pick)

    def _scaled(self, reward: float) -> float:
        low, high = self._fixed or (self._worst, self._best)
        return (reward - low) / (high - low) if high > low else 0.5
