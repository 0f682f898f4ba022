"""NASWOT: into how different linear regions the network puts different images.

    J. Mellor, J. Turner, A. Storkey and E. J. Crowley. Neural Architecture Search without
    Training. ICML 2021, equations 1 and 2.

An image's code holds a bit for each unit of each ReLU: whether it is on. The kernel of two images
is the number of units less the Hamming distance of their codes; the score is the logarithm of its
determinant. It is computed from one product of matrices for each ReLU: with G = X Xᵀ of the
codes X, the kernel is N − d 1ᵀ − 1 dᵀ + 2 G, where d is the diagonal of G.

Departures: ReLUs are seen when they are computed, as modules or functions; ReLU6, leaky ReLU, ELU,
GELU, SiLU, hard-swish and Mish count too, so that any network has a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from parti.proxies.probe import Gate, Need, Probe

__all__ = ["Naswot", "kernel"]


def kernel(gates: Sequence[Gate]) -> Tensor:
    """In how many units two images agree: (images, images), float64.

    Args:
        gates: at least one.
    """
    images = len(gates[0].on)
    total = torch.zeros(images, images, dtype=torch.float64, device=gates[0].on.device)
    units = 0
    for gate in gates:
        # Sums of up to 2²⁴ ones are exact; torch casts bytes six times faster than truth values.
        x = gate.on.view(torch.uint8).float()
        total += gate.times * (x @ x.T).double()
        units += gate.times * x.shape[1]
    d = total.diagonal()
    return units - d[:, None] - d[None, :] + 2 * total


class Naswot:
    """Scores how many units of its activations tell images apart."""

    needs: frozenset[Need] = frozenset({Need.GATES})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the log-determinant; −∞ where two images have the same code, or no gates."""
        if not probe.gates:
            return float("-inf")
        return float(torch.linalg.slogdet(kernel(probe.gates)).logabsdet)
