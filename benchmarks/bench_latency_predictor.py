"""Latency predicted from 10, 20 and 40 measurements, on the devices of NAS-Bench-201's tables.

    python -m benchmarks.bench_latency_predictor [--tables ../shared/data] [--draws 10] [--quick]

Columns: the 27 of HELP (help/...) and the 18 latencies of HW-NAS-Bench (hw/...). In each draw a
pool of 400 random cells is drawn; what is measured is chosen in it by `design`, before any
latency is known. The numbers are Spearman's correlations of predicted and measured latency over
all cells that were not measured and that the device could run, as means over the draws. A cell
that a device cannot run is chosen like others, costs a measurement and teaches nothing; where
fewer than four are left, nothing is learned, and the correlation counts as 0.

The predictor sees the cells alone: no network is built, and no other device's latencies are seen.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from random import Random

import numpy as np
from scipy.stats import spearmanr

from benchmarks.tables import print_table
from parti.core.architecture import Architecture
from parti.core.walks import architectures
from parti.evaluators.latency_features import LatencyFeatures
from parti.evaluators.latency_predictor import (
    FEWEST,
    LatencyPredictor,
    cross_validated,
    design,
)
from parti.spaces.nasbench201 import nasbench201
from parti.tables.nasbench201_columns import load_table

SIZES = (10, 20, 40)
POOL = 400
GOAL = 0.95
SLACK = 0.005
"""By which the predictor's lower bound may lie above the mean correlation and still hold."""


class Remembered:
    """The features of every cell, described once."""

    def __init__(self) -> None:
        features = LatencyFeatures(nasbench201)
        self.groups = features.groups
        self.reference = features.reference
        self.members = list(architectures(nasbench201))
        self._place = {member: place for place, member in enumerate(self.members)}
        self._rows = features.rows(self.members)

    def rows(self, wanted: Iterable[Architecture]) -> list[np.ndarray]:
        if wanted is self.members:
            return self._rows
        places = [self._place[member] for member in wanted]
        return [block[places] for block in self._rows]


def correlations(
    features: Remembered, latencies: np.ndarray, designs: Sequence[list[Architecture]], size: int
) -> list[float]:
    """Spearman's correlation on what was not measured, for each design."""
    place = {member: i for i, member in enumerate(features.members)}
    found = []
    for chosen in designs:
        tried = np.array([place[member] for member in chosen[:size]])
        seen = tried[np.isfinite(latencies[tried])]
        if len(seen) < FEWEST:
            found.append(0.0)
            continue
        model = LatencyPredictor(features, [features.members[i] for i in seen], latencies[seen])
        predicted, _ = model.predict(features.members)
        left = np.isfinite(latencies)
        left[tried] = False
        found.append(float(spearmanr(predicted[left], latencies[left])[0]))
    return found


def main(argv: list[str]) -> list[tuple[str, dict[int, float]]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", default="../shared/data")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="three columns, two draws")
    asked = parser.parse_args(argv)
    table = load_table(asked.tables)
    features = Remembered()
    rows_of_cells = [table.rows.find(member) for member in features.members]
    names = [n for n in table.columns if n.startswith("help/") or n.endswith("_latency")]
    draws = 2 if asked.quick else asked.draws
    began = time.perf_counter()
    designs = [
        design(features, Random(draw).sample(features.members, POOL), max(SIZES))
        for draw in range(draws)
    ]
    results: list[tuple[str, dict[int, float]]] = []
    shown = []
    above = 0
    for name in names[:3] if asked.quick else names:
        latencies = np.asarray(table.columns[name], dtype=np.float64)[rows_of_cells]
        each = {size: correlations(features, latencies, designs, size) for size in SIZES}
        first = [m for m in designs[0][:20] if np.isfinite(latencies[features.members.index(m)])]
        seen = [float(latencies[features.members.index(m)]) for m in first]
        quality = cross_validated(features, first, seen)
        means = {size: statistics.fmean(found) for size, found in each.items()}
        results.append((name, means))
        above += quality.rank_low > means[20] + SLACK
        shown.append(
            (
                name,
                *(f"{means[size]:.3f}" for size in SIZES),
                f"{min(each[20]):.3f}",
                f"{quality.rank:.2f}",
                f"{quality.rank_low:.2f}",
                f"{quality.error:.1%}",
            )
        )
    heads = (*(f"n={size}" for size in SIZES), "worst of n=20", "own rank", "at least", "own error")
    print_table(("device", *heads), shown)
    for size in SIZES:
        good = sum(found[size] >= GOAL for _, found in results)
        print(f"{size} measurements: {good} of {len(results)} columns reach {GOAL}")
    print(
        f"the bound of the first draw's 20 lies above their mean by more than {SLACK:g} on {above} "
        f"of {len(results)} columns"
    )
    print(f"{draws} draws, {time.perf_counter() - began:.0f} s")
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
