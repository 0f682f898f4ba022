"""Speed of a first-order step of DARTS: parti's supernet against the straightforward network.

All variants begin with the same weights and see the same batches of random images. They take their
steps in turns, in one process, so that whatever else the machine does falls on all of them; times
are medians, of the ratios too. A step updates the architecture parameters on one batch and the
weights on another. Losses are compared at every step, from the same weights: left alone, rounding
drives any two apart, even the plain network in two memory formats (docs/decisions). Memory is the
most that a process of its own takes for two steps (on a GPU: what torch allocates), beyond what it
took before.

    python -m benchmarks.bench_supernet [--batch 16] [--steps 20] [--device cpu] [--threads 2]
        [--variants plain,parti]
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.plain_darts import FirstOrder, SearchNetwork
from benchmarks.tables import print_table
from parti.networks.darts import Cell
from parti.recipes.relaxation import Relaxation
from parti.spaces.darts import darts
from parti.supernets import fused_library
from parti.supernets.fused_cells import fuse
from parti.supernets.share import Relaxed, Supernet, supernet
from parti.supernets.subnets import mix

CLOSE = 1e-4
"""By how much losses may differ, in float32."""

SEPARABLE = (3, 3, 5, 5, 3, 5)
"""Kernels of an edge's separable convolutions."""


class Mixed(nn.Module):
    """A supernet whose options are mixed by its architecture parameters."""

    def __init__(self, network: Supernet, relaxation: Relaxation) -> None:
        super().__init__()
        self.supernet = network
        self.relaxation = relaxation

    def forward(self, x: Tensor) -> Tensor:
        mix(self.supernet, self.relaxation.weights(), self.relaxation.active())
        return self.supernet(x)


def shared(plain: SearchNetwork) -> Mixed:
    """Parti's supernet of the same cells, with the weights of a plain network."""
    network = supernet(darts(), Relaxed(affine=False, normalize_pools=True))
    for cell in network.network.modules():
        if isinstance(cell, Cell):
            # In the authors' code nothing in a cell has a scale and a shift.
            for module in cell.enter.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight = module.bias = None
    mixed = Mixed(network, Relaxation(network))
    copy_parameters(plain, mixed)
    return mixed


@torch.no_grad()
def copy_parameters(plain: SearchNetwork, to: SearchNetwork | Mixed) -> None:
    """Give a network the weights and architecture parameters of a plain one."""
    if isinstance(to, SearchNetwork):
        for own, given in zip(to.parameters(), plain.parameters(), strict=True):
            own.copy_(given)
        return
    alphas = {id(alpha) for alpha in plain.alphas.values()}
    weights = [weight for weight in plain.parameters() if id(weight) not in alphas]
    for own, given in zip(to.supernet.network.parameters(), weights, strict=True):
        own.copy_(given)
    rows = torch.cat(list(plain.alphas.values()))
    for alpha, row in zip(to.relaxation.alphas.values(), rows, strict=True):
        alpha.copy_(row.roll(-1))  # `none` comes last here


@dataclass(frozen=True)
class Variant:
    """A way to compute the same.

    Args:
        parti: whether it is parti's supernet.
        fused: whether its cells are fused.
        native: whether its kernels are compiled for the processor.
        channels_last: memory format.
    """

    parti: bool = False
    fused: bool = False
    native: bool = False
    channels_last: bool = False

    def trainer(self, plain: SearchNetwork, device: str) -> FirstOrder:
        network = shared(plain) if self.parti else copy.deepcopy(plain)
        if isinstance(network, Mixed) and self.fused:
            fuse(network.supernet)
        if self.channels_last:
            network = network.to(memory_format=torch.channels_last)
        network = network.to(device)
        held = network.relaxation.alphas if isinstance(network, Mixed) else network.alphas
        return FirstOrder(network, held.values(), freeze=self.parti)


VARIANTS = {
    "plain": Variant(),
    "plain-channels-last": Variant(channels_last=True),
    "unfused": Variant(parti=True, channels_last=True),
    "torch": Variant(parti=True, fused=True, channels_last=True),
    "parti": Variant(parti=True, fused=True, native=True, channels_last=True),
}


class Side:
    """A variant at work."""

    def __init__(self, name: str, plain: SearchNetwork, device: str) -> None:
        self.name = name
        self.variant = VARIANTS[name]
        self.trainer = self.variant.trainer(plain, device)
        self.device = device

    def step(self, number: int, batch: int) -> tuple[float, Tensor]:
        """Take a step; return its seconds, and the two losses."""
        draw = torch.Generator().manual_seed(number)
        batches = []
        for _ in range(2):
            images = torch.randn(batch, 3, 32, 32, generator=draw)
            if self.variant.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            labels = torch.randint(0, 10, (batch,), generator=draw)
            batches.append((images.to(self.device), labels.to(self.device)))
        with kernels(self.variant.native):
            self._wait()
            began = time.perf_counter()
            losses = self.trainer.step(*batches)
            self._wait()
        return time.perf_counter() - began, losses.cpu()

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


