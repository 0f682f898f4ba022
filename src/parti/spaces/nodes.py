"""Cells of nodes with two inputs each: their canonical numbering, and their graph.

What `cell` and `darts` have in common. A node applies one operation to each of two sources and
sums the results; a source is one of the cell's inputs (`INPUTS`) or an earlier node (`node1`,
`node2`, ...); the outputs of all nodes are concatenated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from parti.core.graph import Graph

__all__ = ["INPUTS", "Node", "draw_cells", "first_numbering"]

INPUTS = ("previous", "earlier")
"""The cell before, and the one before that."""

Edge = tuple[str, str]
"""A source, and the operation that is applied to it."""

Node = tuple[Edge, Edge]


def first_numbering(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the numbering that stands for all that give the same cell.

    The two edges of a node may be swapped, and nodes may be numbered in any order that names
    sources before what uses them. Of all these it is the first in alphabetical order; n nodes
    have at most n! of them, which is why cells stay small.

    Args:
        nodes: of one cell, in order; sources are inputs or earlier nodes.
    """
    return min(_renumbered(nodes), default=())


def draw_cells(cells: Mapping[str, Sequence[Node]]) -> Graph:
    """Draw cells as one graph, one component for each.

    A cell has a vertex for each input, each operation and each node (the sum of its two
    operations), and one for its output, the concatenation. Labels are prefixed with the cell's
    name: `normal/earlier`, `normal/sep3`, `normal/node`, `normal/output`.

    Args:
        cells: the nodes of each cell by its name.
    """
    labels: list[str] = []
    edges: list[tuple[int, int]] = []

    def vertex(label: str, *sources: int) -> int:
        edges.extend((source, len(labels)) for source in sources)
        labels.append(label)
        return len(labels) - 1

    for name, nodes in cells.items():
        states = {source: vertex(f"{name}/{source}") for source in INPUTS}
        for number, node in enumerate(nodes, start=1):
            applied = [vertex(f"{name}/{operation}", states[source]) for source, operation in node]
            states[f"node{number}"] = vertex(f"{name}/node", *applied)
        vertex(f"{name}/output", *list(states.values())[len(INPUTS) :])
    return Graph(tuple(labels), tuple(edges))


def _renumbered(nodes: Sequence[Node]) -> Iterator[tuple[Node, ...]]:
    """The nodes in every order that names sources before what uses them, edges sorted."""

    def extend(done: tuple[Node, ...], names: dict[str, str]) -> Iterator[tuple[Node, ...]]:
        if len(done) == len(nodes):
            yield done
        for number, node in enumerate(nodes, start=1):
            if f"node{number}" in names or not all(source in names for source, _ in node):
                continue
            first, second = sorted((names[source], operation) for source, operation in node)
            known = {**names, f"node{number}": f"node{len(done) + 1}"}
            yield from extend((*done, (first, second)), known)

    return extend((), {source: source for source in INPUTS})
