"""Label noise: exactly the share that was asked for, and what it does to a training."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training_makers import ToySpace, toy_data

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.trial import Job
from parti.evaluators.recipe import Recipe
from parti.evaluators.robustness.label_noise import METRIC, NoisyLabels, flipped, label_noise
from parti.evaluators.training import Training

ONE = Architecture({"width": 8})
RECIPE = Recipe(epochs=3, batch_size=16)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 0.99), classes=st.integers(2, 7), seed=st.integers(0, 50))
def test_exactly_so_many_labels_are_wrong(share, classes, seed):
    data = toy_data(train=60)
    labels = np.arange(60) % classes
    data = replace(data, train_labels=labels, classes=tuple("abcdefg"[:classes]))
    noisy = flipped(data, share, seed=seed)
    assert (noisy.train_labels != labels).sum() == round(share * 60)
    assert 0 <= noisy.train_labels.min() <= noisy.train_labels.max() < classes
    assert noisy.train_labels.dtype == labels.dtype
    assert np.array_equal(noisy.val_labels, data.val_labels)
    assert np.array_equal(data.train_labels, np.arange(60) % classes)
    assert np.array_equal(flipped(data, share, seed=seed).train_labels, noisy.train_labels)


def test_each_other_class_is_equally_likely():
    data = replace(
        toy_data(train=3000), train_labels=np.zeros(3000, np.int64), classes=tuple("abcd")
    )
    counts = np.bincount(flipped(data, 0.6).train_labels)
    assert counts[0] == 1200
    assert counts[1:] == pytest.approx(600, rel=0.12)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_shares_are_checked(share):
    with pytest.raises(InvalidSettings, match="less than 1"):
        flipped(toy_data(), share)
    with pytest.raises(InvalidSettings, match="between 0 and 1"):
        label_noise(ToySpace(), ONE, toy_data(), shares=(share,))


def test_much_noise_costs_accuracy():
    found = label_noise(
        ToySpace(), ONE, toy_data(val=200), RECIPE, shares=(0.05, 0.9), device="cpu", threads=1
    )
    assert found.shares == (0.0, 0.05, 0.9)
    assert found.accuracies[0] > 0.9
    assert found.accuracies[2] < 0.3  # of two classes, most labels are the other one
    assert found.drops[0] == 0
    assert (found.n, found.epochs) == (200, 3)
    assert json.loads(json.dumps(found.to_dict()))["drops"][2] > 0.6


def noisy_training(data, horizon=4):
    def training(seen):
        return Training(ToySpace(), seen, RECIPE, device="cpu", threads=1, horizon=horizon)

    return training(data), training(flipped(data, 0.9, seed=0))


def test_an_evaluator_trains_twice_and_keeps_the_trainings_apart(tmp_path):
    clean, noisy = noisy_training(toy_data())
    evaluator = NoisyLabels(clean, noisy)
    assert evaluator.provides == clean.provides | {METRIC}
    job = Job(ONE, fidelity=2, seed=3, workdir=tmp_path / "a")
    *_, trained, last = evaluator(job)
    *_, alone = clean(replace(job, workdir=None))
    assert trained.metrics == alone.metrics
    assert set(last.metrics) == {METRIC}
    assert last.metrics[METRIC] < trained.metrics["val_accuracy"]
    assert last.seconds > trained.seconds
    # Promotion continues both trainings, each from its own checkpoint.
    *_, further = evaluator(
        Job(ONE, fidelity=4, seed=3, workdir=tmp_path / "b", continues=tmp_path / "a")
    )
    *_, whole = noisy(Job(ONE, fidelity=4, seed=3))
    assert further.metrics[METRIC] == whole.metrics["val_accuracy"]
