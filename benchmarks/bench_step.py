"""A step of training on a CPU: torch's layers, parti's quicker ones, and freed memory that is kept.

Each variant is a process of its own, for what a process does with freed memory is set once; they
take turns, and of each the least processor time of a step counts, user's and system's together.
Networks are the middle ones of their spaces, channels-last, with batches of 64 images of 32x32.

    python -m benchmarks.bench_step [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F

from benchmarks.tables import print_table
from parti.core.memory import keep_freed_memory
from parti.evaluators.machine import Machine
from parti.evaluators.quick import quickened
from parti.spaces.catalogue import load_space

SPACES = ("residual", "mobile", "darts")
VARIANTS = ("torch's", "quicker layers", "and memory kept")


def seconds(space: str, variant: str, threads: int, steps: int, batch: int) -> float:
    """The least processor time of a step, in this process."""
    torch.set_num_threads(threads)
    if variant == VARIANTS[2]:
        keep_freed_memory()
    tree = load_space(space, 3, 10, 32).tree
    middle = tree.walk(lambda choice: choice.options[len(choice.options) // 2])
    network = load_space(space, 3, 10, 32).build(middle)
    network.to(memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels, best = torch.randint(10, (batch,)), float("inf")
    with (
        nullcontext()
        if variant == VARIANTS[0]
        else quickened(network, Machine(torch.device("cpu")))
    ):
        for _ in range(steps):
            began = time.process_time()
            F.cross_entropy(network(images), labels).backward()
            network.zero_grad()
            best = min(best, time.process_time() - began)
    return best


def main(argv: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    """Measure, print a table, and return its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer turns, a smaller batch")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--one", nargs=2, help="space and variant; prints seconds, for turns")
    options = parser.parse_args(argv)
    steps, batch = (2, 8) if options.quick else (6, 64)
    if options.one:
        print(seconds(*options.one, options.threads, steps, batch))
        return []
    size = ["--quick"] if options.quick else []
    rows = []
    for space in SPACES:
        found: dict[str, float] = {}
        for _ in range(1 if options.quick else 3):
            for variant in VARIANTS:
                command = [sys.executable, "-m", "benchmarks.bench_step", *size, "--one", space]
                command += [variant, "--threads", str(options.threads)]
                said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                found[variant] = min(found.get(variant, float("inf")), float(said))
        times = [found[variant] for variant in VARIANTS]
        each = [
            f"{1e3 * times[0]:.0f} ms",
            *(f"{times[0] / t:.2f} times as fast" for t in times[1:]),
        ]
        rows.append((space, *each))
    print_table(("network", *VARIANTS), rows)
    return rows


if __name__ == "__main__":
    main()
