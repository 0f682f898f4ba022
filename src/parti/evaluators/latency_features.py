"""Architectures as rows of numbers from which latency can be learned.

    counts     how often each option is taken, wherever: how many conv3, how many of width 16
    choices    what was decided, choice by choice
    graph      operations that the output depends on, their number in a row, and connections
    network    calls, MACs and outputs by kind of layer and resolution, as a roofline has them

The first two groups take any space; the third one that draws graphs, and the fourth one that
builds networks, when the shape of an image is given. Counts and graph differ where a runtime is
cleverer than the network: PyTorch computes an operation whose result is not used, a compiler
leaves it out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture
from parti.core.errors import TrialError
from parti.core.graph import Graph
from parti.core.protocols import Space
from parti.core.walks import graph_of, sample
from parti.spaces.paths import Bag, decisions, vectors

__all__ = ["LatencyFeatures"]

Floats = NDArray[np.float64]

GROUPS = ("counts", "choices", "graph", "network")
REFERENCE = 150
"""Random architectures by which columns are found and scaled."""

PLACE = re.compile(r"\[[^]]*\]|\d+")
"""What tells two places of one kind apart in the name of a choice."""


class LatencyFeatures:
    """Rows of numbers for the architectures of one space, in groups.

    The columns follow from the space alone: they are those that vary among random members.

    Args:
        space: what the architectures belong to.
        input_shape: (channels, height, width) of one image, to count what networks compute, in
            some 10 ms each; None to look at the architectures alone.
    """

    def __init__(self, space: Space, input_shape: Sequence[int] | None = None) -> None:
        self._space = space
        self._input_shape = None if input_shape is None else tuple(input_shape)
        self._known: dict[str, Mapping[str, Bag]] = {}
        random = Random(0)
        members = [sample(space, random) for _ in range(REFERENCE)]
        self.reference = tuple({a.fingerprint: a for a in members}.values())
        """Random members, all different."""
        bags = [self._describe(architecture) for architecture in self.reference]
        self._groups = {
            group: columns
            for group in GROUPS
            if (columns := _Columns([bag.get(group, {}) for bag in bags])).names
        }

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that this space has, in the order of `rows`."""
        return tuple(self._groups)

    def rows(self, architectures: Iterable[Architecture]) -> list[Floats]:
        """Describe architectures.

        Args:
            architectures: members of the space.

        Returns:
            A matrix for each group, shape (architectures, columns of the group); a group counts
            as much as any other, whatever the number of its columns.

        Raises:
            TrialError: a network cannot be counted on images of the shape given.
        """
        bags = [self._describe(architecture) for architecture in architectures]
        return [
            columns.rows([bag.get(group, {}) for bag in bags])
            for group, columns in self._groups.items()
        ]

    def _describe(self, architecture: Architecture) -> Mapping[str, Bag]:
        key = architecture.fingerprint
        if key not in self._known:
            taken = decisions(architecture)
            groups: dict[str, Bag] = {"choices": taken, "counts": _counts(taken)}
            graph = graph_of(self._space, architecture)
            if graph is not None:
                groups["graph"] = _of_graph(graph)
            if self._input_shape is not None:
                groups["network"] = _of_network(self._space, architecture, self._input_shape)
            self._known[key] = groups
        return self._known[key]


class _Columns:
    """The columns of one group, and their scales."""

    def __init__(self, bags: Sequence[Bag]) -> None:
        names = sorted({name for bag in bags for name in bag})
        matrix = np.asarray(vectors(bags, names), dtype=np.float64)
        spread = matrix.std(axis=0) if names else np.zeros(0)
        varies = spread > 1e-9 * np.abs(matrix).max(axis=0, initial=0.0)
        self.names = [name for name, kept in zip(names, varies, strict=True) if kept]
        self._mean = matrix.mean(axis=0)[varies] if names else spread
        self._scale = spread[varies] * np.sqrt(len(self.names))

    def rows(self, bags: Sequence[Bag]) -> Floats:
        rows: Floats = (vectors(bags, self.names) - self._mean) / self._scale
        return rows


def _counts(taken: Bag) -> Bag:
    counts: Counter[str] = Counter()
    for decision in taken:
        name, _, option = decision.partition("=")
        counts[f"{PLACE.sub('', name)}={option}"] += 1
    return {name: float(count) for name, count in counts.items()}


def _of_graph(graph: Graph) -> Bag:
    bag = {name: float(count) for name, count in Counter(graph.labels).items()}
    before: defaultdict[int, list[int]] = defaultdict(list)
    for source, target in graph.edges:
        before[target].append(source)
    depths: dict[int, int] = {}

    def depth(vertex: int) -> int:
        if vertex not in depths:
            depths[vertex] = 1 + max(map(depth, before[vertex]), default=0)
        return depths[vertex]

    bag["in a row"] = float(max(map(depth, range(len(graph.labels))), default=0))
    bag["connections"] = float(len(graph.edges))
    bag["connected"] = float(bool(graph.edges))
    return bag


def _of_network(space: Any, architecture: Architecture, input_shape: tuple[int, ...]) -> Bag:
    import torch

    from parti.evaluators.complexity import complexity

    if not hasattr(space, "build"):
        raise TrialError(f"{space!r} builds no networks; leave out input_shape")
    with torch.random.fork_rng(devices=[]):
        cost = complexity(space.build(architecture), input_shape)
    bag: defaultdict[str, float] = defaultdict(float)
    bag |= cost.metrics
    bag |= {f"{kind} macs": float(macs) for kind, macs in cost.macs_by_operation.items()}
    holders = {row.name.rpartition(".")[0] for row in cost.modules}
    for row in cost.modules:
        if row.name in holders or row.output_shape is None:
            continue
        size = "x".join(map(str, row.output_shape[2:]))
        kind = f"{row.type} {size}".strip()
        bag[f"{kind} calls"] += 1.0
        bag[f"{kind} macs"] += float(row.macs)
        bag[f"{kind} outputs"] += float(np.prod(row.output_shape))
    return dict(bag)
