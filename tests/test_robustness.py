"""Robustness of a network as one value, and as metrics of a search."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from functools import cache
from random import Random
from statistics import fmean

import numpy as np
import pytest
import torch
from tests.training_makers import Always, Broken, ToySpace, small_network, toy_data
from torch import nn

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, TrialError
from parti.core.study import Budget, Objective, Study
from parti.core.trial import Job, Proposal
from parti.core.walks import sample
from parti.evaluators.inherited import InheritedWeights
from parti.evaluators.recipe import Recipe
from parti.evaluators.robustness.corruptions import CORRUPTIONS, corrupt
from parti.evaluators.robustness.measured import (
    Gallery,
    RobustnessPlan,
    affordable,
    attacked,
    corrupted,
    robustness,
)
from parti.evaluators.robustness.search import METRICS, Robust
from parti.evaluators.trained import load_trained, predict, train
from parti.evaluators.training import Training
from parti.finding.settings import settings_of
from parti.loop import search
from parti.networks.known import known_network
from parti.spaces.mobile import mobile
from parti.stores.memory import MemoryStore
from parti.strategies.listed import Listed
from parti.supernets.share import supernet
from parti.tasks.classification import accuracy
from parti.tasks.images import read_images
from parti.tasks.splits import search_data, split, test_data

SMALL = RobustnessPlan(images=40, severities=(1, 5), eps=(2.0, 8.0), steps=4, restarts=1)
ONE = Architecture({"width": 8})


@cache
def digits():
    data = read_images("digits")
    splits = split(data, seed=0)
    return search_data(data, splits), test_data(data, splits)


@cache
def of_digits() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    return train(network, digits()[0], Recipe(epochs=5), device="cpu", threads=1)


def test_on_real_images_what_is_worse_costs_accuracy():
    data, test = digits()
    network = of_digits()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = robustness(network, data, replace(SMALL, images=120), device="cpu", threads=1)
    assert (found.n, found.split) == (120, "validation")
    assert found.accuracy > 0.9
    assert found.accuracy - 0.05 < found.corruptions["contrast"][0]  # hardly seen
    assert found.corruptions["impulse_noise"][1] <= found.corruptions["impulse_noise"][0] + 0.02
    assert found.corrupted_accuracy < found.accuracy
    assert found.accuracy >= found.pgd[0] >= found.pgd[1]
    assert found.pgd[1] <= found.fgsm[1] < found.accuracy
    again = robustness(network, data, replace(SMALL, images=120), device="cpu", threads=1)
    assert replace(again, seconds=0.0) == replace(found, seconds=0.0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.training
    on_test = robustness(network, data, SMALL, test=test, device="cpu", threads=1)
    assert on_test.split == "test"
    assert "40 test images" in on_test.conditions


def test_what_is_written_down_is_json_and_complete():
    found = robustness(of_digits(), digits()[0], SMALL, device="cpu", threads=1)
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(written["corruptions"]) == list(CORRUPTIONS)
    assert written["corrupted_accuracy"] == pytest.approx(
        np.mean(list(written["corruptions"].values()))
    )
    assert written["pgd_accuracy"] == pytest.approx(fmean(written["pgd"]))
    assert len(written["fgsm"]) == len(written["eps"]) == 2


def test_each_number_is_that_of_the_images_themselves():
    data, _ = digits()
    gallery = Gallery(data, SMALL)
    rows = corrupted(of_digits(), gallery, device="cpu", threads=1)
    images = corrupt(gallery.images, "rotation", 5)
    logits = predict(of_digits(), images, mean=data.mean, std=data.std, device="cpu")
    assert rows["rotation"][1] == accuracy(logits, gallery.labels)


def test_images_are_drawn_with_each_class_in_proportion():
    data, test = digits()
    labels = Gallery(data, replace(SMALL, images=50)).labels
    assert labels.bincount().tolist() == [5] * 10
    assert len(Gallery(data, replace(SMALL, images=3)).labels) == 10  # one of each at least
    assert len(Gallery(data, replace(SMALL, images=10**6)).labels) == len(data.val_labels)
    other = Gallery(data, replace(SMALL, images=50, seed=1)).images
    assert not np.array_equal(other, Gallery(data, replace(SMALL, images=50)).images)
    drawn = {image.tobytes() for image in Gallery(data, SMALL, test).images}
    assert drawn <= {image.tobytes() for image in test.images}


def test_attacks_are_within_the_range_of_float_images():
    data = toy_data()
    floats = replace(
        data,
        train_images=(data.train_images / 255).astype(np.float32),
        val_images=(data.val_images / 255).astype(np.float32),
        mean=tuple(m / 255 for m in data.mean),
        std=tuple(s / 255 for s in data.std),
        value_range=(0.0, 1.0),
    )
    torch.manual_seed(0)
    network = train(small_network(), data, Recipe(epochs=3, batch_size=16), device="cpu", threads=1)
    for attack in ("fgsm", "pgd"):
        bytes_, shares = (
            attacked(network, Gallery(d, SMALL), attack, device="cpu", threads=1)
            for d in (data, floats)
        )
        assert bytes_ == pytest.approx(shares, abs=0.04)


def test_a_network_that_is_always_wrong_holds_nothing():
    data = toy_data()
    wrong = Broken(lambda images: torch.stack([images.sum((1, 2, 3)) * 0 + k for k in (0, 1)], 1))
    only = replace(data, val_labels=np.zeros_like(data.val_labels))
    assert attacked(wrong, Gallery(only, SMALL), "pgd", device="cpu") == (0.0, 0.0)


@pytest.mark.parametrize(
    "given",
    [
        {"images": 0},
        {"steps": 0},
        {"corruptions": ()},
        {"corruptions": ("fog",)},
        {"severities": (0,)},
        {"eps": (2.0, 1.0)},
        {"eps": (0.0,)},
    ],
)
def test_plans_are_checked(given):
    with pytest.raises(InvalidSettings, match=r"at least|there are"):
        RobustnessPlan(**given)


def test_what_can_be_afforded_takes_no_more_passes_than_that():
    default, light = RobustnessPlan(), affordable(5e7)
    assert affordable(1e3) == default
    assert light is not None
    assert light.passes < default.passes / 3 + 5
    assert 100 <= light.images <= 1e12 / (light.passes * 5e7)
    assert affordable(4e9) is None
    counted = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat = nn.Linear(64, 2)

        def forward(self, images):
            counted.append(len(images))
            return self.flat(images.flatten(1)) * 0 + self.flat.bias * 0 + torch.tensor([1.0, 0.0])

    data = toy_data()
    gallery = Gallery(replace(data, val_labels=np.zeros_like(data.val_labels)), SMALL)
    attacked(Counting(), gallery, "pgd", device="cpu")
    backward = SMALL.steps * len(SMALL.eps) * len(gallery.labels)
    assert sum(counted) + backward <= SMALL.passes * len(gallery.labels)


# --- in a search ---


def trained_on_toys(metrics=METRICS):
    data = toy_data()
    training = Training(
        ToySpace(), data, Recipe(epochs=2, batch_size=16), device="cpu", threads=1, horizon=2
    )
    return Robust(training, ToySpace(), data, metrics, plan=SMALL, device="cpu", threads=1)


def test_a_trial_is_measured_at_its_end_on_its_own_checkpoint(tmp_path):
    evaluator = trained_on_toys()
    *_, trained, last = evaluator(Job(ONE, seed=1, workdir=tmp_path))
    assert "val_accuracy" in trained.metrics
    assert set(last.metrics) == METRICS
    assert (last.step, last.seconds > trained.seconds) == (2, True)
    network = load_trained(ToySpace(), ONE, tmp_path)
    found = robustness(network, toy_data(), SMALL, device="cpu", threads=1)
    assert last.metrics == {
        "val_accuracy_corrupted": found.corrupted_accuracy,
        "val_accuracy_fgsm": fmean(found.fgsm),
        "val_accuracy_pgd": fmean(found.pgd),
    }
    # After a crash the same job goes on without training, and ends with the same numbers.
    *_, again = pickle.loads(pickle.dumps(evaluator))(Job(ONE, seed=1, workdir=tmp_path))
    assert again.metrics == last.metrics


def test_only_what_was_asked_for_is_measured(tmp_path):
    evaluator = trained_on_toys({"val_accuracy_fgsm"})
    assert evaluator.provides & METRICS == {"val_accuracy_fgsm"}
    *_, last = evaluator(Job(ONE, workdir=tmp_path))
    assert set(last.metrics) == {"val_accuracy_fgsm"}
    for metrics in ((), {"val_accuracy_fog"}):
        with pytest.raises(InvalidSettings, match="val_accuracy_corrupted"):
            trained_on_toys(metrics)


def test_without_a_folder_nothing_is_trained():
    with pytest.raises(InvalidSettings, match=r"search\(workdir"):
        next(trained_on_toys()(Job(ONE)))


def test_a_network_that_raises_is_a_reason_to_go_on(tmp_path):
    inner = trained_on_toys()
    *_, _ = inner(Job(ONE, workdir=tmp_path))
    raising = Always(lambda: Broken(ValueError("no")))
    outer = Robust(inner, raising, toy_data(), METRICS, plan=SMALL, device="cpu")
    with pytest.raises(TrialError):
        list(outer(Job(ONE, workdir=tmp_path)))


def test_a_search_optimizes_it(tmp_path):
    study = Study("robust", (Objective("val_accuracy_pgd", "max"),), budget=Budget(trials=2))
    proposals = [Proposal(Architecture({"width": width})) for width in (4, 8)]
    evaluator = trained_on_toys({"val_accuracy_pgd"})
    trials = search(study, Listed(proposals), evaluator, MemoryStore(), workdir=tmp_path)
    assert [study.feasible(trial) for trial in trials] == [True, True]
    assert all(0 <= trial.metrics["val_accuracy_pgd"] <= 1 for trial in trials)


SPACE = mobile(1, 2, 8, width=8, blocks=(1, 2))


def untrained():
    torch.manual_seed(0)
    return supernet(SPACE)


def test_inherited_weights_are_those_that_accuracy_was_measured_with():
    data = toy_data()
    inherited = InheritedWeights(SPACE, data, untrained, device="cpu", threads=1)
    whole = replace(SMALL, images=1000)
    evaluator = Robust(
        inherited, SPACE, data, METRICS, plan=whole, load=untrained, device="cpu", threads=1
    )
    for seed in range(2):
        job = Job(sample(SPACE, Random(seed)))
        first, last = evaluator(job)
        network = evaluator._network(job)
        logits = predict(network, data.val_images, mean=data.mean, std=data.std, device="cpu")
        found = accuracy(logits, torch.from_numpy(data.val_labels))
        assert found == pytest.approx(first.metrics["val_accuracy"], abs=0.04)
        assert set(last.metrics) == METRICS
        assert last.metrics["val_accuracy_pgd"] <= first.metrics["val_accuracy"] + 0.04


def test_objectives_are_known_before_anything_is_read():
    for metric in (*METRICS, "val_accuracy_label_noise"):
        assert settings_of(data="digits", objectives=(metric,)).study_objectives[0].goal == "max"
        assert settings_of(data="digits", at_least={metric: 0.5}).metrics >= {metric}
    with pytest.raises(InvalidSettings, match="val_accuracy_pgd"):
        settings_of(data="digits", objectives=("val_accuracy_cw",))
    with pytest.raises(InvalidSettings, match="needs a training of each trial"):
        settings_of(data="digits", objectives=("val_accuracy_label_noise",), recipe="single-path")


def test_well_known_networks_can_be_attacked():
    network = known_network("resnet20", in_channels=1, classes=2, resolution=8)
    found = attacked(network, Gallery(toy_data(), replace(SMALL, images=4)), "pgd", device="cpu")
    assert all(0 <= one <= 1 for one in found)
