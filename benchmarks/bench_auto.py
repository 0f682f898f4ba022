"""What each part of `auto` brings: the strategy without it, on tables and on landscapes.

    python -m benchmarks.bench_auto              # some minutes on two cores

In oracle mode. Of the accuracies: the median number of evaluations to the best architecture. Of the
accuracy under attack, and of landscapes, which draw no graphs and have no scores: the mean regret
after all evaluations, in percentage points. Parts are left out by replacing what they are made of
while a search runs.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.tables import print_table
from parti.comparing import Settings
from parti.comparing.watched import Watched
from parti.core.errors import InvalidData
from parti.core.protocols import Strategy
from parti.core.trial import Proposal, State, Trial
from parti.loop import search
from parti.stores.memory import MemoryStore
from parti.strategies.auto import Auto
from parti.strategies.models import described, outlook
from parti.strategies.models.features import describe
from parti.tables import load_problem
from parti.tables.problem import Problem

TABLES = Path(os.environ.get("PARTI_TABLES", "../shared/data"))
TABULAR = tuple(f"nasbench201/{name}" for name in ("cifar10", "cifar100", "imagenet16_120"))
ATTACKED = "nasbench201/cifar10-pgd_linf_1.0"
LANDSCAPES = tuple(f"synthetic/{name}" for name in ("chain", "conditional", "mixed"))
FOUND = 1e-6
"""A regret this small is none."""


@dataclass(frozen=True)
class Variant:
    """`auto` without something.

    Args:
        name: what is left out.
        views: the groups of features that are left; None for all.
        scores: whether it is given training-free scores.
        patches: what is replaced.
        arguments: of the strategy.
    """

    name: str
    views: frozenset[str] | None = None
    scores: bool = True
    patches: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Plain(outlook._Scale):
    """Losses as they are."""

    @staticmethod
    def of(values: np.ndarray, loss: bool) -> outlook._Scale:
        return original_scale.of(values, False)


original_scale = outlook._Scale
EVERY = frozenset({"choices", "scales", "totals", "paths", "subtrees", "statistics"})
VARIANTS = (
    Variant("nothing: auto as it is"),
    Variant("scores", scores=False),
    Variant("trust in scores", patches={"parti.strategies.models.outlook.TRUST": 0.0}),
    Variant("choices", views=EVERY - {"choices", "scales"}),
    Variant("totals", views=EVERY - {"totals"}),
    Variant("paths", views=EVERY - {"paths"}),
    Variant("subtrees", views=EVERY - {"subtrees"}),
    Variant("statistics", views=EVERY - {"statistics"}),
    Variant("all but choices and scores", views=frozenset({"choices", "scales"})),
    Variant("logarithm of regret", patches={"parti.strategies.models.outlook._Scale": Plain}),
    Variant("listing of the space", arguments={"listed": 0}),
    Variant("looking elsewhere", patches={"parti.strategies.auto.PATIENCE": math.inf}),
)


class UntilFound:
    """A strategy that ends once the best there is has been evaluated: nothing can follow it."""

    def __init__(self, strategy: Strategy, problem: Problem) -> None:
        self.strategy, self.problem, self.found = strategy, problem, False

    def ask(self) -> Proposal | None:
        return None if self.found else self.strategy.ask()

    def tell(self, trial: Trial) -> None:
        self.strategy.tell(trial)
        ended = trial.state is State.DONE
        self.found |= ended and self.problem.regret(trial.architecture) <= FOUND


@cache
def problem_of(name: str) -> Problem:
    return load_problem(name, TABLES)


def searched(task: tuple[int, str, int, int]) -> list[float]:
    """Regret of each distinct architecture that one search evaluated."""
    place, name, seed, evaluations = task
    variant, problem = VARIANTS[place], problem_of(name)
    study = problem.study(seed=seed)
    with ExitStack() as stack:
        for target, value in variant.patches.items():
            stack.enter_context(patch(target, value))
        if variant.views is not None:
            stack.enter_context(patch.object(described, "describe", only(variant.views)))
        strategy = Auto(
            problem.space,
            study,
            scores=problem.scores if variant.scores else None,
            **variant.arguments,
        )
        watched = Watched(strategy, problem, study, Settings(evaluations=evaluations, oracle=True))
        trials = search(
            study,
            UntilFound(watched, problem),
            problem.evaluator(seed=seed, oracle=True),
            MemoryStore(),
        )
    return [problem.regret(trial.architecture) for trial in trials]


def only(views: frozenset[str]) -> Callable[..., Any]:
    def some(space: Any, architecture: Any) -> dict[str, Any]:
        return {k: v for k, v in describe(space, architecture).items() if k in views}

    return some


def figure(name: str, runs: list[list[float]], evaluations: int) -> str:
    if name in TABULAR:
        hits = [next((n for n, r in enumerate(run, 1) if r <= FOUND), math.inf) for run in runs]
        median = statistics.median(hits)
        return f"{median:g}" if median <= evaluations else f">{evaluations}"
    return f"{statistics.mean(min(run) for run in runs):.2f}"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--tables-only", action="store_true", help="no landscapes")
    parser.add_argument("--variants", type=int, help="only the first so many; 1: auto as it is")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    names = []
    for name in TABULAR if options.tables_only else (*TABULAR, ATTACKED, *LANDSCAPES):
        try:
            problem_of(name)
            names.append(name)
        except InvalidData as error:
            print(f"left out: {name} ({error})")
    rows = []
    for place, variant in enumerate(VARIANTS[: options.variants]):
        tasks = [
            (place, name, seed, options.evaluations)
            for name, seed in product(names, range(options.seeds))
            if not (name in LANDSCAPES and needless(variant))
        ]
        runs: dict[str, list[list[float]]] = {name: [] for name in names}
        # New processes for each variant: spaces once described are shared within a process.
        with ProcessPoolExecutor(options.workers) as pool:
            for task, run in zip(tasks, pool.map(searched, tasks), strict=True):
                runs[task[1]].append(run)
        cells = [
            figure(name, runs[name], options.evaluations) if runs[name] else "" for name in names
        ]
        rows.append([variant.name, *cells])
        print(f"  {' '.join(rows[-1])}", flush=True)
    print_table(["without", *names], rows)


def needless(variant: Variant) -> bool:
    """Whether landscapes, without graphs and scores, are searched as by `auto` as it is."""
    graphs = {"paths", "subtrees", "statistics"}
    removed = EVERY - (variant.views if variant.views is not None else EVERY)
    return variant.name in ("scores", "trust in scores", "listing of the space") or (
        bool(removed) and removed <= graphs
    )


if __name__ == "__main__":
    main(sys.argv[1:])
