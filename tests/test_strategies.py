from collections import Counter
from random import Random

import pytest

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space, Strategy
from parti.core.study import Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import architectures, distance, sample
from parti.loop import search
from parti.strategies.listed import Listed
from parti.strategies.random_search import RandomSearch
from parti.strategies.regularized_evolution import RegularizedEvolution
from parti.testing import SPACES, Landscape, StrategySuite, toy_study


class TestRandomSearch(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return RandomSearch(space, study)


class TestRegularizedEvolution(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return RegularizedEvolution(space, study, population=6, tournament=3)


def told(strategy: Strategy, scores: list[float], space: str = "wide") -> list[Trial]:
    random = Random(3)
    trials = [
        Trial(n, Proposal(sample(SPACES[space], random)), State.DONE, (Measurement({"score": s}),))
        for n, s in enumerate(scores)
    ]
    for trial in trials:
        strategy.tell(trial)
    return trials


class TestFactsOfRegularizedEvolution:
    def test_the_oldest_dies_even_when_it_is_the_best(self) -> None:
        strategy = RegularizedEvolution(SPACES["wide"], toy_study(), population=3, tournament=2)
        told(strategy, [0.0, 0.5, 0.6, 0.7])
        assert [t.number for t in strategy.population] == [1, 2, 3]

    def test_the_best_of_the_tournament_is_the_parent(self) -> None:
        strategy = RegularizedEvolution(SPACES["wide"], toy_study(), population=4, tournament=200)
        trials = told(strategy, [0.4, 0.1, 0.2, 0.3])
        proposal = strategy.ask()
        assert proposal is not None
        assert proposal.parents == (1,)
        assert distance(proposal.architecture, trials[1].architecture) == 1

    def test_a_tournament_of_one_draws_any_parent(self) -> None:
        parents = Counter()
        for seed in range(60):
            study = toy_study(seed=seed)
            strategy = RegularizedEvolution(SPACES["wide"], study, population=4, tournament=1)
            told(strategy, [0.4, 0.1, 0.2, 0.3])
            proposal = strategy.ask()
            assert proposal is not None
            parents[proposal.parents[0]] += 1
        assert set(parents) == {0, 1, 2, 3}

    def test_the_population_begins_at_random(self) -> None:
        study = toy_study()
        strategy = RegularizedEvolution(SPACES["wide"], study, population=5, tournament=2)
        trials = search(study, strategy, Landscape())
        assert [bool(t.proposal.parents) for t in trials[:7]] == [False] * 5 + [True] * 2

    def test_what_keeps_to_the_constraints_wins_over_what_does_not(self) -> None:
        study = toy_study(at_most=1.0)
        strategy = RegularizedEvolution(SPACES["wide"], study, population=2, tournament=100)
        random = Random(0)
        for n, (score, cost) in enumerate([(0.1, 5.0), (0.9, 0.5)]):
            measured = (Measurement({"score": score, "cost": cost}),)
            proposal = Proposal(sample(SPACES["wide"], random))
            strategy.tell(Trial(n, proposal, State.DONE, measured))
        proposal = strategy.ask()
        assert proposal is not None
        assert proposal.parents == (1,)

    def test_it_beats_random_search_on_a_smooth_landscape(self) -> None:
        def best(make, seed: int) -> float:
            study = toy_study(trials=150, seed=seed)
            trials = search(study, make(SPACES["wide"], study), Landscape(seed))
            return min(t.metrics["score"] for t in trials)

        def evolution(space: Space, study: Study) -> Strategy:
            return RegularizedEvolution(space, study, population=20, tournament=5)

        wins = sum(best(evolution, seed) < best(RandomSearch, seed) for seed in range(8))
        assert wins == 8

    @pytest.mark.parametrize(("population", "tournament"), [(0, 1), (1, 0)])
    def test_sizes_are_checked(self, population: int, tournament: int) -> None:
        with pytest.raises(InvalidSettings, match="at least 1"):
            RegularizedEvolution(
                SPACES["wide"], toy_study(), population=population, tournament=tournament
            )


def test_uniform_over_architectures_differs_from_uniform_picks() -> None:
    # `skip` opens no choice, `conv` opens three options: over architectures it is rarer.
    counts = {}
    for uniform in ("pick", "architecture"):
        random = Random(0)
        drawn = [sample(SPACES["conditional"], random, uniform=uniform) for _ in range(3000)]
        counts[uniform] = sum(a["body/depth[0]/op"] == "skip" for a in drawn) / 3000
    members = list(architectures(SPACES["conditional"]))
    exact = sum(a["body/depth[0]/op"] == "skip" for a in members) / len(members)
    assert counts["pick"] == pytest.approx(1 / 3, abs=0.03)
    assert counts["architecture"] == pytest.approx(exact, abs=0.03)
    assert exact < 0.25


def test_listed_proposes_its_list_once() -> None:
    proposals = [Proposal(a) for a in architectures(SPACES["tiny"])]
    study = toy_study(trials=None)
    trials = search(study, Listed(proposals), Landscape())
    assert [t.proposal for t in trials] == proposals
