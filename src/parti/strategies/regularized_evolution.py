"""Regularized (aging) evolution.

Real, Aggarwal, Huang, Le, "Regularized Evolution for Image Classifier Architecture Search",
AAAI 2019, Algorithm 1. The population is a queue of the last P models trained: the best of a
random sample becomes the parent of the next model, and the oldest dies.

Departures: a child that is known already is drawn again (the paper trains it again); a trial that
failed or was rejected does not enter the population; one that breaks a constraint enters it, but
loses against any that does not.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import mutate, sample
from parti.strategies.memory import Memory
from parti.strategies.ranking import rank

__all__ = ["RegularizedEvolution"]


class RegularizedEvolution:
    """Mutate the best of a sample of the population; the oldest dies.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        population: number of models alive (P in the paper).
        tournament: number of models that compete to be the parent (S); they are drawn with
            replacement.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: population or tournament is less than 1.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        population: int = 100,
        tournament: int = 25,
        fidelity: int | None = None,
    ) -> None:
        if population < 1 or tournament < 1:
            raise InvalidSettings(
                f"evolution with population {population} and tournament {tournament}: "
                "both must be at least 1"
            )
        self._space = space
        self._study = study
        self._tournament = tournament
        self._fidelity = fidelity
        self._memory = Memory(space, study.seed)
        self._alive: deque[Trial] = deque(maxlen=population)

    @property
    def population(self) -> tuple[Trial, ...]:
        """The trials alive, oldest first."""
        return tuple(self._alive)

    def ask(self) -> Proposal | None:
        """Return a random model while the population fills up, then a child of the tournament."""
        random = self._memory.random()
        if len(self._alive) < (self._alive.maxlen or 0):
            drawn = self._memory.fresh(random, lambda: sample(self._space, random))
            return Proposal(drawn, self._fidelity) if drawn is not None else None
        rivals = [
            self._alive[int(random.random() * len(self._alive))] for _ in range(self._tournament)
        ]
        parent = min(rivals, key=partial(rank, self._study))
        child = self._memory.fresh(random, lambda: mutate(self._space, parent.architecture, random))
        return Proposal(child, self._fidelity, (parent.number,)) if child is not None else None

    def tell(self, trial: Trial) -> None:
        """Let a trial that is done join the population; the oldest dies when it is full."""
        self._memory.tell(trial)
        if trial.state is State.DONE:
            self._alive.append(trial)
