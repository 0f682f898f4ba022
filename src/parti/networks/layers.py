"""Activations and normalizations by name, and the initialization that suits them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import gcd
from statistics import fmean

from torch import nn

from parti.core.elastic import computed, possible, select
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
    groups = computed(lambda width: width // gcd(width, CHANNELS_PER_GROUP), channels)
    return nn.GroupNorm(groups, channels)


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
    _check(name, ACTIVATIONS, "activation")
    chosen: nn.Module = select(name, ACTIVATIONS)
    return chosen


def normalization(name: str, channels: int) -> nn.Module:
    """Return a new normalization of images.

    Args:
        name: "batch", "group" (groups of 8 channels, Wu 2018), "layer" or "none".
        channels: of the images.

    Raises:
        InvalidSettings: there is none of that name.
    """
    _check(name, NORMALIZATIONS, "normalization")
    factories = {each: partial(make, channels) for each, make in NORMALIZATIONS.items()}
    chosen: nn.Module = select(name, factories)
    return chosen


def _check(name: str, known: Iterable[str], what: str) -> None:
    if unknown := sorted(possible(name) - set(known)):
        raise InvalidSettings(f"no {what} {unknown[0]!r}; choose one of {', '.join(known)}")


def initialize(network: nn.Module, activation: str = "relu") -> nn.Module:
    """Draw new weights for every convolution and linear layer of a network, in place.

    Convolutions follow He (2015), scaled by their inputs, so that signals keep their size even
    without normalization; linear layers likewise, except the last one, which starts near zero,
    so that all classes start equally likely. Biases are zero.

    Args:
        network: to initialize; its weights come from torch's global random numbers.
        activation: the one that follows most layers, a key of `GAINS`. In a supernet that leaves
            it open, weights are scaled for the mean of the gains.

    Returns:
        The network.
    """
    gain = fmean(GAINS[name] for name in sorted(possible(activation)))
    linear: list[nn.Linear] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            inputs = module.weight[0].numel()
            bound = gain * (3 / inputs) ** 0.5
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.Linear):
            linear.append(module)
    if linear:
        nn.init.uniform_(linear[-1].weight, -SMALL, SMALL)
    return network
