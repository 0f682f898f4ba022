"""The cells of NAS-Bench-101 (Ying et al., ICML 2019).

    C. Ying, A. Klein, E. Christiansen, E. Real, K. Murphy and F. Hutter. NAS-Bench-101: Towards
    Reproducible Neural Architecture Search. ICML 2019.

A cell is a graph of an input, an output and up to five operations, with at most nine edges.
Graphs drawn freely are mostly invalid: too many edges, or no path. Here every architecture is a
valid cell. It starts as five vertices; each reads an earlier one, and one that no other reads
goes to the output. Extras add edges to that, or take a vertex away.

    extra1, extra2, ...    none, an edge such as input-3, 2-4 or 1-output, or "one vertex less"
    vertex2/source         the earlier vertex that it reads: input or 1 (vertex 1 reads the input)
    vertex2/operation      conv3x3-bn-relu, conv1x1-bn-relu or maxpool3x3

There are three extras, since any cell of five operations is a tree and at most three more edges;
a vertex less leaves room for up to two more. An extra edge does nothing when it is already
there, when its vertex has been taken away, or when it would be the tenth. Not all of five
vertices can read the input (they would have ten edges): where the first four do, the last is
asked for its `inner source` instead.

The canonical form numbers vertices anew, so that isomorphic cells are one. Their networks may
differ by a few parameters even so: where channels cannot be divided equally among the vertices
that feed the output, the first ones are wider.

Size: 423,624 canonical forms, those of the benchmark, of 227 thousand to 50 million parameters.
Uniform picks come close to a uniform cell: 86 % have seven vertices (of all cells, 85 %), and
75 % nine edges (of all cells, 77 %).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from torch import nn

from parti.core.architecture import Architecture, Option
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.graph import Graph
from parti.core.program import space
from parti.core.words import building, choose
from parti.networks.nasbench101 import Edge, stack_vertex_cells
from parti.spaces.nasbench101_cell import (
    MOST_EDGES,
    MOST_VERTICES,
    OPERATIONS,
    Cell,
    hash_of,
    prune,
    renumber,
)
from parti.spaces.stages import stem_stride

__all__ = [
    "canonical_cell",
    "cell_graph",
    "cell_hash",
    "from_matrix",
    "nasbench101",
    "to_matrix",
]

INPUT, OUTPUT = "input", "output"
MOST = MOST_VERTICES - 2
VERTICES = (INPUT, *map(str, range(1, MOST + 1)), OUTPUT)
"""What a source or the end of an extra edge is called, by number."""

NONE, LESS = "none", "one vertex less"
PAIRS: dict[str, Edge] = {
    f"{VERTICES[source]}-{VERTICES[target]}": (source, target)
    for source, target in combinations(range(MOST + 2), 2)
    # These two are always there.
    if (source, target) not in ((0, 1), (MOST, MOST + 1))
}
EXTRAS = (NONE, LESS, *PAIRS)

ROOM = (0, 1, 3, 5, 4, 3)
"""How many extra edges a cell can need, by its number of operations.

All edges it can have, or nine, less one into each operation and one into the output.
"""

Ask = Callable[[str, tuple[str, ...]], Any]
"""Answers a choice's name and options."""


def canonical_cell(architecture: Architecture) -> Architecture:
    """Return the one architecture that stands for all of isomorphic cells.

    Raises:
        InvalidArchitecture: a decision is missing or not offered.
    """
    return _write(renumber(_read(_answers(architecture))))


def cell_graph(architecture: Architecture) -> Graph:
    """Draw a cell: its operations between the vertices of input and output.

    Raises:
        InvalidArchitecture: a decision is missing or not offered.
    """
    cell = _read(_answers(architecture))
    return Graph((INPUT, *cell.operations, OUTPUT), cell.edges)


def cell_hash(architecture: Mapping[str, Option]) -> str:
    """Return the hash by which the benchmark knows a cell, 32 hexadecimal digits.

    Raises:
        InvalidArchitecture: a decision is missing or not offered.
    """
    return hash_of(_read(_answers(architecture)))


def to_matrix(
    architecture: Mapping[str, Option],
) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]]:
    """Write a cell as the benchmark does.

    Returns:
        The adjacency matrix, (n, n) of 0 and 1 above the diagonal, and the n operations, of
        which the first is "input" and the last "output".

    Raises:
        InvalidArchitecture: a decision is missing or not offered.
    """
    cell = _read(_answers(architecture))
    numbers = range(cell.output + 1)
    edges = set(cell.edges)
    matrix = tuple(tuple(int((row, column) in edges) for column in numbers) for row in numbers)
    return matrix, (INPUT, *cell.operations, OUTPUT)


