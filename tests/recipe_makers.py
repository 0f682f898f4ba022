"""A space in which some options are clearly right, and trainings that are over in a second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import parti
from parti.core.architecture import Architecture
from parti.core.trial import Job, Measurement
from parti.evaluators.machine import Machine
from parti.evaluators.recipe import Recipe
from parti.recipes.bench import Batch, Bench
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.training import SupernetTraining
from parti.supernets.share import Relaxed, supernet
from training_makers import toy_data

CPU = Machine(torch.device("cpu"))


class Blind(nn.Module):
    """Forgets where things are, which is all that matters in `toy_data`."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True).expand_as(x)


class Node(nn.Module):
    """Sums what comes from an input that sees and from one that does not."""

    def __init__(self, inputs: nn.ModuleDict) -> None:
        super().__init__()
        self.inputs = inputs
        self.blind = Blind()

    def forward(self, x: Tensor) -> Tensor:
        states = {"blind": self.blind(x), "seeing": x}
        return sum(operation(states[name]) for name, operation in self.inputs.items())


def _operation() -> nn.Module:
    return parti.one_of(
        "operation",
        {
            "blind": Blind,
            "skip_connect": nn.Identity,
            "conv": lambda: nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
            ),
        },
    )


@parti.space
def planted(in_channels: int = 1, classes: int = 2, nodes: int = 1) -> nn.Sequential:
    """Nodes that are all decided alike; right is ("seeing",) with another operation than blind."""

    def node() -> Node:
        return Node(parti.some_of("inputs", {"blind": _operation, "seeing": _operation}, k=1))

    stem = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
    head = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, classes))
    return nn.Sequential(stem, *(node() for _ in range(nodes)), head)


SEEING, BLIND = "inputs=seeing/operation", "inputs=blind/operation"


def swift(recipe: SupernetRecipe, epochs: int = 6, lr: float = 0.03, **options) -> SupernetRecipe:
    """The same recipe, for a second."""
    training = replace(
        recipe.training,
        epochs=epochs,
        batch_size=12,
        lr=0.1,
        crop=0,
        flip=False,
        precision="float32",
    )
    return replace(recipe, training=training, options={**recipe.options, "lr": lr, **options})


def train(recipe: SupernetRecipe, folder: Path | None = None, **settings) -> Iterator[Measurement]:
    """Train a supernet of `planted`."""
    training = SupernetTraining(
        planted(1, 2), toy_data(144), recipe, device="cpu", threads=1, **settings
    )
    return training(Job(Architecture({}), seed=3, workdir=folder))


def bench_of(
    space=None,
    *,
    relaxed: Relaxed | None = None,
    training: Recipe | None = None,
    epochs: int = 4,
    double: bool = False,
) -> Bench:
    """A bench for a step, without any data."""
    training = training or Recipe(lr=0.1, batch_size=8, nesterov=False, decay="all")
    torch.manual_seed(0)
    shared = supernet(space or planted(1, 2), relaxed)
    if double:
        shared.double()
    optimizer = torch.optim.SGD(
        shared.parameters(),
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.nesterov,
    )
    return Bench(shared, optimizer, training, CPU, epochs, steps=3, seed=0)


def batch_of(seed: int, channels: int = 1, side: int = 8, double: bool = False) -> Batch:
    """Random images with labels 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(8, channels, side, side, generator=generator)
    labels = torch.randint(0, 2, (8,), generator=generator)
    return Batch(images.double() if double else images, labels)
