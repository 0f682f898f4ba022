"""Chains of layers whose blocks are decided one by one, as mobile networks are searched.

A plan says for each stage its channels, its number of layers and its stride at full resolution;
smaller images pass the first of the strides unhalved, so that 4 to 7 pixels are left at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from parti.core.architecture import Architecture, Option
from parti.core.errors import InvalidSettings

__all__ = ["SKIP", "Layer", "lay_out", "skips_last"]

SKIP = "skip"
"""What the option is called that leaves a layer out."""

MULTIPLE = 8
"""Channels are multiples of this."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer whose block is decided.

    Args:
        name: its choice: `stage2/layer1`.
        in_channels: of its input.
        channels: of its output.
        stride: by which it divides the images.
    """

    name: str
    in_channels: int
    channels: int
    stride: int

    @property
    def keeps(self) -> bool:
        """Whether what comes out has the shape of what came in."""
        return self.stride == 1 and self.in_channels == self.channels


def lay_out(
    plan: Sequence[tuple[int, int, int]],
    before: int,
    resolution: int,
    *,
    scale: float = 1.0,
    most: int = 4,
) -> tuple[int, list[Layer]]:
    """Return the stride of the stem, and the layers.

    Args:
        plan: for each stage its channels, layers and stride for images of 224 pixels, which the
            stem halves.
        before: channels of what enters the first layer; taken as it is.
        resolution: of the images in pixels.
        scale: by which the plan's channels are multiplied, then rounded to multiples of 8.
        most: layers of a stage; stages that have fewer in the plan keep theirs.

    Raises:
        InvalidSettings: there is no pixel, channel or layer.
    """
    if resolution < 1 or scale <= 0 or most < 1:
        raise InvalidSettings(
            f"resolution={resolution}, width scaled by {scale:g}, layers={most}: all must be more "
            "than 0"
        )
    strides = [2, *(stride for _, _, stride in plan)]
    superfluous = strides.count(2) - max(1, math.floor(math.log2(max(resolution, 4) / 4)))
    for place, stride in enumerate(strides):
        if stride == 2 and superfluous > 0:
            strides[place] = 1
            superfluous -= 1
    layers = []
    for stage, ((wanted, count, _), stride) in enumerate(
        zip(plan, strides[1:], strict=True), start=1
    ):
        channels = max(MULTIPLE, round(wanted * scale / MULTIPLE) * MULTIPLE)
        for number in range(1, min(count, most) + 1):
            first = number == 1
            layers.append(
                Layer(f"stage{stage}/layer{number}", before, channels, stride if first else 1)
            )
            before = channels
    return strides[0], layers


def skips_last(architecture: Architecture) -> Architecture:
    """Return the one architecture that stands for all that compute the same functions.

    After its first, layers of a stage do not change the shape: which of them is left out makes no
    difference.
    """
    stages: dict[str, list[str]] = {}
    for name in architecture:
        stages.setdefault(name.partition("/")[0], []).append(name)
    decisions: dict[str, Option] = {}
    for first, *later in stages.values():
        # Sorting is stable: the others keep their order.
        options = sorted((architecture[name] for name in later), key=lambda option: option == SKIP)
        decisions.update({first: architecture[first], **dict(zip(later, options, strict=True))})
    return Architecture(decisions)
