"""The networks of TransNAS-Bench-101: stem, four to six modules of two blocks each, head.

Yawen Duan, Xin Chen, Hang Xu, Zewei Chen, Xiaodan Liang, Tong Zhang, Zhenguo Li:
TransNAS-Bench-101: Improving Transferability and Generalizability of Cross-Task Neural
Architecture Search, CVPR 2021 (section 3; the head is that of the two classification tasks).

A module keeps or doubles the channels, and keeps or halves the images; its first block does it.
For images of more than 112 pixels it is what was published (for 256 pixels), to the last
parameter; smaller images are shrunk less in the stem. Initial weights are parti's (`assemble`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from parti.networks.blocks import Residual
from parti.networks.heads import assemble, head
from parti.networks.operations import FactorizedReduce, Zero, act_conv_norm, conv_norm_act

__all__ = ["ModuleKind", "edge_operations", "preactivated_block", "stack_modules"]

BLOCKS = 2
"""How many a module has."""


@dataclass(frozen=True, slots=True)
class ModuleKind:
    """What a module does to images.

    Args:
        halves: whether height and width are halved.
        doubles: whether channels are doubled.
    """

    halves: bool
    doubles: bool


def stack_modules(
    block: Callable[[int, int, int], nn.Module],
    modules: Sequence[ModuleKind],
    in_channels: int,
    classes: int,
    *,
    channels: int,
    stem_stride: int,
) -> nn.Sequential:
    """Build a network.

    Args:
        block: builds a block from its input's channels, its output's, and its stride.
        modules: in order.
        in_channels: of the images.
        classes: number of logits.
        channels: of the first module's input; even.
        stem_stride: by how much the stem shrinks images: 1, 2 or 4.

    Returns:
        A network of images (batch, in_channels, height, width) to logits (batch, classes).
    """
    parts: dict[str, nn.Module] = {
        "stem": nn.Sequential(
            conv_norm_act(in_channels, channels // 2, stride=min(stem_stride, 2), act=None),
            act_conv_norm(channels // 2, channels, 3, stride=max(stem_stride // 2, 1)),
        )
    }
    before = channels
    for number, module in enumerate(modules, start=1):
        after = 2 * before if module.doubles else before
        first = block(before, after, 2 if module.halves else 1)
        others = (block(after, after, 1) for _ in range(BLOCKS - 1))
        parts[f"module{number}"] = nn.Sequential(first, *others)
        before = after
    parts["head"] = head(before, classes)
    return assemble(parts)


def preactivated_block(in_channels: int, channels: int, stride: int) -> Residual:
    """Two 3×3 convolutions around which the input passes, each activated before.

    Args:
        in_channels: of the input.
        channels: of the output.
        stride: of the first convolution.
    """
    body = OrderedDict[str, nn.Module](
        conv1=act_conv_norm(in_channels, channels, 3, stride=stride),
        conv2=act_conv_norm(channels, channels, 3),
    )
    changes = stride != 1 or in_channels != channels
    shortcut = conv_norm_act(in_channels, channels, 1, stride=stride, act=None) if changes else None
    return Residual(nn.Sequential(body), shortcut, act=None)


def edge_operations(
    in_channels: int, channels: int, stride: int
) -> dict[str, Callable[[], nn.Module]]:
    """What an edge of a cell may be; numbered from 0 in the benchmark's strings.

    Args:
        in_channels: of the input.
        channels: of the output; more than those of the input only where the stride is 2.
        stride: 1 or 2.
    """

    def skip() -> nn.Module:
        return nn.Identity() if stride == 1 else FactorizedReduce(in_channels, channels)

    return {
        "none": lambda: Zero(stride, channels),
        "skip": skip,
        "conv1x1": lambda: act_conv_norm(in_channels, channels, 1, stride=stride),
        "conv3x3": lambda: act_conv_norm(in_channels, channels, 3, stride=stride),
    }
