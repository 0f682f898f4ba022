"""Genetic algorithm.

Holland, "Adaptation in Natural and Artificial Systems", University of Michigan Press, 1975;
Goldberg, "Genetic Algorithms in Search, Optimization, and Machine Learning", Addison-Wesley, 1989.
For architectures: Xie and Yuille, "Genetic CNN", ICCV 2017, Algorithm 1 (binary encoding, roulette
on the distance to the worst); Sun, Xue, Zhang, Yen, Lv, "Automatically Designing CNN Architectures
Using the Genetic Algorithm for Image Classification", IEEE Transactions on Cybernetics 50(9), 2020,
Algorithms 1, 3 and 4 (binary tournament, one-point crossover, elitism), whose population (20),
crossover rate (0.9), selection and crossover are the defaults.

Departures: a generation is complete when enough children are done, whichever they are, so that
workers never wait: failed and rejected ones are bred anew, and one that ends late counts for the
next generation. Of the two children of a crossover one is kept. A child that is known already is
bred again, since training it again would tell nothing. One gene in a child mutates on average
(Sun et al. mutate a child with probability 0.2, by their own three kinds of mutation). The best
parent survives beside the children (De Jong 1975); Sun et al. let parents and children compete.
Constraints: infeasible models lose against feasible ones (Deb, "An Efficient Constraint Handling
Method for Genetic Algorithms", Computer Methods in Applied Mechanics and Engineering 186, 2000).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Literal

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space
from parti.core.study import Study
from parti.core.trial import Proposal, State, Trial
from parti.strategies.breeding import Breeder, Encoding
from parti.strategies.memory import Memory
from parti.strategies.ranking import rank

__all__ = ["GeneticAlgorithm"]

SELECTIONS = ("tournament", "roulette", "rank")


class GeneticAlgorithm:
    """Breed every generation from the better models of the one before.

    Args:
        space: what is searched.
        study: its first objective is optimized; its seed and constraints are used.
        population: number of models in a generation (N).
        encoding: "integer": a gene is a decision; "binary": a bit of the number of its option;
            "gray": the same in Gray code.
        selection: of parents. "tournament": the best of a few drawn with replacement; "roulette":
            with chances in proportion to how much better they are than the worst; "rank": with
            chances that fall evenly from the best to the worst.
        tournament: number of models that compete in a tournament.
        crossover: "one-point", "two-point" or "uniform".
        crossover_rate: chance that a child has two parents (p_c).
        mutation_rate: chance of every gene to change (p_m); None: one gene of a child on average.
        elitism: number of the best models that survive into the next generation as they are.
        fidelity: how much to spend on each, None for the evaluator's default.

    Raises:
        InvalidSettings: a name is unknown, a rate is not between 0 and 1, a size is less than 1,
            or elitism leaves no room for children.
    """

    def __init__(
        self,
        space: Space,
        study: Study,
        *,
        population: int = 20,
        encoding: Encoding = "integer",
        selection: Literal["tournament", "roulette", "rank"] = "tournament",
        tournament: int = 2,
        crossover: Literal["one-point", "two-point", "uniform"] = "one-point",
        crossover_rate: float = 0.9,
        mutation_rate: float | None = None,
        elitism: int = 1,
        fidelity: int | None = None,
    ) -> None:
        if selection not in SELECTIONS:
            raise InvalidSettings(f"selection {selection!r} is not one of {list(SELECTIONS)}")
        if tournament < 1 or population < 1 or not 0 <= elitism < population:
            raise InvalidSettings(
                f"population {population}, tournament {tournament}, elitism {elitism}: the first "
                "two must be at least 1, and fewer models survive than there are"
            )
        self._study = study
        self._size = population
        self._selection = selection
        self._tournament = tournament
        self._elitism = elitism
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
        self._weights: list[float] = []
        self._children: list[Trial] = []

    @property
    def population(self) -> tuple[Trial, ...]:
        """The trials that are parents now, best first; empty in the first generation."""
        return tuple(self._parents)

    def ask(self) -> Proposal | None:
        """Return a random model in the first generation, then a child of the last one."""
        select = self._select if self._parents else None
        return self._breeder.proposal(self._memory, select, self._fidelity)

    def tell(self, trial: Trial) -> None:
        """Count a trial that is done as a child; enough of them are the next generation."""
        self._memory.tell(trial)
        if trial.state is not State.DONE:
            return
        self._children.append(trial)
        elite = self._parents[: self._elitism]
        if len(elite) + len(self._children) < self._size:
            return
        self._parents = sorted([*elite, *self._children], key=lambda t: rank(self._study, t))
        self._weights = self._chances()
        self._children = []

    def _select(self, random: Random) -> Trial:
        if self._selection == "tournament":
            # The parents are sorted: the first of those drawn is the best.
            drawn = min(int(random.random() * self._size) for _ in range(self._tournament))
            return self._parents[drawn]
        return random.choices(self._parents, self._weights)[0]

    def _chances(self) -> list[float]:
        if self._selection == "rank":
            return [float(self._size - place) for place in range(self._size)]
        return fitnesses([rank(self._study, trial) for trial in self._parents])


def fitnesses(ranks: Sequence[tuple[float, float]]) -> list[float]:
    """Return how much better each model is than the worst, all equal when none is.

    Infeasible models are as bad as the worst feasible one, and worse by how far they break the
    constraints (Deb 2000, equation 4). What was not measured has fitness 0.

    Args:
        ranks: violation and loss of each model.
    """
    feasible = [loss for violation, loss in ranks if violation == 0 and math.isfinite(loss)]
    floor = max(feasible, default=0.0)
    losses = [loss if violation == 0 else floor + violation for violation, loss in ranks]
    worst = max(filter(math.isfinite, losses), default=0.0)
    found = [worst - loss if math.isfinite(loss) else 0.0 for loss in losses]
    return found if any(found) else [1.0] * len(ranks)
