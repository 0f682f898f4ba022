"""SWAP: how many different patterns over the images the units of a network have.

    Y. Peng, A. Song, H. M. Fayek, V. Ciesielski and X. Chang. SWAP-NAS: Sample-Wise Activation
    Patterns for Ultra-Fast NAS. ICLR 2024, definitions 3.1 to 3.3.

A unit's pattern holds a bit for each image: whether it is on. The score is the number of distinct
patterns over all units that lie in feature maps. With `mean` and `width` it is multiplied by
exp(−(params − mean)² / width), which draws a search to a size of network (equation 5).

Departures: the network's present weights are used once, where the authors draw 32 from a Gaussian
and average; other activations than ReLU count too, as in `naswot`; batch norms see the whole
batch, of which `images` are looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from parti.core.errors import InvalidSettings
from parti.proxies.probe import Need, Probe

__all__ = ["Swap"]

MOST_IMAGES = 62
"""A pattern is kept as a whole number of 64 bits."""


@dataclass(frozen=True)
class Swap:
    """Counts the distinct patterns of units.

    Args:
        images: how many of the batch to look at; the authors' 16 by default.
        mean: number of parameters (µ) that is wanted; None to count alone.
        width: by which the number may differ (σ), in parameters squared.

    Raises:
        InvalidSettings: the images are fewer than 2 or more than 62, or the width is not positive.
    """

    images: int = 16
    mean: float | None = None
    width: float = 1e12

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GATES})
    goal: ClassVar[Literal["min", "max"]] = "max"

    def __post_init__(self) -> None:
        if not 2 <= self.images <= MOST_IMAGES or not self.width > 0:
            raise InvalidSettings(
                f"images={self.images}, width={self.width}: 2 to {MOST_IMAGES} images and a "
                "width above 0 are allowed"
            )

    def __call__(self, probe: Probe) -> float:
        """Return the number of distinct patterns, regularized if so set."""
        patterns = []
        for gate in probe.gates:
            if len(gate.shape) == 4:
                on = gate.on[: self.images]
                pattern = torch.zeros(on.shape[1], dtype=torch.int64, device=on.device)
                for place, bits in enumerate(on):
                    pattern |= bits.long() << place
                patterns.append(torch.unique(pattern))
        distinct = float(len(torch.unique(torch.cat(patterns)))) if patterns else 0.0
        if self.mean is None:
            return distinct
        params = sum(parameter.numel() for parameter in probe.network.parameters())
        return distinct * math.exp(-((params - self.mean) ** 2) / self.width)
