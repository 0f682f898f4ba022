"""GraSP: how much the norm of the gradient would change without each weight.

    C. Wang, G. Zhang and R. Grosse. Picking Winning Tickets Before Training by Preserving Gradient
    Flow. ICLR 2020, equation 8.
    As a proxy: M. S. Abdelfattah, A. Mehrotra, Ł. Dudziak and N. D. Lane. Zero-Cost Proxies for
    Lightweight NAS. ICLR 2021, equation 1; the sign is that of their code.

Departure: gradient and Hessian are of the same pass; their code runs the network twice, which
gives the same where nothing is random. Temperature 1, as in their code.
"""

from __future__ import annotations

import math
from typing import Literal

from parti.proxies.probe import Need, Probe

__all__ = ["Grasp"]


class Grasp:
    """Sums −(Hessian × gradient) × weight over all weights of layers."""

    needs: frozenset[Need] = frozenset({Need.CURVATURE})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the sum."""
        return math.fsum(float(-(layer.curvature * layer.weight).sum()) for layer in probe.layers)
