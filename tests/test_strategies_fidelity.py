import math
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.core.protocols import Space, Strategy
from parti.core.study import Study
from parti.core.trial import Job, Measurement, Proposal, State, Trial
from parti.core.walks import sample
from parti.loop import search
from parti.strategies.asha import ASHA
from parti.strategies.bohb import BOHB
from parti.strategies.hyperband import Hyperband, hyperband_brackets
from parti.strategies.kernel_density import KernelDensity, decoded, encoded, imputed
from parti.strategies.rungs import ladder
from parti.strategies.successive_halving import SuccessiveHalving
from parti.testing import SPACES, Landscape, StrategySuite, toy_study

WIDE = SPACES["wide"]


class TestSuccessiveHalving(StrategySuite):
    fidelities = (1, 3, 9)

    def make(self, space: Space, study: Study) -> Strategy:
        return SuccessiveHalving(space, study, max_fidelity=9)


class TestHyperband(StrategySuite):
    fidelities = (1, 3, 9)

    def make(self, space: Space, study: Study) -> Strategy:
        return Hyperband(space, study, max_fidelity=9)


class TestASHA(StrategySuite):
    fidelities = (1, 2, 4)

    def make(self, space: Space, study: Study) -> Strategy:
        return ASHA(space, study, max_fidelity=4, eta=2)


class TestBOHB(StrategySuite):
    fidelities = (1, 3, 9)

    def make(self, space: Space, study: Study) -> Strategy:
        return BOHB(space, study, max_fidelity=9, points=4, random_fraction=0.2)


def ended(number: int, proposal: Proposal, score: float, cost: float = 0.0) -> Trial:
    measured = (Measurement({"score": score, "cost": cost}, proposal.fidelity or 1),)
    return Trial(number, proposal, State.DONE, measured)


def run(strategy: Strategy, scores: list[float]) -> list[Trial]:
    """Ask and tell, with these scores in turn."""
    trials = []
    for number, score in enumerate(scores):
        proposal = strategy.ask()
        assert proposal is not None
        trials.append(ended(number, proposal, score))
        strategy.tell(trials[-1])
    return trials


def test_the_toy_landscape_errs_less_at_a_higher_fidelity() -> None:
    landscape, random = Landscape(), Random(0)
    drawn = [sample(WIDE, random) for _ in range(50)]
    errors = []
    for fidelity in (1, 3, 9, 27):
        last = [list(landscape(Job(a, fidelity)))[-1] for a in drawn]
        assert {m.step for m in last} == {fidelity}
        apart = [m.metrics["score"] - landscape.score(a) for m, a in zip(last, drawn, strict=True)]
        errors.append(float(np.std(apart)))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.04 > 0.004 > errors[-1]


class TestLadder:
    @pytest.mark.parametrize(
        ("least", "most", "eta", "rungs"),
        [
            (1, 81, 3, (1, 3, 9, 27, 81)),
            (1, 243, 3, (1, 3, 9, 27, 81, 243)),
            (1, 12, 3, (1, 4, 12)),
            (12, 200, 4, (13, 50, 200)),
            (12, 200, 3, (22, 67, 200)),
            (5, 5, 3, (5,)),
            (5, 9, 2, (9,)),
        ],
    )
    def test_it_counts_from_the_maximum_down(
        self, least: int, most: int, eta: int, rungs: tuple[int, ...]
    ) -> None:
        assert ladder(least, most, eta) == rungs

    @given(st.integers(1, 50), st.integers(0, 3000), st.integers(2, 5))
    def test_rungs_rise_from_the_minimum_to_the_maximum(
        self, least: int, more: int, eta: int
    ) -> None:
        rungs = ladder(least, least + more, eta)
        assert list(rungs) == sorted(set(rungs))
        assert rungs[0] >= least
        assert rungs[-1] == least + more
        assert least * eta ** len(rungs) > least + more

    def test_a_table_gives_its_own(self) -> None:
        assert ladder(1, 27, 3, [12, 200]) == (12, 200)

    @pytest.mark.parametrize("make", [SuccessiveHalving, Hyperband, ASHA, BOHB])
    @pytest.mark.parametrize(
        "wrong",
        [
            {"eta": 1},
            {"min_fidelity": 0},
            {"min_fidelity": 9, "max_fidelity": 3},
            {"fidelities": [3, 1]},
            {"fidelities": []},
            {"fidelities": [0, 3]},
        ],
    )
    def test_what_makes_no_rungs_is_refused(self, make, wrong: dict) -> None:
        with pytest.raises(InvalidSettings):
            make(WIDE, toy_study(), **wrong)


