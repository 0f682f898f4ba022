"""Training of a supernet, as the one trial of a study of its own.

So it is recorded, shown and resumed like any other trial: after a kill at any moment it goes on
from its last checkpoint, in the middle of an epoch if need be, as if nothing had happened. Every
step's random numbers follow from the seed and the step's number.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from parti.core.errors import TrialError
from parti.core.program import Program
from parti.core.trial import Job, Measurement
from parti.evaluators.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from parti.evaluators.feed import Memory, check_memory
from parti.evaluators.learner import explained
from parti.evaluators.machine import choose_device
from parti.recipes.bench import Costs
from parti.recipes.course import Course, Given, stage_space
from parti.recipes.recipe import SupernetRecipe
from parti.supernets.share import Supernet, supernet

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["Reached", "SupernetTraining", "Trained", "load_supernet", "reached"]

SAVE_EVERY = 30.0
"""Least seconds between checkpoints, unless something else is asked for."""

EARLY = 0.1
"""Before so large a share of its time has passed, it is not known how fast a training is."""

IN_TIME = 0.8
"""What has phases is to come to the end of the last one within so large a share of its time."""


class SupernetTraining:
    """Trains one supernet; the architecture of the job says nothing.

    Args:
        space: whose architectures it holds, all arguments bound.
        data: the training and validation images; test images are in no reach.
        recipe: how.
        costs: what architectures cost, for recipes that count it.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.
        memory: as in `Training`.
        save_every: least seconds between checkpoints; None for `SAVE_EVERY`.
        seconds: how long it may take, over all restarts; no epoch is begun that would end later,
            and a step with phases hurries through them if it is slow. None for no limit.

    Raises:
        InvalidSettings: a value is not allowed.
    """

    def __init__(
        self,
        space: Program,
        data: SearchData,
        recipe: SupernetRecipe,
        *,
        costs: Costs | None = None,
        device: str = "auto",
        threads: int | None = None,
        memory: Memory = "auto",
        save_every: float | None = None,
        seconds: float | None = None,
    ) -> None:
        check_memory(memory)
        where = choose_device(device)
        self._given = Given(space, data, recipe, costs, where, threads, memory)
        self._save_every = SAVE_EVERY if save_every is None else save_every
        self._seconds = seconds

    @property
    def provides(self) -> frozenset[str]:
        """Names of the metrics; recipes add what they monitor."""
        names = ["accuracy", "loss", "f1", "precision", "recall", "auc"]
        if len(self._given.data.classes) > 5:
            names.append("top5_accuracy")
        return frozenset({"train_loss", *(f"val_{name}" for name in names)})

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Train, and yield after every epoch; step is the number of epochs done.

        After a crash the measurements from before are yielded again first. `val_accuracy` and
        the like are those of what the recipe would derive now, with inherited weights.

        Raises:
            Diverged: the loss became NaN or infinite.
            TrialError: the supernet raises, or does not fit into memory or the data.
            SpaceError: the space cannot be shared.
        """
        began = time.perf_counter()
        identity = _identity(self._given, job.seed)
        own = _own_checkpoint(job.workdir, identity)
        with explained(self._given.recipe.training):
            course = Course(self._given, job.seed)
            if own is not None:
                course.restore(own.training)
        done = list(own.measurements) if own else []
        began -= float(own.training["seconds"]) if own else 0.0
        yield from done
        saved = time.perf_counter()

        def save() -> None:
            nonlocal saved
            if job.workdir is not None:
                state = {**course.state(), "seconds": time.perf_counter() - began}
                weights = course.bench.supernet.network.state_dict()
                save_checkpoint(job.workdir, Checkpoint(identity, weights, state, tuple(done)))
            saved = time.perf_counter()

        def late(epochs: int) -> bool:
            """Whether one more epoch would take too long, after so many."""
            passed = time.perf_counter() - began
            return self._seconds is not None and passed * (1 + 1 / epochs) > self._seconds

        def hurry() -> None:
            """Tell a step that has phases how many epochs there is time for."""
            passed = time.perf_counter() - began
            if self._seconds is not None and passed > EARLY * self._seconds and course.progress:
                course.finish_by(int(IN_TIME * self._seconds / passed * course.progress))

        while not course.done:
            with explained(self._given.recipe.training):
                hurry()
                for _ in course.steps():
                    hurry()
                    if time.perf_counter() - saved >= self._save_every:
                        save()
                measured = course.end_epoch(last=late(course.epoch + 1))
            done.append(Measurement(measured, course.epoch, time.perf_counter() - began))
            if course.done or time.perf_counter() - saved >= self._save_every:
                save()
            yield done[-1]

    def rehearse(self) -> Iterator[tuple[float, float]]:
        """Train and keep nothing; yield seconds of every epoch: of its steps, and of its end.

        Raises:
            As a call.
        """
        with explained(self._given.recipe.training):
            course = Course(self._given, seed=0)
        while not course.done:
            began = time.perf_counter()
            with explained(self._given.recipe.training):
                for _ in course.steps():
                    pass
                stepped = time.perf_counter()
                course.end_epoch()
            yield stepped - began, time.perf_counter() - stepped


