"""One run: one contender searches one problem with one seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from parti.comparing.contenders import Contender
from parti.comparing.run import Run, Settings
from parti.comparing.watched import Watched
from parti.core.errors import PartiError
from parti.loop import search
from parti.stores.memory import MemoryStore
from parti.tables import load_problem
from parti.tables.problem import Problem

__all__ = ["Task", "open_problem", "run_task"]


@dataclass(frozen=True)
class Task:
    """All that a worker process needs to make one run."""

    contender: str
    problem: str
    seed: int
    settings: Settings
    tables: Path | None = None


def run_task(task: Task) -> Run:
    """Make one run. What goes wrong within it is part of the result.

    Raises:
        PartiError: the problem or the strategy cannot be had at all.
    """
    problem = open_problem(task.problem, task.tables)
    contender = Contender(task.contender)
    settings = task.settings
    study = problem.study(seed=task.seed)
    strategy = contender.make(
        problem,
        study,
        oracle=settings.oracle,
        scores=settings.scores,
        timed=settings.seconds is not None,
    )
    watched = Watched(strategy, problem, study, settings)
    evaluator = problem.evaluator(seed=task.seed, oracle=settings.oracle)
    error = None
    try:
        search(study, watched, evaluator, MemoryStore())
    except PartiError as raised:
        error = str(raised)
    except Exception as raised:  # noqa: BLE001 - one contender must not end the comparison
        error = f"{type(raised).__name__}: {raised}"
    asks = np.array(watched.ask_seconds or [0.0]) * 1e3
    return Run(
        contender=task.contender,
        problem=task.problem,
        seed=task.seed,
        evaluations=watched.evaluations,
        trials=watched.trials,
        failed=watched.failed,
        seconds=watched.seconds,
        ended="error" if error is not None else watched.ended or "exhausted",
        changes=tuple(watched.changes),
        ask_ms=(
            float(np.median(asks)),
            float(np.quantile(asks, 0.95)),
            float(asks[-10:].mean()),
        ),
        error=error,
    )


@lru_cache(maxsize=32)
def open_problem(name: str, tables: Path | None = None) -> Problem:
    """Return a problem, loaded once in each process; as `parti.tables.load_problem`."""
    return load_problem(name, tables)
