"""Comparing: every contender on every problem with every seed, in parallel, and resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from parti.comparing.code import code_digest
from parti.comparing.contenders import Contender, contenders_of
from parti.comparing.journal import Journal
from parti.comparing.run import Run, Settings
from parti.comparing.runs import Task, open_problem, run_task
from parti.core.errors import InvalidSettings, PartiError
from parti.executors import Processes
from parti.tables import FAMILIES

__all__ = ["Comparison", "Progress", "compare"]

AROUND = ("parti.comparing.runs", "parti.evaluators.tabular")
"""Code that every run's numbers depend on; with it goes all that it imports."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a comparison is.

    Args:
        done: runs that are finished, known ones included.
        total: runs there are in all.
        known: runs that were known before.
        latest: the run just finished; None at the start.
    """

    done: int
    total: int
    known: int
    latest: Run | None = None


@dataclass(frozen=True)
class Comparison:
    """All runs of a comparison.

    Args:
        contenders: who took part, in the order named.
        problems: names, in the order named.
        seeds: number of seeds; they are 0, 1, ...
        settings: what was the same for all.
        tables: the folder of the tables.
        runs: for each (contender, problem), a run for each seed; absent for an unfit pair.
        unfit: why a contender was not compared on a problem.
        with_scores: the pairs in which the contender was given training-free scores.
    """

    contenders: tuple[Contender, ...]
    problems: tuple[str, ...]
    seeds: int
    settings: Settings
    tables: Path | None
    runs: dict[tuple[str, str], tuple[Run, ...]]
    unfit: dict[tuple[str, str], str]
    with_scores: frozenset[tuple[str, str]]

    @property
    def failures(self) -> list[Run]:
        """The runs that ended in an error of the contender."""
        return [run for runs in self.runs.values() for run in runs if run.error is not None]


def compare(
    contenders: Sequence[str],
    problems: Sequence[str],
    *,
    seeds: int = 100,
    settings: Settings | None = None,
    tables: Path | None = None,
    out: Path | None = None,
    workers: int = 1,
    watch: Callable[[Progress], None] | None = None,
) -> Comparison:
    """Let every contender search every problem once per seed.

    Runs are independent and a function of (contender, problem, seed, settings), time per ask
    aside. Those finished are kept in `out/runs.jsonl`: called again, only what is missing runs.

    Args:
        contenders: strategies by name, as in `Contender`; "all" for every built-in.
        problems: as in `open_problem`.
        seeds: how many runs of each pair.
        settings: limits and mode; by default 300 evaluations.
        tables: the folder of the tables; None for where they are by default.
        out: a folder to keep finished runs in; None to keep nothing.
        workers: processes that run at the same time, with one thread each.
        watch: called at the start and after every run.

    Raises:
        InvalidSettings: a contender or a problem cannot be found, or nothing is to be compared.
        StoreError: `out` holds something else.
    """
    settings = settings or Settings()
    if seeds < 1 or not problems or len(set(problems)) < len(problems):
        raise InvalidSettings(
            f"{seeds} seeds on the problems {', '.join(problems) or '(none)'}: give at least one "
            "seed, and each problem once"
        )
    found = contenders_of(contenders)
    opened = {name: open_problem(name, tables) for name in problems}
    pairs = [(c, name) for name in problems for c in found]
    unfit = {
        (contender.spec, name): reason
        for contender, name in pairs
        if (reason := contender.unfit(opened[name], oracle=settings.oracle)) is not None
    }
    fit = [(c, name) for c, name in pairs if (c.spec, name) not in unfit]
    if not fit:
        reasons = "; ".join(f"{spec} on {name}: {why}" for (spec, name), why in unfit.items())
        raise InvalidSettings(f"nobody can be compared: {reasons}")
    families = [place.partition(":")[0] for place in FAMILIES.values()]
    around = code_digest([*AROUND, *families])
    codes = {contender.spec: f"{around}-{contender.code}" for contender in found}
    tasks = [
        Task(contender.spec, name, seed, settings, tables)
        for seed in range(seeds)  # so that what is there after a while is a comparison already
        for contender, name in fit
    ]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / "runs.jsonl" if out is not None else None)
    missing = [task for task in tasks if journal.find(task, codes[task.contender]) is None]
    known = len(tasks) - len(missing)
    if watch is not None:
        watch(Progress(known, len(tasks), known))
    with _made(missing, workers) as made:
        for done, (task, run) in enumerate(made, start=known + 1):
            journal.keep(task, codes[task.contender], run)
            if watch is not None:
                watch(Progress(done, len(tasks), known, run))
    runs: dict[tuple[str, str], list[Run]] = {}
    for task in tasks:
        run_ = journal.find(task, codes[task.contender])
        assert run_ is not None
        runs.setdefault((task.contender, task.problem), []).append(run_)
    return Comparison(
        contenders=tuple(found),
        problems=tuple(problems),
        seeds=seeds,
        settings=settings,
        tables=tables,
        runs={pair: tuple(several) for pair, several in runs.items()},
        unfit=unfit,
        with_scores=frozenset(
            (contender.spec, name)
            for contender, name in fit
            if settings.scores and contender.wants_scores(opened[name])
        ),
    )


@contextmanager
def _made(tasks: Sequence[Task], workers: int) -> Iterator[Iterator[tuple[Task, Run]]]:
    """Run tasks, and give each back with its run as it is finished."""
    if workers <= 1:
        yield ((task, run_task(task)) for task in tasks)
        return
    executor = Processes(workers, threads=1)
    try:
        yield _as_finished(executor, tasks)
    finally:
        executor.shutdown(cancel_futures=True)


def _as_finished(executor: Processes, tasks: Sequence[Task]) -> Iterator[tuple[Task, Run]]:
    futures = {executor.submit(run_task, task): task for task in tasks}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenExecutor as error:
        raise PartiError(
            "a worker process died (out of memory? killed?); what is finished is kept in the "
            "folder given: run the same command again, with fewer workers"
        ) from error
