"""How a supernet is trained within a budget: its sizes, epochs and images, from measured speed.

Papers train theirs for hours on photographs. Here the recipe is kept, and what depends on the data
follows the data: batches are no larger than suits their number, the learning rate follows the
batch, digits are not mirrored because photographs are, and images are shifted as far as suits their
size. Where time is short, the space is made
smaller before the training is made shorter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from parti.core.errors import InvalidSettings, TrialError
from parti.evaluators.learner import STATISTICS_IMAGES
from parti.evaluators.recipe import default_recipe
from parti.finding.files import read_json, write_json
from parti.finding.plan import seconds_for_a_final, shares
from parti.finding.settings import Settings
from parti.tasks.splits import part_of

if TYPE_CHECKING:
    from parti.recipes.recipe import SupernetRecipe
    from parti.recipes.training import SupernetTraining
    from parti.tasks.values import SearchData

__all__ = [
    "Rehearsed",
    "SupernetPlan",
    "fitted",
    "halved",
    "longest",
    "plan_supernet",
    "rehearse",
    "watched",
]

SMALLEST = {"channels": 8, "width": 8, "cells": 3, "layers": 1}
"""Sizes of spaces that may be halved, down to these."""

SMALL_SIDE = 24
"""Images with fewer pixels a side get a supernet of halved sizes from the start."""

FEWEST_SEEN, FEWEST_TRAINED = 30_000, 20_000
"""A supernet is made smaller until it can see the first number of images in its time, and its
networks the second in the final training."""

MOST_SEEN, LEAST_WANTED = 1_000_000, 200_000
"""Without a limit of time a supernet sees at most so many images, in whole epochs; with one, the
epochs of the paper, or as many as show it the second number."""

FEWEST_IMAGES = 1_000
"""It never sees fewer images in an epoch, if there are as many."""

MOST_LOOKED_AT, FEWEST_LOOKED_AT, WANTED_LOOKS = 2_000, 500, 50
"""A subnet is looked at with at most the first number of validation images, after each epoch and in
the search; in the search with as few as the second, so that the third number of subnets fits into
its time even if all are as large as what is looked at after an epoch."""

FEWEST_STEPS, LONGER, QUICK = 4, 4, 0.005
"""A rehearsal is of one step, then of `LONGER` times as many, up to `FEWEST_STEPS`. It goes on like
that while it takes no more than a share of `QUICK` of the supernet's time and there are images
enough: where paths are drawn, a few steps tell little."""

SAFETY = 0.9
"""Share of its time that is planned."""

LEAST_PART = 0.25
"""Rehearsals leave at least this share of its time to the supernet."""

LATEST = 2.0
"""A supernet that takes so many times its share of the time stops after the epoch it is in."""

HOPELESS = 4.0
"""When one step tells that a size takes so many times too long, no further step is rehearsed."""

FEW_EPOCHS = 5
"""Fewer epochs than these are rounded, and see a part of the images where that was up: to leave out
half an epoch is to waste much of the time."""


@dataclass(frozen=True, slots=True)
class SupernetPlan:
    """How a supernet is trained.

    Args:
        epochs: of its training.
        images: training images in each epoch; all, or a stratified part.
        halvings: how often the recipe's sizes of the space are halved.
        looked_at: validation images that a subnet is measured on in the search, and at most so
            many training images that its norms are measured on.
        seconds: that rehearsals have taken.
    """

    epochs: int
    images: int
    halvings: int = 0
    looked_at: int = MOST_LOOKED_AT
    seconds: float = field(default=0.0, compare=False)


def plan_supernet(
    settings: Settings,
    recipe: SupernetRecipe,
    data: SearchData,
    rehearsed: Callable[[SupernetRecipe, int], Rehearsed],
    trained: Callable[[SupernetRecipe], float],
    file: Path,
    workers: int = 1,
) -> SupernetPlan:
    """Plan the training of a supernet; a plan that was made before is kept.

    Args:
        settings: what was asked.
        recipe: as its authors have it, with those of their sizes that the space takes.
        data: what the supernet may see.
        rehearsed: rehearses an epoch of a recipe, as it is fitted to the data, with so many
            steps; called in any case, since that also shows whether the space can be shared.
        trained: measures how long training one of its networks takes for each image; infinity
            where none keeps to the limits.
        file: where the plan is kept.
        workers: how many networks are trained at once in the end.
    """
    if (kept := read_json(file)) is not None:
        return SupernetPlan(**kept)
    images, stages = len(data.train_labels), max(1, len(recipe.stages))
    halvings = int(min(data.input_shape[1:]) < SMALL_SIDE)
    if settings.seconds is None or settings.supernet_epochs is not None:
        usual = min(recipe.training.epochs, round(MOST_SEEN / images))
        epochs = max(stages, settings.supernet_epochs or usual)
        rehearsed(fitted(halved(recipe, halvings), data, epochs), 1)
        plan = SupernetPlan(epochs, images, halvings)
        write_json(file, asdict(plan))
        return plan
    began, whole = time.monotonic(), SAFETY * settings.seconds * shares(settings).supernet
    longest_wanted = max(recipe.training.epochs, round(LEAST_WANTED / images))

    def left() -> float:
        return max(LEAST_PART * whole, whole - (time.monotonic() - began))

    final = math.inf if settings.final_epochs else seconds_for_a_final(settings, workers)
    while True:
        smaller = halved(recipe, halvings)
        smallest = halved(recipe, halvings + 1) == smaller
        if smallest or (final > 0 and final >= FEWEST_TRAINED * trained(smaller)):
            short = fitted(smaller, data, stages)
            pace = _pace(short, images, rehearsed, whole, math.inf if smallest else HOPELESS)
            enough = pace is not None and pace.epochs(left()) * images >= FEWEST_SEEN
            if pace is not None and (smallest or enough):
                break
        halvings += 1

    def epochs_of(pace: Pace) -> int:
        fit = pace.epochs(left())
        return max(stages, min(longest_wanted, round(fit) if fit < FEW_EPOCHS else int(fit)))

    long = fitted(smaller, data, epochs_of(pace))
    if long.training.batch_size != short.training.batch_size:  # and with it the time of an image
        pace = _pace(long, images, rehearsed, whole, math.inf) or pace
    epochs, part = epochs_of(pace), images
    if pace.epochs(left()) < epochs:
        part = min(images, max(FEWEST_IMAGES, round(pace.images(left() / epochs))))
    look = settings.seconds * shares(settings).search / WANTED_LOOKS  # in seconds
    looked_at = max(FEWEST_LOOKED_AT, round(MOST_LOOKED_AT * look / max(pace.fixed, look)))
    plan = SupernetPlan(epochs, part, halvings, looked_at, time.monotonic() - began)
    write_json(file, asdict(plan))
    return plan


@dataclass(frozen=True, slots=True)
class Pace:
    """How long an epoch of a supernet takes.

    Args:
        fixed: seconds of an epoch, whatever it sees.
        each: seconds of an image.
        all_images: of an epoch.
    """

    fixed: float
    each: float
    all_images: int

    def epochs(self, seconds: float) -> float:
        """Epochs of all images in so many seconds."""
        return seconds / (self.fixed + self.all_images * self.each)

    def images(self, seconds: float) -> float:
        """Images of an epoch of so many seconds."""
        return (seconds - self.fixed) / self.each


def _pace(
    recipe: SupernetRecipe,
    images: int,
    rehearsed: Callable[[SupernetRecipe, int], Rehearsed],
    whole: float,
    hopeless: float,
) -> Pace | None:
    """Rehearse a recipe; None if one step tells that it takes so many times the whole time."""
    stages, batch = max(1, len(recipe.stages)), recipe.training.batch_size / (1.0 - recipe.held)
    steps, found = 1, rehearsed(recipe, 1)
    if found.steps * FEWEST_SEEN / batch >= hopeless * whole:
        return None
    while steps < FEWEST_STEPS or (
        2 * stages * found.steps < QUICK * whole and LONGER * steps * batch <= images
    ):
        steps *= LONGER
        found = rehearsed(recipe, steps)
    return Pace(found.end, found.steps / steps / batch, images)


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
            crop=usual.crop if training.crop else 0,
            cutout=min(training.cutout, usual.cutout),
        ),
    )


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A rehearsed epoch.

    Args:
        steps: seconds of its steps.
        end: seconds of the end of an epoch of all images: statistics and validation.
    """

    steps: float
    end: float


