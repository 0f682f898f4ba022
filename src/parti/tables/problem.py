"""A problem: a space with the answers at the back of the book, to compare strategies on.

A strategy sees the space, the study and what the evaluator measures: validation accuracy of one
run, say. The problem also knows the *truth* of every architecture, mean test accuracy, say, which
serves to report how good a strategy's choice is, never to search; only in oracle mode, for
comparison with published studies, does the evaluator measure the truth itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import InvalidStudy
from parti.core.protocols import Evaluator, Space
from parti.core.study import Budget, Constraint, Objective, Study
from parti.core.trial import Trial

__all__ = ["Facts", "Problem"]


class Facts(Protocol):
    """All that is known of a problem's architectures: columns of a table, or a formula."""

    def evaluator(self, *, seed: int, oracle: bool) -> Evaluator:
        """Return what a search measures with."""
        ...

    def truths(self, architecture: Architecture) -> Mapping[str, float]:
        """The true value of every metric of the study; NaN where it cannot be measured.

        Raises:
            TrialError: the architecture is not known.
        """
        ...

    def contenders(self) -> Mapping[str, NDArray[np.float64]]:
        """The true values of architectures among which every optimal one is, as columns.

        These are all architectures where they can be listed.
        """
        ...

    def scores(self, architecture: Architecture) -> Mapping[str, float]:
        """What is known of an architecture without training it."""
        ...


@dataclass(frozen=True, eq=False)
class Problem:
    """What is searched, what a search sees, and the truth.

    Args:
        name: "nasbench201/cifar10".
        space: what is searched.
        objectives: what strategies optimize; the truth is kept under the same metrics.
        constraints: limits that hold for what is measured and for the truth alike.
        facts: what is known of the architectures.
        fidelities: what may be asked for, ascending; empty when there is only one.
        default_fidelity: what a proposal without fidelity gets; None when there is only one.
        resumable: whether training to a higher fidelity goes on from a lower one, so that a
            promotion costs the difference. Tables trained each fidelity from scratch, with a
            schedule of its own.
        measured: in words, what the search sees.
        reported: in words, what the truth is.
    """

    name: str
    space: Space
    objectives: tuple[Objective, ...]
    facts: Facts
    constraints: tuple[Constraint, ...] = ()
    fidelities: tuple[int, ...] = ()
    default_fidelity: int | None = None
    resumable: bool = False
    measured: str = ""
    reported: str = ""

    @property
    def goal(self) -> Literal["min", "max"]:
        """Whether the truth is to be small or large: as the first objective."""
        return self.objectives[0].goal

    def evaluator(self, *, seed: int = 0, oracle: bool = False) -> Evaluator:
        """Return what a search measures with.

        Args:
            seed: decides what noise, or which of several runs, each architecture is seen with.
            oracle: measure the truth, without noise, at the default fidelity alone.
        """
        return self.facts.evaluator(seed=seed, oracle=oracle)

    def study(self, *, seed: int, trials: int | None = None) -> Study:
        """Return the question as strategies get it.

        Args:
            seed: of every random number of the search.
            trials: how many architectures may be measured; None for no limit.
        """
        return Study(self.name, self.objectives, self.constraints, Budget(trials=trials), seed)

    def truths(self, architecture: Architecture) -> Mapping[str, float]:
        """The true value of every metric of the study; NaN where it cannot be measured.

        Raises:
            TrialError: the architecture is not known.
        """
        return self.facts.truths(architecture)

    def truth(self, architecture: Architecture) -> float:
        """The true value of the first objective.

        Raises:
            TrialError: the architecture is not known.
        """
        return self.truths(architecture)[self.objectives[0].metric]

    def scores(self, architecture: Architecture) -> Mapping[str, float]:
        """Training-free scores of an architecture by name; those not known are left out."""
        return self.facts.scores(architecture)

    @cached_property
    def best(self) -> float:
        """The best truth of the first objective among architectures within the constraints.

        Raises:
            InvalidStudy: nothing keeps to the constraints.
        """
        first = self.objectives[0]
        values = self._allowed()[:, 0]
        if not len(values):
            limits = ", ".join(map(str, self.constraints))
            raise InvalidStudy(f"{self.name}: nothing keeps to {limits}; relax it")
        return float(values.max() if first.goal == "max" else values.min())

    def regret(self, architecture: Architecture) -> float:
        """By how much the truth is worse than the best.

        It is infinite outside the constraints, and where an objective cannot be measured.

        Raises:
            TrialError: the architecture is not known.
        """
        truths = self.truths(architecture)
        measurable = not any(math.isnan(truths[o.metric]) for o in self.objectives)
        if not measurable or not all(c.allows(truths[c.metric]) for c in self.constraints):
            return math.inf
        value = truths[self.objectives[0].metric]
        return max(0.0, self.best - value if self.goal == "max" else value - self.best)

    @cached_property
    def front(self) -> tuple[tuple[float, ...], ...]:
        """The true Pareto front: one value per objective, best of the first objective first."""
        values = np.unique(self._allowed() * self._signs(), axis=0)
        kept: list[NDArray[np.float64]] = []
        for losses in values:  # in ascending order: what dominates comes before what it dominates
            if not kept or not (np.asarray(kept) <= losses).all(axis=1).any():
                kept.append(losses)
        return tuple(tuple((losses * self._signs()).tolist()) for losses in kept)

    def seconds(self, trial: Trial, trials: Mapping[int, Trial]) -> float:
        """What a trial cost: where training can go on, a promotion costs only the difference.

        Args:
            trial: whose cost is asked.
            trials: all trials of the search by number.
        """
        before = trial.proposal.continues
        if not self.resumable or before is None or before not in trials:
            return trial.seconds
        return max(0.0, trial.seconds - trials[before].seconds)

    def _allowed(self) -> NDArray[np.float64]:
        """True values of what is measurable and within the constraints, a column per objective."""
        columns = self.facts.contenders()
        values = np.stack([columns[o.metric] for o in self.objectives], axis=1).astype(np.float64)
        kept = ~np.isnan(values).any(axis=1)
        for constraint in self.constraints:
            limited = columns[constraint.metric]
            kept &= (limited >= constraint.at_least) & (limited <= constraint.at_most)
        allowed: NDArray[np.float64] = values[kept]
        return allowed

    def _signs(self) -> NDArray[np.float64]:
        return np.array([1.0 if o.goal == "min" else -1.0 for o in self.objectives])
