"""Activations and normalizations by name, and the initialization that suits them."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

from torch import nn

from parti.core.errors import InvalidSettings

__all__ = ["ACTIVATIONS", "GAINS", "NORMALIZATIONS", "activation", "initialize", "normalization"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu6": nn.ReLU6,
    "hard_swish": nn.Hardswish,
}

GAINS: dict[str, float] = {
    "relu": 1.414,
    "leaky_relu": 1.414,
    "prelu": 1.372,
    "elu": 1.245,
    "selu": 1.0,
    "silu": 1.677,
    "gelu": 1.534,
    "relu6": 1.414,
    "hard_swish": 1.737,
}
"""By how much weights are scaled so that signals keep their size through layer and activation.

For a standard normal z and an activation f, the gain is one over the root of E[f(z)²]: the
square root of 2 for ReLU (He 2015), 1 for SELU (Klambauer 2017).
"""

CHANNELS_PER_GROUP = 8
SMALL = 0.02


def _group(channels: int) -> nn.Module:
    return nn.GroupNorm(channels // gcd(channels, CHANNELS_PER_GROUP), channels)


NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": _group,
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "none": lambda channels: nn.Identity(),
}


def activation(name: str) -> nn.Module:
    """Return a new activation.

    Args:
        name: a key of `ACTIVATIONS`.

    Raises:
        InvalidSettings: there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise InvalidSettings(f"no activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def normalization(name: str, channels: int) -> nn.Module:
    """Return a new normalization of images.

    Args:
        name: "batch", "group" (groups of 8 channels, Wu 2018), "layer" or "none".
        channels: of the images.

    Raises:
        InvalidSettings: there is none of that name.
    """
    if name not in NORMALIZATIONS:
        raise InvalidSettings(
            f"no normalization {name!r}; choose one of {', '.join(NORMALIZATIONS)}"
        )
    return NORMALIZATIONS[name](channels)


def initialize(network: nn.Module, activation: str = "relu") -> nn.Module:
    """Draw new weights for every convolution and linear layer of a network, in place.

    Convolutions follow He (2015), scaled by their inputs, so that signals keep their size even
    without normalization; linear layers likewise, except the last one, which starts near zero,
    so that all classes start equally likely. Biases are zero.

    Args:
        network: to initialize; its weights come from torch's global random numbers.
        activation: the one that follows most layers, a key of `GAINS`.

    Returns:
        The network.
    """
    linear: list[nn.Linear] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            inputs = module.weight[0].numel()
            bound = GAINS[activation] * (3 / inputs) ** 0.5
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.Linear):
            linear.append(module)
    if linear:
        nn.init.uniform_(linear[-1].weight, -SMALL, SMALL)
    return network
