"""Common corruptions of images, each in five severities.

D. Hendrycks and T. Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019. The strengths are those of the authors' code for CIFAR-10-C (32 pixels)
and ImageNet-C (224 pixels). Between the two sizes they are interpolated on a logarithmic scale of
the shorter side; smaller images get those of 32 pixels, larger ones those of 224.

Departures: rotation is not among the authors' corruptions, its angles are our own; motion blur
spreads its samples over neighbouring pixels instead of rounding; what lies beyond the edge repeats
the edge; bytes are rounded, not cut; brightness of other than three channels is added to all of
them; JPEG stores other than three channels one by one. Fog, frost, snow, glass, zoom and elastic
blur are left out: they need pictures or many shufflings.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from parti.core.errors import InvalidData, InvalidSettings
from parti.evaluators.feed import as_tensor
from parti.evaluators.machine import derive

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt", "strength"]

SEVERITIES = (1, 2, 3, 4, 5)

SMALL, LARGE = 32, 224
"""Sides in pixels for which the authors give strengths."""

AT_ONCE = 64
"""So many images are corrupted together."""

_Row = tuple[tuple[float, ...], ...]

_STRENGTHS: dict[str, tuple[_Row, _Row]] = {
    # standard deviation, of the range of values
    "gaussian_noise": (
        ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
        ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    ),
    # photons at the brightest value
    "shot_noise": (
        ((500,), (250,), (100,), (75,), (50,)),
        ((60,), (25,), (12,), (5,), (3,)),
    ),
    # share of values that turn black or white
    "impulse_noise": (
        ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
        ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    ),
    # standard deviation in pixels
    "gaussian_blur": (
        ((0.4,), (0.6,), (0.7,), (0.8,), (1.0,)),
        ((1.0,), (2.0,), (3.0,), (4.0,), (6.0,)),
    ),
    # radius of the disk, and standard deviation of the blur of its edge, in pixels
    "defocus_blur": (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
        ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
    ),
    # length, and standard deviation, in pixels
    "motion_blur": (
        ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
        ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
    ),
    # share of the contrast that is left
    "contrast": (
        ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
        ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    ),
    # added to the value (of hue, saturation, value)
    "brightness": (
        ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
        ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    ),
    # JPEG quality
    "jpeg": (
        ((80,), (65,), (58,), (50,), (40,)),
        ((25,), (18,), (15,), (10,), (7,)),
    ),
    # share of the side that is left in pixels
    "pixelate": (
        ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
        ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    ),
    # degrees, to either side
    "rotation": (((6,), (12,), (18,), (24,), (30,)), ((6,), (12,), (18,), (24,), (30,))),
}

CORRUPTIONS = tuple(_STRENGTHS)
"""The names of all corruptions."""


def strength(kind: str, severity: int, side: int) -> tuple[float, ...]:
    """Return the parameters of a corruption.

    Args:
        kind: one of `CORRUPTIONS`.
        severity: 1 to 5.
        side: the shorter side of the images, in pixels.

    Raises:
        InvalidSettings: there is no such corruption or severity.
    """
    if kind not in _STRENGTHS or severity not in SEVERITIES:
        raise InvalidSettings(
            f"corruption {kind!r} of severity {severity!r}: there are {', '.join(CORRUPTIONS)}, "
            "in severities 1 to 5"
        )
    part = min(1.0, max(0.0, math.log(side / SMALL) / math.log(LARGE / SMALL)))
    small, large = (row[severity - 1] for row in _STRENGTHS[kind])
    return tuple(a ** (1 - part) * b**part for a, b in zip(small, large, strict=True))


def corrupt(
    images: np.ndarray[Any, Any],
    kind: str,
    severity: int,
    *,
    value_range: Sequence[float] = (0.0, 255.0),
    seed: int = 0,
) -> np.ndarray[Any, Any]:
    """Return corrupted copies of images; the same arguments give the same copies.

    Args:
        images: (n, height, width, channels), uint8 or float32, of any size.
        kind: one of `CORRUPTIONS`.
        severity: 1, hardly seen, to 5.
        value_range: smallest and largest value of a pixel; values beyond are cut off.
        seed: of the noise, the directions and the angles.

    Returns:
        An array of the same shape and type.

    Raises:
        InvalidSettings: there is no such corruption or severity, or the range is empty.
        InvalidData: the images have no such shape.
    """
    if images.ndim != 4 or not images.size:
        raise InvalidData(
            f"images of shape {images.shape}: (n, height, width, channels) with at least one "
            "image is needed"
        )
    low, high = map(float, value_range)
    if not low < high:
        raise InvalidSettings(f"value_range={tuple(value_range)}: the second must be the larger")
    given = strength(kind, severity, min(images.shape[1:3]))
    generator = torch.Generator().manual_seed(derive(seed, "corrupt", kind, severity))
    corrupted = np.empty_like(images, subok=False)
    for start in range(0, len(images), AT_ONCE):
        part = as_tensor(np.ascontiguousarray(images[start : start + AT_ONCE]))
        unit = ((part.permute(0, 3, 1, 2).float() - low) / (high - low)).clamp(0, 1)
        changed = _FUNCTIONS[kind](unit.contiguous(), generator, *given).clamp(0, 1)
        raw = (low + changed * (high - low)).permute(0, 2, 3, 1)
        if images.dtype == np.uint8:
            raw = raw.round()
        corrupted[start : start + AT_ONCE] = raw.numpy().astype(images.dtype)
    return corrupted


# Each takes images (b, channels, height, width) from 0 to 1, and returns them of the same shape.


def _gaussian_noise(images: Tensor, generator: torch.Generator, std: float) -> Tensor:
    return images + std * torch.randn(images.shape, generator=generator)


def _shot_noise(images: Tensor, generator: torch.Generator, photons: float) -> Tensor:
    return torch.poisson(images * photons, generator) / photons


def _impulse_noise(images: Tensor, generator: torch.Generator, share: float) -> Tensor:
    hit = torch.rand(images.shape, generator=generator) < share
    white = torch.rand(images.shape, generator=generator) < 0.5
    return torch.where(hit, white.float(), images)


def _gaussian_blur(images: Tensor, generator: torch.Generator, std: float) -> Tensor:
    line = _bell(math.ceil(4 * std), std)
    return _filtered(images, line[:, None] * line)


def _defocus_blur(images: Tensor, generator: torch.Generator, radius: float, edge: float) -> Tensor:
    margin = math.ceil(4 * edge)
    place = torch.arange(-math.ceil(radius) - margin, math.ceil(radius) + margin + 1)
    disk = (place[:, None] ** 2 + place**2 <= radius**2).float()
    line = _bell(margin, edge)
    soft = F.conv2d(disk[None, None], (line[:, None] * line)[None, None], padding="same")[0, 0]
    return _filtered(images, soft / soft.sum())


def _motion_blur(images: Tensor, generator: torch.Generator, length: float, std: float) -> Tensor:
    """Each image moves to one side, along a direction within 45 degrees of the horizontal."""
    steps = torch.arange(round(2 * length + 1)).float()
    weights = torch.exp(-(steps**2) / (2 * std**2))
    weights = weights / weights.sum()
    # Where there is no weight to speak of, there is no need for a kernel.
    steps, weights = steps[weights > 1e-4], weights[weights > 1e-4]
    angles = (torch.rand(len(images), generator=generator) - 0.5) * (math.pi / 2)
    reach = int(steps.max()) + 1
    side = 2 * reach + 1
    kernels = torch.zeros(len(images), side**2)
    for step, weight in zip(steps, weights, strict=True):
        x, y = reach + step * angles.cos(), reach + step * angles.sin()
        for column in (x.floor(), x.floor() + 1):
            for row in (y.floor(), y.floor() + 1):
                part = weight * (1 - (x - column).abs()) * (1 - (y - row).abs())
                place = (row * side + column).long()
                kernels.scatter_add_(1, place[:, None], part[:, None])
    kernels = kernels / kernels.sum(1, keepdim=True)
    return _filtered(images, kernels.view(-1, 1, side, side))


def _contrast(images: Tensor, generator: torch.Generator, share: float) -> Tensor:
    middle = images.mean((2, 3), keepdim=True)
    return (images - middle) * share + middle


def _brightness(images: Tensor, generator: torch.Generator, more: float) -> Tensor:
    if images.shape[1] != 3:
        return images + more
    value = images.amax(1, keepdim=True)
    brighter = (value + more).clamp(max=1)
    # Hue and saturation stay where all channels grow by one factor; black has neither.
    return torch.where(value > 0, images * (brighter / value.clamp(min=1e-12)), brighter)


def _jpeg(images: Tensor, generator: torch.Generator, quality: float) -> Tensor:
    from PIL import Image

    channels = images.shape[1]
    together = channels if channels in (1, 3) else 1
    pixels = (255 * images).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    compressed = np.empty_like(pixels)
    for number, image in enumerate(pixels):
        for start in range(0, channels, together):
            part = image[..., start : start + together]
            file = io.BytesIO()
            whole = np.ascontiguousarray(part.squeeze(-1) if together == 1 else part)
            Image.fromarray(whole).save(file, "JPEG", quality=round(quality))
            read = np.asarray(Image.open(file)).reshape(part.shape)
            compressed[number, ..., start : start + together] = read
    return torch.from_numpy(compressed).permute(0, 3, 1, 2).float() / 255


def _pixelate(images: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Average over fewer, larger pixels."""
    rows, columns = (_coarser(size, share) for size in images.shape[2:])
    return rows @ images @ columns.T


