"""The average of a network's weights over its training, with batch statistics of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from parti.evaluators.recipe import Recipe

__all__ = ["Average", "measure_statistics"]

LONGEST_MEMORY = 0.999
"""The largest share of the old average that an exponential average keeps in one step."""

SWA_BEGINS = 0.75
"""The share of the epochs after which stochastic weight averaging begins."""


class Average:
    """A copy of a network that holds the average of its weights.

    "ema" is an exponential moving average whose memory grows with the steps taken, to about the
    last tenth of them; it follows from the steps alone, not from when training will end. "swa" is
    the plain mean over the ends of the last quarter of the epochs (Izmailov et al., "Averaging
    Weights Leads to Wider Optima and Better Generalization", 2018).

    Args:
        network: what is trained, on its device.
        recipe: says which average.
        horizon: epochs of the whole schedule.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, horizon: int) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.count = 0
        self._kind = recipe.average
        self._begins = int(SWA_BEGINS * horizon)
        self._from = list(network.parameters())
        self._to = list(self.network.parameters())
        self._source = network

    @property
    def begun(self) -> bool:
        """Whether there is an average yet."""
        return self.count > 0

    def after_step(self) -> None:
        """Take in the weights after a step of the optimizer."""
        if self._kind != "ema":
            return
        self.count += 1
        self._keep(min(LONGEST_MEMORY, self.count / (self.count + 10)))

    def after_epoch(self, epoch: int) -> None:
        """Take in the weights after an epoch (the first is 1)."""
        if self._kind != "swa" or epoch <= self._begins:
            return
        self.count += 1
        self._keep(1 - 1 / self.count)

    def _keep(self, share: float) -> None:
        update = get_ema_multi_avg_fn(share)  # type: ignore[no-untyped-call]
        update(self._to, self._from, self.count)

    def settle(self, batches: Iterable[Tensor]) -> nn.Module:
        """Give the averaged network the statistics that belong to its weights.

        Args:
            batches: of normalised training images; looked at when the network has batch norms.

        Returns:
            The averaged network.
        """
        for mine, other in zip(self.network.buffers(), self._source.buffers(), strict=True):
            mine.copy_(other)
        measure_statistics(self.network, batches)
        return self.network

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {"count": self.count, "weights": self.network.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.count = state["count"]
        self.network.load_state_dict(state["weights"])


@torch.no_grad()
def measure_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of all batch norms by those of some batches.

    Everything else (dropout and the like) stays as in evaluation. The network's modes are
    afterwards what they were.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    if not norms:
        return
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean over batches
        norm.train()
    try:
        for images in batches:
            network(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
