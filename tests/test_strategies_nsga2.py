from collections.abc import Iterator
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from parti.core.errors import InvalidSettings
from parti.core.program import space
from parti.core.protocols import Space, Strategy
from parti.core.study import Budget, Constraint, Objective, Study
from parti.core.trial import Job, Measurement, Proposal, State, Trial
from parti.core.walks import sample
from parti.core.words import choose
from parti.loop import search
from parti.strategies.nsga2 import NSGA2, constrained_fronts
from parti.strategies.pareto import (
    crowding_distance,
    hypervolume,
    nondominated,
    nondominated_fronts,
)
from parti.strategies.random_search import RandomSearch
from parti.testing import SPACES, StrategySuite, toy_study

INF = float("inf")


def matrices(most: int = 12, objectives: int = 4, highest: int = 5) -> st.SearchStrategy:
    """Few different values, so that ties and equal points are common."""
    shapes = st.tuples(st.integers(0, most), st.integers(1, objectives))
    values = st.integers(0, highest).map(float)
    return shapes.flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=values))


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one <= other).all() and (one < other).any())


class TestFronts:
    @settings(deadline=None)
    @given(matrices())
    def test_the_nondominated_are_those_that_nothing_dominates(self, losses: np.ndarray) -> None:
        expected = [not any(dominates(b, a) for b in losses) for a in losses]
        assert nondominated(losses).tolist() == expected

    @settings(deadline=None)
    @given(matrices())
    def test_fronts_are_peeled_off_one_by_one(self, losses: np.ndarray) -> None:
        left = list(range(len(losses)))
        for front in nondominated_fronts(losses):
            peeled = [i for i in left if not any(dominates(losses[j], losses[i]) for j in left)]
            assert front.tolist() == peeled
            left = [i for i in left if i not in peeled]
        assert left == []

    def test_one_objective_sorts(self) -> None:
        fronts = nondominated_fronts([[3], [1], [2], [1]])
        assert [front.tolist() for front in fronts] == [[1, 3], [2], [0]]

    def test_infinite_losses_are_dominated(self) -> None:
        assert nondominated([[1, INF], [1, 2], [INF, INF]]).tolist() == [False, True, False]

    @pytest.mark.parametrize("losses", [[1.0, 2.0], [[]], [[float("nan"), 1.0]]])
    def test_losses_are_checked(self, losses: list) -> None:
        for function in (nondominated, nondominated_fronts, crowding_distance):
            with pytest.raises(InvalidSettings, match=r"losses (have shape|hold NaN)"):
                function(losses)


class TestCrowding:
    def test_it_sums_the_relative_gaps_between_neighbours(self) -> None:
        # Between (0, 10) and (4, 3): 4 of 10 in one objective and 7 of 10 in the other.
        losses = [[4, 3], [0, 10], [10, 0], [1, 8]]
        assert crowding_distance(losses) == pytest.approx([0.9 + 0.8, INF, INF, 0.4 + 0.7])

    def test_an_objective_in_which_all_are_equal_says_nothing(self) -> None:
        assert crowding_distance([[1, 0], [1, 0], [1, 0]]).tolist() == [0, 0, 0]
        assert crowding_distance([[7, 0], [7, 1], [7, 4]]).tolist() == [INF, 1.0, INF]

    def test_infinity_is_refused(self) -> None:
        with pytest.raises(InvalidSettings, match="finite"):
            crowding_distance([[INF, 1.0]])


