"""Spaces: time to trace, and per architecture sampled, mutated, crossed, walked and listed."""

from __future__ import annotations

import sys
import time
from random import Random

from benchmarks.tables import print_table, seconds_per_call
from parti import architectures, choose, crossover, mutate, neighbours, sample, size, space
from parti.testing import SPACES


@space
def forty() -> list[int]:
    """Forty choices of five."""
    return [choose(f"layer{i}", [1, 2, 3, 4, 5]) for i in range(40)]


@space
def hundred_thousand() -> list[int]:
    """10^5 members."""
    return [choose(f"digit{i}", list(range(10))) for i in range(5)]


def main(argv: list[str]) -> list[tuple[str, float]]:
    calls, random = (300 if "--quick" in argv else 3000), Random(0)
    rows: list[tuple[str, float]] = []
    for name, made in {"40 choices": forty, "conditional": SPACES["conditional"]}.items():
        one, other = sample(made, random), sample(made, random)
        verbs = {
            "sample": lambda m=made: sample(m, random),
            "sample uniform over members": lambda m=made: sample(m, random, uniform="architecture"),
            "mutate": lambda m=made, a=one: mutate(m, a, random),
            "crossover": lambda m=made, a=one, b=other: crossover(m, a, b, random),
            "fingerprint of a new one": lambda m=made: sample(m, random).fingerprint,
        }
        rows += [(f"{name}: {verb}", seconds_per_call(call, calls)) for verb, call in verbs.items()]
        count = sum(1 for _ in neighbours(made, one))
        rows.append(
            (
                f"{name}: a neighbour",
                seconds_per_call(lambda m=made, a=one: list(neighbours(m, a)), 10) / count,
            )
        )
    began = time.perf_counter()
    listed = sum(1 for _ in architectures(hundred_thousand))
    rows.append((f"listing {listed:,}: each", (time.perf_counter() - began) / listed))
    assert listed == size(hundred_thousand)
    print_table(("operation", "µs"), [(name, f"{s * 1e6:.2f}") for name, s in rows])
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
