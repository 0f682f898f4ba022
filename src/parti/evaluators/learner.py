"""A network in training: the one place where weights change."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parti.core.errors import Diverged, PartiError, TrialError
from parti.evaluators.augment import draw, mix
from parti.evaluators.average import Average
from parti.evaluators.feed import Pictures
from parti.evaluators.machine import Machine, arranged, derive, isolated, place
from parti.evaluators.quick import quickened
from parti.evaluators.recipe import Recipe, learning_rate

__all__ = ["Learner", "Loss", "explained", "images_at_once", "logits_of"]

STATISTICS_IMAGES = 2048
"""How many training images give an averaged network its batch statistics."""

CHECK_STEPS = 16
"""After so many steps it is checked that the loss is finite; asking a GPU makes it wait."""

AUXILIARY = 0.4
"""Weight of an auxiliary classifier's loss (Liu et al., DARTS, ICLR 2019, appendix A.2)."""

PIXELS_AT_ONCE, FEWEST_AT_ONCE, MOST_AT_ONCE = 65_536, 8, 512
"""How much is looked at together outside training; pixels count on a CPU alone."""

OUT_OF_MEMORY = ("can't allocate memory", "out of memory")
"""What torch's messages say when memory is used up, where it has no error class for it."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What is minimised, if not the loss of the labels alone: a number to be differentiated.

It is given a batch as the network sees it, augmented and mixed [b, channels, height, width]; the
network's logits [b, k]; and their loss with respect to the labels, smoothed and mixed.
"""


@runtime_checkable
class Annealed(Protocol):
    """A module that changes with the course of the training."""

    def anneal(self, progress: float) -> None:
        """Be told before each epoch how much of the training is done, from 0 to less than 1."""
        ...


class Learner:
    """A network, its optimizer and its average, trained epoch by epoch.

    Everything that happens in an epoch follows from the state before it, the seed and the
    number of the epoch. So going on from a saved state equals not having stopped, to the last
    bit on a CPU with the same number of threads.

    Args:
        network: to be trained in place; it maps [b, channels, height, width] to logits [b, k].
        pictures: the training images.
        labels: [n] int64, on the machine's device.
        classes: how many there are (k).
        recipe: how to train.
        seed: of the order of the images, augmentation, and the network's own random numbers.
        horizon: epochs of the whole schedule of the learning rate.
        machine: where to train; its device is that of the pictures.
        loss: what is minimised; None for the loss of the labels. An auxiliary classifier learns
            from the labels in any case.

    Raises:
        TrialError: the network does not give k logits per image.
    """

    def __init__(
        self,
        network: nn.Module,
        pictures: Pictures,
        labels: Tensor,
        classes: int,
        recipe: Recipe,
        *,
        seed: int,
        horizon: int,
        machine: Machine,
        loss: Loss | None = None,
    ) -> None:
        self.epoch = 0
        self.network = network
        self._pictures, self._labels, self.machine = pictures, labels, machine
        self._seed, self._horizon, self._loss = seed, horizon, loss
        self._recipe = replace(recipe, batch_size=min(recipe.batch_size, pictures.size))
        self._steps = pictures.size // self._recipe.batch_size
        with isolated(machine, derive(seed, "try")):
            sample = pictures.part(0, 2)
            self.layout = place(network, machine, sample)
            check_logits(network, sample, classes, self.layout)
        self._optimizer = make_optimizer(network, recipe)
        self._average = Average(network, recipe, horizon) if recipe.average != "none" else None
        self._forward = torch.compile(network) if machine.compile else network

    def run_epoch(self) -> float:
        """Train for one epoch.

        Returns:
            The mean of the training loss.

        Raises:
            Diverged: the loss is NaN or infinite.
        """
        seed = derive(self._seed, "epoch", self.epoch)
        with isolated(self.machine, seed), quickened(self.network, self.machine):
            generator = torch.Generator(self.machine.device)
            generator.manual_seed(derive(self._seed, "augment", self.epoch))
            dice = random.Random(derive(self._seed, "mixup", self.epoch))
            self.network.train()
            for module in self.network.modules():
                if isinstance(module, Annealed):
                    module.anneal(self.epoch / self._horizon)
            total = torch.zeros((), device=self.machine.device)
            for step, (images, labels) in enumerate(self._batches(generator)):
                rate = learning_rate(
                    self._recipe, self.epoch * self._steps + step, self._horizon * self._steps
                )
                total += self._step(images, labels, rate, dice)
                if (step + 1) % CHECK_STEPS == 0 or step + 1 == self._steps:
                    self._check(total, rate)
            self.epoch += 1
            if self._average is not None:
                self._average.after_epoch(self.epoch)
        return float(total.item()) / self._steps

    def _batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        pictures, recipe = self._pictures, self._recipe
        device = self.machine.device
        order = torch.randperm(pictures.size, generator=generator, device=device)
        draws = draw(recipe, pictures.size, pictures.height, pictures.width, generator)
        for images, picks in pictures.batches(order, draws, recipe.batch_size, recipe.cutout):
            yield arranged(images, self.layout), self._labels[picks]

    def _step(self, images: Tensor, labels: Tensor, rate: float, dice: random.Random) -> Tensor:
        recipe = self._recipe
        share = dice.betavariate(recipe.mixup, recipe.mixup) if recipe.mixup else 1.0
        if recipe.mixup:
            images = arranged(mix(images, share), self.layout)
        with torch.autocast(
            self.machine.device.type, torch.bfloat16, enabled=self.machine.bfloat16
        ):
            outputs = self._forward(images)
        # A network with an auxiliary classifier gives its logits too, while it trains.
        logits, *aside = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = self._label_loss(logits, labels, share)
        if self._loss is not None:
            loss = self._loss(images, logits, loss)
        for other in aside:
            loss = loss + AUXILIARY * self._label_loss(other, labels, share)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.after_step()
        return loss.detach()

    def _label_loss(self, logits: Tensor, labels: Tensor, share: float) -> Tensor:
        """Cross-entropy; of images mixed with their neighbours, that of both labels."""
        logits, smoothing = logits.float(), self._recipe.label_smoothing
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if self._recipe.mixup:
            other = F.cross_entropy(logits, labels.roll(1), label_smoothing=smoothing)
            loss = share * loss + (1 - share) * other
        return loss

    def _check(self, total: Tensor, rate: float) -> None:
        if not math.isfinite(total.item()):
            raise Diverged(
                f"the training loss became {total.item()} in epoch {self.epoch + 1} "
                f"at learning rate {rate:.3g}; a lower lr or a clip_norm may help"
            )

    def result(self) -> nn.Module:
        """The network whose weights count: the averaged one when there is an average.

        It shares its weights with this learner and is in evaluation mode.
        """
        if self._average is None or not self._average.begun:
            return self.network.eval()
        with isolated(self.machine, derive(self._seed, "statistics", self.epoch)):
            return self._average.settle(self._unchanged_batches()).eval()

    def _unchanged_batches(self) -> Iterator[Tensor]:
        """Training images without augmentation, drawn at random: stored ones lie class by class."""
        size = self._recipe.batch_size
        generator = torch.Generator().manual_seed(derive(self._seed, "statistics"))
        order = torch.randperm(self._pictures.size, generator=generator)
        for start in range(0, min(STATISTICS_IMAGES, self._steps * size), size):
            part = self._pictures.some(order[start : start + size])
            yield arranged(part, self.layout)

    def state(self) -> dict[str, Any]:
        """All that changes in an epoch, for `restore`; tensors are shared, not copied."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self._average is None else self._average.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of a learner with the same settings."""
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.restore(state["average"])


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; as a rule, parameters with fewer than two dimensions do not decay.

    Raises:
        TrialError: the network has nothing to train.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise TrialError("the network has no parameters to train")
    least = 0 if recipe.decay == "all" else 2
    groups = [
        {"params": [p for p in trained if p.ndim >= least], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim < least], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.momentum, 0.999), fused=True)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(
        groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True
    )


