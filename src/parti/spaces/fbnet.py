"""The layer-wise space of FBNet: for each of 22 layers, one of nine blocks.

Bichen Wu, Xiaoliang Dai, Peizhao Zhang, Yanghan Wang, Fei Sun, Yiming Wu, Yuandong Tian, Peter
Vajda, Yangqing Jia, Kurt Keutzer: FBNet: Hardware-Aware Efficient ConvNet Design via
Differentiable Neural Architecture Search, CVPR 2019, tables 1 and 2.

A block widens its input by an expansion, convolves depthwise, and narrows it again; the input is
added where shapes agree. Its 1×1 convolutions may have two groups, with channels shuffled in
between.

    stage2/layer1 = k5_e6      kernel 5, expansion 6
    stage2/layer2 = k3_e1_g2   kernel 3, expansion 1, two groups
    stage2/layer3 = skip       the identity; a 1×1 convolution where the shape changes

For images of 224 pixels it is the network of the paper. Smaller ones are halved less often: those
of 32 pixels three times, as in HW-NAS-Bench (Li et al., ICLR 2021).

Size: 9.8e20 architectures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import nn

from parti.core.program import space
from parti.core.words import one_of
from parti.networks.blocks import Residual
from parti.networks.heads import assemble, head, stem
from parti.networks.operations import ChannelShuffle, conv_norm_act
from parti.spaces.layerwise import SKIP, Layer, lay_out, skips_last

__all__ = ["fbnet"]

WIDTH = 16
"""Channels of the stem in the paper."""

PLAN = (
    (16, 1, 1),
    (24, 4, 2),
    (32, 4, 2),
    (64, 4, 2),
    (112, 4, 1),
    (184, 4, 2),
    (352, 1, 1),
)
"""Channels, layers and stride of each stage (table 1)."""

FEATURES = 1504
"""Channels before the head."""

BLOCKS = tuple(
    (f"k{kernel}_e{expansion}" + ("_g2" if groups == 2 else ""), kernel, expansion, groups)
    for kernel in (3, 5)
    for expansion, groups in ((1, 1), (1, 2), (3, 1), (6, 1))
)
"""Name, kernel, expansion and groups of each block (table 2)."""


@space(dynamic=False, canonical=skips_last)
def fbnet(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    width: int = WIDTH,
    layers: int = 4,
) -> nn.Sequential:
    """Build a network of up to 22 layers.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        width: channels of the stem; those of all stages are in proportion, in multiples of 8.
        layers: of the five stages in the middle.

    Raises:
        InvalidSettings: there is no pixel, channel or layer.
    """
    scale = width / WIDTH
    stride, found = lay_out(PLAN, width, resolution, scale=scale, most=layers)
    parts: dict[str, nn.Module] = {"stem": stem(in_channels, width, stride)}
    for layer in found:
        parts[layer.name.replace("/", "_")] = one_of(layer.name, _blocks(layer))
    features = round(FEATURES * scale)
    parts["features"] = conv_norm_act(found[-1].channels, features, 1)
    parts["head"] = head(features, classes)
    return assemble(parts)


def _blocks(layer: Layer) -> dict[str, Callable[[], nn.Module]]:
    found: dict[str, Callable[[], nn.Module]] = {
        name: partial(_block, layer, kernel, expansion, groups)
        for name, kernel, expansion, groups in BLOCKS
    }
    return {**found, SKIP: partial(_skip, layer)}


def _block(layer: Layer, kernel: int, expansion: int, groups: int) -> nn.Module:
    hidden = layer.in_channels * expansion
    body = OrderedDict[str, nn.Module](
        expand=conv_norm_act(layer.in_channels, hidden, 1, groups=groups)
    )
    if groups > 1:
        body["shuffle"] = ChannelShuffle(groups)
    body["depthwise"] = conv_norm_act(hidden, hidden, kernel, stride=layer.stride, groups=hidden)
    body["project"] = conv_norm_act(hidden, layer.channels, 1, groups=groups, act=None)
    block = nn.Sequential(body)
    return Residual(block, act=None) if layer.keeps else block


def _skip(layer: Layer) -> nn.Module:
    if layer.keeps:
        return nn.Identity()
    return conv_norm_act(layer.in_channels, layer.channels, 1, stride=layer.stride)