class kernels:  # noqa: N801 - reads as a statement
    """Whether compiled kernels are used, for a while."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted

    def __enter__(self) -> None:
        self.before = fused_library.library
        if not self.wanted:
            fused_library.library = lambda: None

    def __exit__(self, *_: object) -> None:
        fused_library.library = self.before


def floor(batch: int) -> tuple[float, float]:
    """Least work of a step: billions of operations, and billions of bytes of cells' results.

    Operations are those of convolutions, forwards, and twice that backwards for the weights, once
    for the architecture parameters. Bytes: of each operation what the last normalization needs is
    written once and read twice forwards, read twice and its gradient written and read backwards.
    """
    macs = numbers = 0
    channels, size, width, earlier = 16, 32, 48, 48
    for number in range(8):
        reduction = number in (2, 5)
        if reduction:
            channels, size = 2 * channels, size // 2
        pixels = size * size
        macs += (earlier + width) * channels * pixels * (4 if reduction else 1)
        macs += 14 * sum(kernel**2 * channels + channels**2 for kernel in SEPARABLE) * pixels
        macs += 8 * channels**2 * pixels if reduction else 0
        numbers += 14 * len(SEPARABLE) * channels * pixels
        earlier, width = width, 4 * channels
    operations = 2 * macs * (3 + 2) * batch
    return operations / 1e9, 4 * numbers * 7 * 2 * batch / 1e9


def memory(name: str, options: argparse.Namespace) -> str:
    """Megabytes that a variant takes."""
    if options.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        side = Side(name, SearchNetwork(), "cuda")
        for number in range(2):
            side.step(number, options.batch)
        return f"{(torch.cuda.max_memory_allocated() - before) / 2**20:.0f}"
    arguments = ["--memory-of", name, "--batch", str(options.batch)]
    command = [sys.executable, "-m", "benchmarks.bench_supernet", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def print_memory(name: str, batch: int) -> None:
    """What `memory` runs in a process of its own."""
    side = Side(name, SearchNetwork(), "cpu")
    before = peak()
    for number in range(2):
        side.step(number, batch)
    print(f"{(peak() - before) / 1024:.0f}")


def peak() -> int:
    """Most kilobytes that this process has had; `getrusage` would begin with its parent's."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) if found else 0


@dataclass
class Steps:
    """What the steps of a variant took, and gave.

    Args:
        seconds: by the clock, of each step.
        processor: seconds of this process's threads.
        losses: two of each step.
    """

    seconds: list[float]
    processor: list[float]
    losses: list[Tensor]

    def apart(self, other: Steps) -> float:
        """Largest difference of losses."""
        return float((torch.stack(self.losses) - torch.stack(other.losses)).abs().max())


def take(sides: Sequence[Side], steps: int, batch: int) -> dict[str, Steps]:
    """Let variants take their steps in turns, each from the weights that the first has."""
    taken = {side.name: Steps([], [], []) for side in sides}
    for number in range(steps):
        for side in sides[1:]:
            copy_parameters(sides[0].trainer.network, side.trainer.network)
        for side in sides:
            processor = time.process_time()
            seconds, losses = side.step(number, batch)
            found = taken[side.name]
            found.processor.append(time.process_time() - processor)
            found.seconds.append(seconds)
            found.losses.append(losses)
    return taken


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when losses differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20, help="of each variant, at least 2")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--variants", default=",".join(VARIANTS), help="the first is plain")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.memory_of:
        print_memory(options.memory_of, options.batch)
        return 0
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    plain = SearchNetwork()
    sides = [Side(name, plain, options.device) for name in options.variants.split(",")]
    taken = take(sides, options.steps, options.batch)
    first = taken[sides[0].name]

    def ratio(one: Sequence[float], other: Sequence[float]) -> str:
        # The first step is not counted: it allocates memory, and chooses algorithms.
        pairs = list(zip(one, other, strict=True))[1:]
        return f"{statistics.median(a / b for a, b in pairs):.1f}"

    operations, bytes_moved = floor(options.batch)
    print(
        f"torch {torch.__version__}, {options.device}, {options.threads} threads, batch "
        f"{options.batch}, float32\nfloor: {operations:.0f} billion operations, "
        f"{bytes_moved:.1f} GB through memory"
    )
    print_table(
        ("step of", "seconds", "processor s", "times as fast", "by processor", "loss apart", "MB"),
        [
            (
                name,
                f"{statistics.median(found.seconds[1:]):.3f}",
                f"{statistics.median(found.processor[1:]):.2f}",
                ratio(first.seconds, found.seconds),
                ratio(first.processor, found.processor),
                f"{found.apart(first):.1e}",
                memory(name, options),
            )
            for name, found in taken.items()
        ],
    )
    return int(max(found.apart(first) for found in taken.values()) > CLOSE)


if __name__ == "__main__":
    sys.exit(main())
