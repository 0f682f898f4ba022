"""Sharpness: how much the loss rises when the weights move a little, in the worst direction.

Pierre Foret, Ariel Kleiner, Hossein Mobahi, Behnam Neyshabur: "Sharpness-Aware Minimization for
Efficiently Improving Generalization", ICLR 2021. The step is that of equation 2 with p = 2: along
the gradient, of length rho over all weights; 0.05 is the paper's choice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parti.evaluators.theory.moved import Loss, loss_of, moved, moving

__all__ = ["sharpness"]


def sharpness(
    network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, *, rho: float = 0.05
) -> float:
    """How much the loss rises within `rho` of the weights, to first order.

    Args:
        network: in evaluation mode; left as it was.
        inputs: a batch, normalised as in training.
        targets: what the loss wants to know of it.
        loss: of (outputs, targets), a mean over the batch.
        rho: Euclidean length of the step over all weights together.

    Returns:
        The loss after the step less the loss before it.
    """
    weights = moving(network)
    with torch.enable_grad():
        before = loss(network(inputs), targets)
        gradients = torch.autograd.grad(before, weights, allow_unused=True)
    found = [
        torch.zeros_like(w) if g is None else g for w, g in zip(weights, gradients, strict=True)
    ]
    length = torch.stack([g.norm() for g in found]).norm().clamp_min(torch.finfo(before.dtype).tiny)
    with moved(weights, [rho * g / length for g in found]):
        return loss_of(network, inputs, targets, loss) - float(before.detach())
