"""`python -m benchmarks`: every benchmark, one table after the other."""

from __future__ import annotations

import argparse
import sys

from benchmarks import (
    bench_evaluation,
    bench_imports,
    bench_loop,
    bench_option_costs,
    bench_spaces,
    bench_step,
    bench_training,
    bench_workers,
)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Run all benchmarks.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    quick = ["--quick"] if parser.parse_args(argv).quick else []
    benches = (
        bench_imports,
        bench_spaces,
        bench_loop,
        bench_workers,
        bench_training,
        bench_step,
        bench_evaluation,
        bench_option_costs,
    )
    for bench in benches:
        assert bench.__doc__
        print(f"\n{bench.__doc__.splitlines()[0]}")
        bench.main(quick)


if __name__ == "__main__":
    main(sys.argv[1:])
