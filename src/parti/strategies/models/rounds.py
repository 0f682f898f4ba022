"""The course that model-guided strategies share: random trials, then one ranking after another.

A round begins when enough trials have ended. Its ranking is a function of the trials that had
ended by then, in the order they ended, so a search that is resumed in the middle of a round goes
on with the same ranking. Running trials are only skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.core.walks import canonical, mutate, sample
from parti.strategies.memory import Memory
from parti.strategies.ranking import rank

__all__ = ["Round", "Rounds"]

PATIENCE = 10
"""A round of which this many times its size has ended without success is over."""


@dataclass(frozen=True, slots=True)
class Round:
    """What is known when a round begins.

    Args:
        trials: all that have ended, in the order they did.
        known: fingerprints of their canonical forms.
        random: random numbers of this round.
    """

    trials: tuple[Trial, ...]
    known: frozenset[str]
    random: Random

    def best(self, study: Study, count: int) -> list[Trial]:
        """The best trials that were measured to the end, best first, the older first of equals."""
        done = [trial for trial in self.trials if _measured(study, trial)]
        return sorted(done, key=partial(rank, study))[:count]


Ranking = Callable[[Round], Sequence[Proposal]]
"""Gives what to propose in a round, best first; nothing that the round knows."""


class Rounds:
    """Ask and tell of a strategy that proposes at random, then by a ranking per round.

    When a ranking is used up before its round is over, mutants of the best trial follow.

    Args:
        space: what is searched.
        study: a trial counts as measured when it is done and has all objectives.
        ranking: makes the ranking of a round; called once a round.
        first: number of random trials that must have been measured before the first round.
        batch: number of trials measured in a round.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: `first` or `batch` is less than 1.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        ranking: Ranking,
        *,
        first: int,
        batch: int,
        fidelity: int | None,
    ) -> None:
        if first < 1 or batch < 1:
            raise InvalidSettings(
                f"{first} random trials and then batches of {batch}: both must be at least 1"
            )
        self._space = space
        self._study = study
        self._ranking = ranking
        self._first = first
        self._batch = batch
        self._fidelity = fidelity
        self._memory = Memory(space, study.seed)
        self._ended: list[Trial] = []
        self._keys: list[str] = []
        self._measured = 0
        self._start: tuple[int, int] | None = None  # ended and measured when the round began
        self._ranked: Sequence[Proposal] | None = None

    def ask(self) -> Proposal | None:
        """Return the best of the ranking that is not known yet; None when everything is known."""
        random = self._memory.random()
        if self._start is None:
            drawn = self._memory.fresh(random, lambda: sample(self._space, random))
            return Proposal(drawn, self._fidelity) if drawn is not None else None
        if self._ranked is None:
            self._ranked = self._ranking(self._round(self._start[0]))
        for proposal in self._ranked:
            if proposal.architecture not in self._memory:
                return proposal
        (parent,) = self._round(len(self._ended)).best(self._study, 1)
        child = self._memory.fresh(random, lambda: mutate(self._space, parent.architecture, random))
        return Proposal(child, self._fidelity) if child is not None else None

    def tell(self, trial: Trial) -> None:
        """Remember a trial; begin a round when enough have ended."""
        self._memory.tell(trial)
        if trial.state is State.RUNNING:
            return
        self._ended.append(trial)
        self._keys.append(canonical(self._space, trial.architecture).fingerprint)
        self._measured += _measured(self._study, trial)
        if self._start is None:
            over = self._measured >= self._first
        else:
            ended, measured = self._start
            over = (
                self._measured - measured >= self._batch
                or len(self._ended) - ended >= PATIENCE * self._batch
            )
        if over:
            self._start = (len(self._ended), self._measured)
            self._ranked = None

    def _round(self, ended: int) -> Round:
        return Round(
            tuple(self._ended[:ended]),
            frozenset(self._keys[:ended]),
            Random(f"{self._study.seed}/round/{ended}"),
        )


def _measured(study: Study, trial: Trial) -> bool:
    return all(math.isfinite(objective.loss(trial)) for objective in study.objectives)
