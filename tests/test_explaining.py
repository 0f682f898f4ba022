"""Importance, neighbours, trade-offs and rejections: sums that can be checked by hand."""

from __future__ import annotations

import json
import math
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import parti
from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.study import Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.core.walks import architectures, distance, neighbours, sample
from parti.explaining.decisions import ABSENT, comparable, decisions_of
from parti.explaining.differences import independent_difference, paired_difference
from parti.explaining.explain import explain
from parti.explaining.forest import fit_forest
from parti.explaining.importance import importance
from parti.explaining.neighbours import one_change
from parti.explaining.rejected import rejections
from parti.explaining.tradeoffs import tradeoffs

STUDY = Study("s", (Objective("val_accuracy", "max"),))


@parti.space
def flat() -> Any:
    """Two scales, and an operation that does nothing."""
    return (
        parti.choose("width", [1, 2, 3, 4]),
        parti.choose("depth", [1, 2, 3]),
        parti.choose("idle", ["a", "b", "c"]),
    )


@parti.space
def nested() -> Any:
    """A decision that exists under one option only, and a node that takes two of three inputs."""
    kind = parti.one_of("kind", {"big": lambda: parti.choose("size", [1, 2, 3]), "none": lambda: 0})
    return kind, parti.some_of("inputs", {k: lambda: 0 for k in "xyz"}, 2)


def trial(number: int, decisions: Any, fidelity: int | None = None, **metrics: float) -> Trial:
    proposal = Proposal(Architecture(decisions), fidelity)
    return Trial(number, proposal, State.DONE, (Measurement(metrics),))


def all_of(space: Any, value: Any) -> list[Trial]:
    return [trial(n, dict(a), val_accuracy=value(a)) for n, a in enumerate(architectures(space))]


def forest_of(space: Any, trials: list[Trial], **more: Any) -> Any:
    found = [t.architecture for t in trials]
    return fit_forest(
        decisions_of(space, found), found, [t.metric("val_accuracy") for t in trials], **more
    )


def test_additive_effects_get_the_shares_of_their_variances() -> None:
    trials = all_of(flat, lambda a: 0.1 * a["width"] + 0.05 * a["depth"])
    found = importance(forest_of(flat, trials, trees=200), "val_accuracy", len(trials))
    shares = {e.decisions[0]: e.share for e in found.main}
    width, depth = 0.01 * np.var([1, 2, 3, 4]), 0.0025 * np.var([1, 2, 3])
    assert shares["width"] == pytest.approx(width / (width + depth), abs=0.05)
    assert shares["depth"] == pytest.approx(depth / (width + depth), abs=0.05)
    assert shares["idle"] < 0.01
    assert found.main[0].decisions == ("width",)
    assert list(found.main[0].means) == sorted(found.main[0].means)
    assert found.trusted
    assert found.pairs[0].share < 0.05


def test_an_interaction_is_not_taken_for_main_effects() -> None:
    trials = all_of(flat, lambda a: float((a["width"] > 2) == (a["depth"] > 1)))
    found = importance(forest_of(flat, trials), "val_accuracy", len(trials))
    assert set(found.pairs[0].decisions) == {"width", "depth"}
    assert found.pairs[0].share > max(e.share for e in found.main)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_sums_over_leaves_equal_sums_over_all_architectures(seed: int) -> None:
    random = Random(seed)
    drawn = [sample(nested, random) for _ in range(12)]
    trials = [trial(n, dict(a), val_accuracy=random.random()) for n, a in enumerate(drawn)]
    forest = forest_of(nested, trials, seed=seed, trees=3)
    choices = forest.decisions.choices
    grid = np.array(list(product(*(range(len(c.options)) for c in choices))))
    for tree in forest.trees:
        values = tree.predict(grid)
        assert tree.weights.sum() == pytest.approx(1)
        assert tree.weights @ tree.values == pytest.approx(values.mean())
    found = importance(forest, "val_accuracy", 12)
    by_tree = []
    for tree in forest.trees:
        values = tree.predict(grid)
        if np.var(values) > 0:
            means = [
                [values[grid[:, c] == o].mean() for o in range(len(choice.options))]
                for c, choice in enumerate(choices)
            ]
            by_tree.append([np.var(m) / np.var(values) for m in means])
    expected = np.mean(by_tree, axis=0) if by_tree else np.zeros(len(choices))
    got = {e.decisions[0]: e.share for e in found.main}
    for choice, share in zip(choices, expected, strict=True):
        assert got[choice.name] == pytest.approx(share, abs=1e-9)


