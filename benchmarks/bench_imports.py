"""Start-up: `import parti` and `parti --help`, in new processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.tables import print_table

COMMANDS = {
    "python -c pass": (["-c", "pass"], None),
    "import parti": (["-c", "import parti"], 0.2),
    "parti --help": (["-c", "from parti.app.cli import main; main()", "--help"], 0.4),
    "import torch, for scale": (["-c", "import torch"], None),
}


def main(argv: list[str]) -> list[tuple[str, float]]:
    rows = []
    for name, (arguments, _) in COMMANDS.items():
        times = []
        for _ in range(3 if "--quick" in argv else 9):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
        rows.append((name, statistics.median(times)))
    goals = {name: goal for name, (_, goal) in COMMANDS.items()}
    print_table(
        ("process", "median s", "goal s"),
        [(name, f"{s:.3f}", f"{goals[name]}" if goals[name] else "") for name, s in rows],
    )
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
