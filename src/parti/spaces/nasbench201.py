"""The cells of NAS-Bench-201 (Dong & Yang, ICLR 2020): the topology space of NATS-Bench.

    X. Dong and Y. Yang. NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
    Search. ICLR 2020.

A cell has four nodes, 0 to 3, and an operation on each edge from a node to a later one:

    edge0-1, edge0-2, edge1-2, edge0-3, edge1-3, edge2-3
        none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3

Size: 15,625 architectures, of 73 thousand to 1.53 million parameters; 6,466 canonical forms.

The canonical form is the benchmark's own, to the last cell: a cell is written as an expression
of its input, where "none" gives nothing, "skip_connect" gives what it is given, and the terms of
a sum are sorted; cells with the same expression are one. That is not the same as computing the
same functions, in both directions. Some that do stay apart: nothing is a term of a sum like
others, so that what follows node 1 and the same after node 2 differ (without it there would be
5,390 forms); the terms of a sum that is skipped into another are not always sorted with those
(4,930); and averages of a sum are not sums of averages (4,660). Some that do not are one: a
convolution of nothing, after node 1, counts as nothing, yet gives its normalization's bias.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from itertools import product

from torch import nn

from parti.core.architecture import Architecture, Option
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.graph import Graph
from parti.core.program import space
from parti.core.words import one_of
from parti.networks.nasbench201 import EDGES, EdgeCell, edge_operations, stack_cells
from parti.spaces.stages import stem_stride

__all__ = [
    "CHOICES",
    "PRIMITIVES",
    "canonical_cell",
    "cell_graph",
    "from_string",
    "nasbench201",
    "to_string",
]

CHOICES = tuple(f"edge{edge}" for edge in EDGES)
"""Names of the choices, in the order of the benchmark's strings."""

PRIMITIVES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""What an edge may be, in the benchmark's order."""

Operations = tuple[str, ...]
"""A primitive for each edge."""

STRING = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
PATTERN = re.compile(re.escape(STRING).replace(r"\{\}", f"({'|'.join(PRIMITIVES)})"))

NODES = 4
ENDS = tuple((int(edge[0]), int(edge[2])) for edge in EDGES)


def canonical_cell(architecture: Architecture) -> Architecture:
    """Return the one architecture that stands for all that the benchmark takes for isomorphic.

    Of these it is the first in the order of the space, so edges that do not matter are "none".

    Raises:
        InvalidArchitecture: an edge is missing, or is no primitive.
    """
    operations = _operations(architecture)
    first = _firsts()[_expression(operations)]
    if first == operations:
        return architecture
    return architecture.replacing(dict(zip(CHOICES, first, strict=True)))


def cell_graph(architecture: Architecture) -> Graph:
    """Draw the canonical cell: operations are vertices, between those of input and output.

    What does not lie on a path from input to output is left out; "skip_connect" is a vertex.

    Raises:
        InvalidArchitecture: an edge is missing, or is no primitive.
    """
    return _graph(_firsts()[_expression(_operations(architecture))])


def to_string(architecture: Mapping[str, Option]) -> str:
    """Write a cell as the benchmark does: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

    Raises:
        InvalidArchitecture: an edge is missing, or is no primitive.
    """
    return STRING.format(*_operations(architecture))


def from_string(text: str) -> Architecture:
    """Read what `to_string` wrote.

    Raises:
        InvalidArchitecture: the text is no cell of this space.
    """
    found = PATTERN.fullmatch(text)
    if found is None:
        raise InvalidArchitecture(
            f"{text!r} is no cell of NAS-Bench-201; it is written {STRING.format(*['op'] * 6)} "
            f"with the operations {', '.join(PRIMITIVES)}"
        )
    return Architecture.owning(dict(zip(CHOICES, found.groups(), strict=True)))


@space(dynamic=False, canonical=canonical_cell, graph=cell_graph)
def nasbench201(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    channels: int = 16,
    cells: int = 5,
) -> nn.Sequential:
    """Build a network of cells.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        channels: of the first stage; doubled in the second and again in the third.
        cells: in each stage.

    Raises:
        InvalidSettings: there are no channels or no cells.
    """
    if channels < 1 or cells < 1:
        raise InvalidSettings(
            f"channels={channels}, cells={cells}: there must be at least 1 of both"
        )
    # The layers: cells, a reduction, cells, a reduction, cells.
    widths = [channels] * cells + [2 * channels] * (cells + 1) + [4 * channels] * (cells + 1)
    return stack_cells(_cell, widths, in_channels, classes, stem_stride(resolution))


def _cell(in_channels: int, channels: int) -> EdgeCell:
    assert in_channels == channels
    operations = edge_operations(channels)
    return EdgeCell({edge: one_of(f"edge{edge}", operations) for edge in EDGES})


def _operations(architecture: Mapping[str, Option]) -> Operations:
    try:
        operations = tuple([architecture[name] for name in CHOICES])
    except KeyError as error:
        raise InvalidArchitecture(
            f"the architecture lacks choice {error.args[0]!r}; a cell has {', '.join(CHOICES)}"
        ) from None
    for name, operation in zip(CHOICES, operations, strict=True):
        if operation not in PRIMITIVES:
            raise InvalidArchitecture(
                f"choice {name!r} does not offer {operation!r}; its options are {list(PRIMITIVES)}"
            )
    return operations  # type: ignore[return-value]


@cache
def _firsts() -> dict[str, Operations]:
    """For each expression, the first cell that has it."""
    firsts: dict[str, Operations] = {}
    for operations in product(PRIMITIVES, repeat=len(EDGES)):
        firsts.setdefault(_expression(operations), operations)
    return firsts


@cache
def _expression(operations: Operations) -> str:
    """The last node as the benchmark's expression of the input, "0"; "#" is nothing.

    Which sums run into one another hangs on how texts are sorted, so these are the benchmark's.
    """
    nodes = ["0"]
    while len(nodes) < NODES:
        # The edges into node n are the n that follow those into the nodes before it.
        start = len(nodes) * (len(nodes) - 1) // 2
        arriving = zip(operations[start:], nodes, strict=False)
        nodes.append("+".join(sorted(_term(operation, state) for operation, state in arriving)))
    return nodes[-1]


def _term(operation: str, state: str) -> str:
    if operation == "none" or state == "#":
        return "#"
    return state if operation == "skip_connect" else f"({state})@{operation}"


@cache
def _graph(operations: Operations) -> Graph:
    used = [
        (operation, ends)
        for operation, ends in zip(operations, ENDS, strict=True)
        if operation != "none"
    ]
    reached, useful = {0}, {NODES - 1}
    for _, (source, target) in used:
        if source in reached:
            reached.add(target)
    for _, (source, target) in reversed(used):
        if target in useful:
            useful.add(source)
    used = [(op, ends) for op, ends in used if ends[0] in reached and ends[1] in useful]
    vertices = [("input", (-1, 0)), *used, ("output", (NODES - 1, NODES))]
    return Graph(
        labels=tuple(label for label, _ in vertices),
        edges=tuple(
            (i, j)
            for i, (_, (_, reaches)) in enumerate(vertices)
            for j, (_, (starts, _)) in enumerate(vertices)
            if reaches == starts
        ),
    )
