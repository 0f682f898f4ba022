"""What is shown while a search runs, and at its end."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from parti import Architecture, Budget, Measurement, Objective, Proposal, State, Study, Trial
from parti.app.show import show_found
from parti.finding.found import Found
from parti.finding.live import Lines, front_table, progress_line
from parti.loop import Progress
from parti.stores.memory import MemoryStore

STUDY = Study("s", (Objective("val_accuracy", "max"),), budget=Budget(trials=8))


def trial(number: int, state: State = State.DONE, **metrics: float) -> Trial:
    return Trial(number, Proposal(Architecture({"n": number})), state, (Measurement(metrics),))


def progress(**changed: object) -> Progress:
    trials = [
        trial(0, val_accuracy=0.9, params=5000),
        trial(1, val_accuracy=0.8, params=900),
        trial(2, val_accuracy=0.7, params=1000),
        trial(3, State.REJECTED, params=9000),
        trial(4, State.FAILED),
        trial(5, State.RUNNING),
    ]
    given = {"study": STUDY, "trials": {t.number: t for t in trials}, "seconds": 40.0, **changed}
    return Progress(**given)


def shown(renderable: object) -> str:
    console = Console(file=StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()


def test_the_line_has_trials_best_and_time_left() -> None:
    line = progress_line(progress(latest=(5, Measurement({"val_accuracy": 0.5}, step=3))))
    assert line == (
        "4 of 8 trials · 1 failed · 1 rejected · best val_accuracy 0.9 (trial 0) · "
        "trial 5 at epoch 3 · 0:40 left"
    )
    timed = Study("s", STUDY.objectives, budget=Budget(seconds=3700))
    assert progress_line(progress(study=timed)).endswith("1:01:00 left")
    endless = Study("s", STUDY.objectives)
    assert progress_line(progress(study=endless)).endswith("0:40 so far")


def test_the_front_is_of_accuracy_against_size() -> None:
    lines = shown(front_table(progress())).split()
    assert lines == ["trial", "val_accuracy", "params", "0", "0.9", "5,000", "1", "0.8", "900"]


def test_lines_come_at_a_new_best_and_not_too_often() -> None:
    console = Console(file=StringIO(), width=200)
    lines = Lines(console)
    lines.stage("searching")
    for _ in range(5):
        lines.progress(progress())
    better = progress()
    better.trials[6] = trial(6, val_accuracy=0.95, params=1)
    lines.progress(better)
    said = console.file.getvalue().splitlines()
    assert len(said) == 3
    assert "0.95 (trial 6)" in said[-1]


@pytest.fixture
def said_of(capsys):
    """What is printed of a result with a winner and a baseline that is like it but for changes."""

    def said(changed: dict[str, object], **result: object) -> str:
        entry = {
            "name": "winner", "kind": "search", "test_accuracy": 0.7, "test_std": None,
            "val_accuracy": 0.71, "params": 681_000, "macs": 1, "latency_ms": 1.0,
            "latency_conditions": "", "metrics": {"n": 10}, "fingerprint": "a",
        }  # fmt: skip
        cost = {"trials": 1, "failed": 0, "rejected": 0, "search_seconds": 1.0}
        given = {
            "study": "s", "best": entry, "baselines": [{**entry, "fingerprint": "b", **changed}],
            "files": {}, "objectives": [{"metric": "val_accuracy", "goal": "max"}],
            "constraints": [], "cost": {**cost, "total_seconds": 2.0, "hardware": "x"}, **result,
        }  # fmt: skip
        show_found(Found(given, Path(), MemoryStore()))
        return " ".join(capsys.readouterr().out.split())

    return said


@pytest.mark.parametrize(("val_accuracy", "said"), [(0.70, False), (0.72, True)])
def test_a_better_baseline_is_not_passed_over_in_silence(said_of, val_accuracy, said) -> None:
    rival = {"name": "random search", "val_accuracy": val_accuracy}
    assert ("found a network of better" in said_of(rival)) is said
    fixed = {"name": "resnet20", "kind": "fixed", "val_accuracy": val_accuracy, "params": 272_474}
    shown = said_of(fixed)
    assert ("resnet20 has a better validation accuracy than what was found" in shown) is said
    assert ("272,474 parameters against 681,000" in shown) is said


def test_a_fixed_network_need_not_keep_to_limits(said_of) -> None:
    fixed = {"name": "resnet20", "kind": "fixed", "val_accuracy": 0.9}
    assert "limits" not in said_of(fixed)
    assert "need not keep to your limits" in said_of(fixed, constraints=["params ≤ 9"])


def test_a_baseline_is_not_better_by_what_was_not_asked_for(said_of) -> None:
    smallest = [{"metric": "params", "goal": "min"}]
    for kind in ("search", "fixed"):
        assert "better" not in said_of({"kind": kind, "val_accuracy": 0.9}, objectives=smallest)


def test_random_search_that_found_the_very_network_is_no_rival(said_of) -> None:
    same = {"name": "random search", "fingerprint": "a"}
    assert "random search found the same network" in said_of(same)
    assert "found the same network" not in said_of({**same, "fingerprint": "b"})


def test_the_time_in_all_has_the_end_in_it(said_of) -> None:
    cost = {"trials": 1, "failed": 0, "rejected": 0, "search_seconds": 20.0, "hardware": "x"}
    ended = {**cost, "total_seconds": 76.0, "concluding_seconds": 40.0}
    words = "76 s with baselines, final training and 40 s of testing and export, on x"
    assert words in said_of({}, cost=ended)
    before = {**cost, "total_seconds": 36.0}  # of a parti that did not count it
    assert "36 s with baselines and final training, on x" in said_of({}, cost=before)
