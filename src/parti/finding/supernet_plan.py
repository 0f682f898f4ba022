"""How a supernet is trained within a budget: its sizes, epochs and images, from measured speed.

Papers train theirs for hours on photographs. Here the recipe is kept, and what depends on the data
follows the data: batches are no larger than suits their number, the learning rate follows the
batch, and digits are not mirrored because photographs are. Where time is short, the space is made
smaller before the training is made shorter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings, TrialError
from parti.core.trial import Job
from parti.evaluators.recipe import default_recipe
from parti.finding.files import read_json, write_json
from parti.finding.plan import shares
from parti.finding.settings import Settings
from parti.tasks.splits import part_of

if TYPE_CHECKING:
    from parti.recipes.recipe import SupernetRecipe
    from parti.recipes.training import SupernetTraining
    from parti.tasks.values import SearchData

__all__ = ["SupernetPlan", "fitted", "halved", "longest", "plan_supernet", "rehearse"]

SMALLEST = {"channels": 8, "width": 8, "cells": 3, "layers": 1}
"""Sizes of spaces that may be halved, down to these."""

SMALL_SIDE = 24
"""Images with fewer pixels a side get a supernet of halved sizes from the start."""

FEWEST_SEEN = 30_000
"""A supernet is made smaller until it can see so many images in its time."""

MOST_SEEN, LEAST_WANTED = 1_000_000, 200_000
"""Without a limit of time a supernet sees at most so many images, in whole epochs; with one, the
epochs of the paper, or as many as show it the second number."""

FEWEST_IMAGES = 1_000
"""It never sees fewer images in an epoch, if there are as many."""

REHEARSED = (1, 4)
"""The time of an epoch is measured for so many steps, and so many; longer while that is quick,
because where paths are drawn a few steps tell little."""

LONGER, QUICK = 4, 0.01
"""So many times as many steps are rehearsed again, as long as the last rehearsal took no more than
this share of the supernet's time, and they are no more than an epoch of all images."""

SAFETY = 0.9
"""Share of its time that is planned."""

LEAST_PART = 0.25
"""At least this share of a rehearsed epoch is taken to grow with its steps, for clocks are noisy;
and rehearsals leave at least this share of its time to the supernet."""

LATEST = 2.0
"""A supernet that takes so many times its share of the time stops after the epoch it is in."""

HOPELESS = 4.0
"""When one step tells that a size takes so many times too long, no further step is rehearsed."""


@dataclass(frozen=True, slots=True)
class SupernetPlan:
    """How a supernet is trained.

    Args:
        epochs: of its training.
        images: training images in each epoch; all, or a stratified part.
        halvings: how often the recipe's sizes of the space are halved.
        seconds: that rehearsals have taken.
    """

    epochs: int
    images: int
    halvings: int = 0
    seconds: float = field(default=0.0, compare=False)


def plan_supernet(
    settings: Settings,
    recipe: SupernetRecipe,
    data: SearchData,
    epoch_seconds: Callable[[SupernetRecipe, int], float],
    file: Path,
) -> SupernetPlan:
    """Plan the training of a supernet; a plan that was made before is kept.

    Args:
        settings: what was asked.
        recipe: as its authors have it, with those of their sizes that the space takes.
        data: what the supernet may see.
        epoch_seconds: rehearses an epoch of a recipe with so many steps; called in any case,
            since that also shows whether the space can be shared.
        file: where the plan is kept.
    """
    if (kept := read_json(file)) is not None:
        return SupernetPlan(**kept)
    images, stages = len(data.train_labels), max(1, len(recipe.stages))
    halvings = int(min(data.input_shape[1:]) < SMALL_SIDE)
    if settings.seconds is None or settings.supernet_epochs is not None:
        epoch_seconds(halved(recipe, halvings), REHEARSED[0])
        usual = min(recipe.training.epochs, round(MOST_SEEN / images))
        plan = SupernetPlan(max(stages, settings.supernet_epochs or usual), images, halvings)
        write_json(file, asdict(plan))
        return plan
    began, whole = time.monotonic(), SAFETY * settings.seconds * shares(settings).supernet
    batch = fitted(recipe, data, stages).training.batch_size / (1.0 - recipe.held)
    while True:
        smaller = halved(recipe, halvings)
        smallest = halved(recipe, halvings + 1) == smaller
        few = epoch_seconds(smaller, REHEARSED[0])
        if smallest or few * FEWEST_SEEN / batch < HOPELESS * whole:
            fewest, steps = REHEARSED
            more = epoch_seconds(smaller, steps)
            while 2 * stages * more < QUICK * whole and LONGER * steps * batch <= images:
                few, fewest, steps = more, steps, LONGER * steps
                more = epoch_seconds(smaller, steps)
            each = max(more - few, LEAST_PART * more) / (steps - fewest) / batch
            fixed = max(0.0, more - steps * batch * each)
            seconds = max(LEAST_PART * whole, whole - (time.monotonic() - began))
            epochs = seconds / (fixed + images * each)
            if smallest or epochs * images >= FEWEST_SEEN:
                break
        halvings += 1
    part = images
    if epochs < stages:
        part = min(images, max(FEWEST_IMAGES, round((seconds / stages - fixed) / each)))
    most = max(recipe.training.epochs, round(LEAST_WANTED / images))
    took = time.monotonic() - began
    plan = SupernetPlan(max(stages, min(most, math.floor(epochs))), part, halvings, took)
    write_json(file, asdict(plan))
    return plan


