"""What maps images to images: convolutions, pooling, zero and reduction.

Every operation keeps the height and width, or with stride s divides them by s, rounding up.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.core.elastic import computed, possible
from parti.networks.layers import activation, normalization

__all__ = [
    "ChannelShuffle",
    "FactorizedReduce",
    "Zero",
    "act_conv_norm",
    "average_pool",
    "conv_norm_act",
    "max_pool",
    "separable",
    "shuffled",
]


def conv_norm_act(
    in_channels: int,
    channels: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    norm: str = "batch",
    act: str | None = "relu",
) -> nn.Sequential:
    """Convolution, normalization, activation.

    Args:
        in_channels: of the input.
        channels: of the output.
        kernel: height and width of the kernel; odd.
        stride: 1 keeps the size, s divides it.
        dilation: distance between the kernel's taps.
        groups: into which the channels are divided; `in_channels` makes it depthwise.
        norm: name of the normalization; with "none" the convolution has a bias.
        act: name of the activation, or None for a linear layer.
    """
    bias = computed(lambda name: name == "none", norm)
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=_conv(in_channels, channels, kernel, stride, dilation, groups, bias=bias)
    )
    if possible(norm) != {"none"}:
        parts["norm"] = normalization(norm, channels)
    if act is not None:
        parts["act"] = activation(act)
    return nn.Sequential(parts)


def act_conv_norm(
    in_channels: int, channels: int, kernel: int = 1, *, stride: int = 1, act: str = "relu"
) -> nn.Sequential:
    """Activation, convolution, batch normalization: the order inside cells.

    Args:
        in_channels: of the input.
        channels: of the output.
        kernel: height and width of the kernel; odd.
        stride: 1 keeps the size, s divides it.
        act: name of the activation.
    """
    return nn.Sequential(
        OrderedDict(
            act=activation(act),
            conv=_conv(in_channels, channels, kernel, stride),
            norm=nn.BatchNorm2d(channels),
        )
    )


def separable(
    in_channels: int,
    channels: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    dilation: int = 1,
    act: str = "relu",
) -> nn.Sequential:
    """Depthwise separable convolution (Chollet 2017): activation, depthwise, 1×1, batch norm.

    Args:
        in_channels: of the input.
        channels: of the output.
        kernel: height and width of the depthwise kernel; odd.
        stride: 1 keeps the size, s divides it.
        dilation: distance between the kernel's taps.
        act: name of the activation.
    """
    return nn.Sequential(
        OrderedDict(
            act=activation(act),
            depthwise=_conv(in_channels, in_channels, kernel, stride, dilation, in_channels),
            pointwise=_conv(in_channels, channels, 1),
            norm=nn.BatchNorm2d(channels),
        )
    )


def max_pool(kernel: int = 3, stride: int = 1) -> nn.MaxPool2d:
    """Maximum over a window, padded so that only the stride changes the size."""
    return nn.MaxPool2d(kernel, stride, padding=kernel // 2)


def average_pool(kernel: int = 3, stride: int = 1) -> nn.AvgPool2d:
    """Mean over the part of a window that lies inside the image."""
    return nn.AvgPool2d(kernel, stride, padding=kernel // 2, count_include_pad=False)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Let channel c of group g become channel c * groups + g: a neighbour of other groups'.

    Args:
        x: (batch, channels, ...).
        groups: into which the channels are divided.
    """
    divided = x.reshape(-1, groups, x.shape[1] // groups, *x.shape[2:])
    return divided.transpose(1, 2).reshape(x.shape)


class ChannelShuffle(nn.Module):
    """Channels of all groups next to each other (Zhang et al.: ShuffleNet, CVPR 2018).

    It is torch's layer of that name, made of operations that all exporters know.

    Args:
        groups: into which the channels are divided.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same."""
        return shuffled(x, self.groups)


class Zero(nn.Module):
    """No connection: zeros of the output's size.

    Args:
        stride: divides height and width, rounding up.
        channels: of the output; those of the input when None.
    """

    def __init__(self, stride: int = 1, channels: int | None = None) -> None:
        super().__init__()
        self.stride = stride
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros of shape (batch, channels, height / stride, width / stride)."""
        zeros = x[:, :, :: self.stride, :: self.stride] * 0.0
        if self.channels is None or self.channels == x.shape[1]:
            return zeros
        return zeros[:, :1].expand(-1, self.channels, -1, -1)


class FactorizedReduce(nn.Module):
    """Halve height and width without losing every second pixel (Zoph 2018).

    Two 1×1 convolutions of stride 2, one of them of the image moved by a pixel, each give half
    of the channels.

    Args:
        in_channels: of the input.
        channels: of the output; at least 2.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.even = _conv(in_channels, channels // 2, 1, stride=2)
        self.odd = _conv(in_channels, channels - channels // 2, 1, stride=2)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, channels, h / 2, w / 2), rounded up."""
        x = self.act(x)
        # One row and column of zeros below and right: odd sizes give two halves of one size.
        moved = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        halves: Tensor = self.norm(torch.cat([self.even(x), self.odd(moved)], dim=1))
        return halves


def _conv(
    in_channels: int,
    channels: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    *,
    bias: bool = False,
) -> nn.Conv2d:
    padding = kernel // 2 * dilation
    return nn.Conv2d(in_channels, channels, kernel, stride, padding, dilation, groups, bias=bias)