def from_matrix(matrix: Iterable[Iterable[float]], operations: Sequence[str]) -> Architecture:
    """Read a cell as the benchmark writes it; vertices keep their order.

    Args:
        matrix: the adjacency matrix, (n, n) of 0 and 1, nothing but 0 on and under the diagonal;
            lists, tuples or an array.
        operations: "input", those of the vertices in between, "output".

    Returns:
        The architecture of the cell, without the vertices that lie on no path.

    Raises:
        InvalidArchitecture: it is no cell of this space.
    """
    rows = [list(row) for row in matrix]
    if {len(row) for row in rows} != {len(operations)} or len(rows) != len(operations):
        raise InvalidArchitecture(
            f"an adjacency matrix of {len(rows)} rows with {len(operations)} operations; "
            "give a square one, with an operation for each vertex, input and output among them"
        )
    labels = tuple(operations)
    if (
        len(labels) < 2
        or (labels[0], labels[-1]) != (INPUT, OUTPUT)
        or not set(labels[1:-1]) <= set(OPERATIONS)
    ):
        raise InvalidArchitecture(
            f"operations {list(labels)}: the first is 'input', the last 'output', "
            f"and those in between are of {', '.join(OPERATIONS)}"
        )
    edges = [(i, j) for i, row in enumerate(rows) for j, entry in enumerate(row) if entry]
    if any(source >= target for source, target in edges):
        raise InvalidArchitecture(
            "an edge goes back, or from a vertex to itself; number the vertices so that the "
            "adjacency matrix has entries above its diagonal only"
        )
    cell = prune(labels[1:-1], edges)
    if cell is None:
        raise InvalidArchitecture("there is no path from the input to the output; add one")
    if len(cell.operations) > MOST or len(cell.edges) > MOST_EDGES:
        raise InvalidArchitecture(
            f"a cell of {len(cell.operations) + 2} vertices and {len(cell.edges)} edges; "
            f"there are at most {MOST_VERTICES} and {MOST_EDGES}"
        )
    return _write(cell)


@space(dynamic=True, canonical=canonical_cell, graph=cell_graph)
def nasbench101(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    channels: int = 128,
    stacks: int = 3,
    cells: int = 3,
) -> nn.Module:
    """Build a network of cells.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        channels: of the stem and the first stack; doubled from stack to stack.
        stacks: of cells; images are halved in between.
        cells: in each stack.

    Raises:
        InvalidSettings: there are no stacks or cells, or too few channels to be divided.
    """
    if channels < MOST or stacks < 1 or cells < 1:
        raise InvalidSettings(
            f"channels={channels}, stacks={stacks}, cells={cells}: there must be at least {MOST} "
            "channels, one for each vertex, and 1 of the others"
        )
    cell = _read(choose)
    if not building():
        return nn.Identity()
    return stack_vertex_cells(
        cell.operations,
        cell.edges,
        in_channels,
        classes,
        channels=channels,
        stacks=stacks,
        cells=cells,
        stride=stem_stride(resolution),
    )


def _read(ask: Ask) -> Cell:
    """The cell of some decisions."""
    count, place = MOST, 0
    extras: list[Edge] = []
    while place < MOST - count + ROOM[count]:
        place += 1
        extra = ask(f"extra{place}", EXTRAS)
        if extra == LESS:
            count -= 1
        elif extra != NONE:
            extras.append(PAIRS[extra])
    operations: list[str] = []
    sources: list[int] = []
    for vertex in range(1, count + 1):
        if vertex > 1:
            name, options = _source(vertex, sources)
            sources.append(VERTICES.index(ask(name, options)))
        operations.append(ask(f"vertex{vertex}/operation", OPERATIONS))
    edges = {(source, vertex) for vertex, source in enumerate((0, *sources)[:count], start=1)}
    for source, target in extras:
        if source <= count and (target <= count or target > MOST):
            more = edges | {(source, min(target, count + 1))}
            if len(_closed(more, count)) <= MOST_EDGES:
                edges = more
    return Cell(tuple(operations), tuple(sorted(_closed(edges, count))))


def _write(cell: Cell) -> Architecture:
    """The decisions of a cell: each vertex reads its last source, the other edges are extras."""
    count = len(cell.operations)
    last = {target: source for source, target in cell.edges}  # sorted: the last one stays
    read = {(source, target) for target, source in last.items() if target <= count}
    implied = _closed(read | {e for e in cell.edges if e[1] <= count}, count)
    extras = [
        f"{VERTICES[source]}-{VERTICES[target] if target <= count else OUTPUT}"
        for source, target in cell.edges
        if (source, target) not in read and not (target > count and (source, target) in implied)
    ]
    less = MOST - count
    picked = [LESS] * less + extras
    picked += [NONE] * (less + ROOM[count] - len(picked))
    decisions: dict[str, Option] = {f"extra{i}": pick for i, pick in enumerate(picked, start=1)}
    sources: list[int] = []
    for vertex, operation in enumerate(cell.operations, start=1):
        if vertex > 1:
            decisions[_source(vertex, sources)[0]] = VERTICES[last[vertex]]
            sources.append(last[vertex])
        decisions[f"vertex{vertex}/operation"] = operation
    return Architecture.owning(decisions)


def _source(vertex: int, sources: Sequence[int]) -> tuple[str, tuple[str, ...]]:
    """Name and options of the choice of a vertex' source, after those of the ones before."""
    if vertex == MOST and not any(sources):
        return f"vertex{vertex}/inner source", VERTICES[1:vertex]
    return f"vertex{vertex}/source", VERTICES[:vertex]


def _closed(edges: set[Edge], count: int) -> set[Edge]:
    """The edges, and those to the output from vertices that nobody reads."""
    reading = {source for source, _ in edges}
    loose = (vertex for vertex in range(1 if count else 0, count + 1) if vertex not in reading)
    return edges | {(vertex, count + 1) for vertex in loose}


def _answers(architecture: Mapping[str, Option]) -> Ask:
    """Answers from the decisions of an architecture."""

    def ask(name: str, options: tuple[str, ...]) -> Any:
        option = architecture.get(name)
        if option not in options:
            what = "lacks" if option is None else f"has {option!r} for"
            raise InvalidArchitecture(
                f"the architecture {what} choice {name!r}; its options are {list(options)}"
            )
        return option

    return ask
