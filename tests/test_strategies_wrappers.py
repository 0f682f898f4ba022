import math
from collections import Counter
from random import Random

import pytest

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space, Strategy
from parti.core.study import Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import architectures, distance, sample
from parti.loop import search
from parti.strategies.asha import ASHA
from parti.strategies.hyperband import Hyperband
from parti.strategies.listed import Listed
from parti.strategies.random_search import RandomSearch
from parti.strategies.regularized_evolution import RegularizedEvolution
from parti.strategies.successive_halving import SuccessiveHalving
from parti.strategies.tpe import TPE
from parti.strategies.wrappers import Distinct, Screened, WarmStarted
from parti.testing import SPACES, Landscape, StrategySuite, toy_study

WIDE = SPACES["wide"]


class Forgetful:
    """Somebody's strategy that repeats itself: one of two architectures, for ever."""

    def __init__(self, space: Space, stubborn: bool = True) -> None:
        self.space = space
        self.known: set[int] = set()
        self.drawn = 0
        self.stubborn = stubborn

    def ask(self) -> Proposal | None:
        self.drawn += not self.stubborn
        return Proposal(sample(self.space, Random((len(self.known) + self.drawn) % 2)))

    def tell(self, trial: Trial) -> None:
        self.known.add(trial.number)


def score(architecture: Architecture) -> float:
    return -Landscape().score(architecture)


