"""Architectures, objectives, constraints, fronts: values and their properties."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti import (
    Architecture,
    Budget,
    Constraint,
    Measurement,
    Objective,
    Proposal,
    State,
    Study,
    Trial,
    best,
    pareto_front,
)
from parti.core.errors import InvalidArchitecture, InvalidStudy

options = (
    st.text(max_size=5)
    | st.integers(-(2**53), 2**53)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.lists(st.text(max_size=3)).map(tuple)
)
decisions = st.dictionaries(st.text(min_size=1, max_size=5), options, max_size=6)


@given(decisions)
def test_json_gives_the_same_back(taken) -> None:
    architecture = Architecture(taken)
    again = Architecture.from_json(architecture.to_json())
    assert again.decisions == taken
    assert {n: type(o) for n, o in again.items()} == {n: type(o) for n, o in taken.items()}
    assert again.fingerprint == architecture.fingerprint


@given(decisions, st.randoms())
def test_order_does_not_matter_for_equality(taken, random) -> None:
    items = list(taken.items())
    random.shuffle(items)
    assert Architecture(dict(items)) == Architecture(taken)
    assert hash(Architecture(dict(items))) == hash(Architecture(taken))


@given(decisions, decisions)
def test_different_decisions_have_different_fingerprints(one, other) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (Architecture(one).fingerprint == Architecture(other).fingerprint) is same


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    code = "import parti; print(parti.Architecture({'b': ('x',), 'a': 1.5}).fingerprint)"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True,
            text=True, check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert runs == {Architecture({"a": 1.5, "b": ("x",)}).fingerprint}


def test_architectures_do_not_change() -> None:
    taken = {"a": 1}
    architecture = Architecture(taken)
    taken["a"] = 2
    architecture.decisions["a"] = 3
    assert architecture["a"] == 1
    assert architecture.taking(a=4, b=5) == Architecture({"a": 4, "b": 5})
    with pytest.raises(TypeError):
        architecture["a"] = 2


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": null}', '{"a": [1]}', '{"a": {}}'])
def test_what_is_no_architecture_is_refused(text: str) -> None:
    with pytest.raises(InvalidArchitecture):
        Architecture.from_json(text)


def trial(number: int, state: State = State.DONE, **metrics: float) -> Trial:
    return Trial(number, Proposal(Architecture({"n": number})), state, (Measurement(metrics),))


def test_losses_turn_directions_around_once() -> None:
    assert Objective("accuracy", "max").loss(trial(0, accuracy=0.9)) == -0.9
    assert Objective("latency_ms", "min").loss(trial(0, latency_ms=3.0)) == 3.0
    assert Objective("accuracy", "max").loss(trial(0)) == math.inf
    assert Objective("accuracy", "max").loss(trial(0, State.FAILED, accuracy=1)) == math.inf


two = (Objective("a", "max"), Objective("b", "min"))
points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25)


@given(points)
def test_the_front_is_what_nothing_dominates(found) -> None:
    study = Study("s", two)
    trials = [trial(n, a=a, b=b) for n, (a, b) in enumerate(found)]
    front = {(t.metrics["a"], t.metrics["b"]) for t in pareto_front(study, trials)}
    expected = {
        p for p in found
        if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in found)
    }  # fmt: skip
    assert front == expected
    assert len(pareto_front(study, trials)) == len(front)


def test_the_best_keeps_to_the_constraints() -> None:
    study = Study("s", (Objective("a", "max"),), (Constraint("size", at_most=10),))
    trials = [
        trial(0, a=0.9, size=11),
        trial(1, a=0.7, size=10),
        trial(2, a=0.8),
        trial(3, State.REJECTED, a=0.99, size=1),
        trial(4, a=0.6, size=1),
    ]
    assert best(study, trials) == trials[1]
    assert best(study, []) is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Objective("a", "up"), "'up' is not 'min' or 'max'"),
        (lambda: Constraint("a"), "needs at_most or at_least"),
        (lambda: Constraint("a", at_most=1, at_least=2), "cannot both hold"),
        (lambda: Budget(trials=0), "more than 0"),
        (lambda: Budget(seconds=-1), "more than 0"),
        (lambda: Study("", two), "needs a name"),
        (lambda: Study("s", ()), "at least one objective"),
        (lambda: Study("s", (two[0], two[0])), "twice"),
    ],
)
def test_impossible_questions_are_refused(make, said: str) -> None:
    with pytest.raises(InvalidStudy, match=said):
        make()
