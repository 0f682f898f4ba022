"""An architecture as a graph: what a strategy may know of it beyond its decisions."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Graph"]


@dataclass(frozen=True, slots=True)
class Graph:
    """A labelled directed acyclic graph: operations are vertices, data flows along edges.

    Isomorphic architectures have isomorphic graphs. A space of several cells gives one graph
    with one component per cell, and labels that name the cell (`normal/sep3`).

    Args:
        labels: what each vertex does; inputs and outputs are vertices too.
        edges: (from, to) pairs of places in `labels`.
    """

    labels: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
