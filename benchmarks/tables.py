"""How benchmarks take and print times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence


def seconds_per_call(call: Callable[[], object], calls: int, repeats: int = 5) -> float:
    """The median over repeats of the mean time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - began) / calls)
    return statistics.median(times)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        others = zip(row[1:], widths[1:], strict=True)
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in others)]
        print("  ".join(cells))
