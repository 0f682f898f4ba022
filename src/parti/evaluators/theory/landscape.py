"""Flatness of the loss around the weights, in random directions of a network's own scale.

Hao Li, Zheng Xu, Gavin Taylor, Christoph Studer, Tom Goldstein: "Visualizing the Loss Landscape of
Neural Nets", NeurIPS 2018 (section 4, filter normalisation): a random direction is scaled filter
by filter to the norms of the weights, so that networks whose weights are merely larger do not look
flatter. Biases and the weights of normalisation layers do not move, as in the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parti.evaluators.theory.moved import Loss, loss_of, moved, moving

__all__ = ["roughness"]


def roughness(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    *,
    distance: float = 0.1,
    directions: int = 8,
    seed: int = 0,
) -> float:
    """How much the loss rises on average at some distance in random directions.

    Args:
        network: in evaluation mode; left as it was.
        inputs: a batch, normalised as in training.
        targets: what the loss wants to know of it.
        loss: of (outputs, targets), a mean over the batch.
        distance: length of the step, as a share of each filter's norm.
        directions: how many are tried.
        seed: of the directions.

    Returns:
        The mean loss after a step less the loss before it.
    """
    weights = [weight for weight in moving(network) if weight.dim() > 1]
    generator = torch.Generator().manual_seed(seed)
    before = loss_of(network, inputs, targets, loss)
    risen = []
    for _ in range(directions):
        steps = [distance * _like_filters(weight, generator) for weight in weights]
        with moved(weights, steps):
            risen.append(loss_of(network, inputs, targets, loss) - before)
    return sum(risen) / len(risen)


def _like_filters(weight: Tensor, generator: torch.Generator) -> Tensor:
    """A random tensor whose slices along the first axis are as long as the weight's."""
    drawn = torch.randn(weight.shape, generator=generator).to(weight)
    lengths = [_lengths(tensor) for tensor in (weight.detach(), drawn)]
    return drawn * (lengths[0] / lengths[1].clamp_min(torch.finfo(drawn.dtype).tiny))


def _lengths(tensor: Tensor) -> Tensor:
    """Of each slice along the first axis, shaped to divide the tensor."""
    lengths: Tensor = tensor.flatten(1).norm(dim=1)
    return lengths.reshape(-1, *[1] * (tensor.dim() - 1))
