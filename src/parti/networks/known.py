"""Well-known fixed networks, for the baseline that a search has to beat.

At the resolution of their papers they are what was published, to the last parameter; at other
resolutions only strides differ, so the number of parameters stays.

    resnet20           He 2016, section 4.2, projection shortcuts (option B); 0.27 M
    resnet18           He 2016, table 1; 11.2 M with 10 classes
    mobilenet_v2       Sandler 2018, table 2; 2.2 M with 10 classes
    mobilenet_v2_half  the same at width multiplier 0.5; 0.7 M with 10 classes
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from parti.core.errors import InvalidSettings
from parti.networks.blocks import basic_block, inverted_residual
from parti.networks.heads import assemble, head
from parti.networks.operations import conv_norm_act, max_pool

__all__ = ["KNOWN", "default_known", "known_network"]


def known_network(
    name: str | None, in_channels: int = 3, classes: int = 10, resolution: int = 32
) -> nn.Sequential:
    """Build a network from the literature.

    Args:
        name: a key of `KNOWN`; None takes `default_known(resolution)`.
        in_channels: of the images.
        classes: number of logits.
        resolution: the shorter side of the images in pixels; sets where the network strides.

    Returns:
        A network of images (batch, in_channels, height, width) to logits (batch, classes).

    Raises:
        InvalidSettings: there is none of that name.
    """
    name = name or default_known(resolution)
    if name not in KNOWN:
        raise InvalidSettings(f"no known network {name!r}; choose one of {', '.join(KNOWN)}")
    return KNOWN[name](in_channels, classes, resolution)


def default_known(resolution: int) -> str:
    """Name of the network to compare with: the usual small one for images of that size.

    Up to 64 pixels that is ResNet-20, made for CIFAR-10; above, MobileNetV2 at half width,
    which a CPU can train.
    """
    return "resnet20" if resolution <= 64 else "mobilenet_v2_half"


def _resnet20(in_channels: int, classes: int, resolution: int) -> nn.Sequential:
    stride = 1 if resolution <= 40 else 2 if resolution <= 96 else 4
    parts: dict[str, nn.Module] = {"stem": conv_norm_act(in_channels, 16, stride=stride)}
    before = 16
    for number, channels in enumerate((16, 32, 64), start=1):
        parts[f"stage{number}"] = _basic_stage(before, channels, blocks=3)
        before = channels
    parts["head"] = head(before, classes)
    return assemble(parts)


def _resnet18(in_channels: int, classes: int, resolution: int) -> nn.Sequential:
    # Small images keep their size until the second stage.
    stride = 2 if resolution > 96 else 1
    stem = conv_norm_act(in_channels, 64, 7, stride=stride)
    shrink = max_pool(3, 2) if resolution > 40 else nn.Identity()
    parts: dict[str, nn.Module] = {"stem": nn.Sequential(stem, shrink)}
    before = 64
    for number, channels in enumerate((64, 128, 256, 512), start=1):
        parts[f"stage{number}"] = _basic_stage(before, channels, blocks=2)
        before = channels
    parts["head"] = head(before, classes)
    return assemble(parts)


def _basic_stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    widens = channels != in_channels
    first = basic_block(in_channels, channels, stride=2 if widens else 1, project=widens)
    return nn.Sequential(first, *(basic_block(channels, channels) for _ in range(blocks - 1)))


MOBILENET_V2 = (
    # expansion, channels, blocks, stride: t, c, n, s of table 2
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MOBILENET_FEATURES = 1280


def _mobilenet_v2(
    in_channels: int, classes: int, resolution: int, multiplier: float = 1.0
) -> nn.Sequential:
    # Five strides of 2 make 7×7 of 224×224; smaller images leave the first ones out.
    unused = sum(resolution <= limit for limit in (16, 40, 80, 112))
    before = _multiple_of_8(32 * multiplier)
    parts: dict[str, nn.Module] = {
        "stem": conv_norm_act(in_channels, before, stride=1 if unused else 2, act="relu6")
    }
    unused -= 1
    for number, (expansion, channels, blocks, stride) in enumerate(MOBILENET_V2, start=1):
        if stride == 2 and unused > 0:
            stride, unused = 1, unused - 1
        width = _multiple_of_8(channels * multiplier)
        parts[f"stage{number}"] = _mobile_stage(before, width, expansion, blocks, stride)
        before = width
    features = int(MOBILENET_FEATURES * max(multiplier, 1.0))
    parts["features"] = conv_norm_act(before, features, 1, act="relu6")
    parts["head"] = head(features, classes)
    return assemble(parts)


def _mobile_stage(
    in_channels: int, channels: int, expansion: int, blocks: int, stride: int
) -> nn.Sequential:
    first = inverted_residual(
        in_channels,
        channels,
        expansion=expansion,
        stride=stride,
        shortcut=stride == 1 and in_channels == channels,
    )
    others = (
        inverted_residual(channels, channels, expansion=expansion, shortcut=True)
        for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *others)


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, but never less than 90 % of what was asked."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


KNOWN: dict[str, Callable[[int, int, int], nn.Sequential]] = {
    "resnet20": _resnet20,
    "resnet18": _resnet18,
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v2_half": partial(_mobilenet_v2, multiplier=0.5),
}
"""By name: a builder that takes in_channels, classes and resolution."""
