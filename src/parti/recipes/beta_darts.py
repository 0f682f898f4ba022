"""Beta-DARTS: architecture parameters are kept from growing, more and more.

Peng Ye, Baopu Li, Yikang Li, Tao Chen, Jiayuan Fan, Wanli Ouyang: beta-DARTS: Beta-Decay
Regularization for Differentiable Architecture Search, CVPR 2022.

To the loss of the architecture parameters comes the mean over all choices of the logarithm of the
sum of their exponentials (equation 14), with a weight that rises linearly from 0 to 50. It keeps
the softmax weights [beta], and with them what early epochs made of them, from running away.

The weights are trained as in DARTS, as by the authors. Their code (`optimizers/darts/architect.py`
of Sunshine-Ye/Beta-DARTS) takes half of the epoch's number, in a search of 100 epochs on
NAS-Bench-201.

Departures: those of `parti.recipes.darts`. Whatever the number of epochs, the weight reaches 50 in
the last; in the authors' code it would one epoch later, and 25 in DARTS' 50 epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from parti.recipes.bench import Bench
from parti.recipes.darts import DARTS
from parti.recipes.relaxation import Relaxation

__all__ = ["BETA_DARTS", "decay"]


def decay(
    loss: Tensor,
    weights: Mapping[str, Tensor],
    relaxation: Relaxation,
    bench: Bench,
    progress: float,
    *,
    weight: float = 50.0,
) -> Tensor:
    """Loss plus the decay of the architecture parameters (equation 14).

    Args:
        loss: on held-out images.
        weights: not looked at.
        relaxation: whose parameters decay.
        bench: not looked at.
        progress: from 0 to 1.
        weight: in the last epoch [lambda].
    """
    sums = torch.stack([alpha.logsumexp(-1) for alpha in relaxation.alphas.values()])
    return loss + weight * progress * sums.mean()


BETA_DARTS = replace(
    DARTS,
    name="beta-darts",
    paper="Ye, Li, Li, Chen, Fan, Ouyang: beta-DARTS: Beta-Decay Regularization for "
    "Differentiable Architecture Search, CVPR 2022",
    options={
        **DARTS.options,
        "penalty": "parti.recipes.beta_darts:decay",
        "penalty_arguments": {"weight": 50.0},
    },
)
