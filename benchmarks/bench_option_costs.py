"""Whether costs of options, added up, tell how fast whole networks are.

Every option of a layer-wise space is timed in its place, in ONNX Runtime and in PyTorch, as `fbnet`
and `proxylessnas` do before they search. Then random networks are timed whole in ONNX Runtime, as
`parti search` measures latency.

    python -m benchmarks.bench_option_costs [--quick] [--networks N]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.tables import print_table
from parti.core.walks import sample
from parti.evaluators.latency import keep_scale, measure_latency
from parti.recipes.costs import ExpectedCost, expected_cost, latency_ms
from parti.spaces.fbnet import fbnet
from parti.spaces.proxylessnas import proxylessnas
from parti.supernets.share import Supernet, supernet

SPACES = {"fbnet": fbnet, "proxylessnas": proxylessnas}
SIZES = ((8, 8), (16, 32))
"""Widths, and pixels of a side."""
RUNTIMES = ("onnxruntime", "torch")


def summed(costs: ExpectedCost, shared: Supernet, architecture: dict[str, object]) -> float:
    """What an architecture costs: every choice is certain."""
    certain = {
        name: torch.tensor([float(option == architecture.get(name)) for option in choice.options])
        for name, choice in shared.choices.items()
    }
    return float(costs(certain))


def main(argv: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    """Measure, print a table, and return its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small space")
    parser.add_argument("--networks", type=int, default=20, help="that are timed whole")
    options = parser.parse_args(argv)
    before, rows = torch.get_num_threads(), []
    names = list(SPACES)[1:] if options.quick else list(SPACES)
    sizes, layers = (SIZES[:1], 1) if options.quick else (SIZES, 4)
    try:
        torch.set_num_threads(1)
        for name, (width, side) in ((name, size) for name in names for size in sizes):
            shape, space = (3, side, side), SPACES[name](3, 10, side, width=width, layers=layers)
            torch.manual_seed(0)
            shared = supernet(space)
            keep_scale(shared, torch.randn(2, *shape))
            costs, took = dict[str, ExpectedCost](), dict[str, float]()
            for runtime in RUNTIMES:
                began = time.perf_counter()
                costs[runtime] = expected_cost(shared, shape, latency_ms(runtime=runtime))
                took[runtime] = time.perf_counter() - began
            drawn = [sample(space, Random(seed)) for seed in range(options.networks)]
            whole = []
            for each in drawn:
                network = space.build(each)
                keep_scale(network, torch.randn(2, *shape))
                found = measure_latency(network, shape, runtime="onnxruntime", threads=1)
                whole.append(found.median_ms)
            for runtime in RUNTIMES:
                sums = np.array([summed(costs[runtime], shared, dict(each)) for each in drawn])
                rows.append(
                    (
                        name,
                        str(width),
                        str(side),
                        runtime,
                        f"{spearmanr(sums, whole).statistic:.2f}",
                        f"{np.median(sums / whole):.2f}",
                        f"{took[runtime]:.1f}",
                    )
                )
    finally:
        torch.set_num_threads(before)
    columns = ("space", "width", "pixels", "options in", "Spearman", "sum / latency", "seconds")
    print_table(columns, rows)
    return rows


if __name__ == "__main__":
    main()
