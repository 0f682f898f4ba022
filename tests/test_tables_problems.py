"""Problems, tables, and the evaluator that looks things up."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from parti.core.architecture import Architecture
from parti.core.errors import InvalidData, InvalidSettings, InvalidStudy, TrialError
from parti.core.program import space
from parti.core.study import Constraint, Objective
from parti.core.trial import Job, Measurement, Proposal, State, Trial
from parti.core.walks import architectures, choices
from parti.core.words import choose
from parti.evaluators.tabular import Level, Tabular
from parti.evaluators.wrappers import Noisy
from parti.loop import search
from parti.strategies.random_search import RandomSearch
from parti.tables import FAMILIES, PROBLEMS, available, load_problem
from parti.tables.facts import TableFacts
from parti.tables.problem import Problem
from parti.tables.rows import Grid, OnePerForm
from parti.tables.table import Lazy, Table
from parti.testing import EvaluatorSuite

NAN = math.nan


def sorted_letters(architecture):
    one, other = sorted(architecture.values())
    return Architecture({"one": one, "other": other})


@space(canonical=sorted_letters)
def pair():
    """Two letters; their order does not matter."""
    return choose("one", ["a", "b", "c"]) + choose("other", ["a", "b", "c"])


MEMBERS = list(architectures(pair))
GRID = Grid(choices(pair, MEMBERS[0]), [tuple(m.values()) for m in MEMBERS], "letters")
TEST = np.array([50.0, 60.0, 70.0, 60.0, 80.0, 90.0, 71.0, 89.0, 95.0])
"""Mean test accuracy of aa, ab, ac, ba, bb, bc, ca, cb, cc."""
LATENCY = np.array([1.0, 2.0, 3.0, 2.0, 2.0, 4.0, 3.0, 4.0, 9.0])
RUNS = (TEST - 1.0, TEST + 1.0, np.where(np.arange(9) % 2, NAN, TEST))


def letters(text):
    return Architecture(dict(zip(("one", "other"), text, strict=True)))


def make_table(rows=GRID):
    return Table("letters", pair, rows, {"test": TEST, "latency": LATENCY})


def make_problem(**changes):
    levels = {
        1: Level({"accuracy": (TEST / 2,)}, 10 * LATENCY),
        9: Level({"accuracy": RUNS}, 90 * LATENCY),
    }
    facts = TableFacts(make_table(), levels, {"accuracy": TEST}, 9, {"params": LATENCY})
    problem = Problem(
        "letters",
        pair,
        (Objective("accuracy", "max"),),
        facts,
        fidelities=(1, 9),
        default_fidelity=9,
    )
    return replace(problem, **changes)


def with_latency(**changes):
    plain = make_problem()
    levels = {
        fidelity: Level({**level.metrics, "latency_ms": (LATENCY,)}, level.seconds)
        for fidelity, level in plain.facts.levels.items()
    }
    truth = {"accuracy": TEST, "latency_ms": LATENCY}
    return replace(plain, facts=replace(plain.facts, levels=levels, truth=truth), **changes)


class TestTabular(EvaluatorSuite):
    def make(self):
        return make_problem().evaluator(seed=1)

    def job(self):
        return Job(letters("ab"))


def look_up(evaluator, text, fidelity=None, **job):
    (found,) = evaluator(Job(letters(text), fidelity, **job))
    return found


def test_a_search_sees_one_run_and_always_the_same():
    seen = {
        text: {
            look_up(make_problem().evaluator(seed=s), text).metrics["accuracy"] for s in range(9)
        }
        for text in ("aa", "ab")
    }
    assert seen == {"aa": {49.0, 50.0, 51.0}, "ab": {59.0, 61.0}}  # ab has no third run
    evaluator = make_problem().evaluator(seed=3)
    assert look_up(evaluator, "cc") == look_up(evaluator, "cc", seed=17)


def test_seconds_and_steps_are_those_of_the_fidelity():
    evaluator = make_problem().evaluator()
    assert look_up(evaluator, "ac", 1) == Measurement({"accuracy": 35.0}, 1, 30.0)
    assert look_up(evaluator, "ac").step == 9
    assert look_up(evaluator, "ac").seconds == 270.0


def test_oracle_measures_the_truth_at_one_fidelity():
    evaluator = make_problem().evaluator(seed=5, oracle=True)
    assert [look_up(evaluator, "".join(m.values())).metrics["accuracy"] for m in MEMBERS] == [*TEST]
    with pytest.raises(TrialError, match=r"no fidelity 1; it has \[9\]"):
        look_up(evaluator, "aa", 1)


def test_what_is_not_there_fails_the_trial():
    grid = Grid(choices(pair, MEMBERS[0]), [("a", "a"), ("b", "c")], "two")
    column = np.array([1.0, NAN])
    evaluator = Tabular(grid, {3: Level({"score": (column,)})}, name="two")
    assert look_up(evaluator, "aa").metrics == {"score": 1.0}
    with pytest.raises(TrialError, match="could not be measured"):
        look_up(evaluator, "bc")
    with pytest.raises(TrialError, match=r"does not hold .* 2 architectures"):
        look_up(evaluator, "cb")
    with pytest.raises(TrialError, match="no fidelity 5"):
        look_up(evaluator, "aa", 5)
    for wrong in ({"one": "a"}, {"one": "a", "other": "a", "third": "a"}):
        with pytest.raises(TrialError, match="does not hold"):
            list(evaluator(Job(Architecture(wrong))))


@pytest.mark.parametrize(
    ("levels", "default", "message"),
    [
        ({}, None, "at least one fidelity"),
        ({1: Level({"a": (TEST,)})}, 2, "default fidelity 2"),
        ({1: Level({"a": (TEST,)}), 2: Level({"b": (TEST,)})}, None, "every fidelity"),
        ({1: Level({"a": ()})}, None, "every fidelity"),
    ],
)
def test_levels_that_cannot_be(levels, default, message):
    with pytest.raises(InvalidSettings, match=message):
        Tabular(GRID, levels, default=default)


def test_truth_best_and_regret():
    problem = make_problem()
    assert problem.goal == "max"
    assert problem.truth(letters("bc")) == 90.0
    assert problem.best == 95.0
    assert problem.regret(letters("bc")) == 5.0
    assert problem.regret(letters("cc")) == 0.0
    smallest = make_problem(objectives=(Objective("accuracy", "min"),))
    assert (smallest.best, smallest.regret(letters("ab"))) == (50.0, 10.0)


def test_constraints_hold_for_the_truth_too():
    problem = with_latency(constraints=(Constraint("latency_ms", at_most=4),))
    assert problem.best == 90.0
    assert problem.regret(letters("cb")) == 1.0
    assert math.isinf(problem.regret(letters("cc")))
    with pytest.raises(InvalidStudy, match=r"nothing keeps to latency_ms ≤ 0\.5"):
        _ = with_latency(constraints=(Constraint("latency_ms", at_most=0.5),)).best


def test_the_front_is_what_nothing_dominates():
    both = (Objective("accuracy", "max"), Objective("latency_ms", "min"))
    problem = with_latency(objectives=both)
    assert problem.front == ((95.0, 9.0), (90.0, 4.0), (80.0, 2.0), (50.0, 1.0))
    assert problem.best == 95.0


def test_what_cannot_be_measured_is_neither_best_nor_in_front():
    truth = np.where(TEST == 95.0, NAN, TEST)
    problem = make_problem()
    problem = replace(problem, facts=replace(problem.facts, truth={"accuracy": truth}))
    assert problem.best == 90.0
    assert math.isinf(problem.regret(letters("cc")))


def test_a_promotion_costs_the_difference_only_where_training_goes_on():
    first = Trial(0, Proposal(letters("aa"), 1), State.DONE, (Measurement({}, 1, 10.0),))
    second = Trial(
        1, Proposal(letters("aa"), 9, continues=0), State.DONE, (Measurement({}, 9, 90.0),)
    )
    trials = {0: first, 1: second}
    assert make_problem().seconds(second, trials) == 90.0
    assert make_problem(resumable=True).seconds(second, trials) == 80.0
    assert make_problem(resumable=True).seconds(first, trials) == 10.0


def test_a_problem_is_searched_like_any_other():
    problem = make_problem()
    study = problem.study(seed=2, trials=4)
    trials = search(study, RandomSearch(problem.space, study), problem.evaluator(seed=2))
    assert [trial.state for trial in trials] == [State.DONE] * 4
    assert study.budget.trials == 4
    assert problem.study(seed=0).budget.trials is None


def test_isomorphic_architectures_may_share_a_row():
    rows = OnePerForm(GRID, pair)
    assert rows.find(letters("ca")) == rows.find(letters("ac")) == 2
    assert rows.used.tolist() == [m == sorted_letters(m) for m in MEMBERS]


def test_a_table_lists_what_it_holds():
    table = make_table()
    assert list(table.architectures) == MEMBERS
    assert [table.row(architecture) for architecture in table.architectures] == list(range(9))
    assert table.value(letters("cb"), "test") == 89.0
    with pytest.raises(InvalidData, match=r"no column 'speed'; it has \['test', 'latency'\]"):
        table.column("speed")
    short = Table("letters", pair, GRID, {"test": TEST[:5]})
    with pytest.raises(InvalidData, match="5 values for 9 architectures"):
        short.column("test")


def test_columns_are_read_when_they_are_asked_for():
    asked = []
    columns = Lazy({name: lambda name=name: asked.append(name) or TEST for name in ("a", "b")})
    assert list(columns) == ["a", "b"]
    assert "b" in columns
    assert not asked
    assert columns["b"] is columns["b"]
    assert asked == ["b"]


def test_a_member_outside_the_space_is_noticed():
    with pytest.raises(TrialError, match="what is not in its space"):
        Grid(choices(pair, MEMBERS[0]), [("a", "z")], "letters")


def test_problems_cross_to_other_processes():
    problem = pickle.loads(pickle.dumps(make_problem()))
    assert problem.regret(letters("bc")) == 5.0


def test_names_of_problems():
    assert set(PROBLEMS.values()) == set(FAMILIES.values())
    with pytest.raises(InvalidSettings, match="nasbench201"):
        load_problem("no/such")
    own = load_problem(f"{__name__}:own_problem")
    assert own.name.endswith("own_problem")
    with pytest.raises(InvalidSettings, match="is a int, not a Problem"):
        load_problem(f"{__name__}:no_problem")


def own_problem(name, folder):
    return make_problem(name=name)


def no_problem(name, folder):
    return 3


def test_problems_without_files_are_always_available(tmp_path, monkeypatch):
    monkeypatch.setenv("PARTI_CACHE", str(tmp_path))
    monkeypatch.delenv("PARTI_TABLES", raising=False)
    found = available()
    assert found
    assert all(name.startswith("synthetic/") for name in found)


def test_noise_follows_from_the_seed():
    quiet = make_problem().evaluator(oracle=True)
    noisy = Noisy(quiet, {"accuracy": 2.0}, seed=1)
    assert noisy.provides == quiet.provides
    assert look_up(noisy, "ab") == look_up(noisy, "ab")
    seen = [look_up(Noisy(quiet, {"accuracy": 2.0}, seed=s), "ab") for s in range(400)]
    errors = [found.metrics["accuracy"] - 60.0 for found in seen]
    assert abs(np.mean(errors)) < 0.3
    assert np.std(errors) == pytest.approx(2.0, rel=0.1)
    assert {found.seconds for found in seen} == {180.0}
    assert look_up(Noisy(quiet, {}), "ab") == look_up(quiet, "ab")
    for wrong in ({"speed": 1.0}, {"accuracy": -1.0}):
        with pytest.raises(InvalidSettings, match="at least 0"):
            Noisy(quiet, wrong)
