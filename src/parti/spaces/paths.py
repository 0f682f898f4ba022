"""Architectures as bags of features: the paths and the subtrees of their graphs.

Paths: White, Neiswanger, Savani, "BANANAS: Bayesian Optimization with Neural Architectures for
Neural Architecture Search", AAAI 2021, section 4. There is one feature for each sequence of
operations that leads from an input to an output.

Subtrees: Shervashidze, Schweitzer, van Leeuwen, Mehlhorn, Borgwardt, "Weisfeiler-Lehman Graph
Kernels", JMLR 12, 2011; on architectures Ru, Wan, Dong, Osborne, "Interpretable Neural
Architecture Search via Bayesian Optimisation with Weisfeiler-Lehman Kernels", ICLR 2021. There is
one feature for each operation together with what follows it, up to so many edges away.

Isomorphic graphs have equal bags. An architecture of a space that draws no graph is the bag of
its decisions, `width=16`, which needs no static tree: choices that do not exist add nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import InvalidSettings
from parti.core.graph import Graph
from parti.core.protocols import Space
from parti.core.walks import graph_of

__all__ = ["Bag", "decisions", "path_bag", "paths", "subtree_bags", "subtrees", "vectors"]

Bag = Mapping[str, float]
"""How often each feature occurs; features that are not in it occur never."""

MOST_PATHS = 4_096
"""A graph with more paths than this is described by its shorter ones."""


def decisions(architecture: Architecture) -> dict[str, float]:
    """Return the bag of an architecture's decisions: `width=16`, each once.

    A subset (`some_of`) gives one feature for each of its labels, `inputs=x` and `inputs=y`.
    """
    bag: dict[str, float] = {}
    for name, option in architecture.items():
        for value in (option or ("nothing",)) if isinstance(option, tuple) else (option,):
            bag[f"{name}={value}"] = 1.0
    return bag


def paths(graph: Graph, *, most: int = MOST_PATHS) -> frozenset[tuple[str, ...]]:
    """Return the labelled paths from a vertex without predecessor to one without successor.

    Args:
        graph: without cycles.
        most: once this many paths are under way at the same length, longer ones are left out; so
            the result depends on the graph alone, and not on how its vertices are numbered.

    Returns:
        Each path as the labels of its vertices, both ends included.

    Raises:
        InvalidSettings: `most` is less than 1.
    """
    if most < 1:
        raise InvalidSettings(f"at most {most} paths: it must be at least 1")
    after = _successors(graph)
    inner = {target for _, target in graph.edges}
    found: set[tuple[str, ...]] = set()
    # All distinct beginnings of one length, by the vertex where they have got to.
    reached: dict[int, set[tuple[str, ...]]] = {
        vertex: {(label,)} for vertex, label in enumerate(graph.labels) if vertex not in inner
    }
    for _ in graph.labels:
        for vertex, beginnings in reached.items():
            if not after[vertex]:
                found |= beginnings
        if sum(map(len, reached.values())) > most:
            break
        longer: dict[int, set[tuple[str, ...]]] = {}
        for vertex, beginnings in reached.items():
            for target in after[vertex]:
                label = graph.labels[target]
                longer.setdefault(target, set()).update((*path, label) for path in beginnings)
        reached = longer
    return frozenset(found)


def path_bag(space: Space, architecture: Architecture, *, most: int = MOST_PATHS) -> Bag:
    """Return the bag of an architecture's paths, or of its decisions where there is no graph.

    Args:
        space: what the architecture belongs to.
        architecture: to describe.
        most: as in `paths`.

    Returns:
        1 for each path, named `input > conv3 > output`; or 1 for each decision.
    """
    graph = graph_of(space, architecture)
    if graph is None:
        return decisions(architecture)
    return {" > ".join(path): 1.0 for path in paths(graph, most=most)}


def subtrees(graph: Graph, depth: int) -> tuple[Counter[str], ...]:
    """Count the labels of Weisfeiler-Lehman refinement, iteration by iteration.

    In iteration i a vertex is named by the operations on all ways that lead i edges on from it:
    its own name and the sorted names of its successors in iteration i - 1 make its new one.

    Args:
        graph: to refine.
        depth: number of iterations (h in the papers).

    Returns:
        depth + 1 histograms: the labels themselves, then the names of each iteration.

    Raises:
        InvalidSettings: depth is negative.
    """
    if depth < 0:
        raise InvalidSettings(f"{depth} Weisfeiler-Lehman iterations: it must be 0 or more")
    after = _successors(graph)
    names = list(graph.labels)
    histograms = [Counter(names)]
    for _ in range(depth):
        names = [
            _name(names[vertex], sorted(names[target] for target in targets))
            for vertex, targets in enumerate(after)
        ]
        histograms.append(Counter(names))
    return tuple(histograms)


def subtree_bags(space: Space, architecture: Architecture, depth: int) -> tuple[Bag, ...]:
    """Return the bags of all iterations; where there is no graph, one bag of decisions.

    Raises:
        InvalidSettings: depth is negative.
    """
    graph = graph_of(space, architecture)
    if graph is None:
        return (decisions(architecture),)
    return tuple(
        {label: float(count) for label, count in histogram.items()}
        for histogram in subtrees(graph, depth)
    )


def vectors(bags: Iterable[Bag], features: Sequence[str]) -> NDArray[np.float32]:
    """Write bags as vectors over given features; what is not among them is left out.

    Args:
        bags: to write.
        features: a name for each column.

    Returns:
        Shape (bags, features).
    """
    columns = {feature: column for column, feature in enumerate(features)}
    rows = list(bags)
    matrix = np.zeros((len(rows), len(features)), dtype=np.float32)
    for row, bag in enumerate(rows):
        for feature, value in bag.items():
            column = columns.get(feature)
            if column is not None:
                matrix[row, column] = value
    return matrix


def _successors(graph: Graph) -> list[list[int]]:
    after: list[list[int]] = [[] for _ in graph.labels]
    for source, target in graph.edges:
        after[source].append(target)
    return after


def _name(own: str, following: list[str]) -> str:
    """A short name that is equal for equal neighbourhoods, in every process."""
    text = "\0".join((own, *following))
    return blake2b(text.encode(), digest_size=8).hexdigest()
