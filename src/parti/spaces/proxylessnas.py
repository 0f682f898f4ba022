"""The layer-wise space of ProxylessNAS: for each of 21 layers, an inverted residual or nothing.

Han Cai, Ligeng Zhu, Song Han: ProxylessNAS: Direct Neural Architecture Search on Target Task and
Hardware, ICLR 2019, section 4.2; sizes from the authors' code.

    stage2/layer1 = k5_e6      kernel 5, expansion 6; kernels are 3, 5, 7 and expansions 3, 6
    stage2/layer2 = skip       nothing is added to the input: only where the shape stays

For images of 224 pixels it is the network of the paper; smaller ones are halved less often.

Size: 2.2e17 architectures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from parti.core.program import space
from parti.core.words import one_of
from parti.networks.blocks import inverted_residual
from parti.networks.heads import assemble, head, stem
from parti.networks.operations import conv_norm_act
from parti.spaces.layerwise import SKIP, Layer, lay_out, skips_last

__all__ = ["proxylessnas"]

WIDTH = 32
"""Channels of the stem in the authors' code."""

PLAN = ((24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1))
"""Channels, layers and stride of each stage."""

FEATURES = 1280
"""Channels before the head."""

KERNELS, EXPANSIONS = (3, 5, 7), (3, 6)


@space(dynamic=False, canonical=skips_last)
def proxylessnas(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    width: int = WIDTH,
    layers: int = 4,
) -> nn.Sequential:
    """Build a network of up to 21 layers.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        width: channels of the stem; even. Those of all stages are in proportion, in multiples of
            8.
        layers: of each stage but the last, which has one.

    Raises:
        InvalidSettings: there is no pixel, channel or layer.
    """
    scale = width / WIDTH
    stride, found = lay_out(PLAN, width // 2, resolution, scale=scale, most=layers)
    parts: dict[str, nn.Module] = {
        "stem": stem(in_channels, width, stride, act="relu6"),
        "first": inverted_residual(width, width // 2, expansion=1),
    }
    for layer in found:
        parts[layer.name.replace("/", "_")] = one_of(layer.name, _blocks(layer))
    features = round(FEATURES * scale)
    parts["features"] = conv_norm_act(found[-1].channels, features, 1, act="relu6")
    parts["head"] = head(features, classes)
    return assemble(parts)


def _blocks(layer: Layer) -> dict[str, Callable[[], nn.Module]]:
    found: dict[str, Callable[[], nn.Module]] = {
        f"k{kernel}_e{expansion}": partial(
            inverted_residual,
            layer.in_channels,
            layer.channels,
            kernel,
            expansion=expansion,
            stride=layer.stride,
            shortcut=layer.keeps,
        )
        for kernel in KERNELS
        for expansion in EXPANSIONS
    }
    return {**found, SKIP: nn.Identity} if layer.keeps else found
