"""The one loop: ask, evaluate, record, tell; and go on after a crash as if nothing had happened.

Only this writes to the store. Every trial is in the store before it runs, under a lease that its
process renews; the trials of a dead process are taken over and run again from their checkpoint.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from threading import Event, Lock, Thread
from uuid import uuid4

from parti.core.architecture import Architecture
from parti.core.errors import Conflict, InvalidStudy, StoreError
from parti.core.protocols import Evaluator, Lease, Store, Strategy
from parti.core.study import Study
from parti.core.trial import Job, Measurement, State, Trial
from parti.executors import Outcome, Processes, Shared, run_job

__all__ = ["Progress", "job_seed", "search"]

LEASE_SECONDS = 60.0
"""A running trial whose process has not been heard of for so long is taken over."""

HEARTBEAT_SECONDS = 10.0

MOST_REJECTIONS = 3_000
"""So many rejected proposals in a row end the search: the constraint cannot be met."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a watcher of a search is shown.

    Args:
        study: what is searched for.
        trials: all trials known, by number.
        seconds: searching time so far, over the whole life of the study.
        latest: what has just been measured, as (trial number, measurement), if anything.
    """

    study: Study
    trials: dict[int, Trial]
    seconds: float
    latest: tuple[int, Measurement] | None = None


def search(
    study: Study,
    strategy: Strategy,
    evaluator: Evaluator,
    store: Store | None = None,
    *,
    executor: Executor | None = None,
    workers: int = 1,
    workdir: Path | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> list[Trial]:
    """Search until the budget is spent or the strategy has nothing more to propose.

    Called again on the same store it goes on where it was, whatever ended it; several processes
    may search one study at once.

    Args:
        study: objectives, constraints, budget and seed.
        strategy: proposes; it must be new, for it is told all trials of the study first.
        evaluator: measures.
        store: keeps everything; by default in memory.
        executor: runs the jobs; by default this process, or `Processes` when workers > 1.
        workers: how many jobs run at once.
        workdir: trial n keeps its checkpoints under `workdir/trials/n`; None to keep none.
        watch: called at every change.

    Returns:
        All trials of the study, by number.

    Raises:
        InvalidStudy: no evaluator measures a metric, the study is kept with another question, or
            nothing keeps to the constraints.
    """
    if store is None:
        from parti.stores.memory import MemoryStore

        store = MemoryStore()
    _check(study, evaluator, store.create(study))
    with ExitStack() as stack:
        if executor is None and workers > 1:
            executor = Processes(workers)
            stack.callback(executor.shutdown, cancel_futures=True)
        loop = _Loop(study, strategy, evaluator, store, executor, workers, workdir, watch)
        stack.enter_context(loop.heart())
        loop.run()
    return [loop.known[number] for number in sorted(loop.known)]


def job_seed(study: Study, architecture: Architecture) -> int:
    """Seed of a trial: the same architecture in the same study is trained the same way."""
    text = f"{study.seed}/{architecture.fingerprint}"
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") >> 1


class _Loop:
    def __init__(
        self,
        study: Study,
        strategy: Strategy,
        evaluator: Evaluator,
        store: Store,
        executor: Executor | None,
        workers: int,
        workdir: Path | None,
        watch: Callable[[Progress], None] | None,
    ) -> None:
        self.study = study
        self.strategy = strategy
        self.evaluator = evaluator
        self.store = store
        self.executor = executor
        self.workers = max(1, workers)
        self.workdir = workdir
        self.watch = watch
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}:{uuid4().hex}"
        self.known: dict[int, Trial] = {}
        self.running: set[int] = set()
        self.mine: set[int] = set()
        self.trained = 0
        self.rejections = 0
        self.seen = 0
        self.spent = store.spend(study.name, 0.0)
        self.noted = time.monotonic()
        self.clock = Lock()

    # --- the course of a search ---

    def run(self) -> None:
        if self.executor is None:
            while (trial := self.next_trial()) is not None or self.waits_for_others():
                if trial is not None:
                    self.finish(trial, run_job(self.evaluator, self.job(trial), self.note(trial)))
        else:
            self.run_parallel(self.executor)

    def run_parallel(self, executor: Executor) -> None:
        shared = Shared(self.evaluator)
        running: dict[Future[Outcome], Trial] = {}
        suspects: list[Trial] = []  # a worker died while these ran: they run again, one by one
        retried: set[int] = set()
        try:
            while True:
                alone = bool(suspects) or any(t.number in retried for t in running.values())
                while len(running) < (1 if alone else self.workers):
                    trial = suspects.pop() if suspects else self.next_trial()
                    if trial is None:
                        break
                    running[executor.submit(shared, self.job(trial))] = trial
                    alone = trial.number in retried
                if not running:
                    if self.waits_for_others():
                        continue
                    return
                done, _ = wait(running, timeout=HEARTBEAT_SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    trial = running.pop(future)
                    try:
                        outcome = future.result()
                    except BrokenExecutor:
                        if trial.number not in retried:
                            retried.add(trial.number)
                            suspects.append(trial)
                            continue
                        outcome = Outcome(
                            State.FAILED, error="its worker process died (out of memory? killed?)"
                        )
                    self.finish(trial, outcome)
        finally:
            for future in running:
                future.cancel()
            shared.close()

    def next_trial(self) -> Trial | None:
        """Take over a dead process's trial, or ask for a new one; None when there is neither."""
        while True:
            self.sync()
            if (orphan := self.orphan()) is not None:
                return orphan
            if self.over():
                return None
            proposal = self.strategy.ask()
            if proposal is None:
                return None
            trial = Trial(len(self.known), proposal)
            with suppress(Conflict):  # else another process was faster: look again
                self.store.add(self.study.name, trial, self.lease(trial.number))
                self.mine.add(trial.number)
                if self.executor is not None:
                    self.sync()  # the strategy must know it while it runs
                return trial

    def finish(self, trial: Trial, outcome: Outcome) -> None:
        # Somebody else may have taken it over while this process was suspended: theirs counts.
        with suppress(Conflict):
            self.store.finish(
                self.study.name,
                trial.number,
                outcome.state,
                owner=self.owner,
                error=outcome.error,
                measurements=outcome.measurements,
            )
        self.mine.discard(trial.number)
        self.spend()
        self.sync()

    def sync(self) -> None:
        """Learn what has changed, ours or others', in the order in which it happened."""
        news, self.seen = self.store.trials(self.study.name, self.seen)
        for trial in news:
            before = self.known.get(trial.number)
            self.known[trial.number] = trial
            self.trained += (trial.state is not State.REJECTED) - (
                before is not None and before.state is not State.REJECTED
            )
            if trial.state is State.RUNNING:
                self.running.add(trial.number)
            else:
                self.running.discard(trial.number)
                self.rejections = self.rejections + 1 if trial.state is State.REJECTED else 0
            self.strategy.tell(trial)
        if news:
            self.show()

    def over(self) -> bool:
        budget = self.study.budget
        if self.rejections >= MOST_REJECTIONS:
            raise InvalidStudy(self.why_rejected())
        return (budget.trials is not None and self.trained >= budget.trials) or (
            budget.seconds is not None and self.seconds() >= budget.seconds
        )

    def why_rejected(self) -> str:
        limits = ", ".join(map(str, self.study.constraints))
        seen = [
            f"{constraint.metric} {min(values):.6g} to {max(values):.6g}"
            for constraint in self.study.constraints
            if (
                values := [
                    value
                    for trial in self.known.values()
                    if not math.isnan(value := trial.metric(constraint.metric))
                ]
            )
        ]
        return (
            f"{self.rejections:,} proposals in a row broke the constraints ({limits}); "
            f"seen were {'; '.join(seen) or 'no values'}. Relax them, or search a space with "
            "smaller networks"
        )

    # --- one trial ---

    def job(self, trial: Trial) -> Job:
        proposal = trial.proposal
        return Job(
            architecture=proposal.architecture,
            fidelity=proposal.fidelity,
            seed=job_seed(self.study, proposal.architecture),
            workdir=self.folder(trial.number),
            continues=None if proposal.continues is None else self.folder(proposal.continues),
        )

    def folder(self, number: int) -> Path | None:
        return self.workdir / "trials" / f"{number:05d}" if self.workdir is not None else None

    def note(self, trial: Trial) -> Callable[[Measurement], None]:
        def record(measurement: Measurement) -> None:
            self.store.record(self.study.name, trial.number, measurement)
            self.show((trial.number, measurement))

        return record

    def show(self, latest: tuple[int, Measurement] | None = None) -> None:
        if self.watch is not None:
            self.watch(Progress(self.study, self.known, self.seconds(), latest))

    # --- leases and time ---

    def lease(self, number: int) -> Lease:
        return Lease(number, self.owner, time.time() + LEASE_SECONDS)

    def orphan(self) -> Trial | None:
        """Take over a trial whose process is dead or has not been heard of."""
        if self.running <= self.mine:
            return None
        for lease in self.store.leases(self.study.name):
            if lease.number in self.mine or not (_dead(lease.owner) or lease.expires < time.time()):
                continue
            if self.store.claim(self.study.name, self.lease(lease.number), lease.owner):
                self.mine.add(lease.number)
                return replace(self.known[lease.number], measurements=())
        return None

    def waits_for_others(self) -> bool:
        """Whether trials of other processes still run; they may die, or lead to new proposals."""
        if not self.running:
            return False
        time.sleep(0.5)
        return True

    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.noted

    def spend(self, at_least: float = 1.0) -> None:
        with self.clock:
            now = time.monotonic()
            if now - self.noted >= at_least:
                self.spent = self.store.spend(self.study.name, now - self.noted)
                self.noted = now

    @contextmanager
    def heart(self) -> Iterator[None]:
        """Renew leases and note the time spent, while the search runs; let go at its end."""
        stop = Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                for number in tuple(self.mine):
                    self.store.claim(self.study.name, self.lease(number), self.owner)
                self.spend()

        thread = Thread(target=beat, name="parti-heart", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.spend(at_least=0.0)
            for number in tuple(self.mine):
                self.store.claim(self.study.name, Lease(number, self.owner, 0.0), self.owner)


def _check(study: Study, evaluator: Evaluator, kept: Study) -> None:
    wanted = [o.metric for o in study.objectives] + [c.metric for c in study.constraints]
    for metric in wanted:
        if metric not in evaluator.provides:
            raise InvalidStudy(
                f"no evaluator measures {metric!r}; the metrics are {sorted(evaluator.provides)}"
            )
    for part in ("objectives", "constraints", "seed"):
        if getattr(kept, part) != getattr(study, part):
            raise StoreError(
                f"the store has a study {study.name!r} with {part} {getattr(kept, part)}, "
                f"not {getattr(study, part)}; give the new one another name"
            )


def _started(pid: int) -> str:
    """When a process of this machine started (in clock ticks since boot), where that is known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _dead(owner: str) -> bool:
    """Whether an owner is known to be dead: a process of this machine that is not there."""
    host, pid, started, _ = owner.rsplit(":", 3)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(int(pid)) != started
