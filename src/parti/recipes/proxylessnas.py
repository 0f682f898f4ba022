"""ProxylessNAS: binary gates let one path through for weights, two for architecture parameters.

Han Cai, Ligeng Zhu, Song Han: ProxylessNAS: Direct Neural Architecture Search on Target Task and
Hardware, ICLR 2019.

A step of the weights trains one sampled path (equations 2 and 3). For a step of the architecture
parameters, two options of each choice are sampled and taken for the whole of it: one of them runs
with gate 1, the other with gate 0, and the gradient of the gates stands for that of the options'
probabilities [p] (equation 4). Afterwards both parameters are moved so that the probabilities of
the options which were not sampled stay what they were (section 3.2). The latency expected under
these probabilities is added to the loss (equations 5 and 6).

Numbers are those of the authors' code for ImageNet (`search/imagenet_arch_search.py` of
mit-han-lab/proxylessnas): weights alone for 40 epochs, then both for 120, where one step in five
has one of the architecture parameters.

Departures: those of `parti.recipes.darts`. Both phases share one learning rate, which falls along
one half cosine; the authors' starts anew, from 0.05 in the first phase. In their code all paths
take part by default, and the loss is multiplied by a power of latency's logarithm; the two paths
and the sum are the paper's. Latency counts relative to that of all options alike, so that its
strength [lambda_2] has no unit. Cross-entropy is smoothed for both levels; theirs for the weights
alone. Images are shifted instead of resized from a random part, and colours are not distorted.
Options are timed with the runtime and on the device of the search, theirs on a phone; how near
their sums come to the latency of networks is said in `docs/recipes.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from parti.core.choice import Choice
from parti.recipes.bench import Batch
from parti.recipes.darts import LEVELS
from parti.recipes.gradient import Alternating
from parti.recipes.gumbel import straight_through
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.relaxation import Relaxation
from parti.supernets.share import Supernet

__all__ = ["PROXYLESSNAS", "BinaryGates", "BinaryPaths"]

WARM_UP, EPOCHS = 40, 160


class BinaryGates(Relaxation):
    """One path through each choice.

    Args:
        supernet: whose choices are relaxed.
        deviation: standard deviation of the first values.

    Attributes:
        in_pairs: whether a second option runs, with weight 0, to be compared with the first.
    """

    def __init__(self, supernet: Supernet, *, deviation: float = 1e-3) -> None:
        super().__init__(supernet, null=False, deviation=deviation)
        self.in_pairs = False
        self._active: dict[str, tuple[int, ...]] = {}
        self._before: dict[str, Tensor] = {}

    def weigh(self, choice: Choice, alpha: Tensor) -> Tensor:
        """Open one gate; in pairs, with the gradient of equation 4."""
        probabilities = alpha.softmax(-1)
        if not self.in_pairs or len(alpha) == 1:
            place = int(torch.multinomial(probabilities, 1))
            self._active[choice.name] = (place,)
            return straight_through(probabilities.detach(), place)
        pair = torch.multinomial(probabilities, 2)
        shares = alpha[pair].softmax(-1)
        opened = pair[torch.multinomial(shares, 1)]
        self._active[choice.name] = tuple(pair.tolist())
        self._before[choice.name] = alpha.detach()[pair].logsumexp(-1)
        return straight_through(torch.zeros_like(alpha).scatter(0, pair, shares), int(opened))

    def active(self) -> dict[str, Sequence[int]] | None:
        """The sampled paths."""
        return dict(self._active)

    @torch.no_grad()
    def rescale(self) -> None:
        """Move the parameters of the last pairs: other options are as probable as before them."""
        for choice, alpha in self._pairs():
            before = self._before.pop(choice.name, None)
            if before is not None:
                pair = list(self._active[choice.name])
                alpha[pair] -= alpha[pair].logsumexp(-1) - before


class BinaryPaths(Alternating):
    """Steps of single paths; those of the architecture parameters compare two.

    Arguments are those of `Alternating`; the relaxation is `BinaryGates`.
    """

    relaxation: BinaryGates

    def learn_architecture(self, batch: Batch, held: Batch) -> None:
        """Take the step of the architecture parameters, and rescale them."""
        self.relaxation.in_pairs = True
        try:
            super().learn_architecture(batch, held)
        finally:
            self.relaxation.in_pairs = False
        self.relaxation.rescale()


PROXYLESSNAS = SupernetRecipe(
    name="proxylessnas",
    paper="Cai, Zhu, Han: ProxylessNAS: Direct Neural Architecture Search on Target Task and "
    "Hardware, ICLR 2019",
    step="parti.recipes.proxylessnas:BinaryPaths",
    options={
        "relaxation": "parti.recipes.proxylessnas:BinaryGates",
        "penalty": "parti.recipes.costs:added",
        "penalty_arguments": {"strength": 0.1},
        "lr": 1e-3,
        "betas": (0.0, 0.999),
        "weight_decay": 0.0,
        "warm_up": WARM_UP / EPOCHS,
        "every": 5,
    },
    training=replace(
        LEVELS,
        epochs=EPOCHS,
        batch_size=256,
        final_lr=0.0,
        nesterov=True,
        weight_decay=4e-5,
        label_smoothing=0.1,
        clip_norm=0.0,
    ),
    held=0.04,
    space="proxylessnas",
    sizes={"width": 32, "layers": 4},
    derives=True,
    costs=True,
)
