"""BigNAS: one supernet, trained in one stage, whose subnets are used as they are.

Jiahui Yu, Pengchong Jin, Hanxiao Liu, Gabriel Bender, Pieter-Jan Kindermans, Mingxing Tan, Thomas
Huang, Xiaodan Song, Ruoming Pang, Quoc Le: BigNAS: Scaling Up Neural Architecture Search with Big
Single-Stage Models, ECCV 2020, section 3.1. Its parts:

- Sandwich rule: a step trains the largest subnet, the smallest, and 2 drawn at random; gradients
  are summed. (From Yu and Huang, "Universally Slimmable Networks and Improved Training
  Techniques", ICCV 2019.)
- In-place distillation: the largest learns the labels, the others what the largest says of the
  same images, and nothing else.
- Initialization: the last normalization of every residual block begins with scale 0, so that
  blocks begin as identities.
- The learning rate falls exponentially and stays constant at 5 % of its first value.
- Only the largest is regularized. Dropout is off for the others; weight decay is applied once to
  weights that are all the largest's.

Departures: weights are trained with SGD as in AttentiveNAS (Wang et al., CVPR 2021;
`configs/train_attentive_nas_models.yml` of facebookresearch/AttentiveNAS: learning rate 0.1 for a
batch of 256, 5 of 360 epochs to warm up, no gradient of a weight beyond 1), which trains by the
same rules; the authors' RMSProp with 4096 images in a batch is not offered. The learning rate
reaches its end after the same share of the training as with the authors' 3 % every 2.4 epochs.
Networks of `mobile` have no dropout of which only the largest could be regularized (0.2 in
AttentiveNAS, with as much of residual branches dropped); images are shifted, without AutoAugment.
Largest and smallest are meant for choices that are scales; others are drawn at random, the same for
all subnets that have them. Blocks between stages have no skip connection where the space has none.
Resolutions are off unless the space asks for one, as `mobile(resolutions=...)` does. Afterwards the
paper looks for the best subnet on a coarse grid, then on a fine one: here, a strategy over
`InheritedWeights`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.errors import InvalidSettings
from parti.core.tree import Tree
from parti.evaluators.recipe import Recipe
from parti.networks.blocks import Residual
from parti.recipes.bench import Batch, Bench
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.sampled import Paths, by_size
from parti.supernets.subnets import activate

__all__ = ["BIGNAS", "Sandwich", "begin_as_identities", "sandwich"]

FALL = math.log(0.05) / math.log(0.97) * 2.4 / 360
"""The share of the authors' 360 epochs after which 3 % less every 2.4 epochs have become 5 %."""


def sandwich(tree: Tree, others: int) -> list[Architecture]:
    """Draw the largest subnet, the smallest, and others; random numbers are Python's global ones.

    Choices that are no scales are drawn once, for all subnets in which they exist.
    """
    drawn = {choice.name: random.choice(choice.options) for choice in tree.choices.values()}

    def end(place: int, choice: Choice) -> Option:
        return by_size(choice)[place] if choice.ordered else drawn[choice.name]

    def some(choice: Choice) -> Option:
        return random.choice(choice.options) if choice.ordered else drawn[choice.name]

    ends = [tree.walk(partial(end, place)) for place in (-1, 0)]
    return [*ends, *(tree.walk(some) for _ in range(others))]


def begin_as_identities(network: nn.Module) -> None:
    """Set the scale of the last normalization in every residual block to 0, in place."""
    for block in network.modules():
        if isinstance(block, Residual):
            scales = [
                norm.weight
                for norm in block.body.modules()
                if isinstance(norm, nn.BatchNorm2d) and norm.affine
            ]
            if scales:
                nn.init.zeros_(scales[-1])


class Sandwich(Paths):
    """Train the largest subnet, the smallest and others, which learn from the largest.

    Args:
        bench: what it works with.
        others: subnets beside the largest and the smallest (N).
        clip: the largest gradient of a single weight; larger ones are cut off, 0 for no limit.
        ending: share of the first learning rate at which it stays constant; 1 leaves the
            learning rate to the recipe's schedule.
        resolutions: as for `Paths`.

    Raises:
        InvalidSettings: a number of subnets or a limit is negative, or `ending` is no share.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        others: int = 2,
        clip: float = 1.0,
        ending: float = 0.05,
        resolutions: Sequence[int] = (),
    ) -> None:
        super().__init__(bench, resolutions=resolutions)
        if others < 0 or clip < 0 or not 0 < ending <= 1:
            raise InvalidSettings(
                f"others={others}, clip={clip}, ending={ending}: the first two are at least 0, the "
                "third more than 0 and at most 1"
            )
        self._others, self._clip, self._ending = others, clip, ending
        begin_as_identities(bench.supernet)

    def learn(self, batch: Batch) -> Tensor:
        """Add the gradients of all subnets; the loss of the largest is returned."""
        self._set_rate()
        largest, *smaller = sandwich(self.bench.supernet.tree, self._others)
        activate(self.bench.supernet, largest)
        logits = self.bench.logits(batch.images)
        loss = F.cross_entropy(
            logits, batch.labels, label_smoothing=self.bench.training.label_smoothing
        )
        loss.backward()  # type: ignore[no-untyped-call]
        soft = logits.detach().softmax(1)
        with _without_dropout(self.bench.supernet):
            for subnet in smaller:
                activate(self.bench.supernet, subnet)
                F.cross_entropy(self.bench.logits(batch.images), soft).backward()  # type: ignore[no-untyped-call]
        if self._clip:
            nn.utils.clip_grad_value_(self.bench.supernet.parameters(), self._clip)
        return loss.detach()

    def monitors(self) -> Mapping[str, float]:
        """The learning rate of the last step."""
        return {"lr": float(self.bench.optimizer.param_groups[0]["lr"])}

    def _set_rate(self) -> None:
        if self._ending == 1:
            return
        training = self.bench.training
        if self.progress < training.warmup:
            return
        fallen = min(1.0, (self.progress - training.warmup) / FALL)
        for group in self.bench.optimizer.param_groups:
            group["lr"] = training.lr * self._ending**fallen


@contextmanager
def _without_dropout(network: nn.Module) -> Iterator[None]:
    """Nothing is dropped in here."""
    layers = [m for m in network.modules() if isinstance(m, _DropoutNd) and m.training]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer in layers:
            layer.train()


BIGNAS = SupernetRecipe(
    name="bignas",
    paper="Yu et al.: BigNAS: Scaling Up Neural Architecture Search with Big Single-Stage "
    "Models, ECCV 2020",
    step="parti.recipes.bignas:Sandwich",
    training=Recipe(
        epochs=360,
        batch_size=256,
        lr=0.1,
        schedule="cosine",
        warmup=5 / 360,
        momentum=0.9,
        weight_decay=1e-5,
        label_smoothing=0.1,
        flip=True,
        crop=4,  # in place of a random part of the image, resized
    ),
    space="mobile",
    sizes={"width": 16},
)
"""The published rules; for ImageNet."""
