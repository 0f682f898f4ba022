"""A budget of minutes for the training of a supernet, and what stands beside it.

Before a training begins, some steps of it are timed on few images; from that follows how many
epochs fit, or, if not even one does, on how many images. On a CPU, time is what the processor
worked for this process, added up over its threads, so that other work on the machine does not
shorten a training; on a GPU it is the clock on the wall.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

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

TIMED_STEPS = 8


def clock(device: str) -> float:
    """Seconds: of the processor if the device is a CPU, else on the wall."""
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return time.perf_counter() if on_gpu else time.process_time()


def cifar10(val: int) -> SearchData:
    """The training images of CIFAR-10, of which some are for validation."""
    data = read_images(CIFAR10)
    seen = search_data(data, split(data, seed=0, val=0.15))
    return part_of(seen, len(seen.train_labels), val, seed=0)


def fitted(
    space: Program, data: SearchData, recipe: SupernetRecipe, seconds: float, device: str
) -> tuple[SearchData, SupernetRecipe]:
    """Choose epochs, or else fewer images, so that the training takes so long.

    Of a recipe in stages, an epoch is the mean of one of each.
    """
    size, share = recipe.training.batch_size, 1 - recipe.held
    stages = max(1, len(recipe.stages))
    short = replace(recipe, training=replace(recipe.training, epochs=stages))

    def some(steps: int) -> SearchData:
        images = max(data.class_count, round(steps * size / share) + 1)
        return part_of(data, images, len(data.val_labels), seed=0)

    def timed(steps: int) -> float:
        began = clock(device)
        list(SupernetTraining(space, some(steps), short, device=device)(Job(Architecture({}))))
        return (clock(device) - began) / stages

    timed(TIMED_STEPS)  # warm up: the first call of every layer is slow
    one, three = timed(TIMED_STEPS), timed(3 * TIMED_STEPS)
    step = max(three - one, 0.2 * one) / (2 * TIMED_STEPS)
    between = max(0.0, one - TIMED_STEPS * step)  # validation, and what else an epoch ends with
    each = int(len(data.train_labels) * share) // size
    epochs = int(seconds / (each * step + between))
    if epochs < stages:
        data = some(max(1, min(each, int((seconds / stages - between) / step))))
    return data, replace(recipe, training=replace(recipe.training, epochs=max(stages, epochs)))


def trained(
    space: Program, data: SearchData, recipe: SupernetRecipe, seed: int, device: str
) -> tuple[Trained, float]:
    """Train a supernet; with the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Architecture({}), seed=seed, workdir=Path(folder))
        began = clock(device)
        list(SupernetTraining(space, data, recipe, device=device)(job))
        took = clock(device) - began
        return load_supernet(space, recipe, Path(folder)), took


def seconds_of_training(
    space: Program, data: SearchData, recipe: Recipe, architecture: Architecture, device: str
) -> float:
    """How long one training of a network would take here, from some of its steps."""
    few = part_of(data, TIMED_STEPS * recipe.batch_size, len(data.classes), seed=0)
    trainer = Training(space, few, replace(recipe, epochs=2), device=device)
    times = [clock(device) for _ in trainer(Job(architecture))]
    steps = len(data.train_labels) // recipe.batch_size
    return (times[1] - times[0]) / TIMED_STEPS * steps * recipe.epochs
