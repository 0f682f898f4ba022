"""Augmentation of whole batches, as a few tensor operations on the device that trains."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from parti.evaluators.recipe import Recipe

__all__ = ["Draws", "cut_out", "draw", "mix", "shift"]


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of some images, one entry per image.

    Args:
        down: rows to shift down, from -crop to crop; None when nothing is shifted.
        right: columns to shift right; None when nothing is shifted.
        mirrored: whether the image is mirrored; None when none is.
        cut_top: first row of the square that is cut out; None when nothing is cut out.
        cut_left: first column of that square.
    """

    down: Tensor | None = None
    right: Tensor | None = None
    mirrored: Tensor | None = None
    cut_top: Tensor | None = None
    cut_left: Tensor | None = None

    def part(self, start: int, stop: int) -> Draws:
        """The random numbers of the images from start up to stop."""
        every = (getattr(self, field.name) for field in fields(self))
        return Draws(*(None if one is None else one[start:stop] for one in every))


def draw(recipe: Recipe, count: int, height: int, width: int, generator: torch.Generator) -> Draws:
    """Draw the random numbers of a whole epoch at once.

    Args:
        recipe: which augmentations are on, and how strong they are.
        count: images in the epoch.
        height: of an image, in pixels.
        width: of an image, in pixels.
        generator: its device is where the numbers lie.
    """

    def whole(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (count,), generator=generator, device=generator.device)

    down = whole(-recipe.crop, recipe.crop) if recipe.crop else None
    right = whole(-recipe.crop, recipe.crop) if recipe.crop else None
    mirrored = whole(0, 1).bool() if recipe.flip else None
    if not recipe.cutout:
        return Draws(down, right, mirrored)
    top = whole(0, max(0, height - recipe.cutout))
    return Draws(down, right, mirrored, top, whole(0, max(0, width - recipe.cutout)))


def shift(images: Tensor, picks: Tensor, draws: Draws) -> Tensor:
    """Take some images, each shifted and mirrored by its own draws; edges are repeated.

    Args:
        images: [n, height, width, channels] of any type.
        picks: [b] numbers of the images to take.
        draws: of b images.

    Returns:
        [b, height, width, channels], a copy.
    """
    if draws.down is None and draws.mirrored is None:
        return images.index_select(0, picks)
    height, width, channels = images.shape[1:]
    rows = torch.arange(height, device=images.device)[None, :]
    columns = torch.arange(width, device=images.device)[None, :]
    if draws.mirrored is not None:
        columns = torch.where(draws.mirrored[:, None], width - 1 - columns, columns)
    if draws.down is not None and draws.right is not None:
        rows = (rows - draws.down[:, None]).clamp_(0, height - 1)
        columns = (columns - draws.right[:, None]).clamp_(0, width - 1)
    # One index per pixel, and one copy of all its channels: 4 times quicker than three indices.
    pixels = ((picks[:, None] * height + rows) * width)[:, :, None] + columns[:, None, :]
    taken = images.reshape(-1, channels).index_select(0, pixels.flatten())
    return taken.view(len(picks), height, width, channels)


def cut_out(images: Tensor, side: int, draws: Draws) -> Tensor:
    """Set a square to 0, which is the mean colour of normalised images.

    DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout"
    (2017), except that the square lies wholly inside the image.

    Args:
        images: [b, channels, height, width], normalised; changed in place.
        side: of the square, in pixels.
        draws: of b images.

    Returns:
        The same images.
    """
    if draws.cut_top is None or draws.cut_left is None:
        return images
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device)[None, :] - draws.cut_top[:, None]
    columns = torch.arange(width, device=images.device)[None, :] - draws.cut_left[:, None]
    inside_rows = (rows >= 0) & (rows < side)
    inside_columns = (columns >= 0) & (columns < side)
    return images.masked_fill_((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 0)


def mix(images: Tensor, share: float) -> Tensor:
    """Mix every image with its neighbour in the batch.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018), with one share per batch.
    The batch is in random order, so the neighbour is a random partner.

    Args:
        images: [b, ...].
        share: of the image itself, 0 to 1; the rest is the neighbour's.

    Returns:
        [b, ...]; the partner of image i is image i - 1 (`roll(1)` along the batch).
    """
    return torch.lerp(images.roll(1, 0), images, share)
