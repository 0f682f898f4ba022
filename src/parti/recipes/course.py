"""The course of a supernet's training: all that changes, step by step, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from parti.core.errors import Diverged, InvalidSettings
from parti.core.program import Program
from parti.evaluators.augment import draw
from parti.evaluators.feed import Memory, Pictures, as_tensor
from parti.evaluators.learner import check_logits, logits_of, make_optimizer
from parti.evaluators.machine import arranged, derive, isolated, machine_for, place
from parti.evaluators.quick import quickened
from parti.evaluators.recipe import learning_rate
from parti.recipes.bench import Batch, Bench, Costs, Step, Successor
from parti.recipes.recipe import SupernetRecipe
from parti.supernets.fused_cells import fuse
from parti.supernets.share import supernet
from parti.tasks.classification import accuracy, metrics

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["Course", "Given", "Phased", "make_step", "stage_space"]

CHECK_STEPS = 16
"""After so many steps it is checked that the loss is finite."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a course does not change.

    Args:
        space: whose architectures the supernet holds, all arguments bound.
        data: the training and validation images.
        recipe: how it is trained.
        costs: what architectures cost, for recipes that count it.
        device: where.
        threads: of the CPU; None to leave them.
        memory: as in `Training`.
    """

    space: Program
    data: SearchData
    recipe: SupernetRecipe
    costs: Costs | None
    device: torch.device
    threads: int | None
    memory: Memory


@runtime_checkable
class Phased(Protocol):
    """A step that trains other networks in the beginning than in the end."""

    def finish_by(self, step: int) -> None:
        """Come to the last phase in time to end after so many steps; may be called again."""
        ...

    def missing(self) -> str:
        """Say in which phase it is, and what was not trained yet; nothing if all was."""
        ...


class Course:
    """A supernet in training.

    Args:
        given: what is trained on what, and how.
        seed: of the training.

    Attributes:
        bench: what the step of this stage works with.
        epoch: how many epochs are done.
        done: whether the training has come to its end.
        missing: in which part it was stopped before its end, and what that means; else nothing.

    Raises:
        SpaceError: the space cannot be shared.
        TrialError: the supernet does not fit the data.
        InvalidSettings: the recipe's step cannot be made.
    """

    def __init__(self, given: Given, seed: int) -> None:
        recipe, data, device = given.recipe, given.data, given.device
        self.epoch, self.done, self._place, self._total, self._seed = 0, False, 0, 0.0, seed
        self.missing = ""
        self._train = Pictures(data.train_images, data.mean, data.std, device, given.memory)
        self._val = Pictures(data.val_images, data.mean, data.std, device, given.memory)
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
        self._machine = machine_for(recipe.training, str(device), given.threads, epochs * steps)
        self._steps, self._given = steps, given
        parts = max(1, len(recipe.stages))
        self._bounds = [round(epochs * part / parts) for part in range(parts + 1)]
        self._enter(0)

    def _enter(self, stage: int) -> None:
        """Begin a stage: with a new supernet, and what its step takes over."""
        given, machine, seed = self._given, self._machine, self._seed
        recipe = given.recipe
        with isolated(machine, derive(seed, "weights", stage)):
            shared = supernet(stage_space(given.space, recipe, stage), recipe.relaxed_in(stage))
            sample = self._train.part(0, 2)
            self._layout = place(shared, machine, sample)
            check_logits(shared, sample, len(given.data.classes), self._layout)
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
            given.costs,
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
                f"recipe {self._given.recipe.name!r} has stages, but its step, a "
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
            seed = derive(self._seed, "step", self.epoch, self._place)
            with isolated(bench.machine, seed), quickened(bench.supernet, bench.machine):
                loss += self._step(batch, other)
            self._place += 1
            if self._place % CHECK_STEPS == 0 or self._place == bench.steps:
                self._total += float(loss)
                loss.zero_()
                self._check(rate)
            if self._place % CHECK_STEPS == 0:  # what is saved between has no loss left out
                yield

    @property
    def progress(self) -> float:
        """Epochs that are done, with the part of this one."""
        return self.epoch + self._place / self.bench.steps

    def finish_by(self, epochs: int) -> None:
        """Let a step that has phases come to the end of the last in so many epochs, if it can.

        The epoch that it is in, or is to begin, is not cut short; there are no more than planned.
        """
        if isinstance(self._step, Phased):
            began, planned = self._bounds[self._stage : self._stage + 2]
            last = max(self.epoch + 1, min(planned, epochs))
            self._step.finish_by((last - began) * self.bench.steps)

    def _rate(self, epoch: int) -> float:
        """The learning rate of the next step, in an epoch of the stage."""
        steps, epochs = self.bench.steps, self.bench.epochs
        if self._given.recipe.one_schedule:
            epoch, epochs = self.epoch, self._bounds[-1]
        return learning_rate(self._training, epoch * steps + self._place, epochs * steps)

    def end_epoch(self, *, last: bool = False) -> dict[str, float]:
        """Close an epoch, perhaps the last: what has been measured in it."""
        bench, count = self.bench, self.bench.steps
        self.epoch, self._place = self.epoch + 1, 0
        with isolated(bench.machine, derive(self._seed, "validation", self.epoch)):
            self._step.settle()
            logits = logits_of(bench.supernet, self._val, self._layout)
        whole = self.epoch >= self._bounds[-1]
        self.done = last or whole or self._step.done()
        self.missing = self._left_out() if self.done and not whole else ""
        measured = {
            "train_loss": self._total / count,
            **self._judged(logits),
            **self._step.monitors(),
        }
        if not self.done and self.epoch == self._bounds[self._stage + 1]:
            self._advance()
        return measured

    def _left_out(self) -> str:
        """In which stage or phase the training is, and what that means if it ends here."""
        now, last = self._stage, len(self._given.recipe.stages) - 1
        if now < last:
            return (
                f"stage {now + 1} of {last + 1}: what is derived or inherited is of this stage "
                f"({self._stage_in_words(now)}), not of the last ({self._stage_in_words(last)})"
            )
        return self._step.missing() if isinstance(self._step, Phased) else ""

    def _stage_in_words(self, number: int) -> str:
        stage = self._given.recipe.stages[number]
        taken = signature(self._given.space.function).parameters
        sizes = {name: size for name, size in stage.sizes.items() if name in taken}
        return ", ".join(f"{name} {value}" for name, value in {**sizes, **stage.options}.items())

    def _judged(self, logits: Tensor) -> dict[str, float]:
        """Metrics of validation images; of numbers that are none, accuracy alone."""
        labels = self._val_labels
        if not torch.isfinite(logits).all():
            return {"val_accuracy": accuracy(logits, labels)}
        return {f"val_{name}": value for name, value in metrics(logits, labels).items()}

    def state(self) -> dict[str, Any]:
        """All that changes, for `restore`."""
        return {
            "epoch": self.epoch,
            "place": self._place,
            "total": self._total,
            "done": self.done,
            "missing": self.missing,
            "stage": self._stage,
            "network": self.bench.supernet.network.state_dict(),
            "optimizer": self.bench.optimizer.state_dict(),
            "step": dict(self._step.state()),
            "probabilities": dict(self._step.probabilities()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of a training with the same settings."""
        self.epoch, self._place, self._total = state["epoch"], state["place"], state["total"]
        self.done, self.missing = state["done"], state.get("missing", "")
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
