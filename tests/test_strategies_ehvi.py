from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space, Strategy
from parti.core.study import Budget, Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import architectures, sample
from parti.strategies.ehvi import ExpectedHypervolume, reference_point
from parti.strategies.models.improvement import (
    boxes,
    expected_hypervolume,
    expected_improvement,
    sampled_hypervolume,
)
from parti.strategies.parego import ParEGO, random_weights, tchebycheff
from parti.strategies.pareto import hypervolume, nondominated
from parti.strategies.random_search import RandomSearch
from parti.testing import SPACES, Landscape, StrategySuite

Floats = NDArray[np.float64]


class TestExpectedHypervolume(StrategySuite):
    trials = 16

    def make(self, space: Space, study: Study) -> Strategy:
        return ExpectedHypervolume(space, study, first=6, batch=2, pool=30)


class TestParEGO(StrategySuite):
    trials = 16

    def make(self, space: Space, study: Study) -> Strategy:
        return ParEGO(space, study, first=6, batch=2, pool=30)


def case(objectives: int, seed: int = 0) -> tuple[Floats, Floats, Floats, Floats]:
    """Losses, reference, and means and deviations of candidates around them."""
    rng = np.random.default_rng(seed)
    losses = rng.uniform(size=(12, objectives))
    means = rng.uniform(-0.2, 1.1, size=(8, objectives))
    deviations = rng.uniform(0.05, 0.4, size=(8, objectives))
    return losses, np.full(objectives, 1.05), means, deviations


def gain(losses: Floats, reference: Floats, new: Floats) -> float:
    """By how much one more point enlarges the hypervolume."""
    return hypervolume(np.vstack([losses, new]), reference) - hypervolume(losses, reference)


class TestBoxes:
    @pytest.mark.parametrize("objectives", [1, 2, 3, 4])
    @settings(max_examples=25, deadline=None)
    @given(data=st.data())
    def test_fill_what_the_front_leaves(self, objectives: int, data: st.DataObject) -> None:
        """Of the unit cube: what is dominated and what is free add up to all of it."""
        coordinate = st.sampled_from([0.1, 0.2, 0.4, 0.4, 0.7, 0.9, 1.0, 1.3])
        row = st.lists(coordinate, min_size=objectives, max_size=objectives)
        losses = np.array(data.draw(st.lists(row, min_size=1, max_size=8)))
        free = boxes(losses, np.ones(objectives))
        volume = np.prod(free.upper - np.maximum(free.lower, 0.0), axis=1).sum()
        assert volume == pytest.approx(1 - hypervolume(losses, np.ones(objectives)))

    def test_of_two_objectives_are_the_steps_of_a_staircase(self) -> None:
        free = boxes(np.array([[1.0, 3.0], [2.0, 1.0]]), np.array([4.0, 4.0]))
        assert free.upper.tolist() == [[4, 1], [2, 3], [1, 4]]
        assert free.lower[:, 1].tolist() == [-np.inf, 1, 3]

    def test_without_a_front_are_one(self) -> None:
        assert boxes(np.empty((0, 3)), np.ones(3)).upper.tolist() == [[1, 1, 1]]


