"""Zen-score: how much the features of a network with Gaussian weights move with its input.

    M. Lin, P. Wang, Z. Sun, H. Chen, X. Sun, Q. Qian, H. Li and R. Jin. Zen-NAS: A Zero-Shot NAS
    for High-Performance Deep Image Recognition. ICCV 2021, algorithm 1.

    log E Σ |f(x) − f(x + α ε)| + Σ over batch norms log √(mean over channels of the variance)

with weights, x and ε from a standard Gaussian, α = 0.01; f gives the feature map before the global
pooling. The second term makes up for what batch norms take out.

Departures: the variances are those of the batch x, as in algorithm 1; the authors' code reads
running averages that start at 1. The difference is summed over features, as in their code (the
paper's is a norm). f is the output of the last innermost module that gives more than one pixel,
or else of the last but one. 4 draws are averaged; the authors' search takes 32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from parti.core.errors import InvalidSettings
from parti.proxies.layers import innermost, weighted
from parti.proxies.probe import Need, Probe
from parti.proxies.replacing import replaced

__all__ = ["Zen"]


@dataclass(frozen=True)
class Zen:
    """Scores how much features move, with the scales of batch norms put back.

    Args:
        repeats: draws of weights and inputs to average over.
        batch: inputs in a draw; the authors' 16 by default.
        step: size of the move (α).

    Raises:
        InvalidSettings: a value is not allowed.
    """

    repeats: int = 4
    batch: int = 16
    step: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset()
    goal: ClassVar[Literal["min", "max"]] = "max"

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.batch < 2 or not self.step > 0:
            raise InvalidSettings(
                f"repeats={self.repeats}, batch={self.batch}, step={self.step}: at least 1 draw "
                "of 2 inputs and a step above 0 are needed"
            )

    def __call__(self, probe: Probe) -> float:
        """Return the mean over draws; −∞ where the features do not move."""
        generator = torch.Generator().manual_seed(probe.seed)
        shape = (self.batch, *probe.images.shape[1:])
        with torch.no_grad():
            return fmean(self._draw(probe, shape, generator) for _ in range(self.repeats))

    def _draw(self, probe: Probe, shape: tuple[int, ...], generator: torch.Generator) -> float:
        state = _gaussian(probe.network, generator)
        x, e = (torch.randn(shape, generator=generator).to(probe.images) for _ in range(2))
        with replaced(probe.network, state, {}), _listening(probe.network) as heard:
            probe.network(x)
            before, scale = heard.features(), heard.scale
            probe.network(x + self.step * e)
            after = heard.features()
        moved = float((after - before).abs().flatten(1).sum(1).mean())
        return math.log(moved) + scale if moved > 0 else -math.inf


def _gaussian(network: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Parameters of the distribution the score is defined for: norms 1, biases 0."""
    layers = weighted(network)
    state = {}
    for name, parameter in network.named_parameters():
        if name in layers:
            drawn = torch.randn(parameter.shape, generator=generator)
            state[name] = drawn.to(parameter)
        elif name.rpartition(".")[2] == "bias":
            state[name] = torch.zeros_like(parameter)
        elif name.rpartition(".")[2] == "weight" and parameter.ndim == 1:
            state[name] = torch.ones_like(parameter)
    return state


class _Heard:
    """The outputs of innermost modules in one forward pass, and the scales of batch norms."""

    def __init__(self) -> None:
        self.scale = 0.0
        self._map: Tensor | None = None
        self._last: list[Tensor] = []

    def features(self) -> Tensor:
        """The feature map of the pass just made; the next begins anew."""
        assert self._last
        found = self._map if self._map is not None else self._last[-2:][0]
        self._map, self._last = None, []
        return found

    def hear(self, module: nn.Module, given: Any, out: Any) -> None:
        if isinstance(module, _BatchNorm):
            x = given[0].transpose(0, 1).flatten(1)
            self.scale += 0.5 * math.log(max(float(x.var(1).mean()), 1e-300))
        if not isinstance(out, Tensor):
            return
        self._last = [*self._last[-1:], out]
        if out.ndim >= 3 and out[0, 0].numel() > 1:
            self._map = out


@contextmanager
def _listening(network: nn.Module) -> Iterator[_Heard]:
    heard = _Heard()
    hooks = [module.register_forward_hook(heard.hear) for module in innermost(network)]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
