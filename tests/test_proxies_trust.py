"""Ranks of several proxies, and how far each is trusted."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.study import Objective
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.proxies.ranks import log_rank_sum, rank_mean, ranks
from parti.proxies.trust import trust, trust_in

whole = st.integers(-50, 50).map(float)


@given(st.lists(whole, min_size=1, max_size=30))
def test_ranks_are_those_of_scipy(values: list[float]):
    assert ranks(values).tolist() == stats.rankdata(values).tolist()


def test_what_is_not_a_number_ranks_last():
    assert ranks([math.nan, 1, -math.inf, 2, math.inf]).tolist() == [1.5, 3, 1.5, 4, 5]
    worst = rank_mean({"a": [3, math.nan, 1]}, {"a": "min"})
    assert worst.tolist() == [0.5, 0, 1]


@given(st.lists(st.tuples(whole, whole), min_size=2, max_size=20))
def test_only_the_order_of_scores_counts(pairs: list[tuple[float, float]]):
    a, b = (list(column) for column in zip(*pairs, strict=True))
    stretched = [math.exp(v / 10) for v in a]
    for combine in (rank_mean, log_rank_sum):
        assert combine({"a": a, "b": b}).tolist() == combine({"a": stretched, "b": b}).tolist()


def test_log_ranks_punish_what_is_bad_at_one_thing():
    scores = {"a": [1.0, 2, 3, 4, 5], "b": [5.0, 3, 3, 3, 1]}
    even, extreme = log_rank_sum(scores)[2], log_rank_sum(scores)[[0, 4]]
    assert rank_mean(scores)[2] == pytest.approx(rank_mean(scores)[0])
    assert (even > extreme).all()
    assert log_rank_sum({"a": [1.0, 2], "b": [1.0, 2]})[1] == 0


@pytest.mark.parametrize("scores", [{}, {"a": []}, {"a": [1.0], "b": [1.0, 2.0]}])
def test_candidates_must_be_the_same(scores: dict[str, list[float]]):
    with pytest.raises(InvalidSettings, match="same candidates"):
        rank_mean(scores)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(whole, whole), min_size=3, max_size=25))
def test_correlations_are_those_of_scipy(pairs: list[tuple[float, float]]):
    x, y = zip(*pairs, strict=True)
    found = trust("p", x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found.spearman)
        assert "too few, or too alike" in found.verdict
    else:
        assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
        assert found.kendall == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-9)


def noisy(n: int, noise: float, seed: int = 0) -> tuple[list[float], list[float]]:
    random = np.random.default_rng(seed)
    x = random.normal(size=n)
    return x.tolist(), (x + noise * random.normal(size=n)).tolist()


def test_the_sentence_follows_the_lower_end_of_the_interval():
    scores, worth = noisy(60, 0.2)
    assert "ranked well" in trust("p", scores, worth).verdict
    assert "misled" in trust("p", scores, worth, goal="min").verdict
    assert "misled" in trust("p", [-s for s in scores], worth).verdict
    assert "usefully" in trust("p", *noisy(60, 1.0)).verdict
    assert "not to be trusted" in trust("p", *noisy(60, 20)).verdict
    assert "too few" in trust("p", scores[:5], worth[:5]).verdict


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    truth = 6 / math.pi * math.asin(1 / math.sqrt(2) / 2)  # Spearman of a bivariate normal
    found = [trust("p", *noisy(40, 1.0, seed), confidence=0.9) for seed in range(30)]
    inside = sum(t.low <= truth <= t.high for t in found)
    assert 22 <= inside <= 30
    assert all(t.low <= t.spearman <= t.high for t in found)


def test_more_candidates_make_it_narrower_and_a_seed_repeats_it():
    few, many = trust("p", *noisy(15, 1.0)), trust("p", *noisy(200, 1.0))
    assert many.high - many.low < few.high - few.low
    assert trust("p", *noisy(15, 1.0)) == few


def trial(number: int, state: State = State.DONE, **metrics: float) -> Trial:
    return Trial(number, Proposal(Architecture({"a": number})), state, (Measurement(metrics),))


def test_a_study_is_read_trial_by_trial():
    scores, worth = noisy(20, 0.1)
    trials = [
        trial(i, good=s, bad=-s, val_loss=-w)
        for i, (s, w) in enumerate(zip(scores, worth, strict=True))
    ]
    trials += [trial(20, State.FAILED, good=1.0), trial(21, good=1.0)]  # without a loss
    found = trust_in(trials, Objective("val_loss", "min"), ["bad", "absent", "good"])
    assert [t.proxy for t in found] == ["good", "bad", "absent"]
    assert [t.n for t in found] == [20, 20, 0]
    assert found[0].spearman == pytest.approx(-found[1].spearman)
    turned = trust_in(trials, Objective("val_loss", "min"), ["bad"], goals={"bad": "min"})
    assert turned[0].spearman == found[0].spearman


def test_a_score_of_minus_infinity_is_ranked_last():
    scores, worth = noisy(20, 0.1)
    lowest = int(np.argmin(worth))
    scores[lowest] = -math.inf
    assert trust("p", scores, worth).n == 20


def test_bad_input_is_told():
    with pytest.raises(InvalidSettings, match="2 scores, 1 accuracies"):
        trust("p", [1, 2], [1])
    with pytest.raises(InvalidSettings, match="confidence 1"):
        trust("p", [1, 2], [1, 2], confidence=1)


def test_neither_needs_torch():
    import subprocess
    import sys

    code = "import sys, parti.proxies.trust, parti.proxies.ranks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
