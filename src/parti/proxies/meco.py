"""MeCo: how independent the channels of feature maps are, for one image.

    T. Jiang, H. Wang and R. Bie. MeCo: Zero-Shot NAS with One Data and Single Forward Pass via
    Minimum Eigenvalue of Correlation. NeurIPS 2023, equation 13.

For each layer, the channels' maps of one image have a correlation matrix; the score is the sum of
its smallest eigenvalue over layers. Correlations that are not defined (a constant channel) count
as 0, as in the authors' code.

Departure: each innermost module counts once; the authors' code also counts every container,
which repeats the output of the last module in it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

import torch
from torch import Tensor

from parti.proxies.probe import Need, Probe

__all__ = ["Meco"]


class Meco:
    """Sums the smallest eigenvalues of the channels' correlations."""

    needs: frozenset[Need] = frozenset({Need.MAPS})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the sum."""
        by_channels: dict[int, list[Tensor]] = defaultdict(list)
        for channels in probe.maps:
            if min(channels.shape) > 1:
                found = torch.corrcoef(channels.float())
                by_channels[len(channels)].append(found.nan_to_num(0.0, 0.0, 0.0))
        return sum(
            float(torch.linalg.eigvalsh(torch.stack(matrices))[:, 0].sum())
            for matrices in by_channels.values()
        )
