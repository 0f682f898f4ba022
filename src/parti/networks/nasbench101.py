"""The network of NAS-Bench-101: cells whose vertices are operations.

Vertex 0 is the cell's input and the last one its output (Ying et al. 2019, section 2). A vertex
adds up what reaches it; the output concatenates it. So the output's channels are divided among
the vertices that feed it, and what comes from the input is projected, by a 1×1 convolution, to
the width of where it goes. Cells are stacked in three stacks, halving images and doubling
channels in between.

With a stem of stride 1 it is what was published, to the last parameter; larger strides, for larger
images, add none. Initial weights and the momentum of normalizations are parti's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from parti.networks.heads import assemble, head
from parti.networks.operations import conv_norm_act, max_pool

__all__ = ["VERTEX_OPERATIONS", "Edge", "VertexCell", "stack_vertex_cells", "vertex_widths"]

Edge = tuple[int, int]
"""From a vertex to a later one."""

VERTEX_OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    "conv3x3-bn-relu": lambda channels: conv_norm_act(channels, channels, 3),
    "conv1x1-bn-relu": lambda channels: conv_norm_act(channels, channels, 1),
    "maxpool3x3": lambda channels: max_pool(),
}
"""What a vertex may be, by the benchmark's names: a builder that takes its channels."""


def vertex_widths(vertices: int, edges: Sequence[Edge], channels: int) -> list[int]:
    """Channels of each interior vertex.

    What feeds the output shares its channels equally, the first ones taking what is left over;
    any other vertex is as wide as the widest that it feeds.

    Args:
        vertices: number of interior vertices; the output is vertex `vertices` + 1.
        edges: of the cell.
        channels: of its output.
    """
    output = vertices + 1
    feeding = sorted(source for source, target in edges if target == output and source > 0)
    widths = [0] * output
    for place, vertex in enumerate(feeding):
        widths[vertex] = channels // len(feeding) + (place < channels % len(feeding))
    for vertex in reversed(range(1, output)):
        if vertex not in feeding:
            widths[vertex] = max(widths[target] for source, target in edges if source == vertex)
    return widths[1:]


class VertexCell(nn.Module):
    """Operations on the vertices of a graph.

    Args:
        in_channels: of the input.
        channels: of the output.
        operations: a key of `VERTEX_OPERATIONS` for each interior vertex, in an order in which
            edges go forward.
        edges: each interior vertex must lie on a path from the input to the output.
    """

    def __init__(
        self, in_channels: int, channels: int, operations: Sequence[str], edges: Sequence[Edge]
    ) -> None:
        super().__init__()
        self.widths = [*vertex_widths(len(operations), edges, channels), channels]
        self.sources = [
            [source for source, target in edges if target == vertex and source > 0]
            for vertex in range(1, len(operations) + 2)
        ]
        self.projections = nn.ModuleDict(
            {
                str(target): conv_norm_act(in_channels, self.widths[target - 1], 1)
                for source, target in edges
                if source == 0
            }
        )
        self.vertices = nn.ModuleList(
            VERTEX_OPERATIONS[operation](width)
            for operation, width in zip(operations, self.widths, strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, channels, h, w)."""
        states = [x]
        for vertex, operation in enumerate(self.vertices, start=1):
            width = self.widths[vertex - 1]
            # A source may be wider by one channel, left over from the division.
            arriving = [states[source][:, :width] for source in self.sources[vertex - 1]]
            states.append(operation(self._with_input(x, vertex, arriving)))
        feeding = [states[source] for source in self.sources[-1]]
        joined = [torch.cat(feeding, dim=1)] if feeding else []
        return self._with_input(x, len(states), joined)

    def _with_input(self, x: Tensor, vertex: int, arriving: list[Tensor]) -> Tensor:
        """The sum of what arrives at a vertex and of the input, if that goes there."""
        if str(vertex) in self.projections:
            arriving = [*arriving, self.projections[str(vertex)](x)]
        return reduce(torch.add, arriving)


def stack_vertex_cells(
    operations: Sequence[str],
    edges: Sequence[Edge],
    in_channels: int,
    classes: int,
    *,
    channels: int = 128,
    stacks: int = 3,
    cells: int = 3,
    stride: int = 1,
) -> nn.Sequential:
    """Build the network: stem, stacks of cells with maximum pooling in between, head.

    Args:
        operations: of the cell's interior vertices.
        edges: of the cell.
        in_channels: of the images.
        classes: number of logits.
        channels: of the stem and the first stack; doubled from stack to stack.
        stacks: how many.
        cells: in each stack.
        stride: of the stem: 1, 2 or 4.

    Returns:
        A network of images (batch, in_channels, height, width) to logits (batch, classes).
    """
    stem = conv_norm_act(in_channels, channels, stride=min(stride, 2))
    parts: dict[str, nn.Module] = {
        "stem": nn.Sequential(stem, max_pool(stride=2)) if stride == 4 else stem
    }
    before = channels
    for stack in range(stacks):
        width = channels * 2**stack
        layers = OrderedDict[str, nn.Module]()
        if stack > 0:
            layers["shrink"] = nn.MaxPool2d(2, ceil_mode=True)
        for number in range(1, cells + 1):
            layers[f"cell{number}"] = VertexCell(before, width, operations, edges)
            before = width
        parts[f"stack{stack + 1}"] = nn.Sequential(layers)
    parts["head"] = head(before, classes)
    return assemble(parts)
