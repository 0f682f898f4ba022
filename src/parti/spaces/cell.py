"""Two cells, decided once and stacked many times (NASNet, Zoph 2018).

A cell has the outputs of the two cells before it as inputs, and a few nodes. A node takes two of
the cell's inputs and earlier nodes, applies an operation to each, and sums the results. All
nodes' outputs, concatenated, are the cell's. Normal cells keep the size of images; reduction
cells, one between any two stages, halve it.

    width                                channels of a node in the first stage, doubled per stage
    normal/node1/left/input              previous, earlier (the cell before that), node1, ...
    normal/node1/left/operation          skip, conv1, conv3, sep3, sep5, dil3, average3, max3
    normal/node1/right/...               likewise; and reduction/node1/... for the other cell

Departures from the paper: reduction cells halve their inputs first, so that an operation does
not depend on what it is applied to; all nodes are concatenated, used or not (as in DARTS, Liu
2019), so that the number of channels depends on no choice; separable convolutions are applied
once, not twice, which halves the time of training.

Many architectures build the same network: the two sides of a node may be swapped, and nodes may
be numbered in any order that names inputs before what uses them. `canonical_cells` picks one.

Size: 2.9e23 architectures at 32×32 before the canonical form, of 24 thousand to 3 million
parameters.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from parti.core.architecture import Architecture, Option
from parti.core.errors import InvalidSettings
from parti.core.graph import Graph
from parti.core.program import space
from parti.core.words import choose, one_of, scope
from parti.networks.heads import assemble, head, stem
from parti.networks.operations import (
    FactorizedReduce,
    act_conv_norm,
    average_pool,
    max_pool,
    separable,
)
from parti.spaces.nodes import INPUTS, Node, draw_cells, first_numbering
from parti.spaces.stages import stages, stem_stride, widths

__all__ = ["canonical_cells", "cell", "draw"]

CELLS = ("normal", "reduction")
SIDES = ("left", "right")
PARTS = ("input", "operation")


def canonical_cells(architecture: Architecture) -> Architecture:
    """Return the one architecture that stands for all that only renumber nodes or swap sides."""
    decisions = dict(architecture)
    for kind in CELLS:
        nodes = list(_nodes(architecture, kind))
        for number, node in enumerate(first_numbering(nodes), start=1):
            for side, (source, operation) in zip(SIDES, node, strict=True):
                decisions[f"{kind}/node{number}/{side}/input"] = source
                decisions[f"{kind}/node{number}/{side}/operation"] = operation
    return Architecture(decisions)


def draw(architecture: Architecture) -> Graph:
    """Draw both cells and the width as one graph: `normal/sep3`, `reduction/node`, `width=16`."""
    cells = draw_cells({kind: list(_nodes(architecture, kind)) for kind in CELLS})
    return Graph((*cells.labels, f"width={architecture['width']}"), cells.edges)


@space(canonical=canonical_cells, graph=draw)
def cell(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    width: int = 16,
    cells: int = 1,
    nodes: int = 4,
) -> nn.Sequential:
    """Build a stack of cells.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        width: the usual number of channels of a node in the first stage.
        cells: normal cells in each stage; the paper's networks have 2 to 6.
        nodes: in each cell.

    Raises:
        InvalidSettings: there are no cells or no nodes.
    """
    if cells < 1 or nodes < 1:
        raise InvalidSettings(f"cells={cells}, nodes={nodes}: there must be at least 1 of both")
    plan = stages(resolution)
    first = choose("width", widths(width, plan[0]))
    before = earlier = nodes * first
    parts: dict[str, nn.Module] = {"stem": stem(in_channels, before, stem_stride(resolution))}
    stack: list[nn.Module] = []
    halved = False
    for stage in plan:
        channels = first * 2 ** (stage.number - 1)
        for kind in ("reduction",) * (stage.number > 1) + ("normal",) * cells:
            halve = kind == "reduction"
            enter = {
                "previous": _enter(before, channels, halve),
                # It has twice the size of the previous one when that was a reduction.
                "earlier": _enter(earlier, channels, halve or halved),
            }
            with scope(kind):
                stack.append(Cell(enter, [_node(n, channels) for n in range(1, nodes + 1)]))
            before, earlier, halved = nodes * channels, before, halve
    parts["cells"] = CellStack(stack)
    parts["head"] = head(before, classes)
    return assemble(parts)


class CellStack(nn.Module):
    """Cells one after the other, each with the outputs of the two before it.

    Args:
        cells: in order.
    """

    def __init__(self, cells: Sequence[nn.Module]) -> None:
        super().__init__()
        self.cells = nn.ModuleList(cells)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map the stem's output to the last cell's, activated."""
        earlier = previous = x
        for each in self.cells:
            earlier, previous = previous, each(earlier, previous)
        output: Tensor = self.act(previous)
        return output


