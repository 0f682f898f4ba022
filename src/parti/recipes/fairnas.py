"""FairNAS: at every step each option of each choice is trained once.

Xiangxiang Chu, Bo Zhang, Ruijun Xu: FairNAS: Rethinking Evaluation Fairness of Weight Sharing
Neural Architecture Search, ICCV 2021, algorithm 1. With m options in each choice, a step draws a
permutation of the options for every choice and trains m paths on the same batch: the first options
of all permutations, the second, and so on. Their gradients are summed, and weights are updated
once ("strict fairness").

Departures: choices may have different numbers of options, and exist only under others. A step then
trains as many paths as the largest number of options; options of a choice are dealt like cards, and
when none are left, they are shuffled and dealt again. So the options of a choice are trained
equally often, give or take one, in the paths in which it exists; where all choices have m options,
exactly once. In `mobile`, where a block's choices exist only under the depth, fairness is of that
kind; the paper's blocks, with all their options in one choice, are none of ours. Images are shifted
instead of resized from a random part. The paper's search afterwards, NSGA-II with a reinforced
mutation, is the strategy "nsga2" over `InheritedWeights`, for several objectives.

Numbers are those that we know the paper (arXiv 1907.01845) to give for ImageNet; its text was not
at hand, and the authors' repository (xiaomi-automl/FairNAS) has the networks that were found, not
the training of the supernet. An independent reproduction (sony/nnabla-nas, `examples/
classification/fairnas/fairnas_imagenet_search.json`) agrees in the 150 epochs, the cosine, the
decay of weights and the sum of gradients before one update; its rate is 0.1 for batches of 64.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.tree import Tree
from parti.evaluators.recipe import Recipe
from parti.recipes.bench import Batch
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.sampled import Paths
from parti.supernets.subnets import activate

__all__ = ["FAIRNAS", "StrictFairness", "fair_paths"]


def fair_paths(tree: Tree) -> list[Architecture]:
    """Draw paths that together take every option of a choice equally often, give or take one.

    As many as the largest number of options; random numbers are Python's global ones.
    """
    decks: dict[str, list[Option]] = {}

    def deal(choice: Choice) -> Option:
        deck = decks.setdefault(choice.name, [])
        if not deck:
            deck.extend(random.sample(choice.options, len(choice.options)))
        return deck.pop()

    most = max((len(choice.options) for choice in tree.choices.values()), default=1)
    return [tree.walk(deal) for _ in range(most)]


class StrictFairness(Paths):
    """Train paths that share out all options, and update the weights once.

    Args:
        bench: what it works with.
        resolutions: as for `Paths`.
    """

    def learn(self, batch: Batch) -> Tensor:
        """Add the gradients of all paths; their mean loss is returned."""
        losses = []
        for path in fair_paths(self.bench.supernet.tree):
            activate(self.bench.supernet, path)
            loss = self.bench.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).mean()


FAIRNAS = SupernetRecipe(
    name="fairnas",
    paper="Chu, Zhang, Xu: FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural "
    "Architecture Search, ICCV 2021",
    step="parti.recipes.fairnas:StrictFairness",
    training=Recipe(
        epochs=150,
        batch_size=256,
        lr=0.045,
        schedule="cosine",
        warmup=0.0,
        momentum=0.9,
        weight_decay=4e-5,
        nesterov=False,
        flip=True,
        crop=4,  # in place of a random part of the image, resized
    ),
    space="mobile",
    sizes={"width": 16},
)
"""For ImageNet; see above for how far the numbers are certain."""
