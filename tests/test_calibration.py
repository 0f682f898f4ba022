"""Calibration against hand-made cases, and temperature scaling against a search."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from parti.core.errors import Diverged, InvalidData, InvalidSettings
from parti.tasks.calibration import (
    bin_numbers,
    brier_by_class,
    brier_score,
    calibration_error,
    calibration_error_by_class,
    fit_temperature,
    reliability,
)
from parti.tasks.classification import report


def sure(*shares):
    """Logits of two classes whose first has these probabilities."""
    first = torch.tensor(shares, dtype=torch.float64)
    return torch.stack([first, 1 - first], 1).log()


def calibrated(n, classes, seed=0, scale=2.0):
    """Labels drawn from the very probabilities that the logits say."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)


def test_by_hand():
    logits = sure(0.95, 0.95, 0.95, 0.95, 0.55, 0.55)
    labels = torch.tensor([0, 0, 0, 1, 1, 0])
    # 4 images at 0.95, of which 3 are right; 2 at 0.55, of which 1 is
    assert calibration_error(logits, labels, bins=10) == pytest.approx(
        4 / 6 * 0.2 + 2 / 6 * 0.05, abs=1e-6
    )
    low, high = reliability(logits, labels, bins=10)
    assert (low.n, low.low, low.high) == (2, 0.5, 0.6)
    assert (high.n, high.accuracy) == (4, 0.75)
    assert high.confidence == pytest.approx(0.95)
    squares = (3 * 0.05**2 + 0.95**2 + 0.55**2 + 0.45**2) / 6
    assert brier_score(logits, labels) == pytest.approx(2 * squares, abs=1e-6)
    assert brier_by_class(logits, labels) == pytest.approx([squares, squares], abs=1e-6)


def test_bins_hold_their_upper_edge():
    edges = torch.tensor([0.0, 0.1, 0.1000001, 0.2, 1.0], dtype=torch.float64)
    assert bin_numbers(edges, 10).tolist() == [0, 0, 1, 1, 9]


def test_adaptive_bins_are_of_one_size_and_keep_equals_together():
    confidence = torch.rand(90, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert bin_numbers(confidence, 15, adaptive=True).bincount().tolist() == [6] * 15
    alike = torch.cat([torch.full((50,), 1.0), torch.linspace(0.2, 0.4, 10)])
    numbers = bin_numbers(alike, 15, adaptive=True)
    assert len(set(numbers[:50].tolist())) == 1
    assert not set(numbers[50:].tolist()) & set(numbers[:50].tolist())


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 60),
    classes=st.integers(2, 6),
    seed=st.integers(0, 99),
    bins=st.integers(1, 20),
)
def test_bins_add_up_to_the_error_in_any_order(n, classes, seed, bins):
    logits, labels = calibrated(n, classes, seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for adaptive in (False, True):
        found = reliability(logits, labels, bins=bins, adaptive=adaptive)
        assert sum(one.n for one in found) == n
        assert all(one.low <= one.confidence + 1e-9 for one in found)
        assert all(one.confidence <= one.high + 1e-9 for one in found)
        error = sum(one.n * abs(one.confidence - one.accuracy) for one in found) / n
        assert calibration_error(logits, labels, bins=bins, adaptive=adaptive) == pytest.approx(
            error, abs=1e-9
        )
        again = calibration_error(logits[order], labels[order], bins=bins, adaptive=adaptive)
        assert again == pytest.approx(error, abs=1e-9)


def test_a_calibrated_classifier_has_little_error_and_a_boastful_one_much():
    logits, labels = calibrated(20_000, 5)
    assert calibration_error(logits, labels) < 0.02
    assert max(calibration_error_by_class(logits, labels)) < 0.01
    assert calibration_error(3 * logits, labels) > 0.1
    assert max(calibration_error_by_class(3 * logits, labels)) > 0.03


def test_each_class_by_itself_by_hand():
    logits, labels = sure(0.8, 0.8, 0.3), torch.tensor([0, 1, 1])
    # class 0: two at 0.8, of which one is it; one at 0.3, which is not
    assert calibration_error_by_class(logits, labels, bins=5) == pytest.approx(
        [(2 * 0.3 + 0.3) / 3] * 2, abs=1e-6
    )


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_temperature_undoes_a_scale(factor):
    logits, labels = calibrated(20_000, 4)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_temperature_is_where_the_loss_is_least():
    logits, labels = calibrated(300, 6, scale=1.0)
    logits = 3 * logits
    best = fit_temperature(logits, labels)
    loss = F.cross_entropy(logits.double() / best, labels)
    for factor in (0.98, 1.02):
        assert F.cross_entropy(logits.double() / (factor * best), labels) > loss


def test_temperature_at_its_ends():
    labels = torch.tensor([0, 1, 2])
    assert fit_temperature(5 * torch.eye(3), labels) == pytest.approx(0.01)  # all right
    assert fit_temperature(-5 * torch.eye(3), labels) == pytest.approx(100)  # all wrong


def test_large_logits_are_measured_without_overflow():
    logits, labels = 1e4 * torch.eye(3), torch.tensor([0, 1, 1])
    assert brier_score(logits, labels) == pytest.approx(2 / 3)
    assert calibration_error(logits, labels) == pytest.approx(1 / 3)
    assert math.isfinite(fit_temperature(logits, labels))


def test_report_with_a_temperature_keeps_predictions_and_gains():
    logits, labels = calibrated(4_000, 5)
    logits = 4 * logits
    found = report(
        logits[2000:],
        labels[2000:],
        "abcde",
        validation=(logits[:2000], labels[:2000]),
        resamples=0,
    )
    assert found["temperature"]["value"] == pytest.approx(4, rel=0.15)
    assert found["temperature"]["fitted_on"] == 2000
    for name in ("ece", "ece_adaptive", "loss", "brier"):
        assert found["temperature"][name] < found[name]
    assert sum(one["n"] for one in found["reliability"]["adaptive"]) == 2000


def test_input_is_checked():
    logits, labels = calibrated(10, 3)
    with pytest.raises(InvalidSettings, match="0 bins"):
        calibration_error(logits, labels, bins=0)
    with pytest.raises(InvalidData, match="must lie in"):
        brier_score(logits, labels + 3)
    with pytest.raises(Diverged, match="NaN"):
        fit_temperature(logits * torch.nan, labels)