class TestHypervolume:
    def counted(self, losses: np.ndarray, reference: int) -> int:
        """Unit cells that are dominated."""
        cells = product(range(reference), repeat=losses.shape[1])
        return sum(bool((losses <= cell).all(axis=1).any()) for cell in cells)

    @settings(deadline=None)
    @given(matrices(most=10))
    def test_it_counts_the_cells_of_a_grid(self, losses: np.ndarray) -> None:
        found = hypervolume(losses, [5] * losses.shape[1])
        assert found == pytest.approx(self.counted(losses, 5))

    def test_a_simplex(self) -> None:
        # Points x + y + z = n on the grid, against the sum over the layers below.
        n = 12
        points = [(x, y, n - x - y) for x in range(n + 1) for y in range(n + 1 - x)]
        above = sum(x + y + z >= n for x, y, z in product(range(n + 1), repeat=3))
        assert hypervolume(points, [n + 1] * 3) == above

    def test_points_beyond_the_reference_add_nothing(self) -> None:
        assert hypervolume([[1, 1], [0, 5], [INF, 0]], [3, 3]) == 4
        assert hypervolume([[3, 0]], [3, 3]) == 0
        assert hypervolume(np.empty((0, 3)), [1, 1, 1]) == 0

    @pytest.mark.parametrize("objectives", [2, 3, 4])
    def test_five_hundred_points_agree_with_chance(self, objectives: int) -> None:
        random = np.random.default_rng(0)
        sides = np.abs(random.normal(size=(500, objectives)))
        front = 1 - sides / np.linalg.norm(sides, axis=1, keepdims=True)
        throws = random.random((4000, objectives))
        hit = (front[None] <= throws[:, None]).all(axis=-1).any(axis=1).mean()
        assert hypervolume(front, np.ones(objectives)) == pytest.approx(hit, abs=0.03)

    def test_the_arguments_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="2 objectives"):
            hypervolume([[1, 2]], [3, 3, 3])
        with pytest.raises(InvalidSettings, match="finite"):
            hypervolume([[1, 2]], [3, INF])
        with pytest.raises(InvalidSettings, match="-infinity"):
            hypervolume([[-INF, 2]], [3, 3])


