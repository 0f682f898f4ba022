"""The stem before and the head after the stages, and all of them in one network."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from parti.networks.layers import activation, initialize
from parti.networks.operations import conv_norm_act

__all__ = ["assemble", "dense_layer", "head", "stem"]


def stem(
    in_channels: int, channels: int, stride: int = 1, *, norm: str = "batch", act: str = "relu"
) -> nn.Sequential:
    """The first 3×3 convolutions: one for stride 1 or 2, two of stride 2 for stride 4.

    Args:
        in_channels: of the images.
        channels: of the output.
        stride: 1, 2 or 4: by how much height and width shrink.
        norm: name of the normalization.
        act: name of the activation.
    """
    first = conv_norm_act(in_channels, channels, stride=min(stride, 2), norm=norm, act=act)
    if stride < 4:
        return nn.Sequential(first)
    return nn.Sequential(first, conv_norm_act(channels, channels, stride=2, norm=norm, act=act))


def head(in_channels: int, classes: int, hidden: nn.Module | None = None) -> nn.Sequential:
    """Average over all pixels, then a linear classifier: images to (batch, classes) logits.

    Args:
        in_channels: of the images, or of what `hidden` gives.
        classes: number of logits.
        hidden: between the average and the classifier, maps vectors to vectors.
    """
    parts = OrderedDict[str, nn.Module](pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    if hidden is not None:
        parts["hidden"] = hidden
    parts["classifier"] = nn.Linear(in_channels, classes)
    return nn.Sequential(parts)


def dense_layer(features: int, units: int, *, dropout: float, act: str) -> nn.Sequential:
    """Dropout, linear layer, activation: (batch, features) to (batch, units).

    Args:
        features: of the input.
        units: of the output.
        dropout: share of the inputs that are dropped in training.
        act: name of the activation.
    """
    return nn.Sequential(
        OrderedDict(
            dropout=nn.Dropout(dropout), linear=nn.Linear(features, units), act=activation(act)
        )
    )


def assemble(parts: dict[str, nn.Module], act: str = "relu") -> nn.Sequential:
    """Run parts one after the other, as one initialized network.

    Args:
        parts: by name: `stem`, `stage1`, ..., `head`.
        act: the activation that follows most layers; initial weights are scaled for it.
    """
    network = nn.Sequential(OrderedDict(parts))
    initialize(network, act)
    return network
