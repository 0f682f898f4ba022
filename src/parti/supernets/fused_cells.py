"""Cells that `fused` computes: of supernets, all of whose choices are mixed, and of networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from parti.networks.darts import Cell
from parti.networks.nasbench201 import EDGES, EdgeCell
from parti.supernets.fused import Edge, FusedCell
from parti.supernets.fused_library import LANES, suits
from parti.supernets.fused_parts import hooked
from parti.supernets.modules import Gates, Mixture, Switch
from parti.supernets.share import PartialChannels, Supernet

__all__ = ["decided", "fuse"]

INPUTS = ("earlier", "previous")
"""What a cell of DARTS calls its inputs, in the order in which it takes them."""


def fuse(supernet: Supernet) -> int:
    """Let every cell that can be fused compute its mixtures so from now on.

    Those are the cells of DARTS and of NAS-Bench-201. Nothing else changes: not the names of
    weights, nor what is computed, up to rounding. A cell with a decided choice, or one that drops
    operations at random, still runs one operation after the other. Hooks that the operations have
    now are called; hooks that they get later are not, where they are mixed.

    Args:
        supernet: changed in place.

    Returns:
        How many cells are fused.
    """
    count = 0
    for module in supernet.network.modules():
        forward = _darts(module) or _edges(module)
        if forward is not None:
            # An attribute of the instance hides the method of its class.
            module.__dict__["forward"] = forward
            count += 1
    return count


def decided(cell: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Find what computes a cell of DARTS in training, each of whose edges is one operation.

    Up to rounding it gives what the cell gives, by kernels where there are any, and otherwise
    leaves it to the cell, as when operations are dropped at random. It looks at the operations'
    modules now: hooks that they have are called, hooks that they get later are not.

    Args:
        cell: any module.

    Returns:
        What to call in place of its `forward`; None for other modules, and for a cell of so many
        channels that there are no kernels.
    """
    if type(cell) is not Cell or not all(type(node) is nn.ModuleDict for node in cell.nodes):
        return None
    # Without kernels `fused_torch` would do it, which takes a sixth longer than the cell does; not
    # so in supernets, where more is alike.
    without_kernels = _width(cell) % LANES > 0
    return None if without_kernels or hooked(cell.drop_path) else _Decided(cell)


