"""When graphs are one: certificates that are equal for isomorphic graphs, and only for these."""

from __future__ import annotations

from collections.abc import Sequence

from parti.core.graph import Graph

__all__ = ["Certificate", "certificate"]

Certificate = tuple[tuple[str, ...], tuple[tuple[int, int], ...]]
"""Labels and edges of a graph whose vertices stand in an order that depends on nothing else."""


def certificate(graph: Graph) -> Certificate:
    """Return what is equal for two graphs if and only if they are isomorphic.

    Vertices are told apart by their labels and, again and again, by what they are connected to.
    Where that does not tell them apart, each of them is tried as the first, and the least result
    is taken: exact, and quick for the small graphs of cells.

    Args:
        graph: labelled and directed; it may have several edges from one vertex to another.
    """
    names = sorted(set(graph.labels))
    return _least(graph, _refined(graph, [names.index(label) for label in graph.labels]))


def _least(graph: Graph, colours: Sequence[int]) -> Certificate:
    alike = next((c for c in sorted(colours) if colours.count(c) > 1), None)
    if alike is None:
        labels = tuple(label for _, label in sorted(zip(colours, graph.labels, strict=True)))
        edges = tuple(sorted((colours[start], colours[end]) for start, end in graph.edges))
        return labels, edges
    tried = []
    for vertex, colour in enumerate(colours):
        if colour == alike:
            apart = [2 * c + 1 for c in colours]
            apart[vertex] -= 1
            tried.append(_least(graph, _refined(graph, apart)))
    return min(tried)


def _refined(graph: Graph, colours: Sequence[int]) -> list[int]:
    """Colours from 0 on, finer until vertices of one colour have neighbours of the same colours."""
    while True:
        before: list[list[int]] = [[] for _ in colours]
        after: list[list[int]] = [[] for _ in colours]
        for start, end in graph.edges:
            before[end].append(colours[start])
            after[start].append(colours[end])
        seen = [
            (colour, sorted(ins), sorted(outs))
            for colour, ins, outs in zip(colours, before, after, strict=True)
        ]
        kinds: list[tuple[int, list[int], list[int]]] = []
        for kind in sorted(seen):
            if not kinds or kinds[-1] != kind:
                kinds.append(kind)
        finer = [kinds.index(kind) for kind in seen]
        if len(kinds) == len(set(colours)):
            return finer
        colours = finer
