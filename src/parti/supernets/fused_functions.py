"""Functions of torch, with gradients of their own, that run the kernels in `fused_kernels`.

Images are float32, channels-last. Second derivatives do not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from parti.supernets.fused_library import addresses, call, packed, row_addresses, sizes, table
from parti.supernets.fused_parts import Term

__all__ = ["Branches", "Mix", "Normalization", "Pools", "Separables", "moments_of"]


@dataclass(frozen=True, eq=False)
class Normalization:
    """By what several images are normalized; each tensor has a row for each of them.

    Args:
        means: (terms, channels).
        roots: one over the standard deviation, (terms, channels); 1 without a norm.
        by_batch: (terms, 1), 1 where means and deviations are the batch's own, else 0.
        scales: what comes out is multiplied by, (terms, channels); None for 1.
        shifts: what is added then; None for 0.
    """

    means: Tensor
    roots: Tensor
    by_batch: Tensor
    scales: Tensor | None
    shifts: Tensor | None

    @staticmethod
    def of(terms: Sequence[Term]) -> Normalization:
        """Say how terms are normalized; those without a norm pass unchanged."""
        values = terms[0].values
        nothing = values.new_zeros(values.shape[1])
        one = nothing + 1.0
        none = torch.stack([nothing, one])
        moments = torch.stack([none if term.moments is None else term.moments for term in terms])
        eps = [term.norm.eps if term.norm else 0.0 for term in terms]
        by_batch = [float(term.norm is not None and term.norm.by_batch) for term in terms]
        scales = [term.norm.scale if term.norm else None for term in terms]
        shifts = [term.norm.shift if term.norm else None for term in terms]
        return Normalization(
            moments[:, 0].contiguous(),
            (moments[:, 1] + values.new_tensor(eps).unsqueeze(1)).rsqrt(),
            values.new_tensor(by_batch).unsqueeze(1),
            _rows(scales, one),
            _rows(shifts, nothing),
        )

    def backward(
        self,
        images: Sequence[Tensor],
        factors: Tensor,
        gradients: Sequence[Tensor],
        into: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Find the gradients of images from those of (images - means) * factors.

        Args:
            images: one for each row.
            factors: scales times roots.
            gradients: one for each image.
            into: where to leave those of the images; may be the gradients themselves.

        Returns:
            The gradients of scales and shifts.
        """
        channels = images[0].shape[1]
        pixels = images[0].numel() // channels
        products, totals = torch.empty_like(factors), torch.empty_like(factors)
        slopes, levels = torch.empty_like(factors), torch.empty_like(factors)
        columns = (
            addresses(images),
            row_addresses(self.means),
            row_addresses(factors),
            addresses(gradients),
            row_addresses(products),
            row_addresses(totals),
            row_addresses(slopes),
            row_addresses(levels),
            addresses(into),
        )
        call("mix_products", table(columns), len(images), pixels, channels)
        share = factors * (self.by_batch / -pixels)
        torch.mul(share, totals, out=levels)
        torch.mul(share, products * self.roots**2, out=slopes)
        call("mix_backward", table(columns), len(images), pixels, channels)
        return products * self.roots, totals