class _Decided:
    """A sum of operations is a mixture in which each weighs 1."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        names = _states(cell)
        self.nodes = [
            [Edge(names.index(name), (operation,)) for name, operation in node.items()]
            for node in cast(Sequence[nn.ModuleDict], cell.nodes)
        ]
        self.fused = FusedCell(self.nodes, inputs=len(INPUTS))

    def __call__(self, earlier: Tensor, previous: Tensor) -> Tensor:
        cell = self.cell
        learns = cell.training and torch.is_grad_enabled()
        if not learns or cell.drop_path.rate > 0 or not suits(earlier):
            return Cell.forward(cell, earlier, previous)
        one = earlier.new_ones(1)
        weights = [[one] * len(edges) for edges in self.nodes]
        return torch.cat(self.fused(_entered(cell, earlier, previous), weights), dim=1)


def _width(cell: Cell) -> int:
    """Channels of what operations start from, by its last normalization; 1 where it has none."""
    norms = [norm for norm in cell.enter[INPUTS[0]].modules() if type(norm) is nn.BatchNorm2d]
    return norms[-1].num_features if norms else 1


def _states(cell: Cell) -> list[str]:
    """Names of what operations start from."""
    return [*INPUTS, *(f"node{number}" for number in range(1, len(cell.nodes) + 1))]


def _entered(cell: Cell, earlier: Tensor, previous: Tensor) -> list[Tensor]:
    """The first of the states, whatever order the cell holds its entries in."""
    given = zip(INPUTS, (earlier, previous), strict=True)
    return [cell.enter[name](x) for name, x in given]


def _darts(cell: nn.Module) -> _DartsForward | None:
    if type(cell) is not Cell or not all(isinstance(node, Gates) for node in cell.nodes):
        return None
    gates = [cast(Gates, node) for node in cell.nodes]
    if not all(_switch(module) for node in gates for module in node._modules.values()):
        return None
    return _DartsForward(cell, gates)


def _edges(cell: nn.Module) -> _EdgeForward | None:
    if type(cell) is not EdgeCell or not all(_switch(cell.edges[name]) for name in EDGES):
        return None
    return _EdgeForward(cell)


def _switch(module: nn.Module | None) -> Switch | None:
    """The switch of an edge."""
    inner = module.switch if isinstance(module, PartialChannels) else module
    return inner if isinstance(inner, Switch) else None


class _Mixtures:
    """The mixtures of a cell's edges, and where they are computed.

    Args:
        nodes: for each node its edges: source and module.
        inputs: how many states the cell begins with.
    """

    def __init__(self, nodes: Sequence[Sequence[tuple[int, nn.Module]]], inputs: int) -> None:
        switches = [[(source, _switch(module)) for source, module in edges] for edges in nodes]
        self.switches = [[switch for _, switch in edges if switch] for edges in switches]
        parts = {
            module.parts if isinstance(module, PartialChannels) else 1
            for edges in nodes
            for _, module in edges
        }
        self.cell = FusedCell(
            [
                [Edge(source, tuple(switch.values())) for source, switch in edges if switch]
                for edges in switches
            ],
            inputs,
            partial=parts.pop(),
        )

    def __call__(
        self, states: Sequence[Tensor], gates: Sequence[Mixture] | None = None
    ) -> list[Tensor] | None:
        """Return the nodes, or None when something is decided.

        Args:
            states: the inputs of the cell.
            gates: of each node; all edges are open, with weight 1, when None.
        """
        found = [
            [switch.state.mixtures.get(switch.choice.name) for switch in edges]
            for edges in self.switches
        ]
        mixtures = [[mixture for mixture in edges if mixture] for edges in found]
        if [len(edges) for edges in mixtures] != [len(edges) for edges in self.switches]:
            return None
        wanted = [
            [
                mixture.active if gates is None or place in gates[node].active else ()
                for place, mixture in enumerate(edges)
            ]
            for node, edges in enumerate(mixtures)
        ]
        weights = [[mixture.weights for mixture in edges] for edges in mixtures]
        return self.cell(
            states, weights, wanted, None if gates is None else [gate.weights for gate in gates]
        )


class _DartsForward:
    """What a cell of DARTS does with its inputs.

    Args:
        cell: whose edges are switches.
        gates: its nodes.
    """

    def __init__(self, cell: Cell, gates: Sequence[Gates]) -> None:
        self.cell = cell
        self.gates = gates
        names = _states(cell)
        self.mixtures = _Mixtures(
            [
                [(names.index(label), module) for label, module in node._modules.items() if module]
                for node in gates
            ],
            inputs=len(INPUTS),
        )

    def __call__(self, earlier: Tensor, previous: Tensor) -> Tensor:
        found = [node.state.mixtures.get(node.choice.name) for node in self.gates]
        gates = [mixture for mixture in found if mixture]
        drops = self.cell.training and self.cell.drop_path.rate > 0
        nodes = None
        if len(gates) == len(self.gates) and not drops:
            nodes = self.mixtures(_entered(self.cell, earlier, previous), gates)
        if nodes is None:
            return Cell.forward(self.cell, earlier, previous)
        return torch.cat(nodes, dim=1)


class _EdgeForward:
    """What a cell of NAS-Bench-201 does with its input.

    Args:
        cell: whose edges are switches.
    """

    def __init__(self, cell: EdgeCell) -> None:
        self.cell = cell
        nodes: dict[int, list[tuple[int, nn.Module]]] = {}
        for name in EDGES:
            source, node = map(int, name.split("-"))
            nodes.setdefault(node, []).append((source, cell.edges[name]))
        self.mixtures = _Mixtures([nodes[node] for node in sorted(nodes)], inputs=1)

    def __call__(self, x: Tensor) -> Tensor:
        nodes = self.mixtures([x])
        return EdgeCell.forward(self.cell, x) if nodes is None else nodes[-1]