class TestDistinct(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Distinct(Forgetful(space), space, study)


class TestScreenedEvolution(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        evolution = RegularizedEvolution(space, study, population=6, tournament=3)
        return Screened(evolution, space, study, score, pool=20, keep=4)


class TestScreenedHyperband(StrategySuite):
    fidelities = (1, 3, 9)

    def make(self, space: Space, study: Study) -> Strategy:
        hyperband = Hyperband(space, study, max_fidelity=9)
        return Screened(hyperband, space, study, score, alternatives="samples")


class TestWarmStarted(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        earlier = toy_study("earlier", trials=12, seed=1)
        trials = search(earlier, RandomSearch(space, earlier), Landscape(1))
        evolution = RegularizedEvolution(space, study, population=6, tournament=3)
        return WarmStarted(evolution, space, study, trials, mode="propose", best=5)


class TestWhatDistinctDoes:
    def test_a_repetition_becomes_its_mutant(self) -> None:
        strategy = Distinct(Forgetful(WIDE), WIDE, toy_study())
        proposals = []
        for number in range(6):
            proposals.append(strategy.ask())
            strategy.tell(Trial(number, proposals[-1], State.DONE))
        wanted = [sample(WIDE, Random(number % 2)) for number in range(6)]
        apart = [distance(p.architecture, w) for p, w in zip(proposals, wanted, strict=True)]
        assert apart == [0, 0, 1, 1, 1, 1]

    def test_who_draws_anew_is_asked_again(self) -> None:
        strategy = Distinct(Forgetful(WIDE, stubborn=False), WIDE, toy_study())
        first = strategy.ask()
        strategy.tell(Trial(0, first, State.DONE))
        second = strategy.ask()
        assert {first.architecture, second.architecture} == {
            sample(WIDE, Random(seed)) for seed in (0, 1)
        }

    def test_a_strategy_that_does_not_repeat_is_left_alone(self) -> None:
        study = toy_study(trials=60)
        for make in (Hyperband, ASHA, RandomSearch):
            plain = search(study, make(SPACES["conditional"], study), Landscape())
            strategy = Distinct(make(SPACES["conditional"], study), SPACES["conditional"], study)
            assert search(study, strategy, Landscape()) == plain

    def test_it_ends_with_the_inner_strategy(self) -> None:
        study = toy_study(trials=None)
        members = [Proposal(a) for a in architectures(SPACES["tiny"])][:2]
        twice = Listed([*members, *members])
        trials = search(study, Distinct(twice, SPACES["tiny"], study), Landscape())
        assert len(trials) == len({t.architecture for t in trials}) == 3
        one = search(study, Distinct(Listed(members[:1]), SPACES["tiny"], study), Landscape())
        assert len(one) == 1

    def test_another_fidelity_is_no_repetition(self) -> None:
        study = toy_study(trials=None)
        architecture = sample(WIDE, Random(0))
        proposals = [Proposal(architecture, fidelity) for fidelity in (1, 3, 9)]
        trials = search(study, Distinct(Listed(proposals), WIDE, study), Landscape())
        assert [t.proposal for t in trials] == proposals

    def test_tries_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="at least once"):
            Distinct(Forgetful(WIDE), WIDE, toy_study(), tries=0)


class TestWhatScreenedDoes:
    def test_the_search_begins_with_the_best_of_the_pool(self) -> None:
        study, scored = toy_study(trials=6), Counter[Architecture]()

        def counted(architecture: Architecture) -> float:
            scored[architecture] += 1
            return score(architecture)

        inner = RandomSearch(WIDE, study)
        strategy = Screened(inner, WIDE, study, counted, candidates=1, pool=200, keep=5)
        trials = search(study, strategy, Landscape())
        best = sorted(scored, key=score, reverse=True)
        assert [t.architecture for t in trials[:5]] == best[:5]
        assert set(scored.values()) == {1}
        plain = RandomSearch(WIDE, study)
        for trial in trials[:5]:
            plain.tell(trial)
        assert trials[5].proposal == plain.ask()

    def test_siblings_compete_with_a_child(self) -> None:
        study = toy_study()
        make = {"population": 4, "tournament": 40}
        inner = RegularizedEvolution(WIDE, study, **make)
        strategy = Screened(inner, WIDE, study, score, candidates=50)
        random = Random(0)
        for number in range(4):
            proposal = Proposal(sample(WIDE, random))
            measured = (Measurement({"score": 0.1 * (number != 2)}),)
            strategy.tell(Trial(number, proposal, State.DONE, measured))
        parent, child = strategy._begun[2], inner.ask()
        chosen = strategy.ask()
        assert chosen.parents == child.parents == (2,)
        assert distance(chosen.architecture, parent) == 1
        assert score(chosen.architecture) > score(child.architecture)
        # Fifty draws find one of the best of its 200 neighbours.
        around = [score(parent.replacing({name: digit})) for name in parent for digit in range(6)]
        assert sum(s > score(chosen.architecture) for s in around) < 20

    def test_samples_come_from_the_whole_space(self) -> None:
        study = toy_study(trials=40)
        inner = RandomSearch(WIDE, study)
        strategy = Screened(inner, WIDE, study, score, candidates=20, alternatives="samples")
        screened = search(study, strategy, Landscape())
        plain = search(study, RandomSearch(WIDE, study), Landscape())
        mean = [sum(t.metrics["score"] for t in trials) / 40 for trials in (screened, plain)]
        # The best of 20 normal numbers is 1.87 standard deviations above their mean.
        spread = math.sqrt(sum((t.metrics["score"] - mean[1]) ** 2 for t in plain) / 40)
        assert (mean[1] - mean[0]) / spread == pytest.approx(1.87, abs=0.4)

    def test_what_has_no_score_is_proposed_last(self) -> None:
        def half(architecture: Architecture) -> float:
            return math.nan if architecture["digit0"] < 5 else 0.0

        study = toy_study(trials=20)
        inner = RandomSearch(WIDE, study)
        strategy = Screened(inner, WIDE, study, half, candidates=60, alternatives="samples")
        assert {t.architecture["digit0"] for t in search(study, strategy, Landscape())} == {5}

    @pytest.mark.parametrize(
        "wrong", [{"candidates": 0}, {"pool": 5, "keep": 6}, {"alternatives": "others"}]
    )
    def test_settings_are_checked(self, wrong: dict) -> None:
        with pytest.raises(InvalidSettings):
            Screened(Forgetful(WIDE), WIDE, toy_study(), score, **wrong)


def earlier(space: Space = WIDE, trials: int = 30, **settings: object) -> list[Trial]:
    study = toy_study("earlier", trials=trials, seed=1)
    return search(study, RandomSearch(space, study, **settings), Landscape())


class TestWhatWarmStartedDoes:
    def test_the_best_are_measured_first_and_again(self) -> None:
        study, old = toy_study(trials=8), earlier()
        strategy = WarmStarted(
            RandomSearch(WIDE, study), WIDE, study, old, mode="propose", best=5, fidelity=3
        )
        trials = search(study, strategy, Landscape())
        best = sorted(old, key=lambda t: t.metrics["score"])[:5]
        assert [t.proposal for t in trials[:5]] == [Proposal(t.architecture, 3) for t in best]
        assert all(t.proposal.fidelity is None for t in trials[5:])

    def test_the_other_study_says_what_was_best_there(self) -> None:
        study, old = toy_study(trials=1), earlier()
        source = Study("earlier", (Objective("score", "max"),))
        strategy = WarmStarted(
            RandomSearch(WIDE, study), WIDE, study, old, mode="propose", source=source
        )
        assert (
            strategy.ask().architecture == max(old, key=lambda t: t.metrics["score"]).architecture
        )

    def test_only_the_highest_fidelity_says_what_was_best(self) -> None:
        study = toy_study()
        old = [
            Trial(n, Proposal(sample(WIDE, Random(n)), f), State.DONE, (Measurement({"score": s}),))
            for n, (f, s) in enumerate([(1, 0.0), (9, 0.5), (9, 0.4), (1, 0.1)])
        ]
        inner = Listed([])
        strategy = WarmStarted(inner, WIDE, study, old, mode="propose")
        trials = search(study, strategy, Landscape())
        assert [t.architecture for t in trials] == [old[2].architecture, old[1].architecture]

    def test_what_is_told_is_known(self) -> None:
        study, old = toy_study(trials=10), earlier()
        informed = TPE(WIDE, study, startup=30)
        plain = TPE(WIDE, study, startup=30)
        strategy = WarmStarted(informed, WIDE, study, old)
        for trial in old:
            plain.tell(trial)
        assert strategy.ask() == plain.ask()
        assert informed.good  # the model needs no startup any more
        trials = search(study, strategy, Landscape())
        assert not {t.architecture for t in trials} & {t.architecture for t in old}

    def test_what_was_measured_is_not_measured_again(self) -> None:
        study = toy_study(trials=None)
        tiny = SPACES["tiny"]
        old = earlier(tiny, trials=2)
        trials = search(
            study, WarmStarted(RandomSearch(tiny, study), tiny, study, old), Landscape()
        )
        assert len({t.architecture for t in [*old, *trials]}) == 3
        assert len(trials) == 1

    def test_parents_are_trials_of_this_study_only(self) -> None:
        study, old = toy_study(trials=60), earlier(trials=10)
        inner = RegularizedEvolution(WIDE, study, population=10, tournament=3)
        trials = search(study, WarmStarted(inner, WIDE, study, old), Landscape())
        assert trials[0].proposal.parents == ()
        known = {t.number: t for t in trials}
        parents = [(t, known[n]) for t in trials for n in t.proposal.parents]
        assert parents
        for child, parent in parents:
            assert parent.number < child.number
            assert distance(child.architecture, parent.architecture) == 1

    def test_a_promotion_of_the_other_studys_trial_starts_afresh_and_only_once(self) -> None:
        study, old = toy_study(trials=40), earlier(trials=9, fidelity=1)
        inner = SuccessiveHalving(WIDE, study, max_fidelity=9)
        trials = search(study, WarmStarted(inner, WIDE, study, old), Landscape())
        assert [t.proposal.fidelity for t in trials[:4]] == [3, 3, 3, 9]
        assert [t.proposal.continues is None for t in trials[:4]] == [True, True, True, False]
        best = sorted(old, key=lambda t: t.metrics["score"])[:3]
        assert [t.architecture for t in trials[:3]] == [t.architecture for t in best]
        assert Counter(t.proposal.fidelity for t in trials[4:17]) == {1: 9, 3: 3, 9: 1}

    @pytest.mark.parametrize("mode", ["tell", "propose"])
    def test_it_is_a_fold_too(self, mode) -> None:
        study, old = toy_study(trials=20), earlier(trials=9, fidelity=1)

        def make() -> Strategy:
            inner = SuccessiveHalving(WIDE, study, max_fidelity=9)
            return WarmStarted(inner, WIDE, study, old, mode=mode, fidelity=1)

        trials = search(study, make(), Landscape())
        for cut in range(0, 20, 3):
            strategy = make()
            for trial in trials[:cut]:
                strategy.tell(trial)
            assert strategy.ask() == trials[cut].proposal

    def test_trials_of_no_use_are_refused(self) -> None:
        study = toy_study()
        for old in (
            [],
            earlier(SPACES["tiny"], trials=3),
            [Trial(0, Proposal(sample(WIDE, Random(0))), State.DONE)],
            [Trial(0, Proposal(sample(WIDE, Random(0))))],
        ):
            with pytest.raises(InvalidSettings, match="trials of the same space"):
                WarmStarted(RandomSearch(WIDE, study), WIDE, study, old)

    @pytest.mark.parametrize("wrong", [{"mode": "both"}, {"best": 0}])
    def test_settings_are_checked(self, wrong: dict) -> None:
        with pytest.raises(InvalidSettings):
            WarmStarted(RandomSearch(WIDE, toy_study()), WIDE, toy_study(), earlier(), **wrong)