class TestNSGA2(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return NSGA2(space, study, population=4)


class TestNSGA2OfTwoObjectives(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        both = (*study.objectives, Objective("cost", "min"))
        return NSGA2(space, Study("two", both, study.constraints, seed=study.seed), population=5)


@space
def genes() -> list[int]:
    return [choose(f"x{i}", list(range(11))) for i in range(10)]


class Zdt1:
    """ZDT1 (Zitzler, Deb, Thiele 2000) on a grid: the front is f2 = 1 - sqrt(f1), where g = 1."""

    provides = frozenset({"f1", "f2"})

    def __call__(self, job: Job) -> Iterator[Measurement]:
        first, *rest = (float(option) / 10 for option in job.architecture.values())
        g = 1 + 9 * sum(rest) / len(rest)
        yield Measurement({"f1": first, "f2": g * (1 - (first / g) ** 0.5)})


def two(seed: int = 0, trials: int = 400) -> Study:
    goals = (Objective("f1", "min"), Objective("f2", "min"))
    return Study("two", goals, budget=Budget(trials=trials), seed=seed)


def done(number: int, metrics: dict[str, float]) -> Trial:
    proposal = Proposal(sample(SPACES["wide"], Random(number)))
    return Trial(number, proposal, State.DONE, (Measurement(metrics),))


class TestFactsOfNSGA2:
    def test_survivors_are_the_better_fronts_then_the_lonelier(self) -> None:
        strategy = NSGA2(SPACES["wide"], two(), population=4)
        for number, (f1, f2) in enumerate([(5, 5), (6, 6), (7, 7), (8, 8)]):
            strategy.tell(done(number, {"f1": f1, "f2": f2}))
        assert [t.number for t in strategy.population] == [0, 1, 2, 3]
        # Number 0 is in one front with the first three of these, which fill the population.
        for number, (f1, f2) in enumerate([(0, 10), (10, 0), (2, 7), (9, 9)], start=4):
            strategy.tell(done(number, {"f1": f1, "f2": f2}))
        assert {t.number for t in strategy.population} == {0, 4, 5, 6}
        # The front has six now; close to number 0 it is crowded.
        for number, (f1, f2) in enumerate([(4.9, 5.2), (12, 12), (4.8, 5.3), (13, 13)], start=8):
            strategy.tell(done(number, {"f1": f1, "f2": f2}))
        assert {t.number for t in strategy.population} == {0, 4, 5, 6}

    def test_parents_survive_better_than_worse_children(self) -> None:
        strategy = NSGA2(SPACES["wide"], two(), population=2)
        for number, f in enumerate([2.0, 1.0, 5.0, 1.5]):
            strategy.tell(done(number, {"f1": f, "f2": f}))
        assert [t.number for t in strategy.population] == [1, 3]

    def test_tournaments_are_won_by_front_then_by_loneliness(self) -> None:
        strategy = NSGA2(SPACES["wide"], two(), population=4)
        for number, f in enumerate([(0, 4), (2, 2.1), (4, 0), (5, 5)]):
            strategy.tell(done(number, {"f1": f[0], "f2": f[1]}))
        random = Random(0)
        drawn = [strategy._select(random).number for _ in range(3000)]
        assert drawn.count(3) == 0  # it loses against anyone
        # Number 1 wins against 3 alone: one of the six pairs.
        assert drawn.count(1) / 3000 == pytest.approx(1 / 6, abs=0.03)

    def test_constrained_domination(self) -> None:
        goals = (Objective("f1", "min"), Objective("f2", "min"))
        study = Study("limited", goals, (Constraint("cost", at_most=1.0),))
        trials = [
            done(0, {"f1": 0, "f2": 0, "cost": 3.0}),
            done(1, {"f1": 9, "f2": 9, "cost": 1.5}),
            done(2, {"f1": 5, "f2": 5, "cost": 1.0}),
            done(3, {"f1": 6, "f2": 4, "cost": 0.0}),
            done(4, {"f1": 7, "f2": 7, "cost": 0.5}),
            done(5, {"f1": 1, "f2": 8, "cost": 1.5}),
            done(6, {"f1": 0, "f2": 0}),
        ]
        fronts = [[t.number for t in front] for front in constrained_fronts(study, trials)]
        assert fronts == [[2, 3], [4], [1, 5], [0], [6]]

    def test_trials_without_all_objectives_are_in_no_generation(self) -> None:
        strategy = NSGA2(SPACES["wide"], two(), population=2)
        strategy.tell(done(0, {"f1": 1.0}))
        strategy.tell(done(1, {"f1": 1.0, "f2": 3.0}))
        assert strategy.population == ()
        strategy.tell(done(2, {"f1": 2.0, "f2": 1.0}))
        assert {t.number for t in strategy.population} == {1, 2}

    def test_with_one_objective_the_best_survive(self) -> None:
        strategy = NSGA2(SPACES["wide"], toy_study(), population=3)
        for number, score in enumerate([0.5, 0.4, 0.3, 0.9, 0.1, 0.2]):
            strategy.tell(done(number, {"score": score}))
        assert [t.number for t in strategy.population] == [4, 5, 2]

    def test_it_covers_more_of_zdt1_than_random_search(self) -> None:
        def volume(make: type, seed: int) -> float:
            study = two(seed)
            trials = search(study, make(genes, study), Zdt1())
            return hypervolume([study.losses(t) for t in trials], [1.0, 6.0])

        for seed in range(3):
            # The whole front would give about 5.6.
            assert volume(NSGA2, seed) > volume(RandomSearch, seed) + 0.5

    def test_it_finds_most_of_the_front_of_zdt1(self) -> None:
        study = two(trials=1500)
        trials = search(study, NSGA2(genes, study, population=30), Zdt1())
        front = {t.metrics["f1"] for t in trials if not any(list(t.architecture.values())[1:])}
        assert len(front) >= 9  # of 11

    def test_settings_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="at least 2"):
            NSGA2(genes, two(), population=1)
        with pytest.raises(InvalidSettings, match="between 0 and 1"):
            NSGA2(genes, two(), crossover_rate=2.0)
