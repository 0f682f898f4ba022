"""The size space of NATS-Bench (Dong et al., TPAMI 2021): how wide each layer is.

    X. Dong, L. Liu, K. Musial and B. Gabrys. NATS-Bench: Benchmarking NAS Algorithms for
    Architecture Topology and Size. IEEE TPAMI 44 (7), 2021.

    width1      of the stem and the cell of the first stage: 8, 16, ... or 64
    width2      of the residual block that halves the images
    width3      of the second stage's cell
    width4      of the second residual block
    width5      of the third stage's cell

Each stage has one cell, the same in all architectures: 3×3 convolutions on all edges but the one
from its input to its output, `|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|
nor_conv_3x3~1|nor_conv_3x3~2|`. That one is the identity, or where the cell changes the width a
1×1 convolution with batch normalization, as in the benchmark's code.

Size: 32,768 architectures, of 12 to 714 thousand parameters.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import partial

from torch import nn

from parti.core.architecture import Architecture, Option
from parti.core.elastic import computed, select
from parti.core.errors import InvalidArchitecture
from parti.core.program import space
from parti.core.words import choose
from parti.networks.nasbench201 import EdgeCell, stack_cells
from parti.networks.operations import act_conv_norm, conv_norm_act
from parti.spaces.stages import stem_stride

__all__ = ["CHOICES", "WIDTHS", "from_string", "nats_size", "to_string"]

CHOICES = ("width1", "width2", "width3", "width4", "width5")
"""Names of the choices, first layer first."""

WIDTHS = tuple(range(8, 65, 8))
"""The channels that a layer may have."""

_AS_TEXT = tuple(map(str, WIDTHS))


def to_string(architecture: Mapping[str, Option]) -> str:
    """Write widths as the benchmark does: `64:32:8:48:16`.

    Raises:
        InvalidArchitecture: a width is missing.
    """
    if missing := [name for name in CHOICES if name not in architecture]:
        raise InvalidArchitecture(f"the architecture lacks {missing}; it has {', '.join(CHOICES)}")
    return ":".join(str(architecture[name]) for name in CHOICES)


def from_string(text: str) -> Architecture:
    """Read what `to_string` wrote.

    Raises:
        InvalidArchitecture: the text is no member of this space.
    """
    widths = [int(part) for part in text.split(":") if part in _AS_TEXT]
    architecture = Architecture(dict(zip(CHOICES, widths, strict=False)))
    if len(widths) < len(CHOICES) or to_string(architecture) != text:
        raise InvalidArchitecture(
            f"{text!r} is no member of the size space of NATS-Bench; it is written "
            f"8:16:24:32:40, five of the widths {', '.join(_AS_TEXT)}"
        )
    return architecture


@space(dynamic=False)
def nats_size(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    widths: Sequence[int] = WIDTHS,
) -> nn.Sequential:
    """Build a network of cells.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        widths: the channels that a layer may have.
    """
    chosen = [choose(name, widths) for name in CHOICES]
    return stack_cells(_cell, chosen, in_channels, classes, stem_stride(resolution))


def _cell(in_channels: int, channels: int) -> EdgeCell:
    conv = partial(act_conv_norm, kernel=3)
    same = computed(operator.eq, in_channels, channels)
    project = partial(conv_norm_act, in_channels, channels, 1, act=None)
    return EdgeCell(
        {
            "0-1": conv(in_channels, channels),
            "0-2": conv(in_channels, channels),
            "1-2": conv(channels, channels),
            "0-3": select(same, {True: nn.Identity, False: project}),
            "1-3": conv(channels, channels),
            "2-3": conv(channels, channels),
        }
    )