class TestFactsOfSuccessiveHalving:
    def test_a_third_of_each_rung_goes_on_and_it_is_the_best_third(self) -> None:
        study = toy_study(trials=40)
        trials = search(study, SuccessiveHalving(WIDE, study), Landscape())
        assert Counter(t.proposal.fidelity for t in trials) == {1: 27, 3: 9, 9: 3, 27: 1}
        for below, above in ((1, 3), (3, 9), (9, 27)):
            rung = [t for t in trials if t.proposal.fidelity == below]
            rung.sort(key=lambda t: t.metrics["score"])
            promoted = [t.proposal.continues for t in trials if t.proposal.fidelity == above]
            assert promoted == [t.number for t in rung[: len(promoted)]]

    def test_the_next_bracket_begins_when_one_is_over(self) -> None:
        study = toy_study(trials=80)
        trials = search(study, SuccessiveHalving(WIDE, study), Landscape())
        assert [t.proposal.fidelity for t in trials[40:]] == [
            t.proposal.fidelity for t in trials[:40]
        ]
        assert {t.proposal.continues for t in trials[67:]} <= set(range(40, 80))

    def test_a_rung_waits_for_its_last_trial_while_the_next_bracket_begins(self) -> None:
        strategy = SuccessiveHalving(WIDE, toy_study(), max_fidelity=3)
        proposals = []
        for number in range(3):
            proposals.append(strategy.ask())
            strategy.tell(Trial(number, proposals[-1]))
        strategy.tell(ended(0, proposals[0], 0.1))
        strategy.tell(ended(2, proposals[2], 0.2))
        waiting = strategy.ask()
        assert (waiting.fidelity, waiting.continues) == (1, None)
        strategy.tell(Trial(3, waiting))
        strategy.tell(ended(1, proposals[1], 0.0))
        promotion = strategy.ask()
        assert promotion == Proposal(proposals[1].architecture, 3, continues=1)

    def test_what_keeps_to_the_constraints_goes_on_first(self) -> None:
        strategy = SuccessiveHalving(WIDE, toy_study(at_most=1.0), max_fidelity=3)
        for number, (score, cost) in enumerate([(0.1, 5.0), (0.9, 0.5), (0.2, 2.0)]):
            strategy.tell(ended(number, strategy.ask(), score, cost))
        assert strategy.ask().continues == 1

    def test_a_failed_trial_does_not_go_on(self) -> None:
        strategy = SuccessiveHalving(WIDE, toy_study(), max_fidelity=9, architectures=9)
        for number in range(9):
            proposal = strategy.ask()
            strategy.tell(
                ended(number, proposal, 0.5)
                if number in (3, 7)
                else Trial(number, proposal, State.FAILED)
            )
        promoted = [strategy.ask()]
        strategy.tell(ended(9, promoted[0], 0.4))
        promoted.append(strategy.ask())
        assert [p.continues for p in promoted] == [3, 7]
        strategy.tell(Trial(10, promoted[1], State.FAILED))
        assert strategy.ask() == Proposal(promoted[0].architecture, 9, continues=9)

    def test_a_rejected_trial_leaves_its_place_to_another(self) -> None:
        strategy = SuccessiveHalving(WIDE, toy_study(), max_fidelity=3)
        for number in range(5):
            proposal = strategy.ask()
            assert proposal.continues is None
            strategy.tell(
                Trial(number, proposal, State.REJECTED)
                if number < 2
                else ended(number, proposal, number)
            )
        assert strategy.ask().continues == 2

    def test_one_that_is_rejected_while_others_run_does_too(self) -> None:
        strategy = SuccessiveHalving(WIDE, toy_study(), max_fidelity=3)
        proposals = []
        for number in range(4):
            proposals.append(strategy.ask())
            strategy.tell(Trial(number, proposals[-1]))
        strategy.tell(Trial(1, proposals[1], State.REJECTED))
        for number, score in ((0, 0.3), (2, 0.2), (3, 0.1)):
            assert strategy.ask().continues is None
            strategy.tell(ended(number, proposals[number], score))
        assert strategy.ask().continues == 3

    @given(st.permutations(range(11)))
    def test_the_order_in_which_trials_ended_does_not_matter(self, order: list[int]) -> None:
        def make() -> Strategy:
            return SuccessiveHalving(WIDE, toy_study(), max_fidelity=3)

        trials = run(make(), [0.1 * (7 * n % 11) for n in range(11)])
        shuffled = make()
        for number in order:
            shuffled.tell(trials[number])
        straight = make()
        for trial in trials:
            straight.tell(trial)
        assert shuffled.ask() == straight.ask()

    def test_too_few_to_reach_the_highest_rung_are_refused(self) -> None:
        with pytest.raises(InvalidSettings, match="at least 27"):
            SuccessiveHalving(WIDE, toy_study(), architectures=26)

    def test_in_a_space_of_three_the_best_reaches_the_highest_rung(self) -> None:
        study = toy_study(trials=None)
        for make in (SuccessiveHalving, Hyperband, ASHA, BOHB):
            trials = search(study, make(SPACES["tiny"], study), Landscape())
            assert sum(t.proposal.continues is None for t in trials) == 3
            highest = max(trials, key=lambda t: t.proposal.fidelity)
            assert highest.proposal.fidelity == (64 if make is ASHA else 27)


