"""The loop and its stores: time per trial without training."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace

from benchmarks.tables import print_table
from parti import Study, search
from parti.core.protocols import Lease, Store
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.stores import open_store
from parti.strategies.random_search import RandomSearch
from parti.strategies.regularized_evolution import RegularizedEvolution
from parti.testing import SPACES, Landscape, toy_study


def store_only(store: Store, study: Study, trials: int) -> float:
    """Seconds per trial added and finished durably."""
    store.create(study)
    architecture = SPACES["wide"].tree.unrank(0)
    measured = (Measurement({"score": 0.5, "cost": 1.0}, 1, 0.1),)
    began = time.perf_counter()
    for number in range(trials):
        store.add(study.name, Trial(number, Proposal(architecture)), Lease(number, "me", 0.0))
        store.finish(study.name, number, State.DONE, owner="me", measurements=measured)
    return (time.perf_counter() - began) / trials


def whole_loop(store: Store, study: Study, strategy: type, workers: int) -> float:
    """Seconds per trial of a search whose evaluator costs nothing, start-up left out."""
    space = SPACES["wide"]
    if workers > 1:  # the first trials pay for the start of the processes
        warm = replace(study, name="warm", budget=replace(study.budget, trials=20))
        began = time.perf_counter()
        search(warm, strategy(space, warm), Landscape(), store, workers=workers)
        start_up = time.perf_counter() - began
    began = time.perf_counter()
    search(study, strategy(space, study), Landscape(), store, workers=workers)
    seconds = time.perf_counter() - began
    return (seconds - (start_up if workers > 1 else 0.0)) / (study.budget.trials or 1)


def main(argv: list[str]) -> list[tuple[str, float]]:
    trials = 200 if "--quick" in argv else 1000
    rows: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for place, url in (("memory", "memory://"), ("SQLite", f"sqlite:///{folder}/s.db")):
            study = toy_study("store", trials=trials)
            rows.append((f"{place}: add and finish", store_only(open_store(url), study, trials)))
            for name, strategy in (("random", RandomSearch), ("evolution", RegularizedEvolution)):
                study = toy_study(f"serial {name}", trials=trials)
                seconds = whole_loop(open_store(url), study, strategy, 1)
                rows.append((f"{place}: loop, {name}, serial", seconds))
            study = toy_study("two workers", trials=trials)
            seconds = whole_loop(open_store(url), study, RandomSearch, 2)
            rows.append((f"{place}: loop, random, two workers", seconds))
    print_table(("per trial", "ms"), [(name, f"{s * 1e3:.3f}") for name, s in rows])
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
