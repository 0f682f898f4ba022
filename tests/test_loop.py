"""The loop: budgets, failures, workers, and that nothing is ever lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest

from parti import Budget, Constraint, Job, Measurement, Objective, State, Study, search
from parti.core.errors import InvalidStudy, StoreError
from parti.core.protocols import Lease
from parti.core.trial import Proposal, Trial
from parti.evaluators.staged import Staged
from parti.evaluators.wrappers import Remembered, Routed
from parti.executors import Processes
from parti.stores.memory import MemoryStore
from parti.stores.sql import SqlStore
from parti.strategies.random_search import RandomSearch
from parti.strategies.regularized_evolution import RegularizedEvolution
from parti.testing import SPACES, EvaluatorSuite, Landscape, toy_study

CONDITIONAL = SPACES["conditional"]


def evolution(study: Study) -> RegularizedEvolution:
    return RegularizedEvolution(CONDITIONAL, study, population=6, tournament=3)


def what_happened(trials: list[Trial]) -> list[object]:
    return [
        (t.number, t.proposal, t.state, [m.metrics for m in t.measurements], t.error)
        for t in trials
    ]


class TestLandscape(EvaluatorSuite):
    def make(self) -> Landscape:
        return Landscape(steps=3)

    def job(self) -> Job:
        return Job(CONDITIONAL.tree.unrank(5))


class Slow(Landscape):
    """Takes its time, so that it can be killed in the middle, and writes down what it did."""

    def __init__(self, log: Path, seconds: float) -> None:
        super().__init__(steps=3, fails=0.15)
        self.log = log
        self.seconds = seconds

    def __call__(self, job: Job) -> Iterator[Measurement]:
        for measurement in super().__call__(job):
            time.sleep(self.seconds)
            yield measurement
        with self.log.open("a") as log:
            log.write(f"{job.workdir.name}\n")


def _searching(folder: Path, seconds: float, workers: int = 1) -> None:
    study = toy_study(trials=30, at_most=11)
    store = SqlStore(f"sqlite:///{folder}/studies.db")
    search(study, evolution(study), Slow(folder / "log", seconds), store, workdir=folder)


def test_killed_thirty_times_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    (undisturbed := tmp_path / "undisturbed").mkdir()
    (killed := tmp_path / "killed").mkdir()
    _searching(undisturbed, 0.0)
    random, kills, start = Random(0), 0, get_context("fork")
    while True:
        process = start.Process(target=_searching, args=(killed, 0.02))
        process.start()
        process.join(random.uniform(0.0, 0.12) if kills < 45 else 60)
        if process.exitcode == 0:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
    stores = [SqlStore(f"sqlite:///{folder}/studies.db") for folder in (undisturbed, killed)]
    before, after = (sorted(s.trials("toy")[0], key=lambda t: t.number) for s in stores)
    assert kills >= 30
    assert what_happened(after) == what_happened(before)
    assert all(t.state is not State.RUNNING for t in after)
    assert sum(t.state is not State.REJECTED for t in after) == 30
    for store in stores:
        store.close()


def test_two_processes_share_one_study(tmp_path: Path) -> None:
    processes = [
        get_context("fork").Process(target=_searching, args=(tmp_path, 0.005)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    time.sleep(0.3)
    os.kill(processes[0].pid, signal.SIGKILL)  # the other takes its trial over
    for process in processes:
        process.join(60)
    assert processes[1].exitcode == 0
    store = SqlStore(f"sqlite:///{tmp_path}/studies.db")
    trials, _ = store.trials("toy")
    assert len(trials) == len({t.number for t in trials}) == len({t.architecture for t in trials})
    assert all(t.state is not State.RUNNING for t in trials)
    assert sum(t.state is not State.REJECTED for t in trials) in (30, 31)
    finished = (tmp_path / "log").read_text().split()
    assert len(finished) == len(set(finished))
    store.close()


def test_interrupted_it_lets_go_and_goes_on() -> None:
    class Interrupted(Landscape):
        calls = 0

        def __call__(self, job: Job) -> Iterator[Measurement]:
            Interrupted.calls += 1
            if Interrupted.calls == 5:
                raise KeyboardInterrupt
            return super().__call__(job)

    study, store = toy_study(), MemoryStore()
    with pytest.raises(KeyboardInterrupt):
        search(study, evolution(study), Interrupted(), store)
    assert [lease.expires for lease in store.leases("toy")] == [0.0]
    resumed = search(study, evolution(study), Interrupted(), store)
    assert what_happened(resumed) == what_happened(search(study, evolution(study), Landscape()))


def test_a_larger_budget_goes_on_where_it_was() -> None:
    store = MemoryStore()
    short, long = toy_study(trials=10), toy_study(trials=25)
    search(short, evolution(short), Landscape(), store)
    continued = search(long, evolution(long), Landscape(), store)
    assert what_happened(continued) == what_happened(search(long, evolution(long), Landscape()))


def test_a_lease_that_ran_out_is_taken_over_and_one_that_holds_is_not() -> None:
    study = toy_study(trials=3)
    store = MemoryStore()
    store.create(study)
    for number, expires in enumerate([time.time() - 1, time.time() + 1.5]):
        architecture = CONDITIONAL.tree.unrank(number)
        owner = "elsewhere:1:1:x"
        store.add("toy", Trial(number, Proposal(architecture)), Lease(number, owner, expires))
    began = time.time()
    trials = search(study, RandomSearch(CONDITIONAL, study), Landscape(), store)
    assert [t.state for t in trials] == [State.DONE] * 3
    assert time.time() - began > 1.0


def test_rejected_trials_cost_no_budget() -> None:
    study = toy_study(trials=15, at_most=8)
    evaluator = Staged([Costs(), Scores()], study.constraints)
    trials = search(study, RandomSearch(CONDITIONAL, study), evaluator)
    done = [t for t in trials if t.state is State.DONE]
    rejected = [t for t in trials if t.state is State.REJECTED]
    assert len(done) == 15
    assert rejected
    assert all("cost" in t.error and "breaks cost ≤ 8" in t.error for t in rejected)
    assert all("score" not in t.metrics and t.metrics["cost"] > 8 for t in rejected)


def test_a_constraint_that_nothing_meets_ends_with_what_was_seen(monkeypatch) -> None:
    monkeypatch.setattr("parti.loop.MOST_REJECTIONS", 50)
    study = toy_study(at_most=0.5)
    evaluator = Staged([Costs(), Scores()], study.constraints)
    with pytest.raises(InvalidStudy, match=r"50 proposals.*cost ≤ 0.5.*seen were cost \d+ to"):
        search(study, RandomSearch(CONDITIONAL, study), evaluator)


class Costs(Landscape):
    provides = frozenset({"cost"})

    def __call__(self, job: Job) -> Iterator[Measurement]:
        for measurement in super().__call__(job):
            yield Measurement({"cost": measurement.metrics["cost"]})


class Scores(Landscape):
    provides = frozenset({"score"})

    def __call__(self, job: Job) -> Iterator[Measurement]:
        for measurement in super().__call__(job):
            yield Measurement({"score": measurement.metrics["score"]}, 1, 0.5)


class TestStaged(EvaluatorSuite):
    def make(self) -> Staged:
        return Staged([Costs(), Scores()])

    def job(self) -> Job:
        return Job(CONDITIONAL.tree.unrank(5))


class TestRemembered(EvaluatorSuite):
    def make(self) -> Remembered:
        study = toy_study(trials=3)
        return Remembered(Landscape(), search(study, RandomSearch(CONDITIONAL, study), Landscape()))

    def job(self) -> Job:
        return Job(CONDITIONAL.tree.unrank(5))

    def test_what_is_known_is_not_measured_again(self) -> None:
        class Never(Landscape):
            def __call__(self, job: Job) -> Iterator[Measurement]:
                raise AssertionError("measured again")

        study = toy_study(trials=3)
        trials = search(study, RandomSearch(CONDITIONAL, study), Landscape())
        remembered = Remembered(Never(), trials)
        for trial in trials:
            assert tuple(remembered(Job(trial.architecture))) == trial.measurements


class TestRouted(EvaluatorSuite):
    def make(self) -> Routed:
        return Routed(
            {
                self.job().architecture: Landscape(3),
                Job(CONDITIONAL.tree.unrank(6)).architecture: Costs(),
            }
        )

    def job(self) -> Job:
        return Job(CONDITIONAL.tree.unrank(5))

    def test_measures_what_it_provides(self) -> None:
        assert self.make().provides == {"cost"}  # what all of them measure
        (measured,) = self.make()(self.job())
        assert measured.metrics["score"] == Landscape(3).score(self.job().architecture)


def test_every_way_to_fail_is_a_failed_trial_with_its_reason() -> None:
    class Fails(Landscape):
        def __call__(self, job: Job) -> Iterator[Measurement]:
            match job.architecture["letter"]:
                case "a":
                    raise MemoryError("no more")
                case "b":
                    yield Measurement({"score": 1.0, "cost": 1.0})
                    raise ZeroDivisionError("by zero")

    study = toy_study()
    trials = search(study, RandomSearch(SPACES["tiny"], study), Fails())
    errors = {t.architecture["letter"]: t.error for t in trials}
    assert all(t.state is State.FAILED for t in trials)
    assert "MemoryError: no more (" in errors["a"]
    assert "test_loop.py" in errors["b"]
    assert errors["c"] == "the evaluator measured nothing"


def test_seconds_end_a_search_over_all_its_sessions() -> None:
    class Sleeps(Landscape):
        def __call__(self, job: Job) -> Iterator[Measurement]:
            time.sleep(0.02)
            return super().__call__(job)

    study = Study("toy", toy_study().objectives, budget=Budget(seconds=0.3))
    store = MemoryStore()
    trials = search(study, RandomSearch(SPACES["wide"], study), Sleeps(), store)
    assert 3 <= len(trials) <= 15
    assert len(search(study, RandomSearch(SPACES["wide"], study), Sleeps(), store)) == len(trials)


def test_an_executor_of_the_platform_will_do() -> None:
    study = toy_study()
    with ThreadPoolExecutor(3) as executor:
        trials = search(
            study, evolution(study), Landscape(), executor=executor, workers=3
        )  # fmt: skip
    assert len({t.architecture for t in trials}) == len(trials) == 20


class Deadly(Landscape):
    """One architecture kills the process that measures it; where others ran is written down."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def __call__(self, job: Job) -> Iterator[Measurement]:
        with self.log.open("a") as log:
            log.write(f"{os.getpid()}\n")
        if job.architecture["letter"] == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return super().__call__(job)