class Cell(nn.Module):
    """Nodes, each fed by the cell's inputs and the nodes before it.

    Args:
        enter: brings each of the cell's inputs to its width and size.
        nodes: each maps the list of what is there so far to one more.
    """

    def __init__(self, enter: Mapping[str, nn.Module], nodes: Sequence[nn.Module]) -> None:
        super().__init__()
        self.previous = enter["previous"]
        self.earlier = enter["earlier"]
        self.nodes = nn.ModuleList(nodes)

    def forward(self, earlier: Tensor, previous: Tensor) -> Tensor:
        """Map the outputs of the two cells before to (batch, nodes × channels, h, w)."""
        states = [self.previous(previous), self.earlier(earlier)]
        for node in self.nodes:
            states.append(node(states))
        return torch.cat(states[len(INPUTS) :], dim=1)


class TwoSides(nn.Module):
    """A node: the sum of two operations, each applied to one of the states.

    Args:
        left: picks a state and applies an operation.
        right: likewise.
    """

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left = left
        self.right = right

    def forward(self, states: list[Tensor]) -> Tensor:
        """Map the states so far, all of one shape, to one more of that shape."""
        total: Tensor = self.left(states) + self.right(states)
        return total


class Select(nn.Module):
    """Takes one of several states.

    Args:
        place: its place in the list.
    """

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def forward(self, states: list[Tensor]) -> Tensor:
        """Return the state."""
        return states[self.place]

    def extra_repr(self) -> str:
        """What print shows."""
        return f"place={self.place}"


def _enter(before: int, channels: int, halve: bool) -> nn.Module:
    return FactorizedReduce(before, channels) if halve else act_conv_norm(before, channels)


def _node(number: int, channels: int) -> nn.Module:
    """Node `number`, from 1: asks for the input and the operation of both sides."""
    sources = (*INPUTS, *(f"node{earlier}" for earlier in range(1, number)))
    select = {source: partial(Select, place) for place, source in enumerate(sources)}

    def side(name: str) -> nn.Module:
        with scope(name):
            parts = OrderedDict(
                input=one_of("input", select),
                operation=one_of("operation", _operations(channels)),
            )
        return nn.Sequential(parts)

    with scope(f"node{number}"):
        return TwoSides(*map(side, SIDES))


def _operations(channels: int) -> dict[str, Callable[[], nn.Module]]:
    return {
        "skip": nn.Identity,
        "conv1": lambda: act_conv_norm(channels, channels, 1),
        "conv3": lambda: act_conv_norm(channels, channels, 3),
        "sep3": lambda: separable(channels, channels, 3),
        "sep5": lambda: separable(channels, channels, 5),
        "dil3": lambda: separable(channels, channels, 3, dilation=2),
        "average3": average_pool,
        "max3": max_pool,
    }


def _nodes(architecture: Mapping[str, Option], kind: str) -> Iterator[Node]:
    """The nodes of one cell, in order."""
    number = 1
    while f"{kind}/node{number}/left/input" in architecture:
        left, right = (
            tuple(str(architecture[f"{kind}/node{number}/{side}/{what}"]) for what in PARTS)
            for side in SIDES
        )
        yield (left[0], left[1]), (right[0], right[1])
        number += 1
