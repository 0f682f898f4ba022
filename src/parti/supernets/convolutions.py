"""Elastic convolutions: in their channels, kernel, stride, dilation, groups and bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from parti.core.elastic import Elastic, computed, possible
from parti.core.errors import SpaceError
from parti.supernets.cutting import Layer, cut
from parti.supernets.depthwise import convolve

__all__ = ["ElasticConv1d", "ElasticConv2d", "ElasticConvTranspose2d"]


class _Convolution(Layer):
    """Of any number of dimensions.

    Groups are a fixed number, or one for so many channels that come in, as in a depthwise
    convolution.
    """

    takes = frozenset(
        (
            "in_channels",
            "out_channels",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "groups",
            "bias",
            "output_padding",
        )
    )
    dimensions: ClassVar[int]
    bias: Any

    @classmethod
    def built(cls, given: dict[str, Any]) -> dict[str, Any]:
        _check_groups(given)
        return super().built(given)

    def cut_to(self, name: str, shape: tuple[int, ...]) -> Tensor:
        groups = self.elastic["groups"]
        parts = groups if isinstance(groups, int) else 1
        centred = self.dimensions if name == "weight" else 0
        return cut(getattr(self, name), shape, centred=centred, parts=parts)

    def each(self, name: str) -> tuple[int, ...]:
        """An argument under the active decisions, for each dimension of images."""
        value = self.now(name)
        return value if isinstance(value, tuple) else (value,) * self.dimensions

    def active_bias(self) -> Tensor | None:
        """The bias, where there is one."""
        if self.bias is None or not self.now("bias"):
            return None
        return self.cut_to("bias", (self.now("out_channels"),))


class _Forward(_Convolution):
    """A convolution; any padding."""

    function: ClassVar[Callable[..., Tensor]]
    padding_mode: Any

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the active part of the weights."""
        channels, groups = self.now("out_channels"), self.now("groups")
        inputs = x.shape[-1 - self.dimensions]
        weight = self.cut_to("weight", (channels, inputs // groups, *self.each("kernel_size")))
        padding = self.now("padding")
        if self.padding_mode != "zeros":
            x = F.pad(x, self._around(), self.padding_mode)
            padding = 0
        stride, dilation = self.now("stride"), self.now("dilation")
        bias = self.active_bias()
        return type(self).function(x, weight, bias, stride, padding, dilation, groups)

    def _around(self) -> list[int]:
        """Padding before and after, the last dimension first."""
        if self.elastic["padding"] != "same":
            sizes = (
                (0,) * self.dimensions if self.now("padding") == "valid" else self.each("padding")
            )
            return [side for size in reversed(sizes) for side in (size, size)]
        pairs = zip(self.each("dilation"), self.each("kernel_size"), strict=True)
        totals = [dilation * (kernel - 1) for dilation, kernel in pairs]
        return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]


class ElasticConv1d(_Forward, nn.Conv1d):
    """A convolution of sequences."""

    dimensions = 1
    function = staticmethod(F.conv1d)


class ElasticConv2d(_Forward, nn.Conv2d):
    """A convolution of images."""

    dimensions = 2
    function = staticmethod(convolve)


class ElasticConvTranspose2d(_Convolution, nn.ConvTranspose2d):
    """A transposed convolution of images."""

    dimensions = 2

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve with the active part of the weights."""
        channels, groups = self.now("out_channels"), self.now("groups")
        kernel, stride, padding, dilation = (
            self.each(name) for name in ("kernel_size", "stride", "padding", "dilation")
        )
        weight = self.cut_to("weight", (x.shape[-3], channels // groups, *kernel))
        extra = self.now("output_padding")
        if output_size is not None:
            extra = self._output_padding(
                x, output_size, list(stride), list(padding), list(kernel), 2, list(dilation)
            )
        bias = self.active_bias()
        return F.conv_transpose2d(x, weight, bias, stride, padding, extra, groups, dilation)


def _check_groups(given: dict[str, Any]) -> None:
    inputs, outputs, groups = (given[name] for name in ("in_channels", "out_channels", "groups"))
    if isinstance(groups, Elastic):
        shares = possible(computed(lambda channels, count: channels / count, inputs, groups))
        if len(shares) > 1:
            raise SpaceError(
                f"a convolution has {groups!r} groups, but {inputs!r} channels come in, so that "
                f"a group has {', '.join(f'{share:g}' for share in sorted(shares))} of them: in a "
                "supernet, groups are a fixed number, or one for a fixed number of channels"
            )
    elif groups > 1:
        for name, value in (("in_channels", inputs), ("out_channels", outputs)):
            if bad := sorted(each for each in possible(value) if each % groups):
                raise SpaceError(
                    f"{name} of a convolution may be {bad}, no multiple of {groups} groups"
                )
