"""Synthetic problems: their optimum is known, and they are hard in the ways they are said to be."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parti.core.errors import InvalidSettings, TrialError
from parti.core.trial import Job, Proposal, State, Trial
from parti.core.walks import architectures, neighbours, sample, size
from parti.executors import run_job
from parti.loop import search
from parti.strategies.random_search import RandomSearch
from parti.tables import PROBLEMS, load_problem
from parti.tables.landscape import Landscape, normal
from parti.testing import SPACES as TOYS
from parti.testing import EvaluatorSuite, SpaceSuite

NAMES = [name for name in PROBLEMS if name.startswith("synthetic/")]
every = pytest.mark.parametrize("name", NAMES)


def drawn(name, count=300, seed=0):
    problem, random = load_problem(name), Random(seed)
    return problem, [sample(problem.space, random) for _ in range(count)]


def ranks(values):
    return np.argsort(np.argsort(values))


class TestEvaluator(EvaluatorSuite):
    def make(self):
        return load_problem("synthetic/limited").evaluator(seed=3)

    def job(self):
        return Job(load_problem("synthetic/limited").facts.optimum, 9)


class TestConditionalSpace(SpaceSuite):
    def make(self):
        return load_problem("synthetic/conditional").space


class TestRecursiveSpace(SpaceSuite):
    def make(self):
        return load_problem("synthetic/recursive").space


@pytest.mark.parametrize("toy", ["tiny", "conditional", "recursive"])
@given(seed=st.integers(0, 10_000), pairs=st.sampled_from([0.0, 1.0, 4.0]))
@settings(max_examples=8, deadline=None)
def test_the_optimum_is_exact_where_it_can_be_listed(toy, seed, pairs):
    tree = TOYS[toy].tree
    landscape = Landscape(tree, f"{seed}", pairs=pairs)
    random = Random(seed)
    some = [tree.sample(random.random) for _ in range(300)]
    listed = list(architectures(TOYS[toy])) if tree.size < 3_000 else some
    best = max(landscape(architecture) for architecture in listed)
    if tree.size < 3_000:
        assert landscape(landscape.optimum()) == pytest.approx(best)
    else:
        assert landscape(landscape.optimum()) >= best


@every
def test_nothing_is_better_than_the_best(name):
    problem, architectures_ = drawn(name)
    optimum = problem.facts.optimum
    for architecture in [*architectures_, *neighbours(problem.space, optimum)]:
        assert problem.regret(architecture) >= 0
        assert not problem.truth(architecture) > 95.0
    if not problem.constraints:
        assert problem.regret(optimum) == 0.0
        assert problem.best == 95.0


@every
def test_the_average_is_far_from_the_best(name):
    problem, found = drawn(name)
    truths = np.array([problem.facts.accuracy(architecture) for architecture in found])
    assert np.median(truths) == pytest.approx(70.0, abs=2.5)
    assert truths.max() < 95.0


@every
def test_lower_fidelities_show_less_of_the_truth(name):
    problem, found = drawn(name)
    truth = ranks([problem.facts.accuracy(architecture) for architecture in found])
    agreement = []
    for fidelity in problem.fidelities:
        seen = ranks([problem.facts.accuracy(architecture, fidelity) for architecture in found])
        agreement.append(np.corrcoef(seen, truth)[0, 1])
    assert agreement == sorted(agreement)
    assert 0.4 < agreement[0] < 0.9
    assert agreement[-1] == pytest.approx(1.0)


@every
def test_one_score_knows_the_truth_and_one_does_not(name):
    problem, found = drawn(name, 1_000)
    truth = ranks([problem.facts.accuracy(architecture) for architecture in found])
    scores = [problem.scores(architecture) for architecture in found]
    agreement = {
        key: np.corrcoef(ranks([score[key] for score in scores]), truth)[0, 1]
        for key in ("informed", "uninformed")
    }
    assert agreement["informed"] > 0.5
    assert abs(agreement["uninformed"]) < 0.4


@every
def test_failing_regions_are_as_large_as_said_and_spare_the_best(name):
    problem, found = drawn(name, 1_000)
    share = np.mean([problem.facts.fails(architecture) for architecture in found])
    assert share <= problem.facts.shape.fails + 0.05
    assert (share > 0) == (problem.facts.shape.fails > 0)
    assert not problem.facts.fails(problem.facts.optimum)
    for architecture in found[:50]:
        outcome = run_job(problem.evaluator(), Job(architecture))
        failed = math.isinf(problem.regret(architecture)) and not problem.constraints
        if failed:
            assert outcome.state is State.FAILED
            assert "fails in this region" in outcome.error


@every
def test_every_problem_is_searched(name):
    problem = load_problem(name)
    study = problem.study(seed=1, trials=10)
    trials = search(study, RandomSearch(problem.space, study), problem.evaluator(seed=1))
    assert len(trials) == 10
    assert any(trial.state is State.DONE for trial in trials)


def test_noise_is_larger_where_accuracy_is_low():
    problem, found = drawn("synthetic/chain", 1)
    spreads = []
    for architecture in (problem.facts.optimum, found[0]):
        seen = []
        for seed in range(300):
            (measured,) = problem.evaluator(seed=seed)(Job(architecture))
            seen.append(measured.metrics["val_accuracy"])
        spreads.append(np.std(seen))
        truth = problem.truth(architecture)
        assert np.mean(seen) == pytest.approx(truth, abs=0.15)
        assert spreads[-1] == pytest.approx(0.1 + 0.02 * (95 - truth), rel=0.15)
    assert spreads[0] < spreads[1] / 3


def test_oracle_measures_the_truth_at_the_full_fidelity():
    problem, (architecture,) = drawn("synthetic/fronts", 1)
    oracle = problem.evaluator(seed=1, oracle=True)
    (measured,) = oracle(Job(architecture))
    assert measured.metrics == problem.truths(architecture)
    for fidelity, evaluator in ((9, oracle), (2, problem.evaluator())):
        with pytest.raises(TrialError, match=f"no fidelity {fidelity}"):
            list(evaluator(Job(architecture, fidelity)))


def test_going_on_costs_the_difference():
    problem, (architecture,) = drawn("synthetic/wide", 1)
    evaluator = problem.evaluator()
    trials = {}
    for number, (fidelity, before) in enumerate([(3, None), (27, 0)]):
        measurements = tuple(evaluator(Job(architecture, fidelity)))
        proposal = Proposal(architecture, fidelity, continues=before)
        trials[number] = Trial(number, proposal, State.DONE, measurements)
    first, second = (problem.seconds(trials[number], trials) for number in (0, 1))
    assert second == pytest.approx(8 * first)
    assert trials[1].seconds == pytest.approx(9 * first)


def test_limits_and_fronts_are_those_of_all_members():
    limited = load_problem("synthetic/limited")
    (limit,) = limited.constraints
    allowed = [
        limited.truth(architecture)
        for architecture in architectures(limited.space)
        if limit.allows(limited.truths(architecture).get("latency_ms", math.nan))
    ]
    assert limited.best == max(allowed)
    assert 0.1 < len(allowed) / size(limited.space) < 0.35
    fronts = load_problem("synthetic/fronts")
    assert len(fronts.front) > 3
    assert fronts.front[0][0] == 95.0
    assert list(fronts.front) == sorted(fronts.front, reverse=True)
    latencies = [latency for _, latency in fronts.front]
    assert latencies == sorted(latencies, reverse=True)


def test_draws_are_normal_and_follow_from_their_text():
    assert normal("a") == normal("a") != normal("b")
    values = [normal(f"{number}") for number in range(4_000)]
    assert np.mean(values) == pytest.approx(0.0, abs=0.06)
    assert np.std(values) == pytest.approx(1.0, abs=0.05)


def test_numbers_do_not_change_by_accident():
    found = {name: load_problem(name).facts.accuracy(drawn(name, 1)[1][0]) for name in NAMES}
    assert found == pytest.approx(EXPECTED, abs=1e-6)


EXPECTED = {
    "synthetic/chain": 67.664086,
    "synthetic/conditional": 64.482228,
    "synthetic/mixed": 67.531936,
    "synthetic/recursive": 75.55776,
    "synthetic/rugged": 80.560463,
    "synthetic/wide": 67.573831,
    "synthetic/fronts": 70.941597,
    "synthetic/limited": 55.288783,
}


def test_unknown_problems_are_named():
    with pytest.raises(InvalidSettings, match="choose one of synthetic/chain"):
        load_problem("synthetic/nothing")
