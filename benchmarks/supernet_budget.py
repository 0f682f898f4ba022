"""A budget of minutes for the training of a supernet, and what stands beside it.

Before a training begins, some steps of it are timed on few images; from that follows how many
epochs fit, or, if not even one does, on how many images. Times are of this machine, as it is.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from parti.core.architecture import Architecture
from parti.core.program import Program
from parti.core.trial import Job
from parti.evaluators.recipe import Recipe
from parti.evaluators.training import Training
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.training import SupernetTraining, Trained, load_supernet
from parti.tasks.images import read_images
from parti.tasks.splits import part_of, search_data, split
from parti.tasks.values import SearchData

CIFAR10 = Path("../shared/data/cifar10_jpeg")

TIMED_STEPS = 16


def cifar10(val: int) -> SearchData:
    """The training images of CIFAR-10, of which some are for validation."""
    data = read_images(CIFAR10)
    seen = search_data(data, split(data, seed=0, val=0.15))
    return part_of(seen, len(seen.train_labels), val, seed=0)


def fitted(
    space: Program, data: SearchData, recipe: SupernetRecipe, seconds: float, device: str
) -> tuple[SearchData, SupernetRecipe]:
    """Choose epochs, or else fewer images, so that the training takes so long."""
    size, share = recipe.training.batch_size, 1 - recipe.held
    short = replace(recipe, training=replace(recipe.training, epochs=1))

    def some(steps: int) -> SearchData:
        return part_of(data, round(steps * size / share) + 1, len(data.val_labels), seed=0)

    def timed(steps: int) -> float:
        began = time.perf_counter()
        list(SupernetTraining(space, some(steps), short, device=device)(Job(Architecture({}))))
        return time.perf_counter() - began

    one, two = timed(TIMED_STEPS), timed(2 * TIMED_STEPS)
    step = max(two - one, 0.1 * one) / TIMED_STEPS
    between = max(0.0, one - TIMED_STEPS * step)  # validation, and what else an epoch ends with
    each = int(len(data.train_labels) * share) // size
    epochs = int(seconds / (each * step + between))
    if epochs < 1:
        data = some(max(1, min(each, int((seconds - between) / step))))
    return data, replace(recipe, training=replace(recipe.training, epochs=max(1, epochs)))


def trained(
    space: Program, data: SearchData, recipe: SupernetRecipe, seed: int, device: str
) -> tuple[Trained, float]:
    """Train a supernet; with the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Architecture({}), seed=seed, workdir=Path(folder))
        *_, last = SupernetTraining(space, data, recipe, device=device)(job)
        return load_supernet(space, recipe, Path(folder)), last.seconds


def seconds_of_training(
    space: Program, data: SearchData, recipe: Recipe, architecture: Architecture, device: str
) -> float:
    """How long one training of a network would take here, from some of its steps."""
    few = part_of(data, TIMED_STEPS * recipe.batch_size, len(data.classes), seed=0)
    trainer = Training(space, few, replace(recipe, epochs=2), device=device)
    first, second = trainer(Job(architecture))
    steps = len(data.train_labels) // recipe.batch_size
    return (second.seconds - first.seconds) / TIMED_STEPS * steps * recipe.epochs
