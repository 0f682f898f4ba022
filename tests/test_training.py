"""The training evaluator: determinism, going on, and what goes wrong."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from parti.core.architecture import Architecture
from parti.core.errors import Diverged, InvalidSettings, TrialError
from parti.core.protocols import Evaluator
from parti.core.trial import Job, Measurement
from parti.evaluators.checkpoint import load_checkpoint
from parti.evaluators.feed import Pictures
from parti.evaluators.learner import explained, images_at_once, logits_of
from parti.evaluators.recipe import Recipe
from parti.evaluators.trained import load_trained, predict, train
from parti.evaluators.training import Training
from training_makers import SWIFT, Always, Broken, ToySpace, mapped, small_network, toy_data

NARROW = Architecture({"width": 4})


def evaluator(recipe: Recipe = SWIFT, **settings) -> Training:
    settings = {"threads": 1, "device": "cpu", **settings}
    return Training(ToySpace(), toy_data(), recipe, **settings)


def numbers(measurements: list[Measurement]) -> list[dict[str, float]]:
    return [dict(m.metrics) for m in measurements]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(folder).weights)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_is_an_evaluator_and_measures_what_it_promises() -> None:
    training = evaluator()
    assert isinstance(training, Evaluator)
    found = list(training(Job(NARROW)))
    assert [m.step for m in found] == [1, 2, 3, 4]
    assert all({"train_loss", "val_accuracy", "val_loss"} == set(m.metrics) for m in found[:-1])
    assert set(found[-1].metrics) == training.provides
    assert [m.seconds for m in found] == sorted(m.seconds for m in found)
    assert found[0].seconds > 0


def test_fidelity_is_epochs() -> None:
    assert len(list(evaluator()(Job(NARROW, fidelity=2)))) == 2
    assert len(list(evaluator(epochs=3)(Job(NARROW)))) == 3


def test_same_job_twice_gives_the_same_numbers_and_another_seed_others() -> None:
    training = evaluator()
    first = numbers(list(training(Job(NARROW, seed=5))))
    torch.rand(7)
    random.random()
    assert numbers(list(training(Job(NARROW, seed=5)))) == first
    assert numbers(list(evaluator()(Job(NARROW, seed=5)))) == first
    assert numbers(list(training(Job(NARROW, seed=6)))) != first


def test_two_trials_side_by_side_do_not_disturb_each_other() -> None:
    alone = numbers(list(evaluator()(Job(NARROW, seed=1))))
    one, two = evaluator()(Job(NARROW, seed=1)), evaluator()(Job(NARROW, seed=2))
    together = [(a, b) for a, b in zip(one, two, strict=True)]
    assert numbers([a for a, _ in together]) == alone


def test_leaves_no_trace_in_the_process() -> None:
    torch.manual_seed(3)
    random.seed(3)
    expected = (torch.rand(3).tolist(), random.random(), torch.get_num_threads())
    torch.manual_seed(3)
    random.seed(3)
    for _ in evaluator()(Job(NARROW)):
        pass
    assert (torch.rand(3).tolist(), random.random(), torch.get_num_threads()) == expected


SCRIPT = """
import json, sys
sys.path[:0] = sys.argv[1:]
from test_training import NARROW, evaluator, numbers
from parti.core.trial import Job
print(json.dumps(numbers(list(evaluator()(Job(NARROW, seed=5))))))
"""


def test_another_process_gives_the_same_numbers() -> None:
    here = Path(__file__).parent
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(here), str(here.parent / "src")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77"},
    )
    assert json.loads(out.stdout) == numbers(list(evaluator()(Job(NARROW, seed=5))))


RECIPES = {
    "sgd": SWIFT,
    "adamw with ema": replace(SWIFT, optimizer="adamw", lr=0.01, average="ema", clip_norm=1.0),
    "swa, cosine": replace(SWIFT, average="swa", schedule="cosine", label_smoothing=0.1),
}


@pytest.mark.parametrize("name", RECIPES)
def test_continued_trial_equals_the_uninterrupted(name: str, tmp_path: Path) -> None:
    training = evaluator(RECIPES[name], horizon=4)
    whole = list(training(Job(NARROW, 4, seed=1, workdir=tmp_path / "whole")))
    short = list(training(Job(NARROW, 2, seed=1, workdir=tmp_path / "short")))
    rest_job = Job(NARROW, 4, seed=9, workdir=tmp_path / "rest", continues=tmp_path / "short")
    rest = list(training(rest_job))
    assert [m.step for m in short + rest] == [1, 2, 3, 4]
    assert numbers(rest) == numbers(whole[2:])
    assert numbers(short)[0] == numbers(whole)[0]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "rest"))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stopped_after", [1, 3])
def test_killed_trial_goes_on_and_equals_the_uninterrupted(
    name: str, stopped_after: int, tmp_path: Path
) -> None:
    whole = list(evaluator(RECIPES[name])(Job(NARROW, seed=1, workdir=tmp_path / "whole")))
    job = Job(NARROW, seed=1, workdir=tmp_path / "killed")
    killed = evaluator(RECIPES[name], save_every=0)(job)
    before = list(islice(killed, stopped_after))
    killed.close()
    again = list(evaluator(RECIPES[name])(job))
    assert numbers(again) == numbers(whole)
    assert again[:stopped_after] == before
    assert [m.seconds for m in again] == sorted(m.seconds for m in again)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_a_continuing_trial_that_was_killed_goes_on_too(tmp_path: Path) -> None:
    training = evaluator(horizon=4, save_every=0)
    whole = list(training(Job(NARROW, 4, seed=1)))
    list(training(Job(NARROW, 1, seed=1, workdir=tmp_path / "short")))
    job = Job(NARROW, 4, seed=2, workdir=tmp_path / "rest", continues=tmp_path / "short")
    killed = training(job)
    next(killed)
    killed.close()
    assert numbers(list(training(job))) == numbers(whole[1:])


def test_a_finished_trial_is_not_trained_again(tmp_path: Path) -> None:
    job = Job(NARROW, workdir=tmp_path)
    first = list(evaluator()(job))
    stamp = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert list(evaluator()(job)) == first
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == stamp


def test_checkpoints_are_seldom_and_whole(tmp_path: Path) -> None:
    running = evaluator(save_every=1000)(Job(NARROW, workdir=tmp_path))
    next(running)
    assert not (tmp_path / "checkpoint.pt").exists()
    list(running)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_unreadable_or_foreign_checkpoints_in_the_own_folder_are_ignored(tmp_path: Path) -> None:
    job = Job(NARROW, seed=1, workdir=tmp_path)
    expected = numbers(list(evaluator()(Job(NARROW, seed=1))))
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    assert numbers(list(evaluator()(job))) == expected
    for other in (
        replace(job, seed=2),
        replace(job, architecture=Architecture({"width": 5})),
    ):
        list(evaluator()(other))
        assert numbers(list(evaluator()(job))) == expected
    list(evaluator(replace(SWIFT, lr=0.01))(job))
    assert numbers(list(evaluator()(job))) == expected


@pytest.mark.parametrize(
    ("recipe", "settings", "words"),
    [
        (SWIFT, {"horizon": 6}, "horizon 4 instead of 6"),
        (replace(SWIFT, lr=0.01), {"horizon": 4}, "recipe.lr 0.05 instead of 0.01"),
    ],
)
def test_another_training_cannot_be_continued(
    recipe: Recipe, settings: dict[str, int], words: str, tmp_path: Path
) -> None:
    list(evaluator(horizon=4)(Job(NARROW, 1, workdir=tmp_path)))
    with pytest.raises(TrialError, match=words):
        next(evaluator(recipe, **settings)(Job(NARROW, 2, continues=tmp_path)))


def test_what_cannot_be_continued_says_why(tmp_path: Path) -> None:
    training = evaluator(horizon=4)
    with pytest.raises(TrialError, match="no checkpoint"):
        next(training(Job(NARROW, 2, continues=tmp_path)))
    list(training(Job(NARROW, 2, workdir=tmp_path)))
    with pytest.raises(TrialError, match="has 2 epochs already"):
        next(training(Job(NARROW, 2, continues=tmp_path)))
    with pytest.raises(TrialError, match="architecture"):
        next(training(Job(Architecture({"width": 5}), 3, continues=tmp_path)))
    with pytest.raises(InvalidSettings, match="beyond the horizon of 4"):
        next(training(Job(NARROW, 5)))


def test_a_network_that_gives_nan_has_diverged() -> None:
    training = Training(Always(lambda: Broken(float("nan"))), toy_data(), SWIFT, device="cpu")
    with pytest.raises(Diverged, match="epoch 1 at learning rate"):
        next(training(Job(NARROW)))


def test_a_learning_rate_far_too_high_has_diverged() -> None:
    wild = replace(SWIFT, lr=100.0, momentum=0.99, mixup=0.0, warmup=0.0, epochs=60)
    space = Always(
        lambda: nn.Sequential(
            nn.Flatten(), *(nn.Linear(64, 64) for _ in range(6)), nn.Linear(64, 2)
        )
    )
    with pytest.raises(Diverged, match="lower lr"):
        list(Training(space, toy_data(), wild, device="cpu", threads=1)(Job(NARROW)))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ValueError("no such kernel"), "ValueError: no such kernel"),
        (MemoryError(), "out of memory at a batch size of 16"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (lambda images: images.new_zeros(len(images), 3), r"into \(2, 3\), but .* \(2, 2\)"),
        (lambda images: [images], "into list"),
    ],
)
def test_a_network_that_fails_is_a_failed_trial(answer: object, words: str) -> None:
    training = Training(Always(lambda: Broken(answer)), toy_data(), SWIFT, device="cpu")
    with pytest.raises(TrialError, match=words):
        next(training(Job(NARROW)))


def test_a_network_without_parameters_is_a_failed_trial() -> None:
    space = Always(lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten()))
    with pytest.raises(TrialError, match="no parameters"):
        next(Training(space, toy_data(), SWIFT, device="cpu")(Job(NARROW)))


class Viewing(nn.Module):
    """Flattens feature maps by `view`, which the channels-last order does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve, self.classify = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.convolve(images).view(len(images), -1))


