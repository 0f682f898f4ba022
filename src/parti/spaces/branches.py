"""Blocks of parallel paths, as in Inception (Szegedy 2015; with shortcuts: Szegedy 2017).

For each stage: its width and how many blocks it has. For each block: which paths it has, one to
three of five, and in each path the kernel or the kind of pooling.

    stage2/width                                  channels between blocks
    stage2/blocks = 2                             how many
    stage2/blocks[0]/narrowing                    2 or 4: width over width inside paths
    stage2/blocks[0]/paths = point + conv         which of point, conv, double_conv, separable, pool
    stage2/blocks[0]/paths=conv/kernel            3 or 5, as far as it fits into the images
    stage2/blocks[0]/paths=separable/kernel       3 to 7, the two largest that fit
    stage2/blocks[0]/paths=pool/kind              max or average

Paths are summed, not concatenated. Each path ends in a 1×1 convolution, and the sum of these is
one 1×1 convolution of all paths concatenated; so nothing is lost, all blocks give the same
number of channels, and a supernet can switch paths on and off. A block adds its input, and
images shrink before a stage as in the pooling of Inception.

Size: 3.0e21 architectures at 32×32, of 9 thousand to 1.6 million parameters.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import nn

from parti.core.program import space
from parti.core.words import choose, one_of, repeat, scope, some_of
from parti.networks.blocks import ParallelSum, Residual, path
from parti.networks.heads import assemble, head, stem
from parti.networks.operations import average_pool, conv_norm_act, max_pool, separable
from parti.spaces.stages import fitting, stages, stem_stride, widths

__all__ = ["branches"]


@space
def branches(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    width: int = 16,
    blocks: Sequence[int] = (1, 2, 3),
    paths: Sequence[int] = (1, 2, 3),
) -> nn.Sequential:
    """Build a network of parallel paths.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        width: the usual number of channels of the first stage.
        blocks: how many a stage may have.
        paths: how many a block may have, from 1 to 5.
    """
    parts: dict[str, nn.Module] = {"stem": stem(in_channels, width, stem_stride(resolution))}
    before = width
    for stage in stages(resolution):
        with scope(stage.name):
            channels = choose("width", widths(width, stage))
            body = repeat("blocks", partial(_block, channels, stage.size, paths), blocks)
        enter = conv_norm_act(before, channels, 3 if stage.stride > 1 else 1, stride=stage.stride)
        parts[stage.name] = nn.Sequential(OrderedDict(enter=enter, blocks=body))
        before = channels
    parts["head"] = head(before, classes)
    return assemble(parts)


def _block(channels: int, size: int, counts: Sequence[int], _number: int) -> nn.Module:
    """A block of parallel paths whose input is added to their sum."""
    inside = channels // choose("narrowing", (2, 4))

    def conv() -> nn.Module:
        kernel = choose("kernel", fitting((3, 5), size))
        return path(channels, inside, channels, conv_norm_act(inside, inside, kernel))

    def double_conv() -> nn.Module:
        middle = [conv_norm_act(inside, inside) for _ in range(2)]
        return path(channels, inside, channels, *middle)

    def pool() -> nn.Module:
        kind = one_of("kind", {"max": max_pool, "average": average_pool})
        return path(channels, inside, channels, kind)

    def separated() -> nn.Module:
        kernel = choose("kernel", fitting((3, 5, 7), size)[-2:])
        return path(channels, inside, channels, separable(inside, inside, kernel), nn.ReLU())

    chosen = some_of(
        "paths",
        {
            "point": lambda: path(channels, inside, channels),
            "conv": conv,
            "double_conv": double_conv,
            "separable": separated,
            "pool": pool,
        },
        k=counts,
    )
    body = OrderedDict(paths=ParallelSum(chosen), norm=nn.BatchNorm2d(channels))
    return Residual(nn.Sequential(body))
