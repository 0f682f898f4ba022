"""The networks of NAS-Bench-201 and NATS-Bench: cells whose edges are operations.

A cell has four nodes; the first is its input, the last its output, and a node is the sum of one
operation applied to each node before it (Dong & Yang 2020, figure 1). The network stacks cells in
three stages; between stages a residual block halves the images.

With a stem of stride 1 it is what was published, to the last parameter; larger strides, for larger
images, add none. Initial weights are parti's (`assemble`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from parti.networks.blocks import Residual
from parti.networks.heads import assemble, head
from parti.networks.operations import Zero, act_conv_norm, average_pool, conv_norm_act

__all__ = ["EDGES", "EdgeCell", "edge_operations", "reduction", "stack_cells"]

EDGES = ("0-1", "0-2", "1-2", "0-3", "1-3", "2-3")
"""The edges of a cell, from node to node, in the order of the benchmark's strings."""


def edge_operations(channels: int) -> dict[str, Callable[[], nn.Module]]:
    """What an edge may be, by the benchmark's names, in its order.

    Args:
        channels: of the input and of the output.
    """
    return {
        "none": Zero,
        "skip_connect": nn.Identity,
        "nor_conv_1x1": lambda: act_conv_norm(channels, channels, 1),
        "nor_conv_3x3": lambda: act_conv_norm(channels, channels, 3),
        "avg_pool_3x3": average_pool,
    }


class EdgeCell(nn.Module):
    """Four nodes, each the sum of what the edges make of the nodes before it.

    Args:
        edges: an operation for each of `EDGES`.
    """

    def __init__(self, edges: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(edges)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to the last node, (batch, channels, h, w)."""
        nodes = [x]
        while len(nodes) < 4:
            arriving = [
                (self.edges[f"{source}-{len(nodes)}"], state) for source, state in enumerate(nodes)
            ]
            # Zeros add nothing, forward or back; a node of nothing else needs one for its shape.
            told = [pair for pair in arriving if not isinstance(pair[0], Zero)] or arriving[:1]
            nodes.append(reduce(torch.add, [edge(state) for edge, state in told]))
        return nodes[-1]


def reduction(in_channels: int, channels: int) -> Residual:
    """The residual block between stages: halves height and width, rounding up.

    Args:
        in_channels: of the input.
        channels: of the output.
    """
    body = OrderedDict[str, nn.Module](
        conv1=act_conv_norm(in_channels, channels, 3, stride=2),
        conv2=act_conv_norm(channels, channels, 3),
    )
    shortcut = OrderedDict[str, nn.Module](
        # Rounding up, as the strided convolution does, for images of odd sizes.
        pool=nn.AvgPool2d(2, ceil_mode=True),
        conv=nn.Conv2d(in_channels, channels, 1, bias=False),
    )
    return Residual(nn.Sequential(body), nn.Sequential(shortcut), act=None)


def stack_cells(
    cell: Callable[[int, int], nn.Module],
    widths: Sequence[int],
    in_channels: int,
    classes: int,
    stride: int = 1,
) -> nn.Sequential:
    """Build the network: stem, N cells, reduction, N cells, reduction, N cells, head.

    Args:
        cell: builds a cell from its input's and its output's channels.
        widths: channels of each of the 3 N + 2 layers.
        in_channels: of the images.
        classes: number of logits.
        stride: of the stem: 1, 2 or 4.

    Returns:
        A network of images (batch, in_channels, height, width) to logits (batch, classes).
    """
    cells = len(widths) // 3
    layers: list[nn.Module] = []
    before = widths[0]
    for place, channels in enumerate(widths):
        make = reduction if place in (cells, 2 * cells + 1) else cell
        layers.append(make(before, channels))
        before = channels
    return assemble(
        {
            "stem": _stem(in_channels, widths[0], stride),
            "cells": nn.Sequential(*layers),
            "last": nn.Sequential(OrderedDict(norm=nn.BatchNorm2d(before), act=nn.ReLU())),
            "head": head(before, classes),
        }
    )


def _stem(in_channels: int, channels: int, stride: int) -> nn.Module:
    stem = conv_norm_act(in_channels, channels, stride=min(stride, 2), act=None)
    return nn.Sequential(stem, average_pool(stride=2)) if stride == 4 else stem