def test_a_decision_that_does_not_exist_is_averaged_over() -> None:
    trials = all_of(nested, lambda a: 0.1 * a.get("kind=big/size", 5))
    forest = forest_of(nested, trials)
    places = forest.decisions.places(
        [t.architecture for t in trials if t.architecture["kind"] == "none"]
    )
    size = [c.name for c in forest.decisions.choices].index("kind=big/size")
    assert (places[:, size] == ABSENT).all()
    for tree in forest.trees:
        every = [places.copy() for _ in range(3)]
        for option, filled in enumerate(every):
            filled[:, size] = option
        mean = np.mean([tree.predict(filled) for filled in every], axis=0)
        assert tree.predict(places) == pytest.approx(mean)


def test_noise_is_not_explained() -> None:
    random = Random(3)
    trials = all_of(flat, lambda a: random.random())
    found = importance(forest_of(flat, trials), "val_accuracy", len(trials))
    assert not found.trusted
    assert "not to be relied on" in found.note


def test_too_few_trials_are_said_to_be() -> None:
    found = importance(None, "val_accuracy", 4)
    assert found.main == ()
    assert "4 comparable" in found.note
    assert "at least 10" in found.note


def test_accuracies_of_different_length_are_not_compared() -> None:
    short = [trial(n, {"width": n}, 1, val_accuracy=0.1 * n) for n in range(4)]
    long = [trial(4 + n, {"width": n}, 9, val_accuracy=0.9) for n in range(2)]
    assert comparable(STUDY, [*long, *short]) == short
    repeated = trial(9, {"width": 0}, 9, val_accuracy=0.8)
    assert [t.number for t in comparable(STUDY, [*long, repeated])] == [5, 9]


def test_without_a_tree_the_options_are_those_seen() -> None:
    found = decisions_of(None, [Architecture({"w": 8, "k": "a"}), Architecture({"w": 4, "k": "b"})])
    assert [(c.name, c.options, c.ordered) for c in found.choices] == [
        ("w", (4, 8), True),
        ("k", ("a", "b"), False),
    ]


# --- neighbours ---


def test_every_one_change_neighbour_is_there_once() -> None:
    winner = Architecture({"width": 2, "depth": 1, "idle": "a"})
    known = [trial(0, dict(winner), val_accuracy=0.5, params=10, macs=7)]
    better = dict(winner) | {"depth": 3}
    known.append(trial(1, better, val_accuracy=0.8, params=30, macs=7))
    counted = []

    def count(architecture: Architecture) -> dict[str, float]:
        counted.append(architecture)
        return {"params": 100.0, "macs": 1.0}

    changes = one_change(flat, STUDY, winner, known, None, count)
    assert len(changes) == len(list(neighbours(flat, winner))) == 3 + 2 + 2
    first = changes[0]
    assert (first.decision, first.before, first.after) == ("depth", 1, 3)
    assert (first.trial, first.params, first.macs) == (1, 20, 0)
    assert first.gain == pytest.approx(0.3)
    assert all(c.gain is None and not c.measured and c.params == 90 for c in changes[1:])
    assert len(counted) == 6  # what trials measured is not counted again


def test_predicted_changes_follow_what_was_seen() -> None:
    trials = all_of(flat, lambda a: 0.1 * a["width"])
    seen = [t for t in trials if t.architecture["width"] != 3]
    winner = Architecture({"width": 2, "depth": 1, "idle": "a"})
    own = [t for t in seen if distance(t.architecture, winner) != 1]
    changes = one_change(flat, STUDY, winner, own, forest_of(flat, own))
    assert (changes[0].decision, changes[0].after) == ("width", 4)
    assert changes[0].gain == pytest.approx(0.2, abs=0.05)
    assert changes[-1].after == 1
    worst = Study("s", (Objective("val_accuracy", "min"),))
    assert one_change(flat, worst, winner, own, forest_of(flat, own))[0].after == 1


# --- what the front trades ---


def test_the_knee_is_where_more_cost_buys_little() -> None:
    rows = [(0.90, 1e3), (0.95, 2e3), (0.955, 64e3), (0.94, 32e3)]
    trials = [trial(n, {"n": n}, val_accuracy=a, params=p) for n, (a, p) in enumerate(rows)]
    (found,) = tradeoffs(STUDY, trials, samples=1000)
    assert found.trials == (2, 1, 0)
    assert found.knee == 1
    assert found.gain == pytest.approx(0.005)
    assert found.factor == pytest.approx(32)
    assert found.level == 1  # 0.5 points are within a standard error on 1,000 images, 5.5 are not
    (sure,) = tradeoffs(STUDY, trials, samples=1_000_000)
    assert sure.level == 0


def test_a_front_of_one_trades_nothing() -> None:
    trials = [
        trial(0, {"n": 0}, val_accuracy=0.9, params=1),
        trial(1, {"n": 1}, val_accuracy=0.8, params=2),
    ]
    assert tradeoffs(STUDY, trials) == []


