"""Two warm workers against one, on the same trainings of digits, and against the serial loop."""

from __future__ import annotations

import sys
import time
from random import Random

from benchmarks.tables import print_table
from parti import Budget, Objective, Study, sample, search
from parti.core.trial import Proposal
from parti.evaluators.training import Training
from parti.executors import Processes
from parti.spaces.catalogue import load_space
from parti.strategies.listed import Listed
from parti.tasks.images import read_images
from parti.tasks.splits import search_data, split


def main(argv: list[str]) -> list[tuple[str, float]]:
    data = read_images("digits")
    seen = search_data(data, split(data, seed=0))
    space = load_space("residual", 1, 10, 8)
    random = Random(0)
    count = 4 if "--quick" in argv else 12
    proposals = [Proposal(sample(space, random)) for _ in range(count)]
    warm = [Proposal(sample(space, random)) for _ in range(2)]
    evaluator = Training(space, seen, epochs=2, device="cpu")
    rows: list[tuple[str, float]] = []
    for name, workers, threads in (
        ("one worker, one thread", 1, 1),
        ("two workers, one thread each", 2, 1),
        ("one worker, two threads", 1, 2),
    ):
        executor = Processes(workers, threads)

        def run(proposals: list[Proposal], executor: Processes, workers: int) -> None:
            study = Study("s", (Objective("val_accuracy", "max"),), budget=Budget())
            strategy = Listed(proposals)
            search(study, strategy, evaluator, executor=executor, workers=workers)

        run(warm, executor, workers)
        began = time.perf_counter()
        run(proposals, executor, workers)
        rows.append((name, (time.perf_counter() - began) / count))
        executor.shutdown()
    first = rows[0][1]
    print_table(
        ("workers", "s per trial", "speed"),
        [(name, f"{s:.2f}", f"{first / s:.2f}x") for name, s in rows],
    )
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
