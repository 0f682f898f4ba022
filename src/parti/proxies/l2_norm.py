"""Norm of the weights, as a proxy in NASLib and NAS-Bench-Suite-Zero.

    A. Krishnakumar, C. White, A. Zela, R. Tu, M. Safari and F. Hutter. NAS-Bench-Suite-Zero:
    Accelerating Research on Zero Cost Proxies. NeurIPS 2022.

With freshly drawn weights it says how many layers of what size there are, and nothing else; it
depends on the initialization (theirs is torch's default).
"""

from __future__ import annotations

import math
from typing import Literal

from parti.proxies.probe import Need, Probe

__all__ = ["L2Norm"]


class L2Norm:
    """Sums the Euclidean norms of the weights of all layers, biases aside."""

    needs: frozenset[Need] = frozenset({Need.WEIGHTS})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the sum of norms."""
        return math.fsum(float(layer.weight.norm()) for layer in probe.layers)