# --- why rejected ---


def test_each_reason_is_counted_once() -> None:
    study = Study("s", (Objective("val_accuracy", "max"),), (Constraint("params", at_most=100),))
    trials = [
        trial(0, {"n": 0}, val_accuracy=0.5, params=90),
        trial(1, {"n": 1}, val_accuracy=0.6, params=95),
        trial(2, {"n": 2}, val_accuracy=0.9, params=120),
        Trial(
            3,
            Proposal(Architecture({"n": 3})),
            State.REJECTED,
            (Measurement({"params": 300}),),
            "x",
        ),
        Trial(4, Proposal(Architecture({"n": 4})), State.FAILED, (), "out of memory at 64\n  more"),
        Trial(5, Proposal(Architecture({"n": 5})), State.FAILED, (), "out of memory at 128"),
        Trial(6, Proposal(Architecture({"n": 6})), State.RUNNING),
    ]
    found = rejections(study, trials)
    (limit,) = found.broken
    assert (limit.count, limit.untrained, limit.closest, limit.farthest) == (2, 1, 120, 300)
    assert (limit.best, limit.best_trial, limit.best_value) == (0.9, 2, 120)
    (failure,) = found.failed
    assert (failure.reason, failure.count, failure.trials) == ("out of memory at 64", 2, (4, 5))
    assert (found.dominated, found.front) == (1, 1)
    assert found.rungs == ()


def test_rungs_say_who_was_stopped() -> None:
    trials = [trial(n, {"n": n}, 1, val_accuracy=0.1) for n in range(4)]
    trials += [trial(4, {"n": 2}, 3, val_accuracy=0.2), trial(5, {"n": 3}, 3, val_accuracy=0.2)]
    trials.append(trial(6, {"n": 3}, 9, val_accuracy=0.3))
    rungs = [(r.fidelity, r.trials, r.stopped) for r in rejections(STUDY, trials).rungs]
    assert rungs == [(1, 4, 2), (3, 2, 1), (9, 1, 1)]


# --- differences of accuracies ---


def test_the_paired_test_counts_only_where_models_disagree() -> None:
    both = np.ones(900, dtype=bool)
    first = np.concatenate([both, np.zeros(10, dtype=bool), np.ones(0, dtype=bool)])
    second = np.concatenate([both, np.ones(10, dtype=bool), np.zeros(0, dtype=bool)])
    found = paired_difference(first, second)
    assert found.chance == pytest.approx(2 * 0.5**10)
    assert found.real
    assert found.value == pytest.approx(10 / 910)
    same = paired_difference(first, first)
    assert (same.chance, same.real, same.value) == (1.0, False, 0.0)
    # No image tells them apart: so few leave much open (Agresti and Min).
    few = paired_difference(first[:18], first[:18])
    assert (few.low, few.high) == pytest.approx((-1.959964 / 20, 1.959964 / 20))
    assert same.high < few.high / 20
    # The same accuracies, independently: ten in 910 are not beyond chance.
    assert not independent_difference(900 / 910, 400, 1.0, 400).real


@given(lost=st.integers(0, 30), won=st.integers(0, 30), alike=st.integers(1, 100))
def test_the_exact_chance_equals_the_binomial_sum(lost: int, won: int, alike: int) -> None:
    first = np.array([True] * (lost + alike) + [False] * won)
    second = np.array([False] * lost + [True] * (alike + won))
    n = lost + won
    tail = sum(math.comb(n, k) for k in range(min(lost, won) + 1)) / 2**n
    assert paired_difference(first, second).chance == pytest.approx(min(1.0, 2 * tail))


def test_differences_refuse_nonsense() -> None:
    with pytest.raises(InvalidSettings, match="at least one"):
        paired_difference(np.array([], dtype=bool), np.array([], dtype=bool))
    with pytest.raises(InvalidSettings, match="from 0 to 1"):
        independent_difference(1.2, 10, 0.5, 10)


# --- all at once ---


def test_an_explanation_is_json_even_of_almost_nothing() -> None:
    empty = explain(STUDY, [], {})
    assert json.loads(json.dumps(empty, allow_nan=False)) == empty
    assert empty["importance"]["main"] == []
    trials = all_of(flat, lambda a: 0.1 * a["width"])
    best = max(trials, key=lambda t: t.metric("val_accuracy"))
    result = {"best": {"architecture": dict(best.architecture)}}
    full = explain(STUDY, trials, result, space=flat)
    assert json.loads(json.dumps(full, allow_nan=False)) == full
    assert len(full["changes"]) == full["changes_in_all"] == 7
    assert all(change["measured"] for change in full["changes"])
