"""FairDARTS: options do not compete, each has a sigmoid of its own that is driven to 0 or 1.

Xiangxiang Chu, Tianbao Zhou, Bo Zhang, Jixiang Li: Fair DARTS: Eliminating Unfair Advantages in
Differentiable Architecture Search, ECCV 2020.

In a softmax, skip connections win because others lose; with sigmoids (equation 2) every option
that helps may grow. The zero-one loss (equation 4) closes the gap between weights that are neither
and the architecture. There is no `none`. Numbers are those of the authors' code
(`fairdarts/train_search.py` of xiaomi-automl/FairDARTS).

Departures: those of `parti.recipes.darts`. In the paper, options under the threshold of 0.85 are
left out, so that nodes may have fewer than two edges; in a space whose nodes keep k edges, the k
strongest stay. Where an option is called `none`, it is derived if no other reaches the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from parti.core.choice import Choice
from parti.recipes.bench import Bench
from parti.recipes.darts import DARTS, LEVELS
from parti.recipes.relaxation import NONE, Relaxation
from parti.supernets.share import Supernet

__all__ = ["FAIR_DARTS", "Sigmoid", "zero_one"]


class Sigmoid(Relaxation):
    """A sigmoid for each option; all begin at 1/2.

    Args:
        supernet: whose choices are relaxed.
        threshold: how strong an option is to be preferred to one called `none`.
    """

    def __init__(self, supernet: Supernet, *, threshold: float = 0.85) -> None:
        super().__init__(supernet, null=False, deviation=0.0)
        self.threshold = threshold

    def expected(self, choice: Choice, alpha: Tensor) -> Tensor:
        """How strong each option is (equation 2)."""
        return alpha.sigmoid()

    def probabilities(self) -> dict[str, Tensor]:
        """How strong each option is; `none` is as strong as the threshold."""
        found = super().probabilities()
        for name, choice in self.choices.items():
            if NONE in choice.options:
                found[name][choice.options.index(NONE)] = self.threshold
        return found


def zero_one(
    loss: Tensor,
    weights: Mapping[str, Tensor],
    relaxation: Relaxation,
    bench: Bench,
    progress: float,
    *,
    weight: float = 10.0,
) -> Tensor:
    """Loss minus the mean squared distance of the sigmoids from 1/2 (equation 4).

    Args:
        loss: on held-out images.
        weights: of the options.
        relaxation: whose sigmoids are meant.
        bench: not looked at.
        progress: not looked at.
        weight: of the zero-one loss [w_0-1].
    """
    sigmoids = torch.cat([weights[name] for name in relaxation.names])
    return loss - weight * (sigmoids - 0.5).square().mean()


FAIR_DARTS = replace(
    DARTS,
    name="fair-darts",
    paper="Chu, Zhou, Zhang, Li: Fair DARTS: Eliminating Unfair Advantages in Differentiable "
    "Architecture Search, ECCV 2020",
    options={
        "relaxation": "parti.recipes.fair_darts:Sigmoid",
        "arguments": {"threshold": 0.85},
        "penalty": "parti.recipes.fair_darts:zero_one",
        "penalty_arguments": {"weight": 10.0},
        "lr": 3e-3,
        "betas": (0.9, 0.999),
        "weight_decay": 1e-3,
    },
    training=replace(LEVELS, batch_size=128, lr=0.005),
)
