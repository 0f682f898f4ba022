"""Running jobs: in this process, or in warm processes of this machine.

Any `concurrent.futures.Executor` will do; `Processes` is ours. Its workers import and load an
evaluator (and its data) once, ignore Ctrl-C, end with their parent, and are replaced when they
die. What they run is pickled by cloudpickle, so spaces and evaluators may be defined in a script
or a notebook, which the workers do not import.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

from parti.core.errors import InvalidSettings, PartiError, Rejected
from parti.core.memory import keep_freed_memory
from parti.core.protocols import Evaluator
from parti.core.trial import Job, Measurement, State

__all__ = ["Outcome", "Processes", "Shared", "run_job"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Args:
        state: DONE, FAILED or REJECTED.
        measurements: what was measured and not yet passed on.
        error: the reason when it is not done.
    """

    state: State
    measurements: tuple[Measurement, ...] = ()
    error: str | None = None


def run_job(
    evaluator: Evaluator, job: Job, record: Callable[[Measurement], None] | None = None
) -> Outcome:
    """Measure one architecture; whatever goes wrong is part of the outcome.

    Args:
        evaluator: what measures.
        job: what to measure.
        record: called with all measurements but the last as they come; without it, all are in
            the outcome.
    """
    pending: list[Measurement] = []
    try:
        for measurement in evaluator(job):
            if record is not None and pending:
                record(pending.pop())
            pending.append(measurement)
    except Rejected as error:
        return Outcome(State.REJECTED, tuple(pending), str(error))
    except PartiError as error:
        return Outcome(State.FAILED, tuple(pending), str(error))
    except Exception as error:  # noqa: BLE001 - one architecture must not end the search
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        return Outcome(State.FAILED, tuple(pending), reason)
    if not pending:
        return Outcome(State.FAILED, (), "the evaluator measured nothing")
    return Outcome(State.DONE, tuple(pending))


class Shared:
    """An evaluator that crosses to other processes once, not with every job.

    When it is pickled for the first time it is written to a file, which each process reads once.

    Args:
        evaluator: what to share.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._file: str | None = None

    def __call__(self, job: Job) -> Outcome:
        """Run one job."""
        return run_job(self.evaluator, job)

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            Path(self._file).unlink(missing_ok=True)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._file is None:
            import cloudpickle

            with tempfile.NamedTemporaryFile(
                prefix="parti-evaluator-", suffix=".pkl", delete=False
            ) as file:
                cloudpickle.dump(self.evaluator, file, protocol=5)
            self._file = file.name
        return (_load_shared, (self._file,))


@lru_cache(maxsize=4)
def _load_shared(file: str) -> Shared:
    import cloudpickle

    with Path(file).open("rb") as stream:
        return Shared(cloudpickle.load(stream))


class Processes(Executor):
    """Warm local worker processes.

    Args:
        workers: how many.
        threads: how many threads each may compute with; by default the cores are shared evenly.

    Raises:
        InvalidSettings: workers is less than 1.
    """

    def __init__(self, workers: int, threads: int | None = None) -> None:
        if workers < 1:
            raise InvalidSettings(f"{workers} workers; there must be at least 1")
        self.workers = workers
        self.threads = threads or max(1, (os.cpu_count() or 1) // workers)
        self._pool: ProcessPoolExecutor | None = None

    def submit(
        self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any
    ) -> Future[Any]:
        """Run a function in a worker; a pool whose worker died is started anew."""
        with _main_not_imported():
            if self._pool is not None:
                try:
                    return self._pool.submit(function, *arguments, **keywords)
                except BrokenProcessPool:
                    self._pool.shutdown(wait=False)
            self._pool = ProcessPoolExecutor(
                self.workers,
                mp_context=get_context("spawn"),
                initializer=_start_worker,
                initargs=(self.threads,),
            )
            return self._pool.submit(function, *arguments, **keywords)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers; with `cancel_futures`, at once."""
        if self._pool is None:
            return
        if cancel_futures:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)
        self._pool = None


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Read by torch, numpy and their libraries when they are imported, which is later.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    keep_freed_memory()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _main_not_imported() -> Iterator[None]:
    """Hide the main module's file, which spawned processes would import and run again."""
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
