"""How the resolution of images sets the strides and sizes of a network's stages.

Small images keep their size in the stem; large ones are divided by 2 or 4 there, where pixels
are redundant and computing is expensive. Every stage after the first halves the size, down to
some 4 to 8 pixels (2 for images of 8):

    resolution          8    16    28    32    64        96   128   224
    stem's stride       1     1     1     1     2         2     4     4
    sizes of stages   8 4 2  16 8 4  28 14 7  32 16 8  32 16 8  48 24 12 6  32 16 8  56 28 14 7
"""

from __future__ import annotations

from dataclasses import dataclass

from parti.core.errors import InvalidSettings

__all__ = ["Stage", "fitting", "stages", "stem_stride", "widths"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: where it stands, by how much it shrinks images, and their size in it.

    Args:
        number: from 1.
        stride: of its first block.
        size: height and width of the images after that.
    """

    number: int
    stride: int
    size: int

    @property
    def name(self) -> str:
        """What it is called in choices and networks."""
        return f"stage{self.number}"


def stem_stride(resolution: int) -> int:
    """By how much the stem divides height and width: 1, 2 or 4."""
    return 1 if resolution <= 40 else 2 if resolution <= 112 else 4


def stages(resolution: int) -> tuple[Stage, ...]:
    """Return the stages that suit a resolution.

    Args:
        resolution: height or width of the images in pixels, whichever is less.

    Raises:
        InvalidSettings: the resolution is not positive.
    """
    if resolution < 1:
        raise InvalidSettings(f"resolution {resolution}: images have at least 1 pixel")
    size = -(-resolution // stem_stride(resolution))
    count = 2 if size < 8 else 3 if size <= 40 else 4
    found = [Stage(1, 1, size)]
    for number in range(2, count + 1):
        size = -(-size // 2)
        found.append(Stage(number, 2, size))
    return tuple(found)


def widths(base: int, stage: Stage) -> tuple[int, ...]:
    """The widths offered in a stage: 1/2, 1, 1 1/2, 2 and 3 times its usual one.

    Args:
        base: the usual width of the first stage; it doubles from stage to stage. A multiple
            of 16 gives multiples of 8, which compute fastest.
        stage: the stage.

    Raises:
        InvalidSettings: the base is not an even number from 8 on.
    """
    if base < 8 or base % 2:
        raise InvalidSettings(f"width {base}: choose an even number from 8 on, best 16, 32, ...")
    half = base // 2 * 2 ** (stage.number - 1)
    return (half, 2 * half, 3 * half, 4 * half, 6 * half)


def fitting(kernels: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The kernels that see more than padding in images of a size: up to 2 × size - 1."""
    return tuple(kernel for kernel in kernels if kernel <= max(3, 2 * size - 1))
