"""Arithmetic intensity, and the time that a machine needs at the least.

Samuel Williams, Andrew Waterman, David Patterson: "Roofline: an insightful visual performance
model for multicore architectures", Communications of the ACM 52(4), 2009. An operation cannot be
faster than its arithmetic at the machine's peak, nor than the moving of its data at the machine's
bandwidth. Summed over the modules of a network, the larger of the two is a floor of its latency.

What is assumed: float32, one image, weights read once, every activation written once and read
once by each module that uses it; operations between modules (sums, concatenations) move data that
is not counted. Caches are faster than memory, so bandwidth is measured by copying arrays of several
sizes, and that of as many bytes as the network moves counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch

from parti.evaluators.complexity import ModuleCost, NetworkCost

__all__ = ["Machine", "Roofline", "measured_machine", "roofline"]

FLOAT32 = 4
SIDE = 768
"""Of the square matrices that peak arithmetic is measured with."""
COPIED = tuple(2**power for power in (16, 18, 20, 22, 24, 26))
"""Bytes of the arrays that bandwidth is measured with."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine can do at most.

    Args:
        flops: float32 operations per second, a multiply-accumulate being two.
        bandwidths: bytes per second, read or written, by how many bytes are read and written.
        threads: of the CPU that were used.
    """

    flops: float
    bandwidths: Mapping[int, float]
    threads: int

    def bandwidth(self, moved: float) -> float:
        """Bytes per second where so many are moved again and again."""
        fitting = [size for size in self.bandwidths if size >= moved]
        return self.bandwidths[min(fitting) if fitting else max(self.bandwidths)]


@dataclass(frozen=True, slots=True)
class Roofline:
    """What a network needs at the least.

    Args:
        flops: twice its MACs.
        bytes: of weights and activations that are moved.
        floor_ms: for one image, in milliseconds.
        memory_bound: share of that floor spent in modules that wait for memory, from 0 to 1.
        bandwidth: bytes per second at which they are moved.
        machine: for which.
    """

    flops: float
    bytes: float
    floor_ms: float
    memory_bound: float
    bandwidth: float
    machine: Machine

    @property
    def balance(self) -> float:
        """FLOPs per byte from which arithmetic, not memory, is the limit."""
        return self.machine.flops / self.bandwidth

    @property
    def intensity(self) -> float:
        """FLOPs per byte moved."""
        return self.flops / self.bytes if self.bytes else 0.0


def roofline(cost: NetworkCost, machine: Machine | None = None) -> Roofline:
    """Bound a network's latency from below.

    Args:
        cost: as `complexity` counts it.
        machine: None for this one, measured once in a process.

    Returns:
        FLOPs, bytes and the floor for one image.
    """
    machine = measured_machine() if machine is None else machine
    rows = {row.name: row for row in cost.modules}
    inner = [row for row in cost.modules if not _holds_others(row, rows)]
    costs = [(2 * row.macs, FLOAT32 * _numbers_moved(row, rows)) for row in inner]
    flops, moved = (float(sum(column)) for column in zip(*costs, strict=True))
    bandwidth = machine.bandwidth(moved)
    seconds = [(work / machine.flops, size / bandwidth) for work, size in costs]
    floor = sum(map(max, seconds))
    waiting = sum(memory for arithmetic, memory in seconds if memory > arithmetic)
    return Roofline(
        flops, moved, 1e3 * floor, waiting / floor if floor else 0.0, bandwidth, machine
    )


@cache
def measured_machine() -> Machine:
    """Measure this machine's CPU with as many threads as torch uses: the best of several runs."""
    matrix = torch.ones(SIDE, SIDE)
    product = torch.empty(SIDE, SIDE)
    with torch.no_grad():
        multiplying = _fastest(lambda: torch.mm(matrix, matrix, out=product), 8)
        bandwidths = {2 * size: 2 * size / _copying(size) for size in COPIED}
    return Machine(2 * SIDE**3 / multiplying, bandwidths, torch.get_num_threads())


def _copying(size: int) -> float:
    """Seconds that a copy of so many bytes takes."""
    source = torch.ones(size // FLOAT32)
    target = torch.empty_like(source)
    return _fastest(lambda: target.copy_(source), 8)


def _fastest(work: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def _numbers_moved(row: ModuleCost, rows: Mapping[str, ModuleCost]) -> int:
    """Weights, output and inputs of a module."""
    return row.params + _numbers(row) + sum(_numbers(rows[name]) for name in row.inputs)


def _numbers(row: ModuleCost) -> int:
    return math.prod(row.output_shape or (0,))


def _holds_others(row: ModuleCost, rows: Mapping[str, ModuleCost]) -> bool:
    start = f"{row.name}." if row.name else ""
    return any(name.startswith(start) and name != row.name for name in rows)