@dataclass(frozen=True)
class Trained:
    """A supernet that was trained.

    Args:
        supernet: with its weights, on the CPU.
        probabilities: how good each option is thought to be; empty for recipes that do not say.
        measurements: of its training.
    """

    supernet: Supernet
    probabilities: Mapping[str, Tensor]
    measurements: tuple[Measurement, ...]


def load_supernet(space: Program, recipe: SupernetRecipe, folder: Path) -> Trained:
    """Load what a training left in its folder.

    Args:
        space: the one that was shared, with the same arguments.
        recipe: the one that trained it.
        folder: of the trial.

    Raises:
        TrialError: there is no checkpoint, or it is of another supernet.
    """
    found = load_checkpoint(folder)
    if found.identity.get("space") != repr(space) or found.identity.get("recipe") != recipe.name:
        raise TrialError(
            f"the supernet in {folder} holds {found.identity.get('space')} trained by "
            f"{found.identity.get('recipe')}, not {space!r} by {recipe.name}"
        )
    with torch.random.fork_rng(devices=[]):
        stage = int(found.training["stage"])
        shared = supernet(stage_space(space, recipe, stage), recipe.relaxed_in(stage))
    shared.network.load_state_dict(dict(found.weights))
    shared.eval()
    return Trained(shared, dict(found.training["probabilities"]), found.measurements)


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the training of a supernet has come.

    Args:
        stage: that its weights are of, from 0.
        missing: in which part it was stopped for want of time, and what that means; nothing if
            it was not, or if its parts are all alike.
    """

    stage: int
    missing: str = ""


def reached(recipe: SupernetRecipe, folder: Path) -> Reached:
    """Say how far a training has come; where there is no checkpoint, to the end of the recipe.

    Args:
        recipe: that trains the supernet.
        folder: of the trial.
    """
    with suppress(TrialError):
        state = load_checkpoint(folder).training
        return Reached(int(state["stage"]), str(state.get("missing", "")))
    return Reached(max(0, len(recipe.stages) - 1))


def _identity(given: Given, seed: int) -> dict[str, Any]:
    recipe, data = given.recipe, given.data
    settings = {f"recipe.{name}": value for name, value in asdict(recipe.training).items()}
    return {
        "space": repr(given.space),
        "recipe": recipe.name,
        "options": repr(dict(recipe.options)),
        "relaxed": repr(recipe.relaxed),
        "stages": repr(recipe.stages),
        "one_schedule": recipe.one_schedule,
        "held": recipe.held,
        **settings,
        "images": [len(data.train_labels), len(data.val_labels), *data.input_shape],
        "pixels": [*map(float, data.mean), *map(float, data.std)],
        "seed": seed,
    }


def _own_checkpoint(folder: Path | None, identity: Mapping[str, Any]) -> Checkpoint | None:
    """What this very training left before it was stopped; anything else is ignored."""
    if folder is None:
        return None
    with suppress(TrialError):
        found = load_checkpoint(folder)
        if not found.differences(dict(identity)):
            return found
    return None
