from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from random import Random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.program import space
from parti.core.protocols import Space, Strategy
from parti.core.study import Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import distance, sample, validate
from parti.core.words import choose
from parti.loop import search
from parti.strategies.breeding import BinaryGenes, IntegerGenes, genes_of
from parti.strategies.genetic import GeneticAlgorithm, fitnesses
from parti.strategies.random_search import RandomSearch
from parti.testing import SPACES, Landscape, StrategySuite, toy_study


class TestGeneticAlgorithm(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return GeneticAlgorithm(space, study, population=5)


class TestBinaryGeneticAlgorithm(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return GeneticAlgorithm(
            space, study, population=5, encoding="binary", selection="roulette", elitism=2
        )


class TestGrayGeneticAlgorithm(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return GeneticAlgorithm(
            space, study, population=4, encoding="gray", selection="rank", crossover="uniform"
        )


@space
def bytes_() -> list[int]:
    """Two genes of 8 bits."""
    return [choose(name, list(range(256))) for name in "xy"]


ZERO, ONES = Architecture({"x": 0, "y": 0}), Architecture({"x": 255, "y": 255})


def told(strategy: Strategy, scores: list[float], first: int = 0) -> list[Trial]:
    random = Random(first + 3)
    trials = [
        Trial(n, Proposal(sample(SPACES["wide"], random)), State.DONE, (Measurement({"score": s}),))
        for n, s in enumerate(scores, start=first)
    ]
    for trial in trials:
        strategy.tell(trial)
    return trials


def bits(architecture: Architecture) -> str:
    """As written, the first gene's lowest bit first."""
    return "".join(f"{architecture[name]:08b}"[::-1] for name in "xy")


class TestGenerations:
    def make(self, **arguments: object) -> GeneticAlgorithm:
        return GeneticAlgorithm(
            SPACES["wide"],
            toy_study(),
            **{"population": 4, **arguments},  # type: ignore[arg-type]
        )

    def test_the_first_generation_is_random(self) -> None:
        study = toy_study()
        trials = search(study, GeneticAlgorithm(SPACES["wide"], study, population=6), Landscape())
        assert [bool(t.proposal.parents) for t in trials[:8]] == [False] * 6 + [True] * 2

    def test_a_generation_replaces_all_but_the_elite(self) -> None:
        strategy = self.make(elitism=1)
        told(strategy, [0.4, 0.1, 0.3, 0.2])
        assert [t.number for t in strategy.population] == [1, 3, 2, 0]
        told(strategy, [0.9, 0.8], first=4)
        assert [t.number for t in strategy.population] == [1, 3, 2, 0]
        told(strategy, [0.7], first=6)
        assert [t.number for t in strategy.population] == [1, 6, 5, 4]

    def test_without_elitism_the_best_dies(self) -> None:
        strategy = self.make(elitism=0)
        told(strategy, [0.4, 0.1, 0.3, 0.2])
        told(strategy, [0.9, 0.8, 0.7, 0.6], first=4)
        assert [t.number for t in strategy.population] == [7, 6, 5, 4]

    def test_failed_and_running_trials_are_in_no_generation(self) -> None:
        strategy = self.make()
        told(strategy, [0.4, 0.1, 0.3])
        random = Random(0)
        for number, state in [(3, State.FAILED), (4, State.REJECTED), (5, State.RUNNING)]:
            strategy.tell(Trial(number, Proposal(sample(SPACES["wide"], random)), state))
        assert strategy.population == ()
        told(strategy, [0.2], first=6)
        assert [t.number for t in strategy.population] == [1, 6, 2, 0]

    def test_a_big_tournament_selects_the_best(self) -> None:
        strategy = self.make(tournament=200)
        told(strategy, [0.4, 0.1, 0.3, 0.2])
        proposal = strategy.ask()
        assert proposal is not None
        assert proposal.parents == (1,)

    @pytest.mark.parametrize("selection", ["tournament", "roulette", "rank"])
    def test_selection_pressure(self, selection: str) -> None:
        # Losses 0, 1, 3: distances to the worst are 3, 2, 0, and ranks weigh 3, 2, 1.
        expected = {"tournament": [5 / 9, 3 / 9, 1 / 9], "roulette": [3 / 5, 2 / 5, 0]}
        strategy = self.make(population=3, selection=selection)
        told(strategy, [3.0, 0.0, 1.0])
        random = Random(0)
        drawn = Counter(strategy._select(random).number for _ in range(6000))
        shares = [drawn[number] / 6000 for number in (1, 2, 0)]
        assert shares == pytest.approx(expected.get(selection, [3 / 6, 2 / 6, 1 / 6]), abs=0.02)

    def test_what_keeps_to_the_constraints_wins(self) -> None:
        study = toy_study(at_most=1.0)
        strategy = GeneticAlgorithm(SPACES["wide"], study, population=3)
        random = Random(0)
        for n, (score, cost) in enumerate([(0.1, 5.0), (0.9, 0.5), (0.2, 3.0)]):
            measured = (Measurement({"score": score, "cost": cost}),)
            strategy.tell(Trial(n, Proposal(sample(SPACES["wide"], random)), State.DONE, measured))
        assert [t.number for t in strategy.population] == [1, 2, 0]

    @pytest.mark.parametrize("encoding", ["integer", "binary", "gray"])
    def test_it_beats_random_search_on_a_smooth_landscape(self, encoding: str) -> None:
        def best(make: Callable[[Study], Strategy], seed: int) -> float:
            study = toy_study(trials=200, seed=seed)
            return min(t.metrics["score"] for t in search(study, make(study), Landscape(seed)))

        def bred(study: Study) -> Strategy:
            return GeneticAlgorithm(SPACES["wide"], study, encoding=encoding)  # type: ignore[arg-type]

        def drawn(study: Study) -> Strategy:
            return RandomSearch(SPACES["wide"], study)

        seeds = range(4)
        assert mean(best(bred, s) for s in seeds) < mean(best(drawn, s) for s in seeds) - 0.02

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"selection": "lottery"}, "'roulette'"),
            ({"crossover": "three-point"}, "'two-point'"),
            ({"encoding": "unary"}, "'gray'"),
            ({"crossover_rate": 1.5}, "between 0 and 1"),
            ({"mutation_rate": -0.1}, "between 0 and 1"),
            ({"population": 0, "elitism": 0}, "at least 1"),
            ({"tournament": 0}, "at least 1"),
            ({"elitism": 4}, "fewer models survive"),
        ],
    )
    def test_settings_are_checked(self, arguments: dict[str, object], message: str) -> None:
        with pytest.raises(InvalidSettings, match=message):
            self.make(**arguments)


