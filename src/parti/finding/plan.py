"""How much to spend on what: epochs of a trial, finalists, epochs and seeds of the final training.

Decided from the budget and from measured speed, and kept with the study, so that a search that
goes on after a crash keeps its plan.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from parti.finding.files import read_json, write_json
from parti.finding.settings import Settings

if TYPE_CHECKING:
    from torch import nn

    from parti.evaluators.recipe import Recipe
    from parti.tasks.values import SearchData

__all__ = [
    "AGREEMENT_SHARE",
    "Finals",
    "Plan",
    "part_of_an_epoch",
    "plan_finals",
    "plan_search",
    "population",
    "seconds_for_a_final",
    "seconds_for_a_look",
    "seconds_for_the_rest",
    "seconds_per_image",
    "shares",
]

INHERITED_TRIALS = 150
"""With inherited weights a trial takes a moment: there are at least so many, if time allows."""

IMAGES_PER_TRIAL, IMAGES_PER_FINAL = 100_000, 1_000_000
"""Images that are seen in a trial, and in a final training, in whole epochs, if time allows."""

MOST_TRIAL_EPOCHS, MOST_FINAL_EPOCHS = 10, 50
LEAST_FINAL_EPOCHS = 20

FINALISTS, TRIALS_PER_FINALIST = 3, 8
"""At most so many finalists, and one for every so many trials."""

FEWEST_IMAGES = 1_000
"""A trial never sees fewer training images in an epoch, if there are as many."""

SECONDS_TO_CONCLUDE = 12.0
"""Time kept free for export and report."""

LOOKS, SHARE_OF_A_LOOK = 4, 0.02
"""The winner is looked at further in so many ways, each of which gets this share of the budget."""

FEWEST_SECONDS_TO_LOOK, MOST_SECONDS_TO_LOOK = 2.0, 120.0

AGREEMENT_SHARE = 0.03
"""Share of the time for measuring, with inherited weights, what was trained by itself."""

SAFETY = 0.95
"""Share of what else is left that the final training is planned to take."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of a time budget; what they leave trains the finalists.

    Args:
        supernet: for its training.
        search: for the search.
        baseline: for random search, at most.
    """

    supernet: float
    search: float
    baseline: float


def shares(settings: Settings) -> Shares:
    """Return how the time is shared among the stages.

    Random search may take as long as supernet and search together.
    """
    if settings.supernet_of is not None:
        return Shares(0.0, 0.6, 0.0)
    if settings.recipe is not None:
        return Shares(0.26, 0.08, 0.34) if settings.baselines else Shares(0.5, 0.14, 0.0)
    return Shares(0.0, 0.36, 0.26) if settings.rival else Shares(0.0, 0.62, 0.0)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the search is run.

    Args:
        epochs: of each trial.
        images: training images that a trial sees in each epoch; all, or a stratified part.
        population: of the evolution.
        search_seconds: time for the search; None for no limit.
        baseline_seconds: time for random search, at most; None for no limit.
        seconds: that planning has taken.
    """

    epochs: int
    images: int
    population: int
    search_seconds: float | None
    baseline_seconds: float | None
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Finals:
    """How the finalists are trained.

    Args:
        finalists: how many of the best of each search.
        seeds: how often the winners and the fixed network are trained.
        epochs: of each training.
        fixed_epochs: of the fixed network, so that it gets no more time than the winner.
        images: training images that each sees in an epoch, a stratified part where there is no
            time for one epoch of all; None for all.
        testing: seconds that it will take to test the winners and the fixed network.
    """

    finalists: int
    seeds: int
    epochs: int
    fixed_epochs: int
    images: int | None = None
    testing: float = 0.0


def plan_search(
    settings: Settings,
    images: int,
    workers: int,
    seconds_per_image: Callable[[], float],
    file: Path,
) -> Plan:
    """Plan the trials; a plan that was made before is kept.

    Args:
        settings: what was asked.
        images: number of training images.
        workers: how many trials are trained at once.
        seconds_per_image: measures how long training a typical member takes; called only when
            there is a time budget.
        file: where the plan is kept.
    """
    if (kept := read_json(file)) is not None:
        return Plan(**kept)
    began = time.monotonic()
    epochs = settings.epochs or max(1, min(MOST_TRIAL_EPOCHS, round(IMAGES_PER_TRIAL / images)))
    usual, share = wanted_trials(settings.seconds or 0.0), 1.0
    trials = settings.trials or (usual if settings.recipe is None else INHERITED_TRIALS)
    plan = Plan(epochs, images, population(trials), None, None)
    if settings.seconds is not None:
        share_of = shares(settings)
        if settings.epochs is None:
            # With a recipe it is random search whose trials are trained.
            trained = trials if settings.recipe is None else usual
            longest = settings.seconds * max(share_of.search, share_of.baseline)
            affordable = longest * workers / trained / (seconds_per_image() * images)
            epochs = max(1, min(epochs, int(affordable)))
            share = min(1.0, affordable / epochs)
        plan = replace(
            plan,
            epochs=epochs,
            images=part_of_an_epoch(images, share) or images,
            search_seconds=settings.seconds * share_of.search,
            baseline_seconds=settings.seconds * share_of.baseline or None,
            seconds=time.monotonic() - began,
        )
    write_json(file, asdict(plan))
    return plan