def rehearse(
    training: Callable[[SearchData, SupernetRecipe], SupernetTraining],
    recipe: SupernetRecipe,
    data: SearchData,
    steps: int,
) -> Rehearsed:
    """Train a supernet for two short epochs, of each stage if there are several.

    What the end of an epoch takes is measured with as small a part of its images, and scaled: it
    is forward passes of one network.

    Args:
        training: makes the evaluator of images and a recipe.
        recipe: how it is trained, fitted to the data.
        data: what it may see.
        steps: of an epoch.

    Returns:
        What the second epoch took, the mean over stages.

    Raises:
        SpaceError: the space cannot be shared.
        InvalidSettings: the recipe does not suit the space, or training fails.
    """
    stages = max(1, len(recipe.stages))
    short = replace(recipe, training=replace(recipe.training, epochs=2 * stages))
    images = math.ceil(steps * short.training.batch_size / (1.0 - recipe.held))
    end, trained = watched(data, seed=0), steps * short.training.batch_size
    share = min(1.0, trained / min(STATISTICS_IMAGES, len(data.train_labels)))
    looks = max(data.class_count, math.ceil(share * len(end.val_labels)))
    few = part_of(end, max(data.class_count, images), looks, seed=0)
    try:
        epochs = list(training(few, short).rehearse())
    except TrialError as error:
        raise InvalidSettings(f"a supernet by recipe {recipe.name!r}: {error}") from error
    warm = epochs[1::2] or epochs
    return Rehearsed(
        sum(seconds for seconds, _ in warm) / len(warm),
        sum(seconds for _, seconds in warm) / len(warm) / share,
    )


def watched(data: SearchData, seed: int, most: int = MOST_LOOKED_AT) -> SearchData:
    """Keep at most so many validation images, but one of each class."""
    count = max(most, data.class_count)
    if len(data.val_labels) <= count:
        return data
    return part_of(data, len(data.train_labels), count, seed=seed)
