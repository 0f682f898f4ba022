import math
from itertools import islice, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.program import space
from parti.core.protocols import Space, Strategy
from parti.core.study import Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import architectures, canonical, distance, neighbours
from parti.core.words import choose
from parti.loop import search
from parti.strategies.exhaustive import Exhaustive, shuffled
from parti.strategies.local_search import LocalSearch
from parti.strategies.random_search import RandomSearch
from parti.strategies.simulated_annealing import SimulatedAnnealing
from parti.testing import SPACES, Landscape, StrategySuite, toy_study


class TestExhaustive(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Exhaustive(space, study)


class TestExhaustiveInRandomOrder(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return Exhaustive(space, study, order="random")


class TestLocalSearch(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return LocalSearch(space, study, initial=2)


class TestLocalSearchOfWholeNeighbourhoods(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return LocalSearch(space, study, initial=2, neighbourhood="all", at_minimum="continue")


class TestSimulatedAnnealing(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return SimulatedAnnealing(space, study, melting=4, steps=8)


class TestSimulatedAnnealingWithGivenTemperature(StrategySuite):
    def make(self, space: Space, study: Study) -> Strategy:
        return SimulatedAnnealing(
            space, study, schedule="linear", temperature=0.1, steps=5, restart="best"
        )


def swapped(architecture: Architecture) -> Architecture:
    """The two choices may be swapped."""
    return Architecture({"a": min(architecture.values()), "b": max(architecture.values())})


@space(canonical=swapped)
def pair() -> list[int]:
    return [choose("a", [0, 1, 2, 3]), choose("b", [0, 1, 2, 3])]


@space
def grid() -> list[int]:
    return [choose("x", list(range(8))), choose("y", list(range(8)))]


@space
def many() -> list[int]:
    """Dynamic, with 111,110 members."""
    return [choose(f"digit{i}", list(range(10))) for i in range(choose("length", [1, 2, 3, 4, 5]))]


@space
def box() -> list[int]:
    return [choose(name, list(range(8))) for name in "abcd"]


CROSS = [Architecture({"x": x, "y": y}) for x in range(8) for y in range(8) if x == 0 or y == 0]
"""Of the grid: (0, 0), which comes first, and all its neighbours."""


def ended(number: int, proposal: Proposal, score: float, state: State = State.DONE) -> Trial:
    return Trial(number, proposal, state, (Measurement({"score": score}),))


def ask(strategy: Strategy) -> Proposal:
    proposal = strategy.ask()
    assert proposal is not None
    return proposal


def drained(strategy: Strategy) -> list[Architecture]:
    """All that a strategy proposes until it ends."""
    proposed: list[Architecture] = []
    while (proposal := strategy.ask()) is not None:
        strategy.tell(ended(len(proposed), proposal, 0.5))
        proposed.append(proposal.architecture)
    return proposed


class TestFactsOfExhaustive:
    def test_every_member_comes_once_in_the_order_of_the_space(self) -> None:
        proposed = drained(Exhaustive(SPACES["conditional"], toy_study()))
        assert proposed == list(architectures(SPACES["conditional"]))

    @pytest.mark.parametrize("name", ["conditional", "dynamic"])
    def test_random_order_has_every_member_once_too(self, name: str) -> None:
        proposed = drained(Exhaustive(SPACES[name], toy_study(), order="random"))
        members = list(architectures(SPACES[name]))
        assert len(proposed) == len(members)
        assert set(proposed) == set(members)
        assert proposed != members

    def test_isomorphic_members_count_as_one(self) -> None:
        proposed = drained(Exhaustive(pair, toy_study()))
        assert len(proposed) == 10  # 4 × 5 / 2
        assert len({canonical(pair, architecture) for architecture in proposed}) == 10

    def test_a_huge_space_is_begun_at_once(self) -> None:
        study = toy_study(trials=30)
        trials = search(study, Exhaustive(SPACES["wide"], study, order="random"), Landscape())
        assert len({t.architecture for t in trials}) == 30

    def test_a_dynamic_space_beyond_listing_has_no_random_order(self) -> None:
        with pytest.raises(InvalidSettings, match=r"more than 10,000 members.*order='listed'"):
            Exhaustive(many, toy_study(), order="random")
        assert dict(ask(Exhaustive(many, toy_study())).architecture) == {"length": 1, "digit0": 0}

    def test_an_unknown_order_is_refused(self) -> None:
        with pytest.raises(InvalidSettings, match="'listed' or 'random'"):
            Exhaustive(grid, toy_study(), order="sorted")  # type: ignore[arg-type]

    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 200), st.integers())
    def test_shuffled_is_a_permutation(self, size: int, seed: int) -> None:
        assert sorted(shuffled(size, seed)) == list(range(size))

    def test_shuffled_puts_every_number_anywhere(self) -> None:
        firsts = [next(shuffled(5, seed)) for seed in range(1000)]
        for number in range(5):
            assert firsts.count(number) == pytest.approx(200, abs=60)

    def test_shuffled_needs_no_list(self) -> None:
        size = 10**60
        drawn = list(islice(shuffled(size, 0), 50))
        assert len(set(drawn)) == 50
        assert max(drawn) < size
        assert min(drawn) < size / 4 < size * 3 / 4 < max(drawn)


class TestFactsOfLocalSearch:
    def begun(self, **arguments: object) -> LocalSearch:
        """A search of the 8 × 8 grid whose first run begins at trial 1 of three."""
        strategy = LocalSearch(grid, toy_study(), initial=3, **arguments)  # type: ignore[arg-type]
        for number, score in enumerate([0.5, 0.4, 0.6]):
            strategy.tell(ended(number, ask(strategy), score))
        return strategy

    def test_the_best_of_the_initial_ones_is_the_centre(self) -> None:
        strategy = self.begun()
        assert strategy.centre is not None
        assert strategy.centre.number == 1
        proposal = ask(strategy)
        assert proposal.parents == (1,)
        assert distance(proposal.architecture, strategy.centre.architecture) == 1

    def test_first_moves_to_the_first_better_neighbour(self) -> None:
        strategy = self.begun()
        for number, score in [(3, 0.45), (4, 0.39)]:
            strategy.tell(ended(number, ask(strategy), score))
        assert strategy.centre is not None
        assert strategy.centre.number == 4

    def test_all_moves_to_the_best_of_all_neighbours(self) -> None:
        strategy = self.begun(neighbourhood="all")
        centre = strategy.centre
        assert centre is not None
        number, best = 3, 0
        while strategy.centre is centre:
            proposal = ask(strategy)
            assert distance(proposal.architecture, centre.architecture) == 1
            score = 0.3 - (number == 9) / 10
            strategy.tell(ended(number, proposal, score))
            best = number if number == 9 else best
            number += 1
        around = set(neighbours(grid, centre.architecture))
        assert (
            3 + len(around) - 2 <= number <= 3 + len(around)
        )  # those begun with may be among them
        assert strategy.centre.number == best == 9

    @pytest.mark.parametrize("neighbourhood", ["first", "all"])
    def test_it_restarts_at_a_minimum_only_after_all_neighbours(self, neighbourhood: str) -> None:
        strategy = self.begun(neighbourhood=neighbourhood)
        centre = strategy.centre
        assert centre is not None
        tried = {centre.architecture}
        number = 3
        while (proposal := ask(strategy)).parents:
            assert proposal.parents == (1,)
            tried.add(proposal.architecture)
            strategy.tell(ended(number, proposal, 0.7))
            number += 1
        assert strategy.centre is None
        around = set(neighbours(grid, centre.architecture))
        assert len(around - tried) <= 2  # the others it began with
        for score in (0.9, 0.8, 0.95):
            strategy.tell(ended(number, ask(strategy), score))
            number += 1
        assert strategy.centre is not None
        assert strategy.centre.number == number - 2

    def test_continue_goes_on_from_the_best_one_not_tried(self) -> None:
        strategy = self.begun(at_minimum="continue")
        number = 3
        while strategy.centre is not None and strategy.centre.number == 1:
            strategy.tell(ended(number, ask(strategy), 0.45 + number / 100))
            number += 1
        assert strategy.centre is not None
        assert strategy.centre.number == 3

    def test_known_neighbours_lead_away_without_being_measured_again(self) -> None:
        measured = []
        for seed in range(5):
            strategy = LocalSearch(grid, toy_study(seed=seed), initial=1)
            for number, architecture in enumerate(CROSS):  # its middle is a minimum
                strategy.tell(ended(number, Proposal(architecture, parents=(9,)), number / 100))
            start = ask(strategy)
            assert start.parents == ()
            strategy.tell(ended(20, start, 0.9))
            number = 21
            while strategy.centre is not None:  # until the run ends at the known minimum
                strategy.tell(ended(number, ask(strategy), 0.95))
                number += 1
            measured.append(number - 21)
        # Of its 14 neighbours two are known, and as soon as one of them is met it is left.
        assert max(measured) <= 12
        assert min(measured) < 9

    def test_anything_better_that_comes_to_be_known_is_moved_to(self) -> None:
        strategy = self.begun()
        strategy.tell(ended(3, Proposal(Architecture({"x": 7, "y": 7})), 0.05))
        assert strategy.centre is not None
        assert strategy.centre.number == 3

    def test_workers_that_would_wait_train_the_next_starts(self) -> None:
        strategy = self.begun(neighbourhood="all")
        centre = strategy.centre
        running = []
        number = 3
        while (proposal := ask(strategy)).parents:
            running.append(Trial(number, proposal))
            strategy.tell(running[-1])
            number += 1
        strategy.tell(ended(number, proposal, 0.45))
        assert strategy.centre is centre
        for trial in running[1:]:
            strategy.tell(ended(trial.number, trial.proposal, 0.7))
        assert strategy.centre is centre  # one is still awaited
        strategy.tell(ended(running[0].number, running[0].proposal, 0.35))
        assert strategy.centre is not None
        assert strategy.centre.number == running[0].number

    def test_failed_neighbours_are_passed_by(self) -> None:
        strategy = self.begun()
        strategy.tell(ended(3, ask(strategy), 0.0, State.FAILED))
        assert strategy.centre is not None
        assert strategy.centre.number == 1
        assert ask(strategy).parents == (1,)

    def test_it_finds_the_only_minimum_of_a_smooth_landscape(self) -> None:
        for seed in range(3):
            study, landscape = toy_study(trials=200, seed=seed), Landscape(seed)
            trials = search(study, LocalSearch(box, study), landscape)
            found = min(t.metrics["score"] for t in trials)
            assert found == min(map(landscape.score, architectures(box)))

    def test_settings_are_checked(self) -> None:
        with pytest.raises(InvalidSettings, match="at least 1"):
            LocalSearch(grid, toy_study(), initial=0)
        with pytest.raises(InvalidSettings, match="'first' or 'all'"):
            LocalSearch(grid, toy_study(), neighbourhood="some")  # type: ignore[arg-type]
        with pytest.raises(InvalidSettings, match="'restart' or 'continue'"):
            LocalSearch(grid, toy_study(), at_minimum="stop")  # type: ignore[arg-type]


class TestFactsOfSimulatedAnnealing:
    def kept(self, rise: float, temperature: float, turns: int = 400) -> float:
        """How often a change for the worse is kept at the first temperature."""
        count = 0
        for seed in range(turns):
            strategy = SimulatedAnnealing(
                SPACES["wide"], toy_study(seed=seed), temperature=temperature, steps=10_000
            )
            strategy.tell(ended(0, ask(strategy), 0.5))
            strategy.tell(ended(1, ask(strategy), 0.5 + rise))
            assert strategy.here is not None
            count += strategy.here.number == 1
        return count / turns

    @pytest.mark.parametrize(("rise", "temperature"), [(0.1, 0.1), (0.3, 0.1), (0.1, 1.0)])
    def test_worse_changes_are_kept_by_the_law_of_metropolis(
        self, rise: float, temperature: float
    ) -> None:
        expected = math.exp(-rise / temperature)
        assert self.kept(rise, temperature) == pytest.approx(expected, abs=0.07)

    def test_better_changes_are_always_kept(self) -> None:
        assert self.kept(-0.01, 1e-9, turns=50) == self.kept(0.0, 1e-9, turns=50) == 1.0

    def test_while_melting_every_change_is_kept_and_sets_the_temperature(self) -> None:
        strategy = SimulatedAnnealing(grid, toy_study(), melting=4, acceptance=0.8)
        for number, score in enumerate([0.1, 0.4, 0.2, 0.6]):  # changes of 0.3, 0.2, 0.4
            assert strategy.temperature == math.inf
            strategy.tell(ended(number, ask(strategy), score))
        # An average change is kept with probability 0.8.
        assert math.exp(-0.3 / strategy.temperature) == pytest.approx(0.8)

    @pytest.mark.parametrize(
        ("schedule", "halfway", "last"),
        [
            ("exponential", 2.0 * math.sqrt(0.01), 2.0 * 0.01),
            ("linear", 2.0 * (1 + 0.01) / 2, 2.0 * 0.01),
            ("logarithmic", 2.0 * math.log(2) / math.log(7), 2.0 * math.log(2) / math.log(12)),
        ],
    )
    def test_the_schedules(self, schedule: str, halfway: float, last: float) -> None:
        strategy = SimulatedAnnealing(
            SPACES["wide"],
            toy_study(),
            schedule=schedule,  # type: ignore[arg-type]
            temperature=2.0,
            final=0.01,
            steps=11,
        )
        seen = []
        for number in range(12):
            seen.append(strategy.temperature)
            strategy.tell(ended(number, ask(strategy), 0.5))
        assert seen[0] == 2.0
        assert seen[5] == pytest.approx(halfway)
        assert seen[10] == pytest.approx(last)
        assert seen[11] == 2.0  # the next cooling
        assert all(hotter > colder for hotter, colder in pairwise(seen[:11]))

    @pytest.mark.parametrize("restart", ["random", "best"])
    def test_a_new_cooling_begins_where_it_is_told_to(self, restart: str) -> None:
        strategy = SimulatedAnnealing(
            SPACES["wide"],
            toy_study(),
            temperature=1e9,
            steps=3,
            restart=restart,  # type: ignore[arg-type]
        )
        for number, score in enumerate([0.5, 0.1, 0.3]):
            strategy.tell(ended(number, ask(strategy), score))
        assert ask(strategy).parents == ((1,) if restart == "best" else ())

    def test_one_cooling_takes_the_budget_of_the_study(self) -> None:
        strategy = SimulatedAnnealing(SPACES["wide"], toy_study(trials=30), melting=5)
        for number in range(29):
            strategy.tell(ended(number, ask(strategy), Random(number).random()))
        last = strategy.temperature
        strategy.tell(ended(29, ask(strategy), 0.5))
        assert strategy.temperature == pytest.approx(last / 0.001)

    def test_known_models_are_walked_through_for_free(self) -> None:
        # Very hot in a space of three: no neighbour is new, and the walk ends without measuring.
        study = toy_study(trials=None)
        strategy = SimulatedAnnealing(SPACES["tiny"], study, temperature=1e9)
        assert len(search(study, strategy, Landscape())) == 3
        assert strategy.here is None
        # On the grid, all in the row and column of (0, 0) known: only a walk leads out.
        strategy = SimulatedAnnealing(grid, toy_study(), temperature=1e9)
        for number, architecture in enumerate(CROSS):
            strategy.tell(ended(number, Proposal(architecture), 0.5 if number else 0.0))
        proposal = ask(strategy)
        assert proposal.architecture["x"] != 0 != proposal.architecture["y"]
        assert proposal.parents[0] > 0

    def test_breaking_a_constraint_more_is_never_kept(self) -> None:
        strategy = SimulatedAnnealing(grid, toy_study(at_most=1.0), temperature=1e9)
        for number, (score, cost) in enumerate([(0.9, 2.0), (0.1, 3.0), (0.9, 0.5), (0.0, 2.0)]):
            measured = (Measurement({"score": score, "cost": cost}),)
            strategy.tell(Trial(number, ask(strategy), State.DONE, measured))
        assert strategy.here is not None
        assert strategy.here.number == 2

    def test_it_beats_random_search_on_a_smooth_landscape(self) -> None:
        def best(make: type, seed: int) -> float:
            study = toy_study(trials=200, seed=seed)
            trials = search(study, make(SPACES["wide"], study), Landscape(seed))
            return min(t.metrics["score"] for t in trials)

        wins = sum(best(SimulatedAnnealing, s) < best(RandomSearch, s) for s in range(3))
        assert wins == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"schedule": "sudden"}, "exponential"),
            ({"restart": "worst"}, "'random' or 'best'"),
            ({"temperature": 0.0}, "more than 0"),
            ({"final": 0.0}, "shares"),
            ({"acceptance": 1.0}, "shares"),
            ({"melting": 1}, "at least 2"),
            ({"steps": 0}, "at least 1"),
        ],
    )
    def test_settings_are_checked(self, arguments: dict[str, object], message: str) -> None:
        with pytest.raises(InvalidSettings, match=message):
            SimulatedAnnealing(grid, toy_study(), **arguments)  # type: ignore[arg-type]