class TestFitness:
    def test_it_is_the_distance_to_the_worst(self) -> None:
        assert fitnesses([(0, 3.0), (0, 0.0), (0, 1.0)]) == [0.0, 3.0, 2.0]

    def test_equal_ones_are_equally_fit(self) -> None:
        assert fitnesses([(0, 2.0), (0, 2.0)]) == [1.0, 1.0]

    def test_infeasible_ones_are_worse_than_the_worst_feasible_one(self) -> None:
        assert fitnesses([(0.5, -9.0), (0, 1.0), (2.0, -9.0)]) == [1.5, 2.0, 0.0]

    def test_without_a_feasible_one_the_violation_counts(self) -> None:
        assert fitnesses([(0.5, 1.0), (2.0, 0.0)]) == [1.5, 0.0]

    def test_what_was_not_measured_is_never_selected_beside_others(self) -> None:
        inf = float("inf")
        assert fitnesses([(0, 1.0), (0, 3.0), (inf, inf)]) == [2.0, 0.0, 0.0]
        assert fitnesses([(0, inf), (inf, inf)]) == [1.0, 1.0]


class TestGenes:
    @settings(deadline=None)
    @given(
        st.sampled_from(sorted(SPACES)),
        st.sampled_from(["integer", "binary", "gray"]),
        st.sampled_from([None, 1, 2]),
        st.integers(0, 999),
    )
    def test_children_are_members_made_of_their_parents(
        self, name: str, encoding: str, points: int | None, seed: int
    ) -> None:
        random = Random(seed)
        mother, father = (sample(SPACES[name], random) for _ in range(2))
        genes = genes_of(SPACES[name], encoding)  # type: ignore[arg-type]
        child = genes.cross(mother, father, random, points)
        assert validate(SPACES[name], child) == child
        mutant = genes.mutate(child, random, 0.3)
        assert validate(SPACES[name], mutant) == mutant
        assert genes.mutate(child, random, 0.0) == child
        assert genes.cross(mother, mother, random, points) == mother

    def test_one_point_crossover_of_decisions_changes_the_parent_once(self) -> None:
        mother = Architecture({f"digit{i}": 0 for i in range(40)})
        father = Architecture({f"digit{i}": 1 for i in range(40)})
        places = set()
        for seed in range(300):
            child = IntegerGenes(SPACES["wide"]).cross(mother, father, Random(seed), 1)
            turns = [i for i, (a, b) in enumerate(pairwise(child.values())) if a != b]
            assert len(turns) == 1
            places.add(turns[0])
        assert len(places) == 39  # anywhere

    @pytest.mark.parametrize("points", [1, 2])
    def test_binary_crossover_may_cut_inside_a_decision(self, points: int) -> None:
        inside = 0
        for seed in range(100):
            child = BinaryGenes(bytes_).cross(ZERO, ONES, Random(seed), points)
            written = bits(child)
            assert sum(a != b for a, b in pairwise(written)) == points
            inside += not {child["x"], child["y"]} <= {0, 255}
        assert inside > 80

    def test_uniform_crossover_takes_every_bit_anew(self) -> None:
        drawn = [bits(BinaryGenes(bytes_).cross(ZERO, ONES, Random(s), None)) for s in range(400)]
        for place in range(16):
            assert sum(d[place] == "1" for d in drawn) == pytest.approx(200, abs=50)
        turns = sum(a != b for d in drawn for a, b in pairwise(d))
        assert turns == pytest.approx(400 * 15 / 2, rel=0.05)

    def test_every_gene_mutates_at_the_rate(self) -> None:
        parent = sample(SPACES["wide"], Random(0))
        integer = IntegerGenes(SPACES["wide"])
        changed = [distance(parent, integer.mutate(parent, Random(s), 0.1)) for s in range(500)]
        assert sum(changed) / 500 == pytest.approx(4.0, abs=0.4)
        assert distance(parent, integer.mutate(parent, Random(0), 1.0)) == 40
        flipped = [bits(BinaryGenes(bytes_).mutate(ZERO, Random(s), 0.25)) for s in range(500)]
        assert sum(f.count("1") for f in flipped) / 500 == pytest.approx(4.0, abs=0.4)

    def test_in_gray_code_one_bit_leads_to_the_next_option(self) -> None:
        gray, plain = BinaryGenes(bytes_, gray=True), BinaryGenes(bytes_)
        choice = bytes_.tree.choices["x"]
        codes = [gray._bits(choice, Architecture({"x": x, "y": 0}), Random(0)) for x in range(256)]
        assert all((a ^ b).bit_count() == 1 for a, b in pairwise(codes))
        assert [gray._option(choice, code) for code in codes] == list(range(256))
        seven, eight = (
            plain._bits(choice, Architecture({"x": x, "y": 0}), Random(0)) for x in (7, 8)
        )
        assert (seven ^ eight).bit_count() == 4  # the cliff that Gray code avoids

    def test_bits_that_stand_for_no_option_are_repaired(self) -> None:
        # Six options have three bits: 6 and 7 are taken for 0 and 1.
        genes = BinaryGenes(SPACES["wide"])
        choice = SPACES["wide"].tree.choices["digit0"]
        assert [genes._option(choice, number) for number in range(8)] == [0, 1, 2, 3, 4, 5, 0, 1]
        assert genes.length(sample(SPACES["wide"], Random(0))) == 120

    def test_single_options_are_no_genes(self) -> None:
        @space
        def half() -> list[int]:
            return [choose("only", [7]), choose("free", [1, 2])]

        parent = Architecture({"only": 7, "free": 1})
        for genes in (IntegerGenes(half), BinaryGenes(half)):
            assert genes.length(parent) == 1
            assert dict(genes.mutate(parent, Random(0), 1.0)) == {"only": 7, "free": 2}
