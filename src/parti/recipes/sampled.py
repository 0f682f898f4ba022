"""Training of sampled paths: at every step some subnets of a supernet learn from a batch.

Which ones is what the methods differ in: one drawn uniformly (`UniformPath`, here, as two papers
train it: `random_sampling`, `single_path`), as many as there are options (`fairnas`), the largest,
the smallest and some others (`bignas`), more and more (`once_for_all`), or what a controller draws
(`enas`). Weights of options that no drawn path takes stay as they are: without a gradient there is
no step, no weight decay and no momentum. Where a choice is a scale, its options share one weight,
of which a smaller option takes a part; weight decay and momentum then move the whole.

Which architectures are best, a strategy finds out with `InheritedWeights`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import islice
from random import Random
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.evaluators.average import measure_statistics
from parti.evaluators.learner import STATISTICS_IMAGES
from parti.recipes.bench import Batch, Bench
from parti.supernets.subnets import activate

__all__ = ["Paths", "UniformPath", "by_size"]


def by_size(scale: Choice) -> tuple[Option, ...]:
    """The options of an ordered choice, smallest first."""
    numbers = [option for option in scale.options if isinstance(option, int | float)]
    return tuple(sorted(numbers)) if len(numbers) == len(scale.options) else scale.options


class Paths(ABC):
    """Train some subnets at every step; which ones and how, its heirs say in `learn`.

    Args:
        bench: what it works with.
        resolutions: heights and widths in pixels, of which each step draws one to scale its
            images to; none to leave them. The network must take all of them.

    Attributes:
        steps: how many were taken.

    Raises:
        InvalidSettings: a resolution is less than 1.
    """

    def __init__(self, bench: Bench, *, resolutions: Sequence[int] = ()) -> None:
        if any(size < 1 for size in resolutions):
            raise InvalidSettings(f"resolutions {tuple(resolutions)}: images have 1 pixel or more")
        self.bench = bench
        self.steps = 0
        self._resolutions = tuple(resolutions)

    @abstractmethod
    def learn(self, batch: Batch) -> Tensor:
        """Add to the gradients of the weights, and return the loss, detached."""

    def begin(self, epoch: int) -> None:  # noqa: B027 - heirs need not do anything
        """Nothing depends on the epoch."""

    def __call__(self, batch: Batch, held: Batch | None) -> Tensor:
        """Take one step."""
        loss = self.learn(self._scaled(batch))
        self.bench.update()
        self.steps += 1
        return loss

    @property
    def progress(self) -> float:
        """Share of the whole training that is done, from 0."""
        return self.steps / (self.bench.epochs * self.bench.steps)

    def activate_drawn(self) -> Architecture:
        """Activate an architecture that takes every option of a choice with equal chance."""
        drawn = self.bench.supernet.tree.sample(random.random)
        return activate(self.bench.supernet, drawn)

    def settle(self) -> None:
        """Activate one architecture, always the same, to be validated.

        It has the largest of every scale; other options are drawn with the seed of the training.
        """
        dice = Random(f"{self.bench.seed}/reference")

        def pick(choice: Choice) -> Option:
            return by_size(choice)[-1] if choice.ordered else dice.choice(choice.options)

        activate(self.bench.supernet, self.bench.supernet.tree.walk(pick))
        self.recalibrate()

    def recalibrate(self) -> None:
        """Give batch norms the statistics of the active subnet; training does not look at them."""
        if self.bench.batches is None:
            return
        count = min(self.bench.steps, -(-STATISTICS_IMAGES // self.bench.training.batch_size))
        batches = islice(self.bench.batches("train"), count)
        measure_statistics(self.bench.supernet, (batch.images for batch in batches))

    def probabilities(self) -> Mapping[str, Tensor]:
        """Not known: a strategy finds the best architectures."""
        return {}

    def monitors(self) -> Mapping[str, float]:
        """Nothing is watched."""
        return {}

    def done(self) -> bool:
        """It goes on to the last epoch."""
        return False

    def state(self) -> Mapping[str, Any]:
        """The number of steps."""
        return {"steps": self.steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        self.steps = int(state["steps"])

    def _scaled(self, batch: Batch) -> Batch:
        if not self._resolutions:
            return batch
        side = random.choice(self._resolutions)
        images = F.interpolate(
            batch.images, (side, side), mode="bilinear", align_corners=False, antialias=True
        )
        return Batch(images, batch.labels)


class UniformPath(Paths):
    """Train one architecture at every step, drawn uniformly option by option.

    Args:
        bench: what it works with.
        resolutions: as for `Paths`.
    """

    def learn(self, batch: Batch) -> Tensor:
        """Draw an architecture, and add the gradient of its loss."""
        self.activate_drawn()
        loss = self.bench.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
