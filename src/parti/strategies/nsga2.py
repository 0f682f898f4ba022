"""NSGA-II: a genetic algorithm for many objectives, with and without constraints.

Deb, Pratap, Agarwal, Meyarivan, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II",
IEEE Transactions on Evolutionary Computation 6(2), 2002. Parents and children compete together:
the better fronts survive, and of the last front that fits in part, those in the least crowded
places (section III-C). Parents win a tournament of two by front, then by crowding (section III-B).
With constraints, models are compared by constrained domination (section VI, Definition 1).

Departures: for the real-coded operators of the paper, which architectures have no use for, stand
those of NSGA-Net (Lu et al., "NSGA-Net: Neural Architecture Search Using Multi-Objective Genetic
Algorithm", GECCO 2019): a population of 40, two-point crossover with probability 0.9 and a change
of single genes, though at the rate that Deb et al. give for both of their codings, one gene in a
child on average (p_m = 1/n). Of the two children of a crossover one is kept, and a child that is
known already is bred again. A generation is complete when enough children are done, whichever they
are, so that workers never wait: failed and rejected ones are bred anew, and one that ends late
counts for the next generation. Tournaments draw from the whole population, each time anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import isfinite
from random import Random
from typing import Literal

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.strategies.breeding import Breeder, Encoding
from parti.strategies.memory import Memory
from parti.strategies.pareto import crowding_distance, nondominated_fronts
from parti.strategies.ranking import violation

__all__ = ["NSGA2", "constrained_fronts"]


class NSGA2:
    """Breed from the least dominated models, the lonelier first among equals.

    Args:
        space: what is searched.
        study: all its objectives are optimized; its seed and constraints are used.
        population: number of models in a generation, and of children of each (N).
        encoding: "integer": a gene is a decision; "binary": a bit of the number of its option;
            "gray": the same in Gray code.
        crossover: "one-point", "two-point" or "uniform".
        crossover_rate: chance that a child has two parents (p_c).
        mutation_rate: chance of every gene to change (p_m); None: one gene of a child on average.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: a name is unknown, a rate is not between 0 and 1, or the population is
            less than 2.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        population: int = 40,
        encoding: Encoding = "integer",
        crossover: Literal["one-point", "two-point", "uniform"] = "two-point",
        crossover_rate: float = 0.9,
        mutation_rate: float | None = None,
        fidelity: int | None = None,
    ) -> None:
        if population < 2:
            raise InvalidSettings(f"population {population}: a tournament needs at least 2 models")
        self._study = study
        self._size = population
        self._fidelity = fidelity
        self._memory = Memory(space, study.seed)
        self._breeder = Breeder(
            space,
            encoding=encoding,
            crossover=crossover,
            crossover_rate=crossover_rate,
            mutation_rate=mutation_rate,
        )
        self._parents: list[Trial] = []
        self._standings: list[tuple[int, float]] = []
        self._children: list[Trial] = []

    @property
    def population(self) -> tuple[Trial, ...]:
        """The trials that are parents now, best first; empty in the first generation."""
        return tuple(self._parents)

    def ask(self) -> Proposal | None:
        """Return a random model in the first generation, then a child of two tournaments."""
        select = self._select if self._parents else None
        return self._breeder.proposal(self._memory, select, self._fidelity)

    def tell(self, trial: Trial) -> None:
        """Count a trial with all objectives as a child; enough of them make a generation."""
        self._memory.tell(trial)
        if trial.state is not State.DONE or not all(map(isfinite, _losses(self._study, trial))):
            return
        self._children.append(trial)
        if len(self._children) == self._size:
            ranked = list(self._ranked([*self._parents, *self._children]))
            self._parents = [survivor for survivor, _ in ranked]
            self._standings = [standing for _, standing in ranked]
            self._children = []

    def _ranked(self, rivals: Sequence[Trial]) -> Iterator[tuple[Trial, tuple[int, float]]]:
        """The survivors, best first, with how they stand: front, and crowding (less is lonelier).

        Sorting by both is the crowded-comparison order of section III-B.
        """
        left = self._size
        for place, front in enumerate(constrained_fronts(self._study, rivals)):
            crowding = crowding_distance([_losses(self._study, trial) for trial in front])
            lonely_first = (-crowding).argsort(kind="stable")[:left]
            yield from ((front[i], (place, -float(crowding[i]))) for i in lonely_first)
            left -= len(lonely_first)
            if not left:
                return

    def _select(self, random: Random) -> Trial:
        one, other = random.sample(range(self._size), 2)
        return self._parents[one if self._standings[one] <= self._standings[other] else other]


def constrained_fronts(study: Study, trials: Sequence[Trial]) -> list[list[Trial]]:
    """Sort trials into fronts by constrained domination (section VI, Definition 1).

    Feasible trials dominate infeasible ones, and one another as usual; of infeasible ones, those
    that break the constraints less dominate, whatever their objectives.

    Args:
        study: its objectives and constraints are used.
        trials: they are done and have all objectives.

    Returns:
        The fronts, best first; in each the order of `trials` is kept.
    """
    broken = {trial.number: violation(study, trial) for trial in trials}
    feasible = [trial for trial in trials if broken[trial.number] == 0]
    losses = [_losses(study, trial) for trial in feasible]
    fronts = nondominated_fronts(losses) if losses else []
    infeasible = sorted(
        (trial for trial in trials if broken[trial.number] > 0), key=lambda t: broken[t.number]
    )
    return [
        *([feasible[i] for i in front] for front in fronts),
        *(list(group) for _, group in groupby(infeasible, key=lambda t: broken[t.number])),
    ]


def _losses(study: Study, trial: Trial) -> tuple[float, ...]:
    """One loss per objective, of infeasible trials too."""
    return tuple(objective.loss(trial) for objective in study.objectives)