class TestFactsOfHyperband:
    def test_the_brackets_are_those_of_the_papers_table(self) -> None:
        # Table 1 of Li et al. 2018: R = 81, eta = 3.
        table = {
            81: [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
            34: [(34, 3), (11, 9), (3, 27), (1, 81)],
            15: [(15, 9), (5, 27), (1, 81)],
            8: [(8, 27), (2, 81)],
            5: [(5, 81)],
        }
        brackets = hyperband_brackets(ladder(1, 81, 3), 3)
        assert [b.size for b in brackets] == list(table)
        for bracket, rungs in zip(brackets, table.values(), strict=True):
            sizes = [bracket.size // 3**i for i in range(len(bracket.fidelities))]
            assert list(zip(sizes, bracket.fidelities, strict=True)) == rungs

    def test_a_search_runs_through_them_in_turn(self) -> None:
        study = toy_study(trials=22 + 13)
        trials = search(study, Hyperband(WIDE, study, max_fidelity=9), Landscape())
        fidelities = [t.proposal.fidelity for t in trials]
        cycle = [1] * 9 + [3] * 3 + [9] + [3] * 5 + [9] + [9] * 3
        assert fidelities == cycle + [1] * 9 + [3] * 3 + [9]
        begun = [t.proposal.continues is None for t in trials[:22]]
        assert begun == [True] * 9 + [False] * 4 + [True] * 5 + [False] + [True] * 3


class TestFactsOfASHA:
    def test_it_promotes_as_soon_as_one_is_in_the_best_part_of_its_rung(self) -> None:
        strategy = ASHA(WIDE, toy_study(), max_fidelity=9, eta=3)
        trials = run(strategy, [0.3, 0.1, 0.2, 0.05])
        assert [t.proposal.fidelity for t in trials] == [1, 1, 1, 3]
        assert trials[3].proposal.continues == 1

    def test_nothing_is_promoted_below_that(self) -> None:
        strategy = ASHA(WIDE, toy_study(), max_fidelity=9, eta=3)
        run(strategy, [0.3, 0.1, 0.2, 0.05, 0.3])  # rung of 4: only the best, already promoted
        assert strategy.ask().continues is None

    def test_a_late_but_better_one_is_promoted_too(self) -> None:
        strategy = ASHA(WIDE, toy_study(), max_fidelity=9, eta=3)
        trials = run(strategy, [0.3, 0.1, 0.2, 0.05, 0.01])
        assert trials[4].proposal.continues is None
        assert strategy.ask().continues == 4

    def test_the_highest_rung_comes_first(self) -> None:
        strategy = ASHA(WIDE, toy_study(), max_fidelity=4, eta=2)
        # Rung 1 has two and promotes; twice; then rung 2 has two, and rung 1 one to promote.
        trials = run(strategy, [0.3, 0.2, 0.2, 0.4, 0.1, 0.1])
        assert [t.proposal.fidelity for t in trials] == [1, 1, 2, 1, 1, 2]
        strategy.tell(ended(6, Proposal(sample(WIDE, Random(0)), 1), 0.0))
        strategy.tell(ended(7, Proposal(sample(WIDE, Random(1)), 1), 0.0))
        assert strategy.ask() == Proposal(trials[5].architecture, 4, continues=5)

    def test_nobody_waits(self) -> None:
        strategy = ASHA(WIDE, toy_study(), max_fidelity=9, eta=3)
        for number in range(50):
            proposal = strategy.ask()
            assert proposal is not None
            strategy.tell(Trial(number, proposal))

    def test_failures_count_on_their_rung_but_do_not_go_on(self) -> None:
        strategy = ASHA(WIDE, toy_study(), max_fidelity=9, eta=3)
        for number in range(2):
            strategy.tell(Trial(number, strategy.ask(), State.FAILED))
        strategy.tell(ended(2, strategy.ask(), 0.9))
        assert strategy.ask().continues == 2
        strategy.tell(ended(3, strategy.ask(), 0.9))
        for number in range(4, 12):
            proposal = strategy.ask()
            assert proposal.continues is None
            strategy.tell(Trial(number, proposal, State.FAILED))


COLOURS = Choice("colour", ("red", "green", "blue", "white"))
WIDTHS = Choice("width", (8, 16, 32, 64, 128), ordered=True)


class TestKernelDensity:
    def test_it_is_the_mean_of_products_of_kernels(self) -> None:
        points = np.array([[0.0, 0.1], [0.0, 0.3], [2.0, 0.9]])
        density = KernelDensity(points, [COLOURS, WIDTHS])
        rule = 1.06 * points.std(axis=0) * 3 ** (-1 / 6)
        colour, width = min(rule[0], 0.75), rule[1]
        assert density.bandwidths == pytest.approx([colour, width])
        at = np.array([[0.0, 0.5], [2.0, 0.1], [3.0, 0.7]])
        for (c, w), found in zip(at, np.exp(density.log_density(at)), strict=True):
            kernels = [
                (1 - colour if c == pc else colour / 3)
                * math.exp(-(((w - pw) / width) ** 2) / 2)
                / (width * math.sqrt(2 * math.pi))
                for pc, pw in points
            ]
            assert found == pytest.approx(sum(kernels) / 3)

    def test_unordered_options_sum_to_one(self) -> None:
        density = KernelDensity(np.array([[0.0], [0.0], [1.0]]), [COLOURS])
        every = np.arange(4.0)[:, None]
        assert np.exp(density.log_density(every)).sum() == pytest.approx(1)

    def test_samples_follow_the_density(self) -> None:
        density = KernelDensity(np.array([[0.0], [0.0], [0.0], [1.0]]), [COLOURS], least=0.2)
        random = Random(0)
        drawn = Counter(density.sample(random)[0] for _ in range(8000))
        expected = np.exp(density.log_density(np.arange(4.0)[:, None]))
        for option in range(4):
            assert drawn[option] / 8000 == pytest.approx(expected[option], abs=0.02)

    def test_wider_samples_scatter_more_but_stay_on_the_scale(self) -> None:
        density = KernelDensity(np.array([[0.5], [0.5]]), [WIDTHS], least=0.1)
        random = Random(0)
        drawn = {w: [density.sample(random, wider=w)[0] for _ in range(500)] for w in (1, 3)}
        assert np.std(drawn[3]) > 1.5 * np.std(drawn[1])
        assert {0, 4} <= set(drawn[3]) <= set(range(5))

    def test_no_kernel_makes_what_was_seen_unlikely(self) -> None:
        density = KernelDensity(np.array([[0.0], [3.0]]), [COLOURS])
        assert density.bandwidths == [0.75]

    @pytest.mark.parametrize("choice", [COLOURS, WIDTHS])
    def test_options_come_back_from_their_numbers(self, choice: Choice) -> None:
        for place in range(len(choice.options)):
            assert decoded(choice, encoded(choice, place)) == place

    def test_what_is_lacking_comes_from_another_point(self) -> None:
        nan = math.nan
        points = np.array([[1.0, nan, nan], [2.0, 0.3, 0.7], [nan, nan, nan], [3.0, 0.1, 0.9]])
        seen = set()
        for seed in range(40):
            filled = imputed(points, [COLOURS, WIDTHS, WIDTHS], Random(seed))
            assert not np.isnan(filled).any()
            known = ~np.isnan(points)
            assert (filled[known] == points[known]).all()
            seen.add(tuple(filled[0, 1:]))
        assert seen == {(0.3, 0.7), (0.1, 0.9)}

    def test_what_is_lacking_everywhere_is_any_option(self) -> None:
        points = np.full((2, 1), math.nan)
        seen = {imputed(points, [COLOURS], Random(seed))[0, 0] for seed in range(60)}
        assert seen == {0, 1, 2, 3}


def bohb_told(
    scores: list[float], *, fidelity: int = 1, points: int = 4, good: float = 0.15
) -> BOHB:
    strategy = BOHB(WIDE, toy_study(), max_fidelity=9, points=points, good=good)
    random = Random(0)
    for number, score in enumerate(scores):
        strategy.tell(ended(number, Proposal(sample(WIDE, random), fidelity), score))
    return strategy


class TestFactsOfBOHB:
    def test_a_model_needs_two_more_than_n_min(self) -> None:
        assert bohb_told([0.1] * 5).model(Random(0)) is None
        assert bohb_told([0.1] * 6).model(Random(0)) is not None

    def test_n_min_is_one_more_than_there_are_choices(self) -> None:
        space, study, random = SPACES["conditional"], toy_study(), Random(0)
        assert space.tree is not None
        choices = sum(len(c.options) > 1 for c in space.tree.choices.values())
        strategy = BOHB(space, study)
        for number in range(choices + 3):
            assert strategy.model(Random(0)) is None
            strategy.tell(ended(number, Proposal(sample(space, random), 1), 0.1 * number))
        good, bad = strategy.model(Random(0))
        assert len(good.points) == len(bad.points) == choices + 1

    @pytest.mark.parametrize(
        ("count", "good", "bad"), [(6, 4, 4), (10, 4, 6), (40, 6, 34), (100, 15, 85)]
    )
    def test_the_split_is_that_of_equation_3(self, count: int, good: int, bad: int) -> None:
        scores = [0.01 * n for n in range(count)]
        densities = bohb_told(scores).model(Random(0))
        assert [len(d.points) for d in densities] == [good, bad]

    def test_good_are_the_best_and_bad_the_worst(self) -> None:
        strategy = bohb_told([0.5, 0.1, 0.2, 0.9, 0.3, 0.8, 0.7, 0.6])
        random = Random(0)
        drawn = [sample(WIDE, random) for _ in range(8)]
        good, bad = strategy.model(Random(0))
        first = [WIDE.tree.choices["digit0"].options.index(a["digit0"]) for a in drawn]
        scaled = [(place + 0.5) / 6 for place in first]
        assert list(good.points[:, 0]) == [scaled[n] for n in (1, 2, 4, 0)]
        assert list(bad.points[:, 0]) == [scaled[n] for n in (7, 6, 5, 3)]

    def test_the_model_is_that_of_the_highest_fidelity_with_enough_trials(self) -> None:
        strategy = bohb_told([0.1] * 30)
        random = Random(1)
        for number in range(30, 35):
            strategy.tell(ended(number, Proposal(sample(WIDE, random), 3), 0.1))
            assert sum(len(d.points) for d in strategy.model(Random(0))) == 30
        strategy.tell(ended(35, Proposal(sample(WIDE, random), 3), 0.1))
        assert sum(len(d.points) for d in strategy.model(Random(0))) == 8

    def test_failed_trials_are_bad_and_never_good(self) -> None:
        strategy = bohb_told([0.1 * n for n in range(6)])
        random = Random(1)
        for number in range(6, 60):
            proposal = Proposal(sample(WIDE, random), 1)
            strategy.tell(Trial(number, proposal, State.FAILED))
        good, bad = strategy.model(Random(0))
        assert (len(good.points), len(bad.points)) == (4, 56)

    def test_it_proposes_what_good_trials_have_in_common(self) -> None:
        strategy = BOHB(WIDE, toy_study(), max_fidelity=9, points=10, random_fraction=0.0)
        random = Random(0)
        for number in range(60):
            architecture = sample(WIDE, random)
            if number < 10:
                architecture = architecture.replacing({f"digit{i}": 2 for i in range(20)})
            strategy.tell(ended(number, Proposal(architecture, 1), 0.1 + number))
        # The bracket is over only when its promotions are: take what would begin next.
        drawn = next(strategy._drawn(Random(0)))
        common = sum(drawn[f"digit{i}"] == 2 for i in range(20))
        assert common >= 19

    def test_a_random_fraction_of_one_is_hyperband_in_what_it_draws_from(self) -> None:
        study = toy_study(trials=200)
        trials = search(study, BOHB(WIDE, study, random_fraction=1.0, points=2), Landscape())
        begun = [t.architecture for t in trials if t.proposal.continues is None]
        counts = Counter(a[f"digit{i}"] for a in begun for i in range(40))
        share = [counts[digit] / (40 * len(begun)) for digit in range(6)]
        assert share == pytest.approx([1 / 6] * 6, abs=0.02)

    def test_it_beats_hyperband_on_a_smooth_landscape(self) -> None:
        def best(make, seed: int) -> float:
            study = toy_study(trials=220, seed=seed)
            landscape = Landscape(seed)
            strategy = make(SPACES["conditional"], study, max_fidelity=9)
            trials = search(study, strategy, landscape)
            begun = [t for t in trials if t.proposal.continues is None]
            return float(np.mean([landscape.score(t.architecture) for t in begun[-60:]]))

        assert all(best(BOHB, seed) < best(Hyperband, seed) for seed in range(4))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"random_fraction": 1.5},
            {"good": 0.0},
            {"candidates": 0},
            {"points": 1},
            {"bandwidth_factor": 0.0},
            {"least_bandwidth": 0.7},
        ],
    )
    def test_settings_are_checked(self, wrong: dict) -> None:
        with pytest.raises(InvalidSettings):
            BOHB(WIDE, toy_study(), **wrong)
