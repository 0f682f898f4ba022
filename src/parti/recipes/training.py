"""Training of a supernet, as the one trial of a study of its own.

So it is recorded, shown and resumed like any other trial: after a kill at any moment it goes on
from its last checkpoint, in the middle of an epoch if need be, as if nothing had happened. Every
step's random numbers follow from the seed and the step's number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from parti.core.errors import Diverged, InvalidSettings, TrialError
from parti.core.program import Program
from parti.core.trial import Job, Measurement
from parti.evaluators.augment import draw
from parti.evaluators.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from parti.evaluators.feed import Memory, Pictures, as_tensor, check_memory
from parti.evaluators.learner import (
    EVALUATION_BATCH,
    check_logits,
    explained,
    logits_of,
    make_optimizer,
)
from parti.evaluators.machine import arranged, choose_device, derive, isolated, machine_for, place
from parti.evaluators.recipe import learning_rate
from parti.recipes.bench import Batch, Bench, Costs, Step, Successor
from parti.recipes.recipe import SupernetRecipe
from parti.supernets.fused_cells import fuse
from parti.supernets.share import Supernet, supernet
from parti.tasks.classification import accuracy

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["SupernetTraining", "Trained", "load_supernet", "make_step", "stage_space"]

CHECK_STEPS = 16
"""After so many steps it is checked that the loss is finite."""


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
        save_every: least seconds between checkpoints.

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
        save_every: float = 30.0,
    ) -> None:
        check_memory(memory)
        self._space, self._data, self._recipe, self._costs = space, data, recipe, costs
        self._device, self._threads, self._memory = choose_device(device), threads, memory
        self._save_every = save_every

    @property
    def provides(self) -> frozenset[str]:
        """Names of the metrics; recipes add what they monitor."""
        return frozenset({"train_loss", "val_accuracy"})

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Train, and yield after every epoch; step is the number of epochs done.

        After a crash the measurements from before are yielded again first. `val_accuracy` is
        that of what the recipe would derive now, with inherited weights.

        Raises:
            Diverged: the loss became NaN or infinite.
            TrialError: the supernet raises, or does not fit into memory or the data.
            SpaceError: the space cannot be shared.
        """
        began = time.perf_counter()
        identity = _identity(self._space, self._data, self._recipe, job.seed)
        own = _own_checkpoint(job.workdir, identity)
        with explained(self._recipe.training):
            course = _Course(self, job.seed)
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

        while not course.done:
            with explained(self._recipe.training):
                for _ in course.steps():
                    if time.perf_counter() - saved >= self._save_every:
                        save()
                measured = course.end_epoch()
            done.append(Measurement(measured, course.epoch, time.perf_counter() - began))
            if course.done or time.perf_counter() - saved >= self._save_every:
                save()
            yield done[-1]


