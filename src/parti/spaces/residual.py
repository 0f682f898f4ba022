"""Stages of residual blocks (ResNet, He 2016) or of dense layers (DenseNet, Huang 2017).

For each stage: its kind, its width and how many blocks or layers it has. A residual block may
end in squeeze-excitation (Hu 2018). The first block of a stage changes size and width.

    stage2/width                          channels of the stage's output
    stage2/kind                           basic, bottleneck or dense
    stage2/kind=basic/blocks = 3          how many
    stage2/kind=basic/blocks[0]/attention none or squeeze-excitation
    stage2/kind=bottleneck/blocks[0]/narrowing   2 or 4: width over inner width
    stage2/kind=dense/growth              channels that each dense layer appends
    stage2/kind=dense/layers = 4          how many

Size: 7.0e9 architectures at 32×32, of 6 thousand to 3.5 million parameters. ResNet-20
is a member: widths 16, 32, 64, three basic blocks each (with a projection in each stage).
Regular 3×3 convolutions run fast everywhere.

In a weight-sharing supernet, consider leaving "dense" out of `kinds`: what channel i means to the
transition depends on how many layers came before, so networks that differ in it share badly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from parti.core.elastic import computed
from parti.core.errors import InvalidSettings
from parti.core.program import space
from parti.core.words import choose, one_of, repeat, scope
from parti.networks.blocks import DenseLayer, SqueezeExcitation, basic_block, bottleneck_block
from parti.networks.heads import assemble, head, stem
from parti.networks.operations import average_pool, conv_norm_act
from parti.spaces.stages import stages, stem_stride, widths

__all__ = ["residual"]


@space
def residual(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    width: int = 16,
    blocks: Sequence[int] = (1, 2, 3, 4),
    kinds: Sequence[str] = ("basic", "bottleneck", "dense"),
) -> nn.Sequential:
    """Build a residual network.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        width: the usual number of channels of the first stage.
        blocks: how many a stage may have; dense stages have twice as many layers.
        kinds: of stages to choose from.

    Raises:
        InvalidSettings: one of the kinds is none of the three.
    """
    if unknown := set(kinds) - {"basic", "bottleneck", "dense"}:
        raise InvalidSettings(
            f"no kind {', '.join(sorted(unknown))}; choose from basic, bottleneck and dense"
        )
    parts: dict[str, nn.Module] = {"stem": stem(in_channels, width, stem_stride(resolution))}
    before = width
    for stage in stages(resolution):
        with scope(stage.name):
            channels = choose("width", widths(width, stage))
            offered = _kinds(before, channels, stage.stride, blocks)
            parts[stage.name] = one_of("kind", {kind: offered[kind] for kind in kinds})
        before = channels
    parts["head"] = head(before, classes)
    return assemble(parts)


def _kinds(
    before: int, channels: int, stride: int, blocks: Sequence[int]
) -> dict[str, Callable[[], nn.Module]]:
    """What a stage may be: by name, a factory of modules from `before` to `channels`."""

    def basic(i: int) -> nn.Module:
        return basic_block(
            channels if i else before,
            channels,
            stride=1 if i else stride,
            project=i == 0,
            attention=_attention(channels),
        )

    def bottleneck(i: int) -> nn.Module:
        return bottleneck_block(
            channels if i else before,
            channels,
            hidden=channels // choose("narrowing", (2, 4)),
            stride=1 if i else stride,
            project=i == 0,
            attention=_attention(channels),
        )

    def dense() -> nn.Module:
        growth = choose("growth", (8, 16, 32))
        layers = repeat(
            "layers",
            lambda i: DenseLayer(conv_norm_act(before + i * growth, growth)),
            [2 * count for count in blocks],
        )
        transition = conv_norm_act(before + computed(len, layers) * growth, channels, 1)
        shrink = [average_pool(3, stride)] if stride > 1 else []
        return nn.Sequential(*shrink, layers, transition)

    return {
        "basic": lambda: repeat("blocks", basic, blocks),
        "bottleneck": lambda: repeat("blocks", bottleneck, blocks),
        "dense": dense,
    }


def _attention(channels: int) -> nn.Module:
    attention: nn.Module = one_of(
        "attention", {"none": nn.Identity, "squeeze": lambda: SqueezeExcitation(channels)}
    )
    return attention
