"""Weighted sums of operations, computed for all edges of a cell that leave one state together.

Liu et al. (DARTS, ICLR 2019, equation 2) put a weighted sum of all operations on every edge. Taken
by the letter that is dozens of small operations per edge, most of which wait for memory. Here the
same modules give the same result, up to rounding, with less to do:

- What leaves one state is computed at once: one pass over the state for every convolution that
  starts there, and one pooling for all edges.
- The last normalization of an operation, its weight, and the sum over a node's operations and
  edges are one pass over memory, forwards and backwards.
- On a processor, kernels compiled for it do this image by image (`fused_native`); elsewhere torch
  does, on concatenated channels (`fused_torch`).

Parameters, running statistics and their names stay where they are. Second derivatives exist only
where torch does it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.supernets import fused_native, fused_torch
from parti.supernets.fused_library import suits
from parti.supernets.fused_parts import Chain, Halving, Normed, Part, Pool, Term, part_of

__all__ = ["Edge", "Fan", "FusedCell", "mix"]


class Fan:
    """The operations of all edges that leave one state.

    Args:
        edges: for each edge its operations, all of one state.
    """

    def __init__(self, edges: Sequence[Sequence[nn.Module]]) -> None:
        self.parts = [[part_of(operation) for operation in edge] for edge in edges]

    def __call__(
        self, state: Tensor, wanted: Sequence[Collection[int]] | None = None
    ) -> list[list[Term]]:
        """Apply the operations.

        Args:
            state: (batch, channels, h, w).
            wanted: for each edge the places of the operations that are to run; all by default.

        Returns:
            For each edge what its operations give, in the order of their places.
        """
        places = [
            (edge, place)
            for edge, parts in enumerate(self.parts)
            for place in range(len(parts))
            if wanted is None or place in wanted[edge]
        ]
        parts = [self.parts[edge][place] for edge, place in places]
        edges: list[list[Term]] = [[] for _ in self.parts]
        for (edge, _), term in zip(places, _terms(state, parts), strict=True):
            edges[edge].append(term)
        return edges


def mix(terms: Sequence[Term], weights: Tensor) -> Tensor:
    """Return the weighted sum of what operations give.

    Args:
        terms: of one shape, from any number of edges; not empty.
        weights: one for each term.
    """
    if all(suits(term.values) for term in terms):
        return fused_native.mix(fused_native.settled(terms), weights)
    return fused_torch.mix(terms, weights)


@dataclass(frozen=True)
class Edge:
    """A connection into a node.

    Args:
        source: place among the states, inputs first.
        operations: what is mixed.
    """

    source: int
    operations: Sequence[nn.Module]


class FusedCell:
    """A cell whose nodes are sums, over their edges, of weighted sums of operations.

    Args:
        nodes: for each node, in order, its edges; they come from inputs or earlier nodes.
        inputs: how many states the cell begins with.
        partial: operations see the first of so many parts of the channels; the others pass by,
            pooled where operations halve the image, and channels are shuffled at every edge
            (PC-DARTS, Xu 2020, section 3.1).
    """

    def __init__(self, nodes: Sequence[Sequence[Edge]], inputs: int, partial: int = 1) -> None:
        self.nodes = nodes
        self.inputs = inputs
        self.partial = partial
        self._leaving: list[list[tuple[int, int]]] = [[] for _ in range(inputs + len(nodes))]
        for node, edges in enumerate(nodes):
            for place, edge in enumerate(edges):
                self._leaving[edge.source].append((node, place))
        self._fans = [
            Fan([nodes[node][place].operations for node, place in edges]) for edges in self._leaving
        ]

    def __call__(
        self,
        states: Sequence[Tensor],
        weights: Sequence[Sequence[Tensor]],
        wanted: Sequence[Sequence[Collection[int]]] | None = None,
        gates: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Compute the nodes.

        Args:
            states: the inputs, (batch, channels, h, w) each.
            weights: for each node and edge the weights of its operations, (operations,).
            wanted: for each node and edge the places of the operations that are to run; the
                others count as zero, and their weights get no gradient. An edge where none runs
                gives nothing. All by default.
            gates: for each node the weights of its edges, (edges,); 1 by default.

        Returns:
            The nodes.
        """
        if wanted is None:
            wanted = [[range(len(edge.operations)) for edge in edges] for edges in self.nodes]
        arriving: list[list[list[Term]]] = [[[] for _ in edges] for edges in self.nodes]
        known: list[Tensor] = []
        for source, (leaving, fan) in enumerate(zip(self._leaving, self._fans, strict=True)):
            if source < self.inputs:
                state = states[source]
            else:
                node = source - self.inputs
                gate = None if gates is None else gates[node]
                state = self._node(node, arriving[node], known, weights[node], wanted[node], gate)
            known.append(state)
            through = state[:, : state.shape[1] // self.partial]
            found = fan(through, [wanted[node][place] for node, place in leaving])
            for (node, place), terms in zip(leaving, found, strict=True):
                arriving[node][place] = terms
        return known[self.inputs :]

    def _node(
        self,
        node: int,
        arriving: Sequence[Sequence[Term]],
        known: Sequence[Tensor],
        weights: Sequence[Tensor],
        wanted: Sequence[Collection[int]],
        gates: Tensor | None,
    ) -> Tensor:
        """Sum what arrives at a node."""
        chosen = []
        for place, (weight, places) in enumerate(zip(weights, wanted, strict=True)):
            some = weight if len(places) == len(weight) else weight[list(places)]
            chosen.append(some if gates is None else some * gates[place])
        terms = [term for edge in arriving for term in edge]
        mixed = mix(terms, torch.cat(chosen))
        if self.partial == 1:
            return mixed
        beside: list[Tensor] = []
        for place, edge in enumerate(self.nodes[node]):
            if wanted[place]:
                rest = known[edge.source][:, mixed.shape[1] :]
                if rest.shape[2:] != mixed.shape[2:]:
                    factor = -(-rest.shape[2] // mixed.shape[2])
                    rest = F.max_pool2d(rest, factor, ceil_mode=True)
                beside.append(rest if gates is None else rest * gates[place])
        joined = torch.cat([mixed, reduce(torch.add, beside)], dim=1)
        # Channel c of part p becomes channel c * parts + p, so that the next edge takes others.
        return torch.unflatten(joined, 1, (self.partial, -1)).transpose(1, 2).flatten(1, 2)


def _terms(state: Tensor, parts: Sequence[Part]) -> list[Term]:
    """Apply operations to one state, those of a kind together."""
    native = suits(state)
    terms: dict[int, Term] = {}
    kinds: dict[tuple[type, bool, int], list[int]] = {}
    for place, part in enumerate(parts):
        match part:
            case Chain() | Pool():
                by_kernel = native and fused_native.handles(part)
                kinds.setdefault((type(part), by_kernel, part.stride), []).append(place)
            case Halving():
                kinds.setdefault((Halving, False, 2), []).append(place)
            case Normed():
                terms[place] = part.term(state)
            case _:
                terms[place] = Term(part(state))
    for (kind, by_kernel, _), places in kinds.items():
        found = _RUN[kind, by_kernel](state, [parts[place] for place in places])
        terms |= zip(places, found, strict=True)
    return [terms[place] for place in range(len(parts))]


_RUN: dict[tuple[type, bool], Callable[[Tensor, Sequence[Any]], list[Term]]] = {
    (Chain, True): fused_native.chains,
    (Chain, False): fused_torch.chains,
    (Pool, True): fused_native.pools,
    (Pool, False): fused_torch.pools,
    (Halving, False): fused_torch.halvings,
}
"""What applies parts of a kind to one state, by kernels or not."""