def test_a_worker_that_dies_costs_only_its_own_trial(tmp_path: Path) -> None:
    study = toy_study()
    trials = search(
        study, RandomSearch(SPACES["tiny"], study), Deadly(tmp_path / "log"), workers=2
    )  # fmt: skip
    states = {t.architecture["letter"]: t.state for t in trials}
    assert states == {"a": State.DONE, "b": State.FAILED, "c": State.DONE}
    assert next(t.error for t in trials if t.state is State.FAILED).startswith("its worker")
    assert str(os.getpid()) not in (tmp_path / "log").read_text().split()


def test_workers_load_an_evaluator_once_and_end_with_it(tmp_path: Path) -> None:
    class Counted(Landscape):
        def __setstate__(self, state: dict) -> None:
            self.__dict__.update(state)
            with (tmp_path / "loads").open("a") as log:
                log.write(f"{os.getpid()}\n")

        def __getstate__(self) -> dict:
            return self.__dict__

    study = toy_study(trials=12)
    search(study, evolution(study), Counted(), workers=2)
    loads = (tmp_path / "loads").read_text().split()
    assert len(loads) == len(set(loads)) <= 2
    for pid in loads:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def _parent(pids: Path) -> None:
    executor = Processes(1)
    pids.write_text(str(executor.submit(os.getpid).result()))
    time.sleep(60)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    parent = get_context("spawn").Process(target=_parent, args=(tmp_path / "pid",))
    parent.start()
    deadline = time.time() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.time() < deadline
        time.sleep(0.05)
    worker = int((tmp_path / "pid").read_text())
    os.kill(worker, 0)
    parent.kill()
    parent.join()
    while Path(f"/proc/{worker}/stat").exists():
        if Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        assert time.time() < deadline
        time.sleep(0.05)


