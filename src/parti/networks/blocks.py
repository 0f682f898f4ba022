"""Operations joined into blocks: residual, dense, inverted residual, parallel paths."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial, reduce

import torch
from torch import Tensor, nn

from parti.core.elastic import computed, possible, select
from parti.networks.layers import activation
from parti.networks.operations import conv_norm_act

__all__ = [
    "DenseLayer",
    "ParallelSum",
    "Residual",
    "SqueezeExcitation",
    "basic_block",
    "bottleneck_block",
    "inverted_residual",
    "path",
]


class Residual(nn.Module):
    """Add what a body computes to its input, then activate: act(shortcut(x) + body(x)).

    Args:
        body: maps images to images.
        shortcut: the identity, unless the body changes the shape.
        act: name of the activation after the sum, or None.
    """

    def __init__(
        self, body: nn.Module, shortcut: nn.Module | None = None, act: str | None = "relu"
    ) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.act = activation(act) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to what the body gives."""
        total: Tensor = self.act(self.shortcut(x) + self.body(x))
        return total


class ParallelSum(nn.Module):
    """Sum what several paths make of the same input.

    Args:
        paths: one or more, all giving the same shape.
    """

    def __init__(self, paths: nn.ModuleDict) -> None:
        super().__init__()
        self.paths = paths

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to what each path gives."""
        total: Tensor = reduce(torch.add, [path(x) for path in self.paths.values()])
        return total


class DenseLayer(nn.Module):
    """Append what a body computes to its input's channels (Huang 2017).

    Args:
        body: maps images to images of the same size.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, channels + the body's, h, w)."""
        return torch.cat([x, self.body(x)], dim=1)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a factor that is computed from all channels' means (Hu 2018).

    Args:
        channels: of the images.
        reduction: by which the hidden layer is narrower.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = channels // reduction
        self.scale = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                reduce=nn.Conv2d(channels, hidden, 1),
                act=nn.ReLU(),
                expand=nn.Conv2d(hidden, channels, 1),
                gate=nn.Hardsigmoid(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape."""
        scaled: Tensor = x * self.scale(x)
        return scaled


def basic_block(
    in_channels: int,
    channels: int,
    *,
    stride: int = 1,
    project: bool = False,
    attention: nn.Module | None = None,
) -> Residual:
    """Two 3×3 convolutions around which the input passes (He 2016, figure 5 left).

    Args:
        in_channels: of the input.
        channels: of the output.
        stride: of the first convolution.
        project: whether the shortcut is a 1×1 convolution; needed where the shape changes.
        attention: applied to what is added, e.g. squeeze-excitation.
    """
    body = OrderedDict[str, nn.Module](
        conv1=conv_norm_act(in_channels, channels, stride=stride),
        conv2=conv_norm_act(channels, channels, act=None),
    )
    return _residual(body, in_channels, channels, stride, project, attention)


def bottleneck_block(
    in_channels: int,
    channels: int,
    *,
    hidden: int,
    stride: int = 1,
    project: bool = False,
    attention: nn.Module | None = None,
) -> Residual:
    """1×1, 3×3 and 1×1 convolution around which the input passes (He 2016, figure 5 right).

    Args:
        in_channels: of the input.
        channels: of the output.
        hidden: channels of the 3×3 convolution.
        stride: of the 3×3 convolution.
        project: whether the shortcut is a 1×1 convolution; needed where the shape changes.
        attention: applied to what is added, e.g. squeeze-excitation.
    """
    body = OrderedDict[str, nn.Module](
        reduce=conv_norm_act(in_channels, hidden, 1),
        conv=conv_norm_act(hidden, hidden, stride=stride),
        expand=conv_norm_act(hidden, channels, 1, act=None),
    )
    return _residual(body, in_channels, channels, stride, project, attention)


def inverted_residual(
    in_channels: int,
    channels: int,
    kernel: int = 3,
    *,
    expansion: int = 6,
    stride: int = 1,
    shortcut: bool = False,
    attention: nn.Module | None = None,
    act: str = "relu6",
) -> nn.Module:
    """Widen, convolve depthwise, narrow (MobileNetV2, Sandler 2018).

    Args:
        in_channels: of the input.
        channels: of the output.
        kernel: of the depthwise convolution.
        expansion: by how much the middle is wider than the input; 1 leaves widening out.
        stride: of the depthwise convolution.
        shortcut: whether the input is added; needs equal shapes.
        attention: applied in the middle, after the depthwise convolution.
        act: name of the activation.
    """
    hidden = in_channels * expansion
    body: OrderedDict[str, nn.Module] = OrderedDict()
    if possible(expansion) != {1}:
        widens = computed(lambda times: times != 1, expansion)
        widen = partial(conv_norm_act, in_channels, hidden, 1, act=act)
        body["expand"] = select(widens, {True: widen, False: nn.Identity})
    body["depthwise"] = conv_norm_act(hidden, hidden, kernel, stride=stride, groups=hidden, act=act)
    if attention is not None:
        body["attention"] = attention
    body["project"] = conv_norm_act(hidden, channels, 1, act=None)
    layers = nn.Sequential(body)
    return Residual(layers, act=None) if shortcut else layers


def path(in_channels: int, hidden: int, channels: int, *middle: nn.Module) -> nn.Sequential:
    """One of several parallel paths: narrow, then the middle, then widen.

    The last 1×1 convolution has no normalization: paths are summed first, and a sum of 1×1
    convolutions is one 1×1 convolution of all paths concatenated (Szegedy 2015).

    Args:
        in_channels: of the input.
        hidden: channels that the middle takes and gives.
        channels: of the output.
        middle: what happens in between; nothing for a plain 1×1 path.
    """
    parts = OrderedDict[str, nn.Module](reduce=conv_norm_act(in_channels, hidden, 1))
    parts.update({f"middle{i}": module for i, module in enumerate(middle, start=1)})
    parts["expand"] = nn.Conv2d(hidden, channels, 1, bias=False)
    return nn.Sequential(parts)


def _residual(
    body: OrderedDict[str, nn.Module],
    in_channels: int,
    channels: int,
    stride: int,
    project: bool,
    attention: nn.Module | None,
) -> Residual:
    if attention is not None:
        body["attention"] = attention
    shortcut = conv_norm_act(in_channels, channels, 1, stride=stride, act=None) if project else None
    return Residual(nn.Sequential(body), shortcut)