class Mix(Function):
    """Sum over rows of (x - mean) * root * scale."""

    @staticmethod
    def forward(ctx: Any, by: Normalization, scales: Tensor, *images: Tensor) -> Tensor:
        """Map images, and scales (rows, channels), to their sum."""
        factors = scales * by.roots
        ctx.save_for_backward(factors, *images)
        ctx.by = by
        mixed = torch.empty_like(images[0])
        rows = len(images)
        columns = (
            addresses(images),
            row_addresses(by.means),
            row_addresses(factors),
            *[(0,) * rows] * 6,
        )
        channels = mixed.shape[1]
        pixels = mixed.numel() // channels
        call("mix", table(columns), rows, pixels, channels, mixed.data_ptr())
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the scales and of the images."""
        factors, *images = ctx.saved_tensors
        into = [torch.empty_like(image) for image in images]
        gradients = [packed(gradient)] * len(images)
        of_scales, _ = ctx.by.backward(images, factors, gradients, into)
        return None, of_scales, *into


@dataclass(frozen=True)
class Branches:
    """Separable convolutions that run in one call.

    Args:
        geometry: kernel, stride, dilation of each; the stride is the same.
        shared: whether all of them have one input.
    """

    geometry: tuple[tuple[int, int, int], ...]
    shared: bool

    @property
    def stride(self) -> int:
        """By what height and width are divided."""
        return self.geometry[0][1]


class Separables(Function):
    """Normalization where there is one, ReLU, depthwise and pointwise convolution, in branches.

    Gives (branches, 2, channels), mean and variance of what each gives, then what each gives.
    """

    @staticmethod
    def forward(
        ctx: Any,
        branches: Branches,
        by: Normalization | None,
        scales: Tensor | None,
        shifts: Tensor | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        """Map one image, or one for each branch, with all depthwise, then all pointwise weights.

        Normalizations are done by `by`; their scales and shifts are given for their gradients.
        """
        count = len(branches.geometry)
        x = tensors[0]
        outs = [_empty(x, branches.stride) for _ in range(count)]
        moments = x.new_empty(count, 2, x.shape[1])
        ctx.branches, ctx.by, ctx.affine = branches, by, (scales is not None, shifts is not None)
        if by is not None:
            factors = by.roots if scales is None else by.roots * scales
            offsets = -by.means * factors if shifts is None else shifts - by.means * factors
            tensors = (factors, offsets, *tensors)
        ctx.save_for_backward(*tensors)
        columns = (
            *_inputs(branches, tensors),
            addresses(outs),
            row_addresses(moments[:, 0]),
            row_addresses(moments[:, 1]),
            *[(0,) * count] * 4,
        )
        call("separable_forward", table(columns), count, sizes(x, branches.stride))
        ctx.mark_non_differentiable(moments)
        return moments, *outs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of what forward was given; of weights only when one needs it."""
        branches, by, tensors = ctx.branches, ctx.by, ctx.saved_tensors
        count = len(branches.geometry)
        weights = tensors[-2 * count :]
        images = tensors[2 if by else 0 : -2 * count]
        into = [torch.empty_like(image) for image in images]
        given = [packed(gradient) for gradient in gradients]
        # The last 2 * count of what forward was given are the weights.
        wanted = any(ctx.needs_input_grad[-2 * count :])
        of_weights = [torch.empty_like(weight) for weight in weights] if wanted else []
        nowhere = (0,) * count
        columns = (
            *_inputs(branches, tensors),
            nowhere,
            nowhere,
            nowhere,
            addresses(given),
            addresses(into) * (count if branches.shared else 1),
            addresses(of_weights[:count]) if wanted else nowhere,
            addresses(of_weights[count:]) if wanted else nowhere,
        )
        call("separable_backward", table(columns), count, sizes(images[0], branches.stride))
        of_scales = of_shifts = None
        if by is not None:
            of_scales, of_shifts = by.backward(images, tensors[0], into, into)
        scaled, shifted = ctx.affine
        return (
            None,
            None,
            of_scales if scaled else None,
            of_shifts if shifted else None,
            *into,
            *(of_weights or [None] * 2 * count),
        )


class Pools(Function):
    """Max and average pooling over 3×3 pixels; an empty tensor for what is not wanted."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, stride: int, largest: bool, mean: bool
    ) -> tuple[Tensor, Tensor]:
        """Map images to their pooled ones."""
        peaks = _empty(x, stride) if largest else x.new_empty(0)
        places = torch.empty_like(peaks, dtype=torch.uint8)
        means = _empty(x, stride) if mean else x.new_empty(0)
        call("pool", x.data_ptr(), sizes(x, stride), *addresses((peaks, places, means)))
        ctx.save_for_backward(places)
        ctx.shape, ctx.stride, ctx.wanted = x.shape, stride, (largest, mean)
        return peaks, means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_peaks: Tensor, of_means: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the images."""
        (places,) = ctx.saved_tensors
        dtype = of_peaks.dtype
        of_x = torch.empty(ctx.shape, dtype=dtype, memory_format=torch.channels_last)
        peaks, means = (
            packed(gradient) if wanted else gradient.new_empty(0)
            for gradient, wanted in zip((of_peaks, of_means), ctx.wanted, strict=True)
        )
        given = addresses((peaks, places, means, of_x))
        call("pool_backward", sizes(of_x, ctx.stride), *given)
        return of_x, None, None, None


def _inputs(branches: Branches, tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    """The columns of a table of branches up to the dilation."""
    count = len(branches.geometry)
    kernels, _, dilations = zip(*branches.geometry, strict=True)
    images = tensors[: -2 * count]
    affine = [(0,) * count] * 2
    if not branches.shared:
        affine = [row_addresses(rows) for rows in images[:2]]
        images = images[2:]
    weights = tensors[-2 * count :]
    return [
        addresses(images) * (count if branches.shared else 1),
        *affine,
        addresses(weights[:count]),
        addresses(weights[count:]),
        kernels,
        dilations,
    ]


def moments_of(x: Tensor) -> Tensor:
    """Mean and variance of each channel, (2, channels)."""
    found = x.new_empty(2, x.shape[1])
    call("moments", x.data_ptr(), sizes(x, 1), *row_addresses(found))
    return found


def _empty(x: Tensor, stride: int) -> Tensor:
    """Memory for images of the size that a stride leaves."""
    n, c, h, w = x.shape
    shape = (n, c, -(-h // stride), -(-w // stride))
    return torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)


def _rows(parts: Sequence[Tensor | None], otherwise: Tensor) -> Tensor | None:
    """One row for each part, or None where there is none."""
    if all(part is None for part in parts):
        return None
    return torch.stack([otherwise if part is None else part for part in parts])
