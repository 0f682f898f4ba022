"""Evaluation with inherited weights: what is measured, of what statistics, and how it ranks."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from random import Random

import pytest
import torch
from tests.training_makers import toy_data

from parti.core.architecture import Architecture
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.trial import Job
from parti.core.walks import sample
from parti.evaluators import inherited, learner
from parti.evaluators.average import measure_statistics
from parti.evaluators.feed import Pictures
from parti.evaluators.inherited import InheritedWeights
from parti.evaluators.recipe import Recipe
from parti.evaluators.training import Training
from parti.recipes.agreement import rank_correlation
from parti.recipes.single_path import SINGLE_PATH
from parti.recipes.training import SupernetTraining, load_supernet
from parti.spaces.mobile import mobile
from parti.spaces.nasbench201 import nasbench201
from parti.supernets.share import Supernet, supernet
from parti.supernets.subnets import extract
from parti.tasks.classification import metrics
from parti.tasks.images import read_images
from parti.tasks.splits import search_data, split

SPACE = mobile(1, 2, 8, width=8, blocks=(1, 2))
DATA = toy_data()


def untrained(seed: int = 0) -> Supernet:
    torch.manual_seed(seed)
    return supernet(SPACE)


def measured(evaluator: InheritedWeights, architecture: Architecture) -> dict[str, float]:
    (measurement,) = evaluator(Job(architecture))
    assert measurement.seconds > 0
    return dict(measurement.metrics)


@pytest.fixture(scope="module")
def evaluator() -> InheritedWeights:
    return InheritedWeights(SPACE, DATA, untrained, device="cpu", threads=1)


@pytest.fixture(scope="module")
def some() -> list[Architecture]:
    random = Random(0)
    return [sample(SPACE, random) for _ in range(4)]


def test_a_subnet_is_measured_as_the_extracted_network_would_be(evaluator, some):
    train, val = (
        Pictures(images, DATA.mean, DATA.std, torch.device("cpu"))
        for images in (DATA.train_images, DATA.val_images)
    )
    for architecture in some:
        network = extract(untrained(), architecture).eval()
        measure_statistics(network, [train.part(0, train.size)])
        with torch.no_grad():
            logits = network(val.part(0, val.size))
        expected = metrics(logits, torch.from_numpy(DATA.val_labels))
        found = measured(evaluator, architecture)
        assert found == pytest.approx({f"val_{k}": v for k, v in expected.items()}, abs=1e-4)


def test_it_provides_what_training_does(evaluator, some):
    provides = Training(SPACE, DATA).provides - {"train_loss"}
    assert evaluator.provides == provides == set(measured(evaluator, some[0]))


def test_the_same_architecture_gets_the_same_numbers_whatever_came_before(evaluator, some):
    again = InheritedWeights(SPACE, DATA, untrained, device="cpu", threads=1)
    backwards = {a: measured(again, a) for a in reversed(some)}
    assert {a: measured(evaluator, a) for a in some} == backwards


def test_the_supernet_keeps_its_statistics(some):
    shared = untrained()
    before = {name: buffer.clone() for name, buffer in shared.named_buffers()}
    one = InheritedWeights(SPACE, DATA, lambda: shared, device="cpu")
    with pytest.raises(InvalidArchitecture):
        measured(one, Architecture({}))
    measured(one, some[0])
    assert all(torch.equal(buffer, before[name]) for name, buffer in shared.named_buffers())


def test_statistics_are_of_so_many_training_images_drawn_once(some, monkeypatch):
    seen: list[list[torch.Tensor]] = []

    def measure(network, batches):
        batches = list(batches)
        seen.append(batches)
        measure_statistics(network, batches)

    monkeypatch.setattr(inherited, "measure_statistics", measure)
    monkeypatch.setattr(inherited, "FEWEST_IN_A_BATCH", 20)
    monkeypatch.setattr(learner, "MOST_AT_ONCE", 20)
    one = InheritedWeights(SPACE, DATA, untrained, images=50, device="cpu")
    measured(one, some[0])
    measured(one, some[1])
    assert sorted(len(batch) for batch in seen[0]) == [16, 17, 17]
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    plain = Pictures(DATA.train_images, DATA.mean, DATA.std, torch.device("cpu"))
    known = {tuple(image.flatten().tolist()) for image in plain.part(0, plain.size)}
    assert {tuple(image.flatten().tolist()) for image in torch.cat(seen[0])} <= known


def test_it_is_loaded_once_in_every_process(some):
    one = InheritedWeights(SPACE, DATA, untrained, device="cpu")
    expected = measured(one, some[0])
    copy = pickle.loads(pickle.dumps(one))
    assert copy._material is None
    assert measured(copy, some[0]) == expected


def test_what_it_refuses(some):
    with pytest.raises(InvalidSettings, match="images=1"):
        InheritedWeights(SPACE, DATA, untrained, images=1)
    other = InheritedWeights(mobile(1, 2, 8, width=16), DATA, untrained, device="cpu")
    with pytest.raises(InvalidSettings, match="own space"):
        list(other(Job(some[0])))


@pytest.mark.slow
def test_inherited_accuracies_rise_with_training_and_rank_subnets(tmp_path):
    images = read_images("digits")
    data = search_data(images, split(images, seed=0))
    space = nasbench201(1, 10, 8, channels=2, cells=1)
    short = Recipe(epochs=5, batch_size=64, lr=0.1, warmup=0.1, weight_decay=5e-4)
    random = Random(0)
    some = [sample(space, random) for _ in range(24)]
    means = {}
    for epochs in (1, 30):
        recipe = replace(SINGLE_PATH, training=replace(short, epochs=epochs))
        folder = tmp_path / str(epochs)
        list(SupernetTraining(space, data, recipe, device="cpu")(Job(some[0], workdir=folder)))
        load = partial(lambda r, f: load_supernet(space, r, f).supernet, recipe, folder)
        inheriting = InheritedWeights(space, data, load, device="cpu")
        found = [measured(inheriting, a)["val_accuracy"] for a in some]
        means[epochs] = sum(found) / len(found)
    alone = Training(space, data, short, device="cpu")
    truths = [list(alone(Job(a)))[-1].metrics["val_accuracy"] for a in some]
    assert means[30] > means[1] + 0.3
    # Of random orders of 24, one in a hundred has a correlation of more than 0.34.
    assert rank_correlation(list(zip(found, truths, strict=True))).all > 0.34
