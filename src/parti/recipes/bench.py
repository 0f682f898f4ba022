"""Where a step works: the supernet, the optimizer of its weights, and how a loss is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.evaluators.machine import Machine
from parti.evaluators.recipe import Recipe
from parti.supernets.share import Supernet

__all__ = ["Batch", "Bench", "Costs", "Step", "Successor"]


@dataclass(frozen=True)
class Batch:
    """Images with their labels.

    Args:
        images: [b, channels, height, width], normalised.
        labels: [b], int64.
    """

    images: Tensor
    labels: Tensor


class Costs(Protocol):
    """What architectures cost, option by option, for losses that count latency."""

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the expected cost under the weights of each choice's options, a scalar."""
        ...


@dataclass
class Bench:
    """What a step works with.

    Args:
        supernet: is trained.
        optimizer: of its weights.
        training: how they are trained.
        machine: on what.
        epochs: of the whole training, or of its stage.
        steps: in each epoch.
        seed: of the training.
        costs: what architectures cost, where the recipe counts it.
        batches: gives batches of a part of the training images, "train" or "held", from that of
            the current step on, without end: for steps that look at more than their own.
    """

    supernet: Supernet
    optimizer: torch.optim.Optimizer
    training: Recipe
    machine: Machine
    epochs: int
    steps: int
    seed: int
    costs: Costs | None = None
    batches: Callable[[str], Iterator[Batch]] | None = None

    def logits(self, images: Tensor) -> Tensor:
        """What the active subnet or mixture makes of images: [b, k], float32 (or float64)."""
        device = self.machine.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.machine.bfloat16):
            logits: Tensor = self.supernet(images)
        return logits.float() if self.machine.bfloat16 else logits

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the active subnet or mixture on a batch, a scalar."""
        return F.cross_entropy(
            self.logits(batch.images), batch.labels, label_smoothing=self.training.label_smoothing
        )

    def update(self) -> None:
        """Clip the gradients of the weights, let the optimizer step, and clear them."""
        if self.training.clip_norm:
            nn.utils.clip_grad_norm_(self.supernet.parameters(), self.training.clip_norm)
        self._begin_momentum()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _begin_momentum(self) -> None:
        """Give weights that learn for the first time a momentum of 0.

        Not all learn in the first step, and torch's fused SGD takes no mixture of old and new.
        """
        for group in self.optimizer.param_groups:
            for weight in group["params"] if group.get("momentum") else ():
                if weight.grad is not None:
                    state = self.optimizer.state[weight]
                    if state.get("momentum_buffer") is None:
                        state["momentum_buffer"] = torch.zeros_like(weight)


class Step(Protocol):
    """One way to train a supernet; made from a `Bench` and the options of its recipe.

    Random numbers come from torch's and Python's global generators, which are seeded before each
    step; so what it does follows from its state, the seed, and the number of the step.
    """

    def begin(self, epoch: int) -> None:
        """Called before each epoch, numbered from 0: anneal, unfreeze, drop options."""
        ...

    def __call__(self, batch: Batch, held: Batch | None) -> Tensor:
        """Learn from a batch, and from one of held-out images if the recipe has any.

        The optimizer's learning rate is set; gradients are clear. Returns the loss, detached.
        """
        ...

    def settle(self) -> None:
        """Make what the recipe would derive now active in the supernet, to be validated."""
        ...

    def probabilities(self) -> Mapping[str, Tensor]:
        """How good each option is thought to be, by choice: for `derive`; empty if not known."""
        ...

    def monitors(self) -> Mapping[str, float]:
        """What is to be watched, after each epoch: entropy, skips, eigenvalues."""
        ...

    def done(self) -> bool:
        """Whether to stop before the last epoch."""
        ...

    def state(self) -> Mapping[str, Any]:
        """All that changes beside supernet and optimizer, of tensors, numbers and texts."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        ...


@runtime_checkable
class Successor(Protocol):
    """A step for trainings in stages."""

    def follow(self, previous: Step) -> None:
        """Take over from the step of the stage before, at the beginning of a stage."""
        ...
