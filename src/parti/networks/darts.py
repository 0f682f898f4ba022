"""The networks of DARTS: cells of two kinds, stacked, each fed by the two cells before it.

Hanxiao Liu, Karen Simonyan, Yiming Yang: DARTS: Differentiable Architecture Search, ICLR 2019
(section 3 and appendix A). NAS-Bench-301 (Zela 2022) has the same networks.

With the authors' sizes they have the published numbers of parameters. Departures: initial weights
are parti's (`initialize`); the auxiliary head's pooling adapts to the size of the images, and its
last convolution is normalized for large images too, which the authors' code leaves out by mistake.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn

from parti.core.errors import InvalidSettings
from parti.networks.heads import head
from parti.networks.layers import initialize
from parti.networks.operations import (
    FactorizedReduce,
    act_conv_norm,
    average_pool,
    conv_norm_act,
    max_pool,
    separable,
)

__all__ = ["PRIMITIVES", "Cell", "CellNetwork", "DropPath", "Stem", "auxiliary_head", "enter"]

AUXILIARY_WIDTHS = (128, 768)
"""Channels of the auxiliary head's two convolutions."""


def _skip(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


def _separable(kernel: int) -> Callable[[int, int], nn.Module]:
    def twice(channels: int, stride: int) -> nn.Module:
        first = separable(channels, channels, kernel, stride=stride)
        return nn.Sequential(OrderedDict(first=first, second=separable(channels, channels, kernel)))

    return twice


def _dilated(kernel: int) -> Callable[[int, int], nn.Module]:
    return lambda channels, stride: separable(channels, channels, kernel, stride=stride, dilation=2)


PRIMITIVES: dict[str, Callable[[int, int], nn.Module]] = {
    "max_pool_3x3": lambda _, stride: max_pool(3, stride),
    "avg_pool_3x3": lambda _, stride: average_pool(3, stride),
    "skip_connect": _skip,
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "dil_conv_3x3": _dilated(3),
    "dil_conv_5x5": _dilated(5),
}
"""The operations by their names in the paper: builders that take channels and stride."""


def enter(in_channels: int, channels: int, *, halve: bool) -> nn.Module:
    """Bring an input of a cell to its width, and to its size where it is twice that.

    Args:
        in_channels: of the input.
        channels: of the cell's nodes.
        halve: whether height and width are halved.
    """
    if halve:
        return FactorizedReduce(in_channels, channels)
    return act_conv_norm(in_channels, channels)


class DropPath(nn.Module):
    """Zero whole images of a batch while training, and scale the others up (Larsson 2017).

    Args:
        rate: the share that is dropped, from 0 to less than 1. Who trains raises it linearly
            from 0 to this rate over the epochs, as the authors do (`anneal`).

    Raises:
        InvalidSettings: the rate is not in that range.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise InvalidSettings(f"drop_path={rate}: choose a share from 0 to less than 1")
        self.rate = rate
        self.progress = 1.0

    def anneal(self, progress: float) -> None:
        """Drop this share of the rate from now on."""
        self.progress = progress

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape."""
        kept = 1.0 - self.rate * self.progress
        if not self.training or kept == 1.0:
            return x
        return x * (torch.empty_like(x[:, :1, :1, :1]).bernoulli_(kept) / kept)

    def extra_repr(self) -> str:
        """What print shows."""
        return f"rate={self.rate}"


class Cell(nn.Module):
    """Nodes that each sum operations on earlier states; all of them, concatenated.

    Args:
        enter: by name, what brings each of the two inputs (`earlier` and `previous`) to the
            cell's width and size.
        nodes: in order; each has an operation for each of its sources (inputs, `node1`, ...).
        drop_path: the share of images for which an operation is left out in training.
            Identities are never left out.
    """

    def __init__(
        self, enter: Mapping[str, nn.Module], nodes: Sequence[nn.ModuleDict], drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.enter = nn.ModuleDict(enter)
        self.nodes = nn.ModuleList(nodes)
        self.drop_path = DropPath(drop_path)

    def forward(self, earlier: Tensor, previous: Tensor) -> Tensor:
        """Map the outputs of the two cells before to (batch, nodes × channels, h, w)."""
        inputs = {"earlier": earlier, "previous": previous}
        states = {name: self.enter[name](x) for name, x in inputs.items()}
        for number, node in enumerate(self.nodes, start=1):
            operations = cast(nn.ModuleDict, node).items()
            terms = [self._applied(operation, states[name]) for name, operation in operations]
            states[f"node{number}"] = reduce(torch.add, terms)
        return torch.cat([x for name, x in states.items() if name not in inputs], dim=1)

    def _applied(self, operation: nn.Module, x: Tensor) -> Tensor:
        output: Tensor = operation(x)
        if output is x:  # an identity, or in a supernet a choice that is decided for one
            return output
        dropped: Tensor = self.drop_path(output)
        return dropped


class Stem(nn.Module):
    """What comes before the cells: images to the two inputs of the first cell.

    Small images keep their size, and both inputs are the same. Large ones are halved three
    times, the last time for the second input only.

    Args:
        in_channels: of the images.
        channels: of a node in the first cells [C].
        large: whether the images are large.

    Attributes:
        channels: of the images it gives.
        halves: whether the second input is half as large as the first.
    """

    def __init__(self, in_channels: int, channels: int, *, large: bool) -> None:
        super().__init__()
        self.channels = channels if large else 3 * channels
        self.halves = large
        if large:
            half = conv_norm_act(in_channels, channels // 2, stride=2)
            quarter = conv_norm_act(channels // 2, channels, stride=2, act=None)
            self.earlier: nn.Module = nn.Sequential(half, quarter)
            self.previous: nn.Module = act_conv_norm(channels, channels, 3, stride=2)
        else:
            self.earlier = conv_norm_act(in_channels, self.channels, act=None)
            self.previous = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the first cell takes for the outputs of the two cells before."""
        earlier = self.earlier(x)
        return earlier, self.previous(earlier)


class CellNetwork(nn.Module):
    """Stem, cells, head: initialized.

    Args:
        stem: gives the two inputs of the first cell.
        cells: in order, each fed by the outputs of the two before it.
        channels: of the last cell's output.
        classes: number of logits.
        auxiliary: a second classifier, used in training only.
        auxiliary_after: number of the cell, from 0, whose output it takes.
    """

    def __init__(
        self,
        stem: nn.Module,
        cells: Sequence[nn.Module],
        channels: int,
        classes: int,
        auxiliary: nn.Module | None = None,
        auxiliary_after: int = 0,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.cells = nn.ModuleList(cells)
        self.auxiliary = auxiliary
        self.auxiliary_after = auxiliary_after
        self.head = head(channels, classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (batch, in_channels, h, w) to logits (batch, classes).

        A network with an auxiliary head gives two of them in training: its own, and those of
        the auxiliary head, whose loss the authors add with a weight of 0.4.
        """
        earlier, previous = self.stem(x)
        aside: Tensor | None = None
        for number, cell in enumerate(self.cells):
            earlier, previous = previous, cell(earlier, previous)
            if self.training and self.auxiliary is not None and number == self.auxiliary_after:
                aside = self.auxiliary(previous)
        logits: Tensor = self.head(previous)
        return logits if aside is None else (logits, aside)


def auxiliary_head(in_channels: int, classes: int, size: int) -> nn.Sequential:
    """The auxiliary classifier, which adds to the gradient of the early cells in training.

    Args:
        in_channels: of the images it takes.
        classes: number of logits.
        size: their height and width, 8 and 7 in the paper's networks.

    Raises:
        InvalidSettings: they are too small.
    """
    if size < 3:
        raise InvalidSettings(
            f"an auxiliary head needs images of at least 3×3 pixels, but has {size}×{size}; "
            "leave it out, or take images of a higher resolution"
        )
    # Two windows side by side: 5 pixels at a distance of 3 for a size of 8, of 2 for 7.
    stride = 3 * size // 8
    narrow, wide = AUXILIARY_WIDTHS
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            act=nn.ReLU(),
            windows=nn.AvgPool2d(size - stride, stride),
            narrow=conv_norm_act(in_channels, narrow, 1),
            # 2×2 pixels to one.
            gather=nn.Conv2d(narrow, wide, 2, bias=False),
            norm=nn.BatchNorm2d(wide),
            act2=nn.ReLU(),
            head=head(wide, classes),
        )
    )
