"""Weights moved for a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Loss", "loss_of", "moved", "moving"]

Loss = Callable[[Tensor, Tensor], Tensor]


def moving(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that training moves."""
    return [p for p in network.parameters() if p.requires_grad]


@contextmanager
def moved(weights: Sequence[Tensor], steps: Sequence[Tensor]) -> Iterator[None]:
    """Add a step to each of some weights; afterwards they are what they were, to the bit."""
    before = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight, step in zip(weights, steps, strict=True):
                weight.add_(step)
        yield
    finally:
        with torch.no_grad():
            for weight, was in zip(weights, before, strict=True):
                weight.copy_(was)


def loss_of(network: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> float:
    """The loss on a batch, without gradients."""
    with torch.no_grad():
        return float(loss(network(inputs), targets))
