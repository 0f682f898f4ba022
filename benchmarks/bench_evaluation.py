"""How many images a network is given at once outside training, and what that is worth on a CPU.

What a layer leaves behind is read by the next one. Of many images it no longer fits into the memory
near the core, and every layer reads and writes main memory; of few, the calls themselves take the
time. parti takes what `images_at_once` says: some 65,000 pixels. Beside it 512 images, as a batch
for evaluation often is, and one at a time. Each time is the least of three turns, in turn, of
processor time; networks are channels-last, as parti's are.

    python -m benchmarks.bench_evaluation [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from random import Random

import numpy as np
import torch

from benchmarks.tables import print_table
from parti.core.walks import sample
from parti.evaluators.feed import Pictures
from parti.evaluators.learner import images_at_once, logits_of
from parti.evaluators.machine import machine_for, place
from parti.evaluators.recipe import Recipe
from parti.spaces.catalogue import load_space

CASES = (("residual", 8), ("residual", 32), ("residual", 96), ("mobile", 32), ("mobile", 96))
PIXELS = 1_500_000
"""Of all images of a case: more would only take longer."""

TURNS = 3


def seconds(space: str, side: int, pixels: int) -> tuple[int, dict[int, float]]:
    """The number of images, and processor seconds for them by images at once."""
    count = max(16, min(2048, pixels // side**2))
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    machine = machine_for(Recipe(precision="float32", compile=False), "cpu")
    pictures = Pictures(images, (127.5,) * 3, (64.0,) * 3, machine.device)
    searched = load_space(space, 3, 10, side)
    network = searched.build(sample(searched, Random(1)))
    layout = place(network, machine, pictures.part(0, 2))
    found: dict[int, float] = {}
    for _ in range(TURNS):
        for size in (images_at_once(pictures), 512, 1):
            began = time.process_time()
            with torch.inference_mode():
                logits_of(network, pictures, layout, size)
            found[size] = min(found.get(size, float("inf")), time.process_time() - began)
    return count, found


def main(argv: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    """Measure, print a table, and return its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = parser.parse_args(argv)
    before, rows = torch.get_num_threads(), []
    try:
        torch.set_num_threads(options.threads)
        for space, side in CASES:
            count, found = seconds(space, side, PIXELS // 10 if options.quick else PIXELS)
            chosen = next(iter(found))
            rows.append(
                (
                    f"{space}, {side}x{side}",
                    f"{chosen}",
                    f"{count / found[chosen]:.0f}",
                    *(f"{found.get(size, found[chosen]) / found[chosen]:.2f}" for size in (512, 1)),
                )
            )
    finally:
        torch.set_num_threads(before)
    print_table(
        ("network", "at once", "images/s", "times as fast as 512 at once", "as one at a time"), rows
    )
    return rows


if __name__ == "__main__":
    main()
