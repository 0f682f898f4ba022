"""Arithmetic intensity, and an estimate of the time that a machine needs at the least.

Samuel Williams, Andrew Waterman, David Patterson: "Roofline: an insightful visual performance
model for multicore architectures", Communications of the ACM 52(4), 2009. An operation cannot be
faster than its arithmetic at the machine's peak, nor than the moving of its data at the machine's
bandwidth. Summed over the modules of a network, the larger of the two is a floor of its latency.

What is assumed: float32, one image, weights read once, every activation written once and read
once by each module that uses it. Only modules that multiply are counted: runtimes fuse
normalisation, activations and sums with them. Caches are faster than memory, so bandwidth is
measured with arrays of several sizes, and that of as many bytes as are in use at once counts:
those of all weights, and of the largest activations.

Peaks are measured, so a machine that is busy meanwhile seems slower than it is. Each is the best
of many short runs of several kinds: one that takes less than a time slice of the system is soon not
interrupted. An algorithm that multiplies less than the definition (Winograd's) can still be faster.
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
SIDES = (128, 256, 512)
"""Of the square matrices that peak arithmetic is measured with."""
SIZES = tuple(2**power for power in (16, 18, 20, 22, 24))
"""Bytes of the arrays that bandwidth is measured with."""
TRIES = 5
"""At least so many runs of each kind, and more as long as they take less than `SECONDS`."""
SECONDS = 0.03


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
        bytes: of weights and activations that modules which multiply move.
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
    """Estimate the least latency of a network.

    Args:
        cost: as `complexity` counts it.
        machine: None for this one, measured once in a process.

    Returns:
        FLOPs, bytes and the floor for one image.
    """
    machine = measured_machine() if machine is None else machine
    rows = {row.name: row for row in cost.modules}
    inner = [row for row in cost.modules if row.macs and not _holds_others(row, rows)]
    costs = [(2 * row.macs, FLOAT32 * _numbers_moved(row, rows)) for row in inner]
    flops, moved = (float(sum(pair[place] for pair in costs)) for place in (0, 1))
    activations = (_numbers_moved(row, rows) - row.params for row in inner)
    in_use = FLOAT32 * (sum(row.params for row in inner) + max(activations, default=0))
    bandwidth = machine.bandwidth(in_use)
    seconds = [(work / machine.flops, size / bandwidth) for work, size in costs]
    floor = sum(map(max, seconds))
    waiting = sum(memory for arithmetic, memory in seconds if memory > arithmetic)
    return Roofline(
        flops, moved, 1e3 * floor, waiting / floor if floor else 0.0, bandwidth, machine
    )


@cache
def measured_machine() -> Machine:
    """Measure this machine's CPU with as many threads as torch uses: the best of many runs."""
    with torch.no_grad():
        flops = max(_multiplying(side) for side in SIDES)
        # Fewer bytes are moved at least as fast as more; only the overhead of a call hides that.
        best, bandwidths = 0.0, {}
        for size in reversed(SIZES):
            best = max(best, _moving(size))
            bandwidths[2 * size] = best
    return Machine(flops, bandwidths, torch.get_num_threads())


def _multiplying(side: int) -> float:
    """Operations per second in the product of two matrices."""
    matrix, product = torch.ones(side, side), torch.empty(side, side)
    return 2 * side**3 / _fastest(lambda: torch.mm(matrix, matrix, out=product))


def _moving(size: int) -> float:
    """Bytes per second, copied, read, or both, between two arrays of so many bytes."""
    source = torch.ones(size // FLOAT32)
    target = torch.zeros_like(source)
    copied = 2 * size / _fastest(lambda: target.copy_(source))
    read = 2 * size / _fastest(lambda: torch.dot(source, target))
    added = 3 * size / _fastest(lambda: torch.add(source, target, out=target))
    return max(copied, read, added)


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of many runs."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < TRIES or time.perf_counter() < end:
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
