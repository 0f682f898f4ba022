"""Depthwise convolutions of 5x5 and 7x7, by kernels of our own where there are any.

On a CPU torch takes two to four times as long for one, forwards and backwards, as these kernels;
of 3x3 it is the quicker (`benchmarks.bench_depthwise` compares).
"""

from __future__ import annotations

from array import array
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from parti.supernets.fused_library import STRIDES, call, packed, sizes, suits

__all__ = ["KERNELS", "convolve"]

KERNELS = (5, 7)
"""Sides for which there are kernels."""

Pair = int | tuple[int, ...]


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve images, as `torch.nn.functional.conv2d` does.

    While gradients are recorded on a CPU, depthwise convolutions that keep the size of the images,
    or halve it, run by kernels of our own, which have no second derivatives.

    Args:
        x: (batch, channels, h, w).
        weight: (channels out, channels of a group, kernel, kernel).
        bias: (channels out).
        stride: of both dimensions.
        padding: zeros around the images.
        dilation: of both dimensions.
        groups: as many as channels in a depthwise convolution.
    """
    step, distance = _both(stride), _both(dilation)
    side = weight.shape[-1]
    if (
        groups != x.shape[1]
        or tuple(weight.shape) != (groups, 1, side, side)
        or side not in KERNELS
        or step not in STRIDES
        or distance is None
        or (padding != "same" and _both(padding) != side // 2 * distance)
        or (padding == "same" and step != 1)
        or not torch.is_grad_enabled()
        or not suits(x)
        or weight.dtype != x.dtype
    ):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    out: Tensor = Depthwise.apply(x, weight, step, distance)  # type: ignore[no-untyped-call]
    return out if bias is None else out + bias.view(1, -1, 1, 1)


class Depthwise(Function):
    """A depthwise convolution around which there are zeros, without bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        """Map (batch, channels, h, w) to the same size, divided by the stride and rounded up."""
        x, weight = packed(x), weight.contiguous()
        n, c, h, w = x.shape
        shape = (n, c, -(-h // stride), -(-w // stride))
        out = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        call("depthwise_forward", _row(x, weight, out=out, dilation=dilation), sizes(x, stride))
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of images and weights."""
        x, weight = ctx.saved_tensors
        of_x, of_weight = (
            torch.empty_like(each) if wanted else None
            for each, wanted in zip((x, weight), ctx.needs_input_grad, strict=False)
        )
        gradient = packed(gradient)
        row = _row(
            x, weight, gradient=gradient, of_x=of_x, of_weight=of_weight, dilation=ctx.dilation
        )
        call("depthwise_backward", row, sizes(x, ctx.stride))
        return of_x, of_weight, None, None


def _row(
    x: Tensor,
    weight: Tensor,
    *,
    out: Tensor | None = None,
    gradient: Tensor | None = None,
    of_x: Tensor | None = None,
    of_weight: Tensor | None = None,
    dilation: int,
) -> array[int]:
    """What kernels know of one convolution; 0 is the address of nothing."""
    tensors = (x, weight, out, gradient, of_x, of_weight)
    places = (0 if tensor is None else tensor.data_ptr() for tensor in tensors)
    return array("q", [*places, weight.shape[-1], dilation])


def _both(value: Pair | str) -> int | None:
    """A number that holds for both dimensions; None where it does not."""
    if isinstance(value, int):
        return value
    return value[0] if not isinstance(value, str) and len(set(value)) == 1 else None