class TestTheExpectation:
    def test_of_one_objective_is_the_expected_improvement(self) -> None:
        losses, reference, means, deviations = case(1)
        found = expected_hypervolume(boxes(losses, reference), means, deviations)
        expected = expected_improvement(losses.min(), means[:, 0], deviations[:, 0])
        np.testing.assert_allclose(found, expected)

    @pytest.mark.parametrize("objectives", [2, 3])
    def test_is_the_mean_gain_of_draws(self, objectives: int) -> None:
        losses, reference, means, deviations = case(objectives)
        front = losses[nondominated(losses)]
        exact = expected_hypervolume(boxes(losses, reference), means, deviations)
        rng = np.random.default_rng(1)
        for place in np.argsort(exact)[-3:]:
            draws = rng.normal(means[place], deviations[place], size=(1500, objectives))
            gains = [gain(front, reference, draw) for draw in draws]
            error = np.std(gains) / np.sqrt(len(gains))
            assert exact[place] == pytest.approx(np.mean(gains), abs=4 * error)
            assert exact[place] > 10 * error

    @pytest.mark.parametrize("objectives", [2, 3, 4])
    def test_without_uncertainty_is_the_gain(self, objectives: int) -> None:
        losses, reference, means, deviations = case(objectives, seed=2)
        found = expected_hypervolume(boxes(losses, reference), means, deviations * 1e-9)
        expected = [gain(losses, reference, mean) for mean in means]
        np.testing.assert_allclose(found, expected, atol=1e-7)

    @pytest.mark.parametrize("objectives", [1, 2, 3, 4])
    def test_can_be_sampled(self, objectives: int) -> None:
        losses, reference, means, deviations = case(objectives, seed=3)
        exact = expected_hypervolume(boxes(losses, reference), means, deviations)
        rng = np.random.default_rng(0)
        sampled = sampled_hypervolume(losses, reference, means, deviations, rng, samples=200_000)
        np.testing.assert_allclose(sampled, exact, rtol=0.1, atol=0.02 * exact.max())

    def test_grows_with_uncertainty(self) -> None:
        losses, reference, means, deviations = case(2)
        free = boxes(losses, reference)
        worse = np.full_like(means, 0.95)
        small = expected_hypervolume(free, worse, deviations)
        assert (expected_hypervolume(free, worse, 2 * deviations) > small).all()

    def test_many_candidates_are_treated_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        losses, reference, means, deviations = case(3)
        free = boxes(losses, reference)
        whole = expected_hypervolume(free, means, deviations)
        monkeypatch.setattr("parti.strategies.models.improvement.CHUNK", 3)
        np.testing.assert_array_equal(expected_hypervolume(free, means, deviations), whole)


class TestReference:
    def test_is_a_tenth_beyond_the_front(self) -> None:
        losses = np.array([[0.0, 10.0], [2.0, 0.0], [50.0, 50.0]])
        np.testing.assert_allclose(reference_point(losses), [2.2, 11])

    def test_of_a_single_point_follows_all_losses(self) -> None:
        np.testing.assert_allclose(reference_point(np.array([[0.0, 1.0], [5.0, 1.0]])), [0.5, 1.1])

    @pytest.mark.parametrize("reference", [(1.0,), (1.0, np.inf)])
    def test_must_fit_the_objectives(self, reference: tuple[float, ...]) -> None:
        with pytest.raises(InvalidSettings, match="finite loss for each"):
            ExpectedHypervolume(SPACES["wide"], two_objectives(), reference=reference)


class TestParEGOsParts:
    def test_weights_are_all_those_of_the_lattice(self) -> None:
        random = Random(0)
        drawn = Counter(tuple(random_weights(3, 4, random)) for _ in range(6000))
        assert len(drawn) == 15  # 4 + 2 over 2
        assert all(sum(weights) == pytest.approx(1) for weights in drawn)
        assert min(drawn.values()) > 300
        assert random_weights(1, 10, random).tolist() == [1]

    def test_the_largest_weighted_loss_counts(self) -> None:
        losses = np.array([[0.2, 0.8], [1.0, 0.0], [0.5, np.inf]])
        found = tchebycheff(losses, np.array([0.5, 0.5]), 0.05)
        np.testing.assert_allclose(found, [0.4 + 0.05 * 0.5, 0.5 + 0.05 * 0.5, np.inf])

    def test_a_dent_in_the_front_is_found(self) -> None:
        """No weighted sum prefers the middle point, though nothing dominates it."""
        losses = np.array([[0.0, 1.0], [0.6, 0.6], [1.0, 0.0]])
        weights = np.array([0.5, 0.5])
        assert tchebycheff(losses, weights, 0.05).argmin() == 1
        assert (losses @ weights).argmin() != 1

    def test_settings_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="divisions"):
            ParEGO(SPACES["wide"], two_objectives(), divisions=0)


