"""Layers that train more quickly on a CPU than torch's own, and compute the same but for rounding.

A network has them while it trains, and torch's own before and after: so what is measured, exported
and saved knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from parti.evaluators.machine import Machine
from parti.networks.operations import FactorizedReduce
from parti.supernets.depthwise import KERNELS, convolve
from parti.supernets.fused_cells import decided
from parti.supernets.fused_parts import Halving, part_of
from parti.supernets.fused_torch import halvings

__all__ = ["quickened"]


class _Depthwise(nn.Conv2d):
    """A depthwise convolution by the kernels of `parti.supernets.depthwise`, where they can."""

    def _conv_forward(self, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        settings = (self.stride, self.padding, self.dilation, self.groups)
        return convolve(images, weight, bias, *settings)


class _Reduction(FactorizedReduce):
    """A factorized reduction as one convolution over 2×2 pixels.

    Torch writes whole images of zeros for the gradient of an image that is moved by a pixel.
    """

    def forward(self, images: Tensor) -> Tensor:
        part = part_of(self) if torch.is_grad_enabled() else None
        if not isinstance(part, Halving):  # or somebody listens to its layers
            return super().forward(images)
        (halved,) = halvings(images, [part])
        normalized: Tensor = self.norm(halved.values)
        return normalized


class _GlobalPool(nn.AdaptiveAvgPool2d):
    """The mean of each channel, whose gradient is written nowhere before it is used.

    Torch writes it, in the default order of memory, so that whatever adds it to a gradient that is
    channels-last goes through memory in leaps.
    """

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4:
            return super().forward(images)
        pooled: Tensor = _Mean.apply(images)  # type: ignore[no-untyped-call]
        return pooled


class _Mean(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.shape = images.shape
        return F.adaptive_avg_pool2d(images, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        pixels: int = ctx.shape[2:].numel()
        return (gradient / pixels).expand(ctx.shape)


def _quick(module: nn.Module) -> type[nn.Module] | None:
    """What a layer may be while it trains; None for what it is."""
    if type(module) is nn.Conv2d:
        deep = module.groups == module.in_channels == module.out_channels > 1
        plain = module.padding_mode == "zeros"
        return _Depthwise if deep and plain and module.kernel_size[0] in KERNELS else None
    if type(module) is FactorizedReduce:
        return _Reduction
    if type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1)):
        return _GlobalPool
    return None


@contextmanager
def quickened(network: nn.Module, machine: Machine) -> Iterator[None]:
    """Let layers and cells of a network be quicker ones; weights and names stay.

    Hooks that modules have when it begins are called, forwards and backwards. Not called are those
    that operations in cells of DARTS get within, and torch's hooks for all modules (as by
    `register_module_forward_hook`) for what is inside of cells and of factorized reductions.

    A cell whose instance has a `forward` of its own keeps it, as those that `fuse` changed; and a
    network that is quickened already may be so once more within.

    Args:
        network: trains within.
        machine: nothing changes where it is no CPU, or compiles.
    """
    if machine.device.type != "cpu" or machine.compile:
        yield
        return
    # Cells first: they recognize their operations by the layers that these have before.
    cells = [
        (module, forward)
        for module in network.modules()
        if "forward" not in module.__dict__ and (forward := decided(module))
    ]
    layers = [
        (module, type(module), after) for module in network.modules() if (after := _quick(module))
    ]
    try:
        for layer, _, after in layers:
            layer.__class__ = after
        for cell, forward in cells:
            cell.__dict__["forward"] = forward  # hides the method of its class
        yield
    finally:
        for layer, before, _ in layers:
            layer.__class__ = before
        for cell, forward in cells:
            if cell.__dict__.get("forward") is forward:
                del cell.__dict__["forward"]