def longest(settings: Settings) -> float | None:
    """Seconds after which the training of a supernet stops, done or not; None for no limit."""
    if settings.seconds is None or settings.supernet_epochs is not None:
        return None
    return LATEST * settings.seconds * shares(settings).supernet


def halved(recipe: SupernetRecipe, times: int) -> SupernetRecipe:
    """Halve the sizes of a recipe's space, and of its stages, not below `SMALLEST`.

    Channels stay a multiple of what partial connections divide them by.
    """
    stages = range(len(recipe.stages))
    parts = [recipe.relaxed.partial, *(recipe.relaxed_in(stage).partial for stage in stages)]
    multiples = dict.fromkeys(("channels", "width"), math.lcm(2, *parts))

    def smaller(sizes: Mapping[str, int]) -> dict[str, int]:
        found = dict(sizes)
        for name in SMALLEST.keys() & found.keys():
            unit = multiples.get(name, 1)
            for _ in range(times):
                half = unit * math.ceil(found[name] / 2 / unit)
                found[name] = min(found[name], max(SMALLEST[name], half))
        return found

    return replace(
        recipe,
        sizes=smaller(recipe.sizes),
        stages=tuple(replace(stage, sizes=smaller(stage.sizes)) for stage in recipe.stages),
    )


def fitted(recipe: SupernetRecipe, data: SearchData, epochs: int) -> SupernetRecipe:
    """Return a recipe for so many epochs of some data, as the module's docstring says."""
    training, usual = recipe.training, default_recipe(data, epochs)
    batch = min(training.batch_size, usual.batch_size)
    share = batch / training.batch_size
    slower = share if training.optimizer == "sgd" else math.sqrt(share)
    return replace(
        recipe,
        training=replace(
            training,
            epochs=epochs,
            batch_size=batch,
            lr=training.lr * slower,
            final_lr=training.final_lr * slower,
            flip=training.flip and usual.flip,
            crop=min(training.crop, usual.crop),
            cutout=min(training.cutout, usual.cutout),
        ),
    )


def rehearse(
    training: Callable[[SearchData, SupernetRecipe], SupernetTraining],
    recipe: SupernetRecipe,
    data: SearchData,
    steps: int,
) -> float:
    """Train a supernet for two short epochs, of each stage if there are several.

    Args:
        training: makes the evaluator of images and a recipe.
        recipe: how it is trained.
        data: what it may see.
        steps: of an epoch.

    Returns:
        Seconds that the second epoch took, the mean over stages.

    Raises:
        SpaceError: the space cannot be shared.
        InvalidSettings: the recipe does not suit the space, or training fails.
    """
    stages = max(1, len(recipe.stages))
    short = fitted(recipe, data, epochs=2 * stages)
    images = math.ceil(steps * short.training.batch_size / (1.0 - recipe.held))
    few = part_of(data, max(data.class_count, images), data.class_count, seed=0)
    try:
        measured = list(training(few, short)(Job(Architecture({}))))
    except TrialError as error:
        raise InvalidSettings(f"a supernet by recipe {recipe.name!r}: {error}") from error
    ends = [0.0, *(m.seconds for m in measured)]
    seconds = [ends[i + 1] - ends[i] for i in range(1, len(measured), 2)] or ends[1:]
    return sum(seconds) / len(seconds)
