"""ZiCo: how large gradients are against how much they differ from batch to batch.

    G. Li, Y. Yang, K. Bhardwaj and R. Marculescu. ZiCo: Zero-Shot NAS via Inverse Coefficient of
    Variation on Gradients. ICLR 2023, equation 17.

For a layer, over its weights, of the mean and the deviation over batches: log Σ E|g| / √Var(g);
the score is the sum over layers. A weight whose gradient does not vary, and a layer without
others, are left out.

Departures: the batches are parts of the one batch (halves by default: the authors take two
batches); each part's gradient stands alone, as in the paper, where the authors' code adds the
second to the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from parti.core.errors import InvalidSettings
from parti.proxies.layers import weighted
from parti.proxies.looking import answer
from parti.proxies.probe import Need, Probe

__all__ = ["ZiCo"]


@dataclass(frozen=True)
class ZiCo:
    """Sums the inverse coefficients of variation of gradients.

    Args:
        parts: into how many the batch is divided.

    Raises:
        InvalidSettings: there are fewer than 2 parts.
    """

    parts: int = 2

    needs: ClassVar[frozenset[Need]] = frozenset()
    goal: ClassVar[Literal["min", "max"]] = "max"

    def __post_init__(self) -> None:
        if self.parts < 2:
            raise InvalidSettings(f"parts={self.parts}; a deviation needs at least 2")

    def __call__(self, probe: Probe) -> float:
        """Return the sum; −∞ where no gradient varies."""
        weights = [
            layer.get_parameter("weight").requires_grad_(True)
            for layer in weighted(probe.network).values()
        ]
        gradients = []
        parts = zip(
            probe.images.tensor_split(self.parts),
            probe.labels.tensor_split(self.parts),
            strict=True,
        )
        for images, labels in parts:
            loss = probe.loss(answer(probe.network, images), labels)
            gradients.append(
                torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
            )
        total, layers = 0.0, 0
        for of_layer in zip(*gradients, strict=True):
            stacked = torch.stack(of_layer)
            deviation = stacked.std(0, correction=0)
            varies = deviation > 0
            ratios = stacked.abs().mean(0)[varies] / deviation[varies]
            if (ratio := float(ratios.sum())) > 0:
                total += float(torch.log(torch.tensor(ratio, dtype=torch.float64)))
                layers += 1
        return total if layers else float("-inf")
