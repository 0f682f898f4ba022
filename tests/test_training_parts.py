"""Augmentation, averages and the feeding of images."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from parti.core.errors import InvalidData
from parti.evaluators.augment import Draws, cut_out, draw, mix, shift
from parti.evaluators.average import Average, measure_statistics
from parti.evaluators.feed import Pictures, ahead
from parti.evaluators.recipe import Recipe
from parti.evaluators.trained import train
from parti.tasks.images import SearchData
from training_makers import small_network

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 6, height: int = 5, width: int = 7, channels: int = 2) -> torch.Tensor:
    return torch.randint(
        0, 256, (n, height, width, channels), generator=generator(), dtype=torch.uint8
    )


@given(st.integers(-2, 2), st.integers(-2, 2))
def test_shifting_moves_the_content_and_keeps_the_shape(down: int, right: int) -> None:
    images = pictures(1)
    draws = Draws(torch.tensor([down]), torch.tensor([right]))
    moved = shift(images, torch.tensor([0]), draws)
    assert moved.shape == images.shape
    assert moved.dtype == images.dtype
    for y in range(5):
        for x in range(7):
            source = images[0, min(max(y - down, 0), 4), min(max(x - right, 0), 6)]
            assert torch.equal(moved[0, y, x], source)


def test_mirroring_twice_changes_nothing_and_once_turns_left_to_right() -> None:
    images, picks = pictures(2), torch.arange(2)
    draws = Draws(mirrored=torch.tensor([True, False]))
    once = shift(images, picks, draws)
    assert torch.equal(once[0], images[0].flip(1))
    assert torch.equal(once[1], images[1])
    assert torch.equal(shift(once, picks, draws), images)


def test_without_draws_images_are_picked_in_order() -> None:
    images, picks = pictures(), torch.tensor([4, 0, 4])
    taken = shift(images, picks, Draws())
    assert torch.equal(taken, images[picks])
    taken.zero_()
    assert images.sum() > 0


@given(st.integers(1, 9), st.integers(0, 50))
def test_cutout_blots_out_one_square(side: int, seed: int) -> None:
    draws = draw(Recipe(cutout=side), 4, 5, 7, generator(seed))
    cut = cut_out(torch.ones(4, 3, 5, 7), side, draws)
    holes = (cut == 0).sum((1, 2, 3))
    assert (holes == 3 * min(side, 5) * min(side, 7)).all()
    for image in cut:
        rows, columns = (image[0] == 0).nonzero(as_tuple=True)
        assert rows.max() - rows.min() + 1 == min(side, 5)
        assert columns.max() - columns.min() + 1 == min(side, 7)


@given(st.floats(0, 1), st.integers(1, 5))
def test_mixup_is_convex(share: float, n: int) -> None:
    images = torch.rand(n, 2, 3, 3, generator=generator())
    mixed = mix(images, share)
    partner = images.roll(1, 0)
    assert (mixed <= torch.maximum(images, partner) + 1e-6).all()
    assert (mixed >= torch.minimum(images, partner) - 1e-6).all()
    torch.testing.assert_close(mixed, share * images + (1 - share) * partner)


def test_draws_cover_their_ranges_and_follow_the_generator() -> None:
    recipe = Recipe(crop=2, flip=True, cutout=3)
    draws = draw(recipe, 500, 8, 9, generator())
    assert set(draws.down.tolist()) == set(draws.right.tolist()) == {-2, -1, 0, 1, 2}
    assert set(draws.mirrored.tolist()) == {True, False}
    assert set(draws.cut_top.tolist()) == set(range(6))
    assert set(draws.cut_left.tolist()) == set(range(7))
    again = draw(recipe, 500, 8, 9, generator())
    assert torch.equal(draws.down, again.down)
    assert torch.equal(draws.part(3, 8).cut_top, draws.cut_top[3:8])


@pytest.mark.parametrize("memory", ["resident", "stream"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_batches_are_normalised_and_each_image_comes_once(memory: str, kind: type) -> None:
    images = pictures(10).numpy().astype(kind)
    mean, std = images.mean((0, 1, 2)).tolist(), images.std((0, 1, 2)).tolist()
    before = images.copy()
    feed = Pictures(images, mean, std, CPU, memory)
    assert feed.resident == (memory == "resident")
    order = torch.randperm(10, generator=generator())
    served = list(feed.batches(order, Draws(), 4, 0))
    assert [len(batch) for batch, _ in served] == [4, 4]
    assert torch.equal(torch.cat([picks for _, picks in served]), order[:8])
    for batch, picks in served:
        expected = (images[picks.numpy()].astype(np.float32) - mean) / std
        np.testing.assert_allclose(batch.permute(0, 2, 3, 1), expected, rtol=1e-4, atol=1e-5)
    part = feed.part(0, 10)
    assert part.mean().abs() < 1e-4
    assert part.shape == (10, 2, 5, 7)
    assert np.array_equal(images, before)


def test_images_opened_for_reading_only_are_streamed_without_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", pictures(10).numpy())
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    feed = Pictures(images, (1.0, 1.0), (2.0, 2.0), CPU)
    assert not feed.resident
    assert feed.part(8, 12).shape == (2, 2, 5, 7)
    assert Pictures(images, (1.0, 1.0), (2.0, 2.0), CPU, "resident").resident


@pytest.mark.parametrize("shape", [(4, 5, 5), (0, 5, 5, 1), (4, 5, 5, 3)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidData, match="images of"):
        Pictures(np.zeros(shape, np.uint8), (0.0,), (1.0,), CPU)


def test_the_background_thread_ends_and_passes_errors_on() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("disk is gone")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk is gone"):
        next(items)
    endless = ahead(count())
    assert list(islice(endless, 20)) == list(range(20))
    endless.close()
    assert not [t for t in threading.enumerate() if t.name == "parti-feed"]


def test_an_exponential_average_lies_among_the_weights_it_saw() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = Average(network, Recipe(average="ema"), horizon=1)
    assert not average.begun
    for value in range(100):
        network.weight.data.fill_(value)
        average.after_step()
        average.after_epoch(1)
    assert average.begun
    assert 80 < average.network.weight.item() < 95
    assert network.weight.item() == 99


def test_a_stochastic_average_is_the_mean_of_the_last_quarter() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = Average(network, Recipe(average="swa"), horizon=8)
    for epoch in range(1, 9):
        assert average.begun == (epoch > 7)
        network.weight.data.fill_(epoch)
        average.after_step()
        average.after_epoch(epoch)
    assert average.network.weight.item() == pytest.approx(7.5)


def test_an_average_gets_the_batch_statistics_of_its_own_weights() -> None:
    torch.manual_seed(0)
    network = small_network(channels=2).train()
    average = Average(network, Recipe(average="ema"), horizon=1)
    with torch.no_grad():
        network[0].weight.mul_(3)
    average.after_step()
    batches = [torch.randn(32, 2, 8, 8) for _ in range(4)]
    settled = average.settle(batches)
    seen = torch.cat([settled[0](batch) for batch in batches])
    torch.testing.assert_close(settled[1].running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(settled[1].running_var, seen.var((0, 2, 3)), rtol=2e-2, atol=1e-4)
    assert settled[1].momentum == 0.1


def test_measuring_statistics_restores_every_mode_and_needs_no_images_without_norms() -> None:
    network = small_network(channels=2).train()
    network[3].eval()
    measure_statistics(network, [torch.randn(4, 2, 8, 8)])
    assert network[1].training
    assert not network[3].training

    def never() -> Iterator[torch.Tensor]:
        raise AssertionError("there is no norm to measure")
        yield

    measure_statistics(nn.Linear(2, 2), never())


@pytest.mark.parametrize("mapped", [False, True])
def test_batch_statistics_are_of_all_classes_though_images_lie_class_by_class(
    mapped: bool, tmp_path: Path
) -> None:
    labels = np.repeat([0, 1], 3000)
    images = np.where(labels == 0, 0, 200).astype(np.uint8)[:, None, None, None]
    images = np.broadcast_to(images, (6000, 4, 4, 1))
    if mapped:
        np.save(tmp_path / "images.npy", images)
        images = np.load(tmp_path / "images.npy", mmap_mode="r")
    data = SearchData(
        images, labels, images[:2], labels[:2], ("dark", "bright"), (100.0,), (100.0,), (0, 255), ""
    )
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 2))
    recipe = Recipe(epochs=1, lr=1e-9, batch_size=64, average="ema")
    trained = train(network, data, recipe, seed=0, device="cpu")
    assert abs(trained[0].running_mean.item()) < 0.1  # that of one class is -1 or 1
    assert trained[0].running_var.item() == pytest.approx(1, abs=0.05)