def test_bad_questions_are_refused_before_anything_runs() -> None:
    study = Study("toy", (Objective("f1", "max"),))
    with pytest.raises(InvalidStudy, match=r"measures 'f1'; the metrics are \['cost', 'score'\]"):
        search(study, RandomSearch(CONDITIONAL, study), Landscape())
    store = MemoryStore()
    search(toy_study(trials=2), RandomSearch(CONDITIONAL, toy_study()), Landscape(), store)
    other = Study("toy", toy_study().objectives, (Constraint("cost", at_most=3),))
    with pytest.raises(StoreError, match="constraints"):
        search(other, RandomSearch(CONDITIONAL, other), Landscape(), store)


SCRIPT = """
import parti
from parti import Measurement, choose
from parti.strategies.random_search import RandomSearch

@parti.space
def mine():
    return [choose(f"c{i}", [1, 2, 3]) for i in range(4)]

class Total:
    provides = frozenset({"total"})

    def __call__(self, job):
        yield Measurement({"total": float(sum(job.architecture.values()))})

print("started")
study = parti.Study("s", (parti.Objective("total", "max"),), budget=parti.Budget(trials=81))
trials = parti.search(study, RandomSearch(mine, study), Total(), workers=2)
print(parti.best(study, trials).metrics["total"])
"""


def test_a_script_without_a_guard_may_use_workers(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == ["started", "12.0"]
