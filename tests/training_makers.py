"""Small data and spaces for the tests of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from parti.core.architecture import Architecture
from parti.evaluators.recipe import Recipe
from parti.tasks.images import SearchData

SWIFT = Recipe(
    epochs=4, batch_size=16, optimizer="sgd", lr=0.05, flip=True, crop=1, cutout=2, mixup=0.2
)


def toy_data(train: int = 72, val: int = 30, side: int = 8, channels: int = 1) -> SearchData:
    """Two classes of noise: one is brighter at the top, one at the bottom."""
    rng = np.random.default_rng(0)
    labels = np.arange(train + val) % 2
    images = rng.integers(0, 160, (train + val, side, side, channels))
    images[labels == 0, : side // 2] += 60
    images[labels == 1, side // 2 :] += 60
    images = images.astype(np.uint8)
    seen = images[:train]
    return SearchData(
        train_images=seen,
        train_labels=labels[:train].astype(np.int64),
        val_images=images[train:],
        val_labels=labels[train:].astype(np.int64),
        classes=("top", "bottom"),
        mean=tuple(seen.mean((0, 1, 2)).tolist()),
        std=tuple(seen.std((0, 1, 2)).tolist()),
        value_range=(0.0, 255.0),
        name="toy",
    )


def mapped(data: SearchData, folder: Path) -> SearchData:
    """The same data with the training images in a memory-mapped file."""
    from dataclasses import replace

    np.save(folder / "images.npy", data.train_images)
    return replace(data, train_images=np.load(folder / "images.npy", mmap_mode="r"))


def small_network(width: int = 8, channels: int = 1, classes: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(width * 4, classes),
    )


class ToySpace:
    """One choice, `width`."""

    def build(self, architecture: Architecture) -> nn.Module:
        return small_network(int(architecture.get("width", 8)))


class Broken(nn.Module):
    """Raises, or gives what it was told to give, when asked for logits."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def forward(self, images: Tensor) -> Tensor:
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, float):
            return self.weight.expand(len(images), 2) * self.answer + self.answer
        return self.answer(images)


class Always:
    """A space whose every architecture is the network that a function makes."""

    def __init__(self, make) -> None:
        self.make = make

    def build(self, architecture: Architecture) -> nn.Module:
        return self.make()
