"""A cell of NAS-Bench-101 as a graph: pruned, numbered canonically, hashed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import md5

from parti.networks.nasbench101 import VERTEX_OPERATIONS, Edge

__all__ = ["MOST_EDGES", "MOST_VERTICES", "OPERATIONS", "Cell", "hash_of", "prune", "renumber"]

MOST_VERTICES = 7
"""Those of input and output among them."""

MOST_EDGES = 9

OPERATIONS = tuple(VERTEX_OPERATIONS)
"""In the order of the benchmark, which numbers them so in its hash."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A graph in which every vertex lies on a path from the input to the output.

    Args:
        operations: of the interior vertices, 1 to n; the input is vertex 0, the output n + 1.
        edges: from a vertex to a later one, sorted.
    """

    operations: tuple[str, ...]
    edges: tuple[Edge, ...]

    @property
    def output(self) -> int:
        """The output's number."""
        return len(self.operations) + 1


def prune(operations: Sequence[str], edges: Iterable[Edge]) -> Cell | None:
    """Leave out the vertices that lie on no path from the input to the output.

    Args:
        operations: of the interior vertices.
        edges: from a vertex to a later one.

    Returns:
        The cell, its vertices numbered anew in the same order; None when there is no path.
    """
    output = len(operations) + 1
    ordered = sorted(edges)
    reached, useful = {0}, {output}
    for source, target in ordered:
        if source in reached:
            reached.add(target)
    for source, target in reversed(ordered):
        if target in useful:
            useful.add(source)
    if output not in reached:
        return None
    return _numbered(operations, ordered, sorted(reached & useful - {0, output}))


@lru_cache(maxsize=65_536)
def renumber(cell: Cell) -> Cell:
    """Return the one cell that stands for all that only number their vertices differently.

    Of all orders in which edges go forward it takes the first by operations, then by edges.
    """
    numbered = (_numbered(cell.operations, cell.edges, order) for order in _orders(cell))
    return min(numbered, key=lambda found: (found.operations, found.edges))


def hash_of(cell: Cell) -> str:
    """Return the benchmark's hash of a cell, 32 hexadecimal digits.

    Every vertex starts with the hash of its degrees and its operation, and then takes in those
    of its neighbours, as many times as there are vertices. Isomorphic cells have the same hash.
    """
    vertices = range(cell.output + 1)
    sources: list[list[int]] = [[] for _ in vertices]
    targets: list[list[int]] = [[] for _ in vertices]
    for source, target in cell.edges:
        sources[target].append(source)
        targets[source].append(target)
    numbers = [-1, *map(OPERATIONS.index, cell.operations), -2]
    hashes = [_md5(str((len(targets[v]), len(sources[v]), numbers[v]))) for v in vertices]
    for _ in vertices:
        hashes = [
            _md5("|".join((_together(hashes, sources[v]), _together(hashes, targets[v]), known)))
            for v, known in enumerate(hashes)
        ]
    return _md5(str(sorted(hashes)))


def _numbered(operations: Sequence[str], edges: Iterable[Edge], order: Sequence[int]) -> Cell:
    """The cell of the interior vertices in `order`, and of the edges between those."""
    new = {0: 0, len(operations) + 1: len(order) + 1}
    new.update((old, place) for place, old in enumerate(order, start=1))
    return Cell(
        tuple(operations[old - 1] for old in order),
        tuple(sorted((new[s], new[t]) for s, t in edges if s in new and t in new)),
    )


def _orders(cell: Cell) -> Iterator[tuple[int, ...]]:
    """The orders of interior vertices in which edges go forward, first operations first."""
    sources: dict[int, set[int]] = {vertex: set() for vertex in range(1, cell.output)}
    for source, target in cell.edges:
        if source > 0 and target in sources:
            sources[target].add(source)

    def extend(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        ready = [v for v in sources if v not in order and sources[v].issubset(order)]
        if not ready:
            yield order
            return
        first = min(cell.operations[v - 1] for v in ready)
        for vertex in ready:
            if cell.operations[vertex - 1] == first:
                yield from extend((*order, vertex))

    return extend(())


def _together(hashes: Sequence[str], vertices: Iterable[int]) -> str:
    return "".join(sorted(hashes[vertex] for vertex in vertices))


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()