def _rotation(images: Tensor, generator: torch.Generator, degrees: float) -> Tensor:
    sides = torch.randint(0, 2, (len(images),), generator=generator) * 2 - 1
    angles = sides * math.radians(degrees)
    height, width = images.shape[2:]
    ratio = height / width
    cos, sin, none = angles.cos(), angles.sin(), torch.zeros(len(images))
    turn = torch.stack([cos, -sin * ratio, none, sin / ratio, cos, none], 1).view(-1, 2, 3)
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "gaussian_blur": _gaussian_blur,
    "defocus_blur": _defocus_blur,
    "motion_blur": _motion_blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "jpeg": _jpeg,
    "pixelate": _pixelate,
    "rotation": _rotation,
}


def _bell(reach: int, std: float) -> Tensor:
    """A Gaussian of 2 * reach + 1 weights that sum to 1."""
    place = torch.arange(-reach, reach + 1).float()
    weights = torch.exp(-(place**2) / (2 * std**2))
    return weights / weights.sum()


def _filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """Images through one kernel (k, k), or through one for each (b, 1, k, k); edges are repeated.

    By Fourier transform: blurs of large images reach 40 pixels.
    """
    height, width = images.shape[2:]
    wide = F.pad(images, (kernels.shape[-1] // 2,) * 4, mode="replicate")
    size = wide.shape[2:]
    product = torch.fft.rfft2(wide) * torch.fft.rfft2(kernels, size).conj()
    filtered: Tensor = torch.fft.irfft2(product, size)
    return filtered[..., :height, :width]


def _coarser(size: int, share: float) -> Tensor:
    """A matrix (size, size): each pixel becomes the mean of those whose centres share its box."""
    boxes = max(1, int(size * share))
    box = ((torch.arange(size) + 0.5) * boxes / size).long()
    alike = (box[:, None] == box).float()
    return alike / alike.sum(1, keepdim=True)