def two_objectives(at_most: float | None = None, seed: int = 0) -> Study:
    limits = () if at_most is None else (Constraint("cost", at_most=at_most),)
    objectives = (Objective("score", "min"), Objective("other", "max"))
    return Study("two", objectives, limits, Budget(), seed)


def metrics(architecture: Architecture) -> dict[str, float]:
    return {
        "score": Landscape(1).score(architecture),
        "other": -Landscape(2).score(architecture),
        "cost": float(len(architecture)),
    }


def played(strategy: Strategy, trials: int, *, rejects: float = np.inf) -> list[Trial]:
    """Search without a loop; what costs more than `rejects` is rejected with its cost alone."""
    found = []
    for number in range(trials):
        proposal = strategy.ask()
        assert proposal is not None
        known = metrics(proposal.architecture)
        state = State.REJECTED if known["cost"] > rejects else State.DONE
        if state is State.REJECTED:
            known = {"cost": known["cost"]}
        found.append(Trial(number, proposal, state, (Measurement(known),)))
        strategy.tell(found[-1])
    return found


def volume(study: Study, trials: list[Trial]) -> float:
    losses = [study.losses(trial) for trial in trials if study.feasible(trial)]
    return hypervolume(losses, [0.6, 0.6])


@pytest.mark.parametrize("strategy", [ExpectedHypervolume, ParEGO])
class TestTheStrategies:
    def test_dominate_more_than_random_search(self, strategy: type) -> None:
        for seed in range(2):
            study = two_objectives(seed=seed)
            reached = volume(study, played(strategy(SPACES["wide"], study), 60))
            random = volume(study, played(RandomSearch(SPACES["wide"], study), 60))
            assert reached > 1.05 * random

    def test_learn_what_is_allowed(self, strategy: type) -> None:
        """From rejected trials too, which have no objective."""
        members = [len(a) for a in architectures(SPACES["conditional"])]
        limit = float(np.quantile(members, 0.3))
        study = two_objectives(at_most=limit)
        trials = played(strategy(SPACES["conditional"], study, batch=2), 40, rejects=limit)
        first = next(n for n in range(40) if sum(t.state is State.DONE for t in trials[:n]) == 10)
        done = [trial.state is State.DONE for trial in trials[first:]]
        assert sum(done) >= 0.8 * len(done)

    def test_find_what_is_allowed_though_hardly_anything_is(self, strategy: type) -> None:
        """33 of 3,870 architectures cost at most 5."""
        study = two_objectives(at_most=5)
        trials = played(strategy(SPACES["conditional"], study), 35)
        allowed = [study.feasible(trial) for trial in trials]
        assert sum(allowed[10:]) >= 10

    def test_work_with_a_single_objective(self, strategy: type) -> None:
        study = Study("one", (Objective("score", "min"),))
        random = Random(0)
        best = min(Landscape(1).score(sample(SPACES["wide"], random)) for _ in range(60))
        trials = played(strategy(SPACES["wide"], study, batch=4), 60)
        assert min(trial.metrics["score"] for trial in trials) < best


def test_more_than_three_objectives_are_sampled() -> None:
    names = [f"m{i}" for i in range(4)]
    study = Study("four", tuple(Objective(name, "min") for name in names))
    asked = []
    for _ in range(2):
        strategy = ExpectedHypervolume(SPACES["conditional"], study, first=6, pool=20)
        random = Random(0)
        for number in range(8):
            values = {name: random.random() for name in names}
            proposal = Proposal(sample(SPACES["conditional"], random))
            strategy.tell(Trial(number, proposal, State.DONE, (Measurement(values),)))
        asked.append(strategy.ask())
    assert asked[0] is not None
    assert asked[0] == asked[1]
