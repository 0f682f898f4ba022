"""The incumbent: what a search would hand over if it ended now, and how good that truly is."""

from __future__ import annotations

import math
from random import Random

import numpy as np

from parti.core.study import Study, pareto_front
from parti.core.trial import State, Trial
from parti.core.walks import sample
from parti.strategies.pareto import hypervolume
from parti.tables.problem import Problem

__all__ = ["Front", "Incumbent", "follow", "near"]

MEMBERS = 1_000
"""So many members drawn at random give the range of a truth that is not listed."""


class Incumbent:
    """The architecture whose *observed* first objective is best, at the highest fidelity seen.

    Trials at a higher fidelity are better known, so the first of them takes over, whatever lower
    fidelities promised. Those that break an observed constraint do not count. Of equals the
    first stays.

    Args:
        problem: knows the truth.
        study: what the search was asked.
    """

    def __init__(self, problem: Problem, study: Study) -> None:
        self._problem = problem
        self._study = study
        self._fidelity = -1
        self._loss = math.inf
        self.regret = math.inf

    def tell(self, trial: Trial) -> None:
        """Take the trial as incumbent if it looks better; `regret` is then its true regret."""
        if not self._study.feasible(trial):
            return
        fidelity = _fidelity(self._problem, trial)
        loss = self._study.objectives[0].loss(trial)
        if (-fidelity, loss) < (-self._fidelity, self._loss):
            self._fidelity, self._loss = fidelity, loss
            self.regret = self._problem.regret(trial.architecture)


class Front:
    """The architectures on the *observed* Pareto front, at the highest fidelity seen.

    Their regret is the share of the true front's hypervolume that their true values leave out.
    Objectives are scaled so that the true front spans 0 to 1 in each; the reference point is 1.1.

    Args:
        problem: knows the truth and the true front.
        study: what the search was asked.
    """

    def __init__(self, problem: Problem, study: Study) -> None:
        self._problem = problem
        self._study = study
        self._fidelity = -1
        self._front: list[Trial] = []
        self.regret = math.inf
        self._signs = np.array([1.0 if o.goal == "min" else -1.0 for o in problem.objectives])
        losses = np.array(problem.front) * self._signs
        self._ideal = losses.min(axis=0)
        self._span = np.where(losses.max(axis=0) > self._ideal, np.ptp(losses, axis=0), 1.0)
        self._whole = hypervolume((losses - self._ideal) / self._span, self._corner)

    @property
    def _corner(self) -> list[float]:
        return [1.1] * len(self._signs)

    def tell(self, trial: Trial) -> None:
        """Take the trial into the front if nothing in it dominates it."""
        fidelity = _fidelity(self._problem, trial)
        if trial.state is not State.DONE or fidelity < self._fidelity:
            return
        kept = self._front if fidelity == self._fidelity else []
        front = pareto_front(self._study, [*kept, trial])
        if trial in front:
            self._front, self._fidelity = front, fidelity
            self.regret = self._missing()

    def _missing(self) -> float:
        truths = [self._problem.truths(trial.architecture) for trial in self._front]
        allowed = [
            [truth[objective.metric] for objective in self._problem.objectives]
            for truth in truths
            if all(limit.allows(truth[limit.metric]) for limit in self._problem.constraints)
        ]
        values = np.array(allowed, dtype=np.float64).reshape(len(allowed), len(self._signs))
        losses = (values[~np.isnan(values).any(axis=1)] * self._signs - self._ideal) / self._span
        return max(0.0, 1.0 - hypervolume(losses, self._corner) / self._whole)


def follow(problem: Problem, study: Study) -> Incumbent | Front:
    """Return what follows the incumbent: one architecture, or a front for several objectives."""
    return Incumbent(problem, study) if len(problem.objectives) == 1 else Front(problem, study)


def near(problem: Problem) -> tuple[float, str]:
    """Return which regret counts as "within 0.1 %" on a problem, and what that is in words.

    An accuracy in percent: 0.1 points. Several objectives: 0.1 % of the hypervolume. Anything
    else: 0.1 % of the range of the truth, over the architectures the problem can list or, where
    those are fewer than 1,000, also over 1,000 members drawn at random.
    """
    if len(problem.objectives) > 1:
        return 0.001, "0.1 % of the true front's hypervolume"
    metric = problem.objectives[0].metric
    if "accuracy" in metric and problem.best > 1.0:
        return 0.1, "0.1 points of accuracy"
    values = np.asarray(problem.facts.contenders()[metric], dtype=np.float64)
    if len(values) < MEMBERS:
        random = Random(0)
        drawn = [problem.truth(sample(problem.space, random)) for _ in range(MEMBERS)]
        values = np.concatenate([values, drawn])
    known = values[np.isfinite(values)]
    return 0.001 * float(np.ptp(known)), f"0.1 % of the range of {metric}"


def _fidelity(problem: Problem, trial: Trial) -> int:
    fidelity = trial.proposal.fidelity
    return (problem.default_fidelity or 0) if fidelity is None else fidelity