@torch.no_grad()
def check_logits(
    network: nn.Module, sample: Tensor, classes: int, layout: torch.memory_format
) -> None:
    """See that a network gives one logit per class and image.

    Raises:
        TrialError: it does not.
    """
    training = network.training
    logits = network.eval()(arranged(sample, layout))
    network.train(training)
    got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if got != (len(sample), classes):
        raise TrialError(
            f"the network turns images of shape {tuple(sample.shape)} into {got}, but logits of "
            f"shape {(len(sample), classes)} are needed; look at its head"
        )


def images_at_once(pictures: Pictures) -> int:
    """How many images a network is best given together, outside training.

    On a CPU 64 of 32x32, and fewer of larger ones: then what a layer leaves is still near the core
    when the next one reads it (`benchmarks.bench_evaluation` compares). A GPU wants many.
    """
    if pictures.device.type != "cpu":
        return MOST_AT_ONCE
    count = PIXELS_AT_ONCE // (pictures.height * pictures.width)
    return min(max(count, FEWEST_AT_ONCE), MOST_AT_ONCE)


@torch.no_grad()
def logits_of(
    network: nn.Module,
    pictures: Pictures,
    layout: torch.memory_format,
    batch_size: int | None = None,
) -> Tensor:
    """The logits of all pictures, [n, k] float32 on the CPU; the network is left in eval mode."""
    network.eval()
    size = batch_size or images_at_once(pictures)
    parts = [
        network(arranged(pictures.part(start, start + size), layout))
        for start in range(0, pictures.size, size)
    ]
    return torch.cat([part.float() for part in parts]).cpu()


@contextmanager
def explained(recipe: Recipe | None = None) -> Iterator[None]:
    """Turn whatever goes wrong with one network into a reason that the search can record.

    Args:
        recipe: of its training; None where it is only looked at.
    """
    full = False
    try:
        yield
    except PartiError:
        raise
    except (torch.OutOfMemoryError, MemoryError):
        full = True
    except Exception as error:
        full = isinstance(error, RuntimeError) and any(s in str(error) for s in OUT_OF_MEMORY)
        if not full:
            raise TrialError(f"the network raised {type(error).__name__}: {error}") from error
    if full:  # outside the handler, so that the error no longer holds on to the tensors
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if recipe is None:
            raise TrialError("out of memory; a smaller network is needed")
        raise TrialError(
            f"out of memory at a batch size of {recipe.batch_size}; "
            "a smaller batch_size or a smaller network is needed"
        )
