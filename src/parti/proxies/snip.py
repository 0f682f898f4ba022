"""SNIP: how much the loss would change without each weight, to first order.

    N. Lee, T. Ajanthan and P. H. S. Torr. SNIP: Single-Shot Network Pruning Based on Connection
    Sensitivity. ICLR 2019, equation 5.
    As a proxy: M. S. Abdelfattah, A. Mehrotra, Ł. Dudziak and N. D. Lane. Zero-Cost Proxies for
    Lightweight NAS. ICLR 2021, equation 1.

The gradient for a mask of ones over the weights is gradient × weight: no mask is made.
"""

from __future__ import annotations

import math
from typing import Literal

from parti.proxies.probe import Need, Probe

__all__ = ["Snip"]


class Snip:
    """Sums |gradient × weight| over all weights of layers."""

    needs: frozenset[Need] = frozenset({Need.WEIGHT_GRADIENT})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the sum."""
        return math.fsum(
            float((layer.gradient * layer.weight).abs().sum()) for layer in probe.layers
        )
