"""The well-known fixed network that every search is compared with, as a space of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parti.core.program import space
from parti.core.words import choose

if TYPE_CHECKING:
    from torch import nn

__all__ = ["fixed"]


@space
def fixed(name: str, in_channels: int, classes: int, resolution: int) -> nn.Module:
    """One network of the literature, by name; see `parti.networks.known`."""
    from parti.networks.known import known_network

    return known_network(choose("network", [name]), in_channels, classes, resolution)
