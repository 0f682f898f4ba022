"""Sorting the channels of a supernet by importance, before it learns to do with fewer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parti.networks.blocks import SqueezeExcitation

__all__ = ["sort_channels"]


@torch.no_grad()
def sort_channels(network: nn.Module) -> None:
    """Bring the channels in the middle of all inverted residuals into order, in place.

    The most important come first, as narrower middles take the first: importance is the L1 norm
    of the weights that read a channel (Cai et al., "Once-for-All", ICLR 2020, section 3.3). What
    the largest network computes does not change, but for rounding.

    Args:
        network: its inverted residuals are those of `parti.networks.blocks`.
    """
    for block in network.modules():
        if isinstance(block, nn.Sequential) and {"expand", "depthwise", "project"} <= {
            name for name, _ in block.named_children()
        }:
            _sort(block)


def _sort(block: nn.Sequential) -> None:
    project: nn.Conv2d = block.get_submodule("project.conv")  # type: ignore[assignment]
    order = project.weight.abs().sum((0, 2, 3)).argsort(descending=True, stable=True)
    _reorder(project.weight, order, 1)
    for name in ("expand", "depthwise"):
        for tensor in _own(block.get_submodule(name)):
            _reorder(tensor, order, 0)
    for module in block.modules():
        if isinstance(module, SqueezeExcitation):
            reduce, expand = (
                module.get_submodule(f"scale.{name}") for name in ("reduce", "expand")
            )
            _reorder(reduce.get_parameter("weight"), order, 1)
            for tensor in _own(expand):
                _reorder(tensor, order, 0)


def _own(module: nn.Module) -> list[Tensor]:
    """All parameters and buffers that have channels."""
    return [t for t in (*module.parameters(), *module.buffers()) if t.ndim > 0]


def _reorder(tensor: Tensor, order: Tensor, dimension: int) -> None:
    tensor.copy_(tensor.index_select(dimension, order))
