import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti.core.errors import InvalidSettings
from parti.core.protocols import Space, Strategy
from parti.core.study import Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import architectures, sample
from parti.loop import search
from parti.strategies.random_search import RandomSearch
from parti.strategies.tpe import TPE, categorical_density, scale_density
from parti.testing import SPACES, Landscape, StrategySuite, toy_study

DYNAMIC = SPACES["dynamic"]


class TestTPE(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return TPE(space, study, startup=8)


def told(
    space: str, scores: list[float], state: State = State.DONE, **settings: object
) -> tuple[TPE, list[Trial]]:
    strategy = TPE(SPACES[space], toy_study(), **settings)
    random = Random(3)
    trials = [
        Trial(n, Proposal(sample(SPACES[space], random)), state, (Measurement({"score": s}),))
        for n, s in enumerate(scores)
    ]
    for trial in trials:
        strategy.tell(trial)
    return strategy, trials


class TestDensities:
    def test_options_without_order_weigh_as_in_the_paper(self) -> None:
        # N p_i + C_i, with p uniform.
        assert categorical_density([3, 0, 1], 1.0) == pytest.approx([4 / 7, 1 / 7, 2 / 7])
        assert categorical_density([3, 0, 1], 2.0) == pytest.approx([5 / 10, 2 / 10, 3 / 10])

    @given(st.lists(st.integers(0, 6), min_size=2, max_size=12), st.floats(0.1, 5))
    def test_a_scale_is_a_mixture_of_gaussians_beside_the_prior(
        self, counts: list[int], prior_weight: float
    ) -> None:
        # Once more, observation by observation.
        extent = len(counts)
        seen = [place for place, count in enumerate(counts) for _ in range(count)]
        expected = [prior_weight / extent] * extent
        for index, place in enumerate(seen):
            around = [seen[i] for i in (index - 1, index + 1) if 0 <= i < len(seen)]
            width = max((abs(place - other) for other in around), default=extent)
            width = max(width, extent / min(100, 1 + len(seen)))
            edges = [
                0.5 * math.erfc((place - edge + 0.5) / width / math.sqrt(2))
                for edge in range(extent + 1)
            ]
            for option in range(extent):
                mass = (edges[option + 1] - edges[option]) / (edges[-1] - edges[0])
                expected[option] += mass
        total = len(seen) + prior_weight
        found = scale_density(counts, prior_weight)
        assert found == pytest.approx([mass / total for mass in expected])
        assert sum(found) == pytest.approx(1)
        assert min(found) > 0

    def test_on_a_scale_neighbours_of_what_was_seen_are_likely_too(self) -> None:
        density = scale_density([0, 0, 0, 5, 0, 0, 0, 0], 1.0)
        assert density[3] > density[2] > density[1] > density[0]
        assert density[2] == pytest.approx(density[4], rel=0.1)

    def test_a_choice_learns_from_the_trials_in_which_it_exists(self) -> None:
        strategy, trials = told("conditional", [0.01 * n for n in range(40)], quantile=0.2)
        name = "body/depth[0]/op=pool/kind"
        choice = SPACES["conditional"].tree.choices[name]
        assert strategy.good == tuple(range(8))
        for part, found in zip((trials[:8], trials[8:]), strategy.densities(choice), strict=True):
            held = [t.architecture[name] for t in part if name in t.architecture]
            assert 0 < len(held) < len(part)
            counts = [held.count(option) for option in choice.options]
            assert found == pytest.approx(categorical_density(counts, 1.0))


class TestFactsOfTPE:
    @pytest.mark.parametrize(
        ("settings", "sizes"),
        [
            ({}, {1: 1, 10: 2, 100: 15, 300: 45}),
            ({"quantile": 0.1, "most_good": 25}, {1: 1, 10: 1, 101: 11, 300: 25}),  # Optuna
            ({"quantile": 0.25, "split": "sqrt", "most_good": 25}, {1: 1, 17: 2, 100: 3, 300: 5}),
        ],
    )
    def test_the_split(self, settings: dict, sizes: dict[int, int]) -> None:
        for count, size in sizes.items():
            strategy, _ = told("tiny", [0.1 * n for n in range(count)], **settings)
            assert strategy.good == tuple(range(size))

    def test_the_greatest_ratio_has_the_greatest_expected_improvement(self) -> None:
        # EI by its definition (Eq. 3), with the observed losses for p(y).
        losses = [((7 * n) % 29) / 29 for n in range(29)]
        strategy, _ = told("dynamic", losses)
        gamma = len(strategy.good) / 29
        best = sorted(losses)
        threshold = best[len(strategy.good)]

        def probability(architecture, which: int) -> float:
            random_walk = 1.0

            def pick(choice):
                nonlocal random_walk
                option = architecture[choice.name]
                random_walk *= strategy.densities(choice)[which][choice.options.index(option)]
                return option

            DYNAMIC.walk(pick)
            return random_walk

        def improvement(architecture) -> float:
            good, bad = probability(architecture, 0), probability(architecture, 1)
            gain = sum(threshold - y for y in losses if y < threshold) / 29
            return gain * good / (gamma * good + (1 - gamma) * bad)

        members = list(architectures(DYNAMIC))
        by_ratio = sorted(members, key=strategy.log_ratio)
        improvements = [improvement(a) for a in by_ratio]
        assert improvements == pytest.approx(sorted(improvements))
        assert improvements[-1] > 1.5 * improvements[0]

    def test_the_best_new_candidate_is_proposed(self) -> None:
        strategy, trials = told("dynamic", [0.1 * n for n in range(25)], candidates=2000)
        known = {t.architecture for t in trials}
        left = [a for a in architectures(DYNAMIC) if a not in known]
        assert strategy.ask().architecture == max(left, key=strategy.log_ratio)

    def test_densities_of_a_walk_sum_to_one(self) -> None:
        strategy, _ = told("conditional", [0.1 * n for n in range(30)])
        space, random = SPACES["conditional"], Random(0)
        drawn = [strategy.draw(random) for _ in range(4000)]
        width = space.tree.choices["width"]
        expected = strategy.densities(width)[0]
        for option, share in zip(width.options, expected, strict=True):
            found = sum(a["width"] == option for a in drawn) / 4000
            assert found == pytest.approx(share, abs=0.03)

    def test_it_begins_at_random(self) -> None:
        study = toy_study(trials=9)
        ours = search(study, TPE(SPACES["wide"], study, startup=8), Landscape())
        random = search(study, RandomSearch(SPACES["wide"], study), Landscape())
        same = [a.architecture == b.architecture for a, b in zip(ours, random, strict=True)]
        assert same == [True] * 8 + [False]

    def test_failed_trials_are_bad_and_never_good(self) -> None:
        strategy, _ = told("wide", [0.1] * 30, State.FAILED, startup=1)
        assert strategy.good == ()
        proposal = Proposal(sample(SPACES["wide"], Random(0)))
        strategy.tell(Trial(30, proposal, State.DONE, (Measurement({"score": 9.0}),)))
        assert strategy.good == (30,)

    def test_what_breaks_the_constraints_is_good_last(self) -> None:
        strategy = TPE(SPACES["wide"], toy_study(at_most=1.0), quantile=0.5)
        random = Random(0)
        for n, (score, cost) in enumerate([(0.1, 5.0), (0.9, 0.5), (0.2, 2.0), (0.8, 0.5)]):
            measured = (Measurement({"score": score, "cost": cost}),)
            strategy.tell(Trial(n, Proposal(sample(SPACES["wide"], random)), State.DONE, measured))
        assert strategy.good == (3, 1)

    def test_running_trials_teach_nothing(self) -> None:
        strategy, _ = told("wide", [0.1 * n for n in range(30)])
        choice = SPACES["wide"].tree.choices["digit0"]
        before = strategy.densities(choice)
        strategy.tell(Trial(30, strategy.ask()))
        assert strategy.densities(choice) == before

    @pytest.mark.parametrize("space", ["wide", "conditional"])
    def test_it_beats_random_search_on_a_smooth_landscape(self, space: str) -> None:
        def late(make, seed: int) -> float:
            study = toy_study(trials=100, seed=seed)
            trials = search(study, make(SPACES[space], study), Landscape(seed))
            return sum(t.metrics["score"] for t in trials[-40:])

        assert all(late(TPE, seed) < late(RandomSearch, seed) for seed in range(4))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"startup": 0},
            {"candidates": 0},
            {"most_good": 0},
            {"prior_weight": 0.0},
            {"quantile": 1.0},
            {"split": "half"},
        ],
    )
    def test_settings_are_checked(self, wrong: dict) -> None:
        with pytest.raises(InvalidSettings):
            TPE(DYNAMIC, toy_study(), **wrong)