def test_networks_that_view_feature_maps_can_be_trained() -> None:
    training = Training(Always(Viewing), toy_data(), SWIFT, device="cpu")
    assert len(list(training(Job(NARROW)))) == 4


class Aided(nn.Module):
    """Undecided; in training it has an auxiliary classifier, and writes down its progress."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.aside = nn.Linear(64, 2), nn.Linear(64, 2)
        for layer in (self.main, self.aside):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.told: list[float] = []

    def anneal(self, progress: float) -> None:
        self.told.append(progress)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        flat = images.flatten(1)
        return (self.main(flat), self.aside(flat)) if self.training else self.main(flat)


def test_an_auxiliary_classifier_adds_to_the_loss_and_modules_know_the_progress() -> None:
    network = Aided()
    losses: list[float] = []
    recipe = Recipe(epochs=4, batch_size=72, lr=1e-12, warmup=0.0)
    train(network, toy_data(), recipe, device="cpu", watch=lambda _, loss: losses.append(loss))
    assert losses[0] == pytest.approx(1.4 * np.log(2))
    assert network.aside.weight.abs().sum() > 0
    assert network.told == [0.0, 0.25, 0.5, 0.75]


def test_a_loss_of_ones_own_is_minimised_and_sees_what_the_network_saw() -> None:
    network, data = Aided(), toy_data()
    recipe = replace(SWIFT, epochs=1, warmup=0.0, label_smoothing=0.1, average="none")
    seen: list[torch.Tensor] = []

    def own(images: torch.Tensor, logits: torch.Tensor, hard: torch.Tensor) -> torch.Tensor:
        assert torch.equal(network(images)[0], logits)
        seen.append(images)
        if len(seen) == 1:  # both classes are equally likely, whatever the labels
            assert hard.item() == pytest.approx(np.log(2))
        return logits.sum() * 0 + 5 + 0 * hard

    losses: list[float] = []
    train(network, data, recipe, loss=own, watch=lambda _, loss: losses.append(loss))
    assert network.main.weight.abs().sum() == 0, "the labels taught it nothing"
    assert network.aside.weight.abs().sum() > 0, "its auxiliary classifier learns from them"
    assert 5 < losses[0] <= 5 + 0.4 * np.log(2) + 1e-3
    mean = torch.tensor(data.mean)[None, :, None, None]
    plain = (torch.from_numpy(data.train_images).permute(0, 3, 1, 2) - mean) / data.std[0]
    assert not any(torch.isclose(plain, image).flatten(1).all(1).any() for image in seen[0])


class RecipeChoice:
    def build(self, architecture: Architecture) -> Recipe:
        return replace(SWIFT, lr=float(architecture["lr"]))


def test_recipes_are_searched_with_networks() -> None:
    training = Training(ToySpace(), toy_data(), RecipeChoice(), device="cpu", threads=1)
    for lr in (0.05, 0.01):
        found = list(training(Job(NARROW.taking(lr=lr))))
        plain = list(evaluator(replace(SWIFT, lr=lr))(Job(NARROW.taking(lr=lr))))
        assert numbers(found) == numbers(plain)


def test_mapped_images_give_the_same_numbers_as_images_in_memory(tmp_path: Path) -> None:
    data = mapped(toy_data(), tmp_path)
    streamed = Training(ToySpace(), data, SWIFT, device="cpu", threads=1)
    assert numbers(list(streamed(Job(NARROW)))) == numbers(list(evaluator()(Job(NARROW))))


def test_travels_to_other_processes_without_what_it_loaded() -> None:
    training = evaluator()
    size = len(pickle.dumps(training))
    first = numbers(list(training(Job(NARROW))))
    assert len(pickle.dumps(training)) == size
    assert numbers(list(pickle.loads(pickle.dumps(training))(Job(NARROW)))) == first


class Recorder:
    """Passes on the fields of a data set, and notes which ones were asked for."""

    def __init__(self, data: object) -> None:
        self.data, self.asked = data, set()

    def __getattr__(self, name: str) -> object:
        self.asked.add(name)
        return getattr(self.data, name)


def test_looks_at_training_and_validation_images_only() -> None:
    recorder = Recorder(toy_data())
    list(Training(ToySpace(), recorder, SWIFT, device="cpu", threads=1)(Job(NARROW)))
    images = {"train_images", "train_labels", "val_images", "val_labels"}
    assert images <= recorder.asked <= images | {"classes", "mean", "std", "input_shape"}
    recorder.asked.clear()
    train(small_network(), recorder, SWIFT, device="cpu")
    assert not {name for name in recorder.asked if name.startswith(("val", "test"))}


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"horizon": 0},
        {"epochs": 5, "horizon": 4},
        {"device": "cuda:99"},
        {"device": "abacus"},
        {"threads": 0},
        {"memory": "tape"},
    ],
)
def test_settings_are_checked_before_the_first_step(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings):
        evaluator(**settings)


@pytest.mark.parametrize("average", ["none", "ema", "swa"])
def test_the_kept_weights_gave_the_reported_metrics(average: str, tmp_path: Path) -> None:
    training = evaluator(replace(SWIFT, average=average))
    last = list(training(Job(NARROW, workdir=tmp_path)))[-1]
    data = toy_data()
    network = load_trained(ToySpace(), NARROW, tmp_path)
    assert not network.training
    logits = predict(network, data.val_images, mean=data.mean, std=data.std, device="cpu")
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(data.val_labels))
    assert loss.item() == pytest.approx(last.metrics["val_loss"], rel=1e-5)
    with pytest.raises(TrialError, match="another trial"):
        load_trained(ToySpace(), Architecture({"width": 5}), tmp_path)


def test_train_equals_the_evaluator() -> None:
    data, seen = toy_data(), []
    torch.manual_seed(0)
    network = train(
        small_network(), data, SWIFT, seed=3, device="cpu", watch=lambda *args: seen.append(args)
    )
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert seen[-1][1] < seen[0][1]
    assert not network.training
    assert all(weight.is_contiguous() for weight in network.parameters())
    logits = predict(network, data.val_images, mean=data.mean, std=data.std, device="cpu")
    assert logits.shape == (30, 2)
    assert logits.dtype == torch.float32
    with torch.no_grad():
        pixels = torch.from_numpy(data.val_images).float().permute(0, 3, 1, 2)
        direct = network((pixels - data.mean[0]) / data.std[0])
    torch.testing.assert_close(logits, direct, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "device", "count"),
    [(2, "cpu", 512), (8, "cpu", 512), (32, "cpu", 64), (224, "cpu", 8), (32, "meta", 512)],
)
def test_few_images_are_looked_at_together_on_a_cpu(side: int, device: str, count: int) -> None:
    images = np.zeros((2, side, side, 1), np.uint8)
    pictures = Pictures(images, (0.0,), (1.0,), torch.device(device), "stream")
    assert images_at_once(pictures) == count


def test_memory_that_ends_without_training_is_not_blamed_on_a_batch() -> None:
    with pytest.raises(TrialError, match=r"^out of memory; a smaller network"), explained():
        raise MemoryError


def test_what_is_only_looked_at_keeps_no_graph() -> None:
    seen = []

    def watched(images: torch.Tensor) -> torch.Tensor:
        seen.append(torch.is_grad_enabled())
        return images.new_zeros(len(images), 2)

    network, data = Broken(watched), toy_data()
    pictures = Pictures(data.val_images, data.mean, data.std, torch.device("cpu"))
    logits_of(network, pictures, torch.contiguous_format)
    predict(network, data.val_images, mean=data.mean, std=data.std)
    assert seen
    assert not any(seen)


def test_predicting_in_small_batches_changes_nothing() -> None:
    data, network = toy_data(), small_network().eval()
    whole, parts = (
        predict(network, data.val_images, mean=data.mean, std=data.std, batch_size=size)
        for size in (512, 7)
    )
    torch.testing.assert_close(whole, parts)


def test_bfloat16_trains() -> None:
    found = list(evaluator(replace(SWIFT, precision="bfloat16"))(Job(NARROW)))
    exact = list(evaluator()(Job(NARROW)))
    assert found[-1].metrics["train_loss"] != exact[-1].metrics["train_loss"]
    assert found[0].metrics["train_loss"] == pytest.approx(exact[0].metrics["train_loss"], rel=0.1)


def test_digits_are_learned_in_seconds() -> None:
    """A small network with the default recipe, on digits that it has not seen."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    seen, new = order[:1260], order[1260:1530]
    data = replace(
        toy_data(),
        train_images=images[seen],
        train_labels=labels[seen],
        val_images=images[new],
        val_labels=labels[new],
        classes=tuple("0123456789"),
        mean=(float(images[seen].mean()),),
        std=(float(images[seen].std()),),
    )

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(192, 10),
        )

    began = time.process_time()
    training = Training(Always(network), data, epochs=8, device="cpu", threads=1)
    last = list(training(Job(NARROW)))[-1]
    assert last.metrics["val_accuracy"] > 0.95
    assert "val_auc" in last.metrics
    assert time.process_time() - began < 15
