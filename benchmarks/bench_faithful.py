"""Faithfulness: four strategies under the protocol of NAS-Bench-201, beside the published results.

What was searched on CIFAR-10 is reported by mean test accuracy after 200 epochs on all data sets.
The protocol, and what differs, is in `benchmarks.nats_protocol`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from concurrent.futures import Executor
from functools import partial

from benchmarks.nats_protocol import BUDGETS, SEARCHED, TABLES, one_search
from benchmarks.tables import print_table
from parti.comparing.runs import open_problem
from parti.core.errors import InvalidData
from parti.executors import Processes

DATASETS = ("cifar10", "cifar100", "imagenet16_120")

PUBLISHED = {
    "random": (93.70, 0.36),
    "evolution": (93.92, 0.30),
    "reinforce": (93.85, 0.37),
    "bohb": (93.61, 0.52),
}
"""CIFAR-10 test accuracy after 12,000 s, mean and standard deviation over 500 searches."""


def accuracies(executor: Executor, name: str, seeds: int) -> list[list[list[float]]]:
    """Test accuracies [budget][dataset][seed]."""
    found = list(executor.map(partial(one_search, name), range(seeds), chunksize=5))
    truths = [open_problem(f"nasbench201/{dataset}", TABLES).truth for dataset in DATASETS]
    return [[[truth(each[i]) for each in found] for truth in truths] for i in range(len(BUDGETS))]


def main(argv: list[str]) -> list[tuple[str, float]]:
    parser = argparse.ArgumentParser(description="Compare with published results.")
    parser.add_argument("--quick", action="store_true", help="20 seeds")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(argv)
    seeds = 20 if options.quick else options.seeds
    try:
        open_problem(SEARCHED, TABLES)
    except InvalidData as error:
        print(f"left out: {error}")
        return []
    rows, means = [], []
    executor = Processes(options.workers, threads=1)
    for name, (mean, spread) in PUBLISHED.items():
        for budget, found in zip(BUDGETS, accuracies(executor, name, seeds), strict=True):
            cells = [f"{statistics.mean(a):.2f} ± {statistics.stdev(a):.2f}" for a in found]
            known = budget == BUDGETS[0]
            within = abs(statistics.mean(found[0]) - mean) <= spread
            published = f"{mean:.2f} ± {spread:.2f}" if known else ""
            verdict = ("yes" if within else "NO") if known else ""
            rows.append((name, f"{budget:,.0f}", *cells, published, verdict))
            means.append((f"{name}, {budget:,.0f} s", statistics.mean(found[0])))
    executor.shutdown()
    print_table(
        ("strategy", "virtual s", *DATASETS, "published (cifar10)", "within its spread"), rows
    )
    return means


if __name__ == "__main__":
    main(sys.argv[1:])
