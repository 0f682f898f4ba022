"""Gradient times weight, with its sign.

M. C. Mozer and P. Smolensky. Skeletonization: A Technique for Trimming the Fat from a Network
via Relevance Assessment. NeurIPS 1988.
As a proxy: M. S. Abdelfattah, A. Mehrotra, Ł. Dudziak and N. D. Lane. Zero-Cost Proxies for
Lightweight NAS. ICLR 2021 (their code).
"""

from __future__ import annotations

import math
from typing import Literal

from parti.proxies.probe import Need, Probe

__all__ = ["Plain"]


class Plain:
    """Sums gradient × weight over all weights of layers."""

    needs: frozenset[Need] = frozenset({Need.WEIGHT_GRADIENT})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the sum."""
        return math.fsum(float((layer.gradient * layer.weight).sum()) for layer in probe.layers)
