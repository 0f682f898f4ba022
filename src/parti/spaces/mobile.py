"""Stages of inverted residuals: MobileNetV2 (Sandler 2018), MnasNet (Tan 2019), MobileNetV3.

The family of ProxylessNAS (Cai 2019) and Once-for-All (Cai 2020) too: depth, width, kernel and
expansion are what an elastic supernet shares. For each stage: its width and how many blocks it
has. For each block: kernel, expansion, and squeeze-excitation in its middle.

    stage2/width                  channels between blocks
    stage2/blocks = 3             how many
    stage2/blocks[0]/kernel       3, 5 or 7, as far as it fits into the images
    stage2/blocks[0]/expansion    by how much the middle is wider
    stage2/blocks[0]/attention    none or squeeze-excitation
    resolution                    of what the network sees, if several are offered

Size: 1.7e17 architectures at 32×32, of 20 thousand to 3.4 million parameters. Few
parameters and operations for their accuracy. Their depthwise convolutions run well on phones;
training them on a CPU is slow for what it computes. Activations are ReLU6 in the first half of
the stages and hard swish in the second, as MobileNetV3 (Howard 2019) found best.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from parti.core.program import space
from parti.core.words import choose, one_of, repeat, scope
from parti.networks.blocks import SqueezeExcitation, inverted_residual
from parti.networks.heads import assemble, head, stem
from parti.networks.operations import conv_norm_act
from parti.spaces.stages import Stage, fitting, stages, stem_stride, widths

__all__ = ["mobile"]


@space
def mobile(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    width: int = 16,
    blocks: Sequence[int] = (1, 2, 3, 4),
    kernels: tuple[int, ...] = (3, 5, 7),
    expansions: Sequence[int] = (3, 4, 6),
    resolutions: Sequence[int] = (),
) -> nn.Sequential:
    """Build a network of inverted residuals.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        width: the usual number of channels of the first stage.
        blocks: how many a stage may have.
        kernels: sizes to choose from.
        expansions: to choose from; each more than 1.
        resolutions: to choose from, in pixels; images are scaled to squares of them first. None:
            images are taken as they are.
    """

    def stage_of(stage: Stage, before: int, channels: int, act: str) -> nn.Module:
        def block(i: int) -> nn.Module:
            inputs = channels if i else before
            kernel = choose("kernel", fitting(kernels, stage.size))
            expansion = choose("expansion", expansions)
            attention = one_of(
                "attention",
                {"none": nn.Identity, "squeeze": lambda: SqueezeExcitation(inputs * expansion)},
            )
            return inverted_residual(
                inputs,
                channels,
                kernel,
                expansion=expansion,
                stride=1 if i else stage.stride,
                shortcut=i > 0,
                attention=attention,
                act=act,
            )

        body: nn.Module = repeat("blocks", block, blocks)
        return body

    sharpest = max(resolutions, default=resolution)
    plan = stages(sharpest)
    parts = dict[str, nn.Module]()
    if resolutions:
        parts["scaled"] = nn.Upsample(choose("resolution", resolutions), mode="bilinear")
    parts["stem"] = stem(in_channels, width, stem_stride(sharpest), act="relu6")
    before = width
    for stage in plan:
        act = "hard_swish" if 2 * stage.number > len(plan) else "relu6"
        with scope(stage.name):
            channels = choose("width", widths(width, stage))
            parts[stage.name] = stage_of(stage, before, channels, act)
        before = channels
    features = 4 * width * 2 ** (len(plan) - 1)
    parts["features"] = conv_norm_act(before, features, 1, act="hard_swish")
    parts["head"] = head(features, classes)
    return assemble(parts)
