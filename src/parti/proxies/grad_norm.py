"""Norm of the gradient.

    M. S. Abdelfattah, A. Mehrotra, Ł. Dudziak and N. D. Lane. Zero-Cost Proxies for Lightweight
    NAS. ICLR 2021, section 3.2.

As in their code: a sum over layers of norms, not the norm of all of it; biases and norms aside.
"""

from __future__ import annotations

import math
from typing import Literal

from parti.proxies.probe import Need, Probe

__all__ = ["GradNorm"]


class GradNorm:
    """Sums the Euclidean norms of the gradients of the loss for the weights of all layers."""

    needs: frozenset[Need] = frozenset({Need.WEIGHT_GRADIENT})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the sum of norms."""
        return math.fsum(float(layer.gradient.norm()) for layer in probe.layers)
