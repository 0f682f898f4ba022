"""Intervals: Wilson's against published values, the bootstrap against theory and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parti.core.errors import InvalidSettings
from parti.tasks.classification import report
from parti.tasks.confidence import auc_by_class
from parti.tasks.intervals import bootstrap, wilson


def test_wilson_equals_published_values():
    # R. G. Newcombe, Statistics in Medicine 17, 1998, table I
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)


@given(n=st.integers(1, 5000), share=st.floats(0, 1), level=st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_mirrors(n, share, level):
    hits = round(share * n)
    low, high = wilson(hits, n, level)
    assert 0 <= low <= hits / n <= high <= 1
    assert wilson(n - hits, n, level) == pytest.approx((1 - high, 1 - low))
    wider = wilson(hits, n, (1 + level) / 2)
    assert wider[0] <= low
    assert wider[1] >= high


@pytest.mark.parametrize(
    ("hits", "n", "level"), [(1, 0, 0.95), (-1, 5, 0.95), (3, 2, 0.95), (1, 2, 1.0)]
)
def test_wilson_refuses_the_impossible(hits, n, level):
    with pytest.raises(InvalidSettings, match=r"must|between"):
        wilson(hits, n, level)


def test_every_resample_keeps_the_size_of_each_stratum():
    strata = torch.tensor([2, 0, 0, 1, 2, 2, 0])
    seen = []

    def sizes(counts):
        seen.append(counts)
        return torch.stack([counts[strata == s].sum(0) for s in range(3)])

    bounds = bootstrap(sizes, strata, resamples=200)
    assert bounds.tolist() == [[3, 3], [1, 1], [3, 3]]
    counts = torch.cat(seen, 1)
    assert counts.shape == (7, 200)
    assert counts.mean(1) == pytest.approx(1, abs=0.25)


def test_the_bootstrap_of_a_mean_has_the_width_of_theory():
    values = torch.randn(400, generator=torch.Generator().manual_seed(1))
    (bounds,) = bootstrap(lambda c: (values @ c / 400)[None], torch.zeros(400), resamples=4000)
    half = 1.96 * values.std(correction=0).item() / 20
    assert bounds == pytest.approx(values.mean().item() + np.array([-half, half]), rel=0.1)


def test_resamples_in_several_parts_follow_from_the_seed(monkeypatch):
    values = torch.arange(50.0)
    strata = torch.arange(50) % 5
    find = lambda seed: bootstrap(lambda c: (values @ c)[None], strata, seed=seed).tolist()  # noqa: E731
    whole = find(3)
    assert find(3) == whole
    assert find(4) != whole
    monkeypatch.setattr("parti.tasks.intervals.AT_ONCE", 50 * 64)
    (parts,), (once,) = find(3), whole
    assert parts == pytest.approx(once, rel=0.02)


@pytest.mark.parametrize("arguments", [{"resamples": 0}, {"level": 0.0}, {"strata": torch.ones(0)}])
def test_the_bootstrap_refuses_the_impossible(arguments):
    with pytest.raises(InvalidSettings, match=r"at least one|between 0 and 1"):
        bootstrap(lambda c: c, **{"strata": torch.zeros(3), **arguments})


def predictions(n, classes, seed=0, skill=1.5):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    logits = torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), labels] += skill
    return logits, labels


def by_hand(logits, labels, metric, resamples=500):
    """The same bootstrap, one resample after the other."""
    random = np.random.default_rng(0)
    groups = [np.flatnonzero(labels == c) for c in np.unique(labels)]
    drawn = [
        metric(*(x[picks] for x in (logits, labels)))
        for _ in range(resamples)
        for picks in [np.concatenate([random.choice(g, len(g)) for g in groups])]
    ]
    return np.quantile(drawn, [0.025, 0.975])


def f1(guessed, true):
    return 2 * (guessed & true).sum() / (guessed.sum() + true.sum())


def area(inside, outside):
    return (inside[:, None] > outside).mean()


def test_bounds_of_f1_loss_and_auc_are_those_of_resampling_one_by_one():
    logits, labels = predictions(150, 3)
    found = report(logits, labels, "abc", resamples=3000)["intervals"]
    shares, truth = logits.double().softmax(1).numpy(), labels.numpy()
    expected = {
        "f1": lambda s, y: np.mean([f1(s.argmax(1) == c, y == c) for c in range(3)]),
        "loss": lambda s, y: -np.log(s[np.arange(len(y)), y]).mean(),
        "brier": lambda s, y: np.mean(((s - np.eye(3)[y]) ** 2).sum(1)),
        "auc": lambda s, y: np.mean([area(s[y == c, c], s[y != c, c]) for c in range(3)]),
    }
    for name, metric in expected.items():
        bounds = by_hand(shares, truth, metric)
        width = bounds[1] - bounds[0]
        assert found[name] == pytest.approx(bounds, abs=0.2 * width), name


def test_areas_and_their_terms():
    from sklearn import metrics as sk

    logits, labels = predictions(80, 4)
    logits = logits.round(decimals=0)  # many ties
    shares = logits.softmax(1)
    areas, terms = auc_by_class(shares, labels)
    expected = [sk.roc_auc_score(labels == c, shares[:, c]) for c in range(4)]
    assert areas.tolist() == pytest.approx(expected)
    assert (terms.T @ torch.ones(80)).tolist() == pytest.approx((2 * areas).tolist(), rel=1e-5)


def test_of_a_perfect_classifier_shares_have_width_and_areas_end_at_1():
    found = report(20 * torch.eye(3).repeat(9, 1), torch.arange(3).repeat(9), "abc", resamples=99)
    assert found["intervals"]["accuracy"][0] < 0.9
    for row in (found, *found["per_class"]):
        low, high = row["intervals"]["auc"]
        assert low == pytest.approx(1, abs=1e-5)
        assert low <= high <= 1


def test_a_bound_is_left_out_where_there_is_nothing_to_measure():
    logits, labels = predictions(60, 4)
    logits, labels = logits[labels < 3], labels[labels < 3]
    found = report(logits, labels, "abcd", resamples=50)
    assert "auc" not in found["intervals"]
    assert set(found["per_class"][3]["intervals"]) <= {"precision"}
    assert found["per_class"][3]["auc"] is None
    assert "prediction_kl" not in found  # a class is predicted that does not occur
    assert "prediction_kl" not in found["intervals"]


def test_most_intervals_hold_the_true_value():
    """Of 60 samples of 200 from a classifier whose ECE is 0 by construction."""
    held = {"accuracy": 0, "loss": 0, "ece": 0}
    generator = torch.Generator().manual_seed(2)
    big = 2 * torch.randn(20_000, 3, generator=generator)
    big_labels = torch.multinomial(big.softmax(1), 1, generator=generator).squeeze(1)
    truth = {
        "accuracy": (big.argmax(1) == big_labels).double().mean().item(),
        "loss": torch.nn.functional.cross_entropy(big, big_labels).item(),
        "ece": 0.0,
    }
    for part in range(60):
        some = slice(200 * part, 200 * part + 200)
        bounds = report(big[some], big_labels[some], "abc", resamples=200, seed=part)["intervals"]
        for name in held:
            low, high = bounds[name]
            held[name] += low - 0.01 <= truth[name] <= high
    assert held["accuracy"] >= 52
    assert held["loss"] >= 50
    assert held["ece"] >= 42  # at its bound no bootstrap keeps its level; percentiles hold 0 never
