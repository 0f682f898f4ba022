"""AZ-NAS: three views of the blocks of a network, to be combined with its cost.

    J. Lee and B. Ham. AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search.
    CVPR 2024, equations 1 to 9.

- Expressivity: how evenly the features of a block spread over directions: the entropy of the
  normalised eigenvalues of their covariance over images and positions, summed over blocks.
- Progressivity: how much it grows from block to block: the smallest growth.
- Trainability: whether gradients pass a block without growing or fading: with the largest
  singular value σ of the estimated Jacobian between two blocks, the mean of 2 − σ − 1/σ, which
  is 0 at best.

Their fourth is `macs`. Candidates are then ranked by all four with `ranks.log_rank_sum`.

Departures: blocks are the network's own parts (`layers.blocks`) that give feature maps or tokens;
the batch is real, the authors' is Gaussian; the network's present weights are judged, where they
draw new ones (He, normal); blocks that an earlier one does not reach directly are passed over in
trainability. A block that passes signals unchanged makes trainability −∞ and NaN counts as −∞,
both as in their code.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from parti.proxies.probe import Block, Need, Probe

__all__ = ["Expressivity", "Progressivity", "Trainability"]

ENTROPY_FLOOR = 1e-8
SIGMA_FLOOR = 1e-6


class Expressivity:
    """Sums the entropies of the blocks' features."""

    needs: frozenset[Need] = frozenset({Need.BLOCKS})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the sum (equation 2)."""
        return _worst_if_nan(sum(_entropies(probe)))


class Progressivity:
    """The smallest growth of entropy from one block to the next."""

    needs: frozenset[Need] = frozenset({Need.BLOCKS})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the smallest growth (equation 3); −∞ with fewer than two blocks."""
        growth = [after - before for before, after in pairwise(_entropies(probe))]
        if any(math.isnan(step) for step in growth):
            return -math.inf
        return min(growth, default=-math.inf)


class Trainability:
    """How near the blocks' Jacobians are to keeping the size of gradients."""

    needs: frozenset[Need] = frozenset({Need.BLOCKS})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the mean over pairs of blocks (equation 7); −∞ where there is none."""
        scores = [
            _passing(block, block.signal, block.returned)
            for block in probe.blocks
            if block.signal is not None and block.returned is not None
        ]
        return _worst_if_nan(fmean(scores)) if scores else -math.inf


def _entropies(probe: Probe) -> list[float]:
    """Of every block, the entropy of its principal components (equations 1 and 2)."""
    found = []
    for block in probe.blocks:
        features = _by_position(block.features)
        features = features - features.mean(0, keepdim=True)
        covariance = features.T @ features / len(features)
        eigenvalues = torch.linalg.eigvalsh(covariance)
        shares = eigenvalues / eigenvalues.sum()
        # A tiny negative eigenvalue, which rounding may give, would have no logarithm.
        shares = shares.clamp(min=0)
        found.append(float(-(shares * torch.log(shares + ENTROPY_FLOOR)).sum()))
    return found


def _passing(block: Block, signal: Tensor, returned: Tensor) -> float:
    if signal.shape == returned.shape and torch.equal(signal, returned):
        return -math.inf
    if signal.ndim == 4 and signal.shape[2:] != returned.shape[2:]:
        # The pixels that become one become channels of one.
        by = returned.shape[2] // signal.shape[2]
        height, width = (size * by for size in signal.shape[2:])
        returned = F.pixel_unshuffle(returned[:, :, :height, :width], by)
    of_out, of_in = _by_position(signal), _by_position(returned)
    jacobian = of_in.T @ of_out / len(of_out)
    sigma = float(torch.linalg.matrix_norm(jacobian, 2))
    return 2 - sigma - 1 / (sigma + SIGMA_FLOOR)


def _by_position(features: Tensor) -> Tensor:
    """(images × positions, channels)."""
    if features.ndim == 4:
        features = features.movedim(1, -1)
    return features.reshape(-1, features.shape[-1])


def _worst_if_nan(value: float) -> float:
    return -math.inf if math.isnan(value) else value
