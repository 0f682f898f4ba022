"""pymoo's genetic algorithm over mixed variables.

Blank and Deb, "pymoo: Multi-Objective Optimization in Python", IEEE Access 2020. Defaults of
`MixedVariableGA`; for several objectives with the survival of NSGA-II, as its documentation has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.waiting import Waiting, needed
from parti import Architecture, Study
from parti.core.protocols import Space

FAR = 1e9
"""Loss of a failed trial."""


class PymooGA(Waiting):
    """Generations of 50; a generation is learned from when all of it was measured."""

    def __init__(self, space: Space, study: Study, *, fidelity: int | None = None) -> None:
        super().__init__(space, study, fidelity)
        variable = needed("pymoo.core.variable", "pymoo")
        mixed = needed("pymoo.core.mixed", "pymoo")
        problem = needed("pymoo.core.problem", "pymoo")
        crowding = needed("pymoo.operators.survival.rank_and_crowding", "pymoo")
        termination = needed("pymoo.core.termination", "pymoo")
        self._evaluator = needed("pymoo.core.evaluator", "pymoo").Evaluator
        self._static = needed("pymoo.problems.static", "pymoo").StaticProblem
        self._problem = problem.Problem(
            vars={
                name: variable.Integer(bounds=(0, len(choice.options) - 1))
                if choice.ordered
                else variable.Choice(options=list(range(len(choice.options))))
                for name, choice in self.fixed_choices().items()
            },
            n_obj=len(study.objectives),
            n_ieq_constr=1 if study.constraints else 0,
        )
        several = len(study.objectives) > 1
        survival = {"survival": crowding.RankAndCrowding()} if several else {}
        self._algorithm = mixed.MixedVariableGA(**survival)
        self._algorithm.setup(
            self._problem, termination=termination.NoTermination(), seed=study.seed
        )
        self._generation: Any = ()
        self._losses: list[list[float]] = []
        self._violated: list[float] = []

    def next_architecture(self) -> Architecture:
        if len(self._losses) == len(self._generation):
            self._learn_generation()
            self._generation = self._algorithm.ask()
            self._losses, self._violated = [], []
        return self.decided(self._generation[len(self._losses)].X)

    def learn(self, losses: list[float] | None, violated: float) -> None:
        self._losses.append([FAR] * len(self.study.objectives) if losses is None else losses)
        self._violated.append(violated)

    def _learn_generation(self) -> None:
        if not len(self._generation):
            return
        known = {"F": np.array(self._losses)}
        if self.study.constraints:
            known["G"] = np.array(self._violated)[:, None]
        self._evaluator().eval(self._static(self._problem, **known), self._generation)
        self._algorithm.tell(infills=self._generation)