def plan_finals(
    settings: Settings,
    images: int,
    left: float | None,
    epoch_seconds: Sequence[float],
    fixed_epoch_seconds: float,
    workers: int,
    file: Path,
    once: float = 0.0,
    tested: float = 0.0,
) -> Finals:
    """Plan the final training; a plan that was made before is kept.

    Args:
        settings: what was asked.
        images: number of training images.
        left: seconds left of the budget; None for no limit.
        epoch_seconds: what an epoch of each candidate took, best candidate first; may be empty
            where there is no limit.
        fixed_epoch_seconds: an estimate of the same for the fixed network; 0 for none.
        workers: how many are trained at once.
        file: where the plan is kept.
        once: seconds that each network takes however long it is trained, as robustness does.
        tested: what testing a network takes, in epochs of it.
    """
    if (kept := read_json(file)) is not None:
        return Finals(**kept)
    usual = round(IMAGES_PER_FINAL / images)
    wanted = settings.final_epochs or max(LEAST_FINAL_EPOCHS, min(MOST_FINAL_EPOCHS, usual))
    finalists, seeds = settings.finalists or _finalists(settings), settings.seeds or 1
    epochs, part, winner = wanted, None, next(iter(epoch_seconds), 0.0)
    searches, scratch = 1 + settings.rival, bool(settings.init and settings.baselines)

    def testing(seeds: int) -> float:
        return tested * seeds * ((searches + scratch) * winner + fixed_epoch_seconds)

    if left is not None and settings.final_epochs is None:
        left = SAFETY * max(0.0, left - seconds_for_the_rest(settings))
        for finalists, seeds in _ambitions(settings):
            each = sum(epoch_seconds[:finalists]) + (seeds - 1) * winner
            one_epoch = searches * each + seeds * min(fixed_epoch_seconds, winner)
            one_epoch += scratch * seeds * winner
            others = bool(fixed_epoch_seconds) + scratch
            jobs = searches * finalists + others
            trainings = jobs + (seeds - 1) * (searches + others)
            at_once = jobs / math.ceil(jobs / workers)
            affordable = ((left - testing(seeds)) * at_once - once * trainings) / one_epoch
            epochs = min(wanted, int(affordable))
            if epochs >= 0.7 * wanted:
                break
        if epochs < 1:
            epochs, part = 1, part_of_an_epoch(images, affordable)
    fixed = epochs
    if left is not None and fixed_epoch_seconds > winner:
        fixed = max(1, math.floor(epochs * winner / fixed_epoch_seconds))
    last = 0.0 if left is None else testing(seeds)
    plan = Finals(finalists, seeds, epochs, fixed, part, last)
    write_json(file, asdict(plan))
    return plan


def part_of_an_epoch(images: int, share: float) -> int | None:
    """Training images for which there is time, given the share of an epoch; None for all."""
    part = max(FEWEST_IMAGES, round(images * share))
    return part if part < images else None


def seconds_for_a_final(settings: Settings, workers: int) -> float:
    """How long each network is trained in the end, with no more finalists and seeds than asked for.

    The fixed network is taken to be as slow as the others.

    Args:
        settings: what was asked, with a limit of time.
        workers: how many are trained at once.
    """
    share, whole = shares(settings), settings.seconds or 0.0
    free = 1.0 - share.supernet - share.search - share.baseline
    free -= AGREEMENT_SHARE if settings.recipe and settings.rival else 0.0
    finalists, seeds, searches = settings.finalists or 1, settings.seeds or 1, 1 + settings.rival
    trainings = searches * (finalists + seeds - 1) + seeds * settings.baselines
    rounds = math.ceil(trainings / workers)
    return max(0.0, SAFETY * (free * whole - seconds_for_the_rest(settings)) / rounds)


def seconds_for_a_look(settings: Settings) -> float:
    """How long one of the ways may take in which the winner is looked at further."""
    share = SHARE_OF_A_LOOK * (settings.seconds or 0.0)
    return min(max(share, FEWEST_SECONDS_TO_LOOK), MOST_SECONDS_TO_LOOK)


def seconds_for_the_rest(settings: Settings) -> float:
    """The time kept free for what comes after testing: looks, export, report."""
    return SECONDS_TO_CONCLUDE + LOOKS * seconds_for_a_look(settings)


def wanted_trials(seconds: float) -> int:
    """How many trials should fit into a time budget: 16 in 2.5 minutes, 46 in 40, 75 in 2 hours.

    More time brings both more trials and longer ones, which rank architectures better.
    """
    return round(6 + 6.3 * math.sqrt(seconds / 60))


def population(trials: int) -> int:
    """A population that leaves two thirds of the trials to evolve in, at most the paper's 100."""
    return max(4, min(100, trials // 3))


def seconds_per_image(network: nn.Module, data: SearchData, recipe: Recipe, threads: int) -> float:
    """Measure how long training takes for each image, on a few batches."""
    from parti.evaluators.trained import train
    from parti.tasks.splits import part_of

    images = max(data.class_count, 6 * recipe.batch_size)
    few = part_of(data, images, data.class_count, seed=0)
    recipe = replace(recipe, average="none")
    train(network, few, recipe, epochs=1, threads=threads)  # warm up
    began = time.perf_counter()
    train(network, few, recipe, epochs=1, threads=threads)
    return (time.perf_counter() - began) / len(few.train_labels)


def _ambitions(settings: Settings) -> list[tuple[int, int]]:
    """(finalists, seeds) to try, the most ambitious first."""
    finalists, seeds = settings.finalists, settings.seeds
    most = _finalists(settings)
    usual = [(most, 3), (most, 1), (min(most, 2), 1), (1, 1)]
    tried = [(finalists or f, seeds or s) for f, s in usual]
    return list(dict.fromkeys(tried))


def _finalists(settings: Settings) -> int:
    """How many finalists the trials of a search deserve."""
    trials = settings.trials or wanted_trials(settings.seconds or 0.0)
    return max(1, min(FINALISTS, trials // TRIALS_PER_FINALIST))
