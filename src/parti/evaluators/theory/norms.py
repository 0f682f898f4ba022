"""Sizes of weights and biases, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

__all__ = ["LayerNorms", "layer_norms"]


@dataclass(frozen=True, slots=True)
class LayerNorms:
    """One layer's weights and biases.

    Args:
        name: dotted, as in `named_modules`.
        type: the name of its class.
        weight: Euclidean norm of its weights.
        weight_rms: root mean square of a weight: comparable between layers of unlike sizes.
        bias: Euclidean norm of its biases; None without any.
    """

    name: str
    type: str
    weight: float
    weight_rms: float
    bias: float | None


def layer_norms(network: nn.Module) -> tuple[LayerNorms, ...]:
    """Norms of every module that has weights of its own, in the order of `named_modules`."""
    return tuple(_norms(name, module) for name, module in network.named_modules() if _own(module))


def _own(module: nn.Module) -> bool:
    return isinstance(module._parameters.get("weight"), nn.Parameter)


def _norms(name: str, module: nn.Module) -> LayerNorms:
    weight, bias = module._parameters["weight"], module._parameters.get("bias")
    assert weight is not None
    norm = float(weight.detach().double().norm())
    return LayerNorms(
        name=name,
        type=type(module).__name__,
        weight=norm,
        weight_rms=norm / math.sqrt(weight.numel()),
        bias=None if bias is None else float(bias.detach().double().norm()),
    )