class _Course:
    """A supernet in training: all that changes, and where it stands."""

    def __init__(self, training: SupernetTraining, seed: int) -> None:
        recipe, data = training._recipe, training._data
        self.epoch, self.done, self._place, self._total, self._seed = 0, False, 0, 0.0, seed
        device = training._device
        self._train = Pictures(data.train_images, data.mean, data.std, device, training._memory)
        self._val = Pictures(data.val_images, data.mean, data.std, device, training._memory)
        self._train_labels = as_tensor(data.train_labels).to(device)
        self._val_labels = as_tensor(data.val_labels)
        order = torch.randperm(
            self._train.size, generator=torch.Generator().manual_seed(derive(seed, "held"))
        )
        held = round(recipe.held * self._train.size)
        self._parts = {"held": order[:held], "train": order[held:]}
        size = min(recipe.training.batch_size, *(len(p) for p in self._parts.values() if len(p)))
        self._training = replace(recipe.training, batch_size=size)
        steps = len(self._parts["train"]) // size
        epochs = recipe.training.epochs
        self._machine = machine_for(recipe.training, str(device), training._threads, epochs * steps)
        self._steps, self._made_for = steps, training
        parts = max(1, len(recipe.stages))
        self._bounds = [round(epochs * part / parts) for part in range(parts + 1)]
        self._enter(0)

    def _enter(self, stage: int) -> None:
        """Begin a stage: with a new supernet, and what its step takes over."""
        training, machine, seed = self._made_for, self._machine, self._seed
        recipe = training._recipe
        with isolated(machine, derive(seed, "weights", stage)):
            shared = supernet(stage_space(training._space, recipe, stage), recipe.relaxed_in(stage))
            sample = self._train.part(0, 2)
            self._layout = place(shared, machine, sample)
            check_logits(shared, sample, len(training._data.classes), self._layout)
            fuse(shared)
        self._stage = stage
        self.bench = Bench(
            shared,
            make_optimizer(shared, recipe.training),
            self._training,
            machine,
            self._bounds[stage + 1] - self._bounds[stage],
            self._steps,
            seed,
            training._costs,
            self._batches,
        )
        with isolated(machine, derive(seed, "step", stage)):
            self._step = make_step(recipe, self.bench, stage)

    def _advance(self) -> None:
        """Go on to the next stage."""
        previous = self._step
        self._enter(self._stage + 1)
        if not isinstance(self._step, Successor):
            raise InvalidSettings(
                f"recipe {self._made_for._recipe.name!r} has stages, but its step, a "
                f"{type(self._step).__name__}, has no follow(previous) to take over with"
            )
        self._step.follow(previous)

    def steps(self) -> Iterator[None]:
        """Take the steps that this epoch still lacks."""
        bench = self.bench
        if self._place == 0:
            self._total = 0.0
        epoch = self.epoch - self._bounds[self._stage]
        self._step.begin(epoch)
        bench.supernet.train()
        loss = torch.zeros((), device=bench.machine.device)
        batches = self._batches("train")
        held = self._batches("held") if len(self._parts["held"]) else None
        while self._place < bench.steps:
            rate = self._rate(epoch)
            for group in bench.optimizer.param_groups:
                group["lr"] = rate
            batch, other = next(batches), None if held is None else next(held)
            with isolated(bench.machine, derive(self._seed, "step", self.epoch, self._place)):
                loss += self._step(batch, other)
            self._place += 1
            if self._place % CHECK_STEPS == 0 or self._place == bench.steps:
                self._total += float(loss)
                loss.zero_()
                self._check(rate)
            if self._place % CHECK_STEPS == 0:  # what is saved between has no loss left out
                yield

    def _rate(self, epoch: int) -> float:
        """The learning rate of the next step, in an epoch of the stage."""
        steps, epochs = self.bench.steps, self.bench.epochs
        if self._made_for._recipe.one_schedule:
            epoch, epochs = self.epoch, self._bounds[-1]
        return learning_rate(self._training, epoch * steps + self._place, epochs * steps)

    def end_epoch(self) -> dict[str, float]:
        """Close an epoch: what has been measured in it."""
        bench, count = self.bench, self.bench.steps
        self.epoch, self._place = self.epoch + 1, 0
        with isolated(bench.machine, derive(self._seed, "validation", self.epoch)):
            self._step.settle()
            logits = logits_of(bench.supernet, self._val, self._layout, EVALUATION_BATCH)
        self.done = self.epoch >= self._bounds[-1] or self._step.done()
        measured = {
            "train_loss": self._total / count,
            "val_accuracy": accuracy(logits, self._val_labels),
            **self._step.monitors(),
        }
        if not self.done and self.epoch == self._bounds[self._stage + 1]:
            self._advance()
        return measured

    def state(self) -> dict[str, Any]:
        """All that changes, for `restore`."""
        return {
            "epoch": self.epoch,
            "place": self._place,
            "total": self._total,
            "done": self.done,
            "stage": self._stage,
            "network": self.bench.supernet.network.state_dict(),
            "optimizer": self.bench.optimizer.state_dict(),
            "step": dict(self._step.state()),
            "probabilities": dict(self._step.probabilities()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of a training with the same settings."""
        self.epoch, self._place, self._total = state["epoch"], state["place"], state["total"]
        self.done = state["done"]
        if state["stage"] != self._stage:
            self._enter(state["stage"])
        self.bench.supernet.network.load_state_dict(state["network"])
        self.bench.optimizer.load_state_dict(state["optimizer"])
        self._step.restore(state["step"])

    def _batches(self, part: str) -> Iterator[Batch]:
        """Batches of this epoch from that of the current step on, in one order after the other."""
        recipe, pictures, device = self._training, self._train, self.bench.machine.device
        mine, size = self._parts[part], self._training.batch_size
        turn, first = divmod(self._place, len(mine) // size)
        while True:
            generator = torch.Generator(device)
            generator.manual_seed(derive(self._seed, part, self.epoch, turn))
            order = torch.randperm(len(mine), generator=generator, device=device)
            draws = draw(recipe, len(mine), pictures.height, pictures.width, generator)
            start = first * size
            rest = mine.to(device)[order][start:]
            drawn = draws.part(start, len(mine))
            for images, picks in pictures.batches(rest, drawn, size, recipe.cutout):
                yield Batch(arranged(images, self._layout), self._train_labels[picks])
            turn, first = turn + 1, 0

    def _check(self, rate: float) -> None:
        if not math.isfinite(self._total):
            raise Diverged(
                f"the supernet's training loss became {self._total} in epoch {self.epoch + 1} at "
                f"learning rate {rate:.3g}; a lower lr or a clip_norm may help"
            )


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


def stage_space(space: Program, recipe: SupernetRecipe, stage: int) -> Program:
    """Return the space that a stage of a recipe shares.

    Args:
        space: all arguments bound.
        recipe: whose stage it is.
        stage: number of the stage, from 0.
    """
    if not recipe.stages:
        return space
    taken = signature(space.function).parameters
    sizes = {name: size for name, size in recipe.stages[stage].sizes.items() if name in taken}
    staged: Program = space(**sizes)
    return staged


def make_step(recipe: SupernetRecipe, bench: Bench, stage: int = 0) -> Step:
    """Return the step of a recipe.

    Args:
        recipe: names it, and its options.
        bench: what it works with.
        stage: number of the stage, from 0.

    Raises:
        InvalidSettings: the recipe's step does not take its options.
    """
    module, _, name = recipe.step.partition(":")
    options = {**recipe.options, **(recipe.stages[stage].options if recipe.stages else {})}
    try:
        step: Step = getattr(import_module(module), name)(bench, **options)
    except TypeError as error:
        raise InvalidSettings(
            f"recipe {recipe.name!r}: its step {recipe.step} cannot be made ({error})"
        ) from error
    return step


def _identity(
    space: Program, data: SearchData, recipe: SupernetRecipe, seed: int
) -> dict[str, Any]:
    settings = {f"recipe.{name}": value for name, value in asdict(recipe.training).items()}
    return {
        "space": repr(space),
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
