"""What is shown while a search runs, and at its end."""

from io import StringIO
from pathlib import Path

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


def test_a_better_baseline_is_not_passed_over_in_silence(capsys) -> None:
    entry = {
        "name": "winner", "kind": "search", "test_accuracy": 0.7, "test_std": None,
        "val_accuracy": 0.71, "params": 1, "macs": 1, "latency_ms": 1.0,
        "latency_conditions": "", "metrics": {"n": 10},
    }  # fmt: skip
    cost = {"trials": 1, "failed": 0, "rejected": 0, "search_seconds": 1.0, "total_seconds": 2.0}
    for val_accuracy, said in ((0.70, False), (0.72, True)):
        rival = {**entry, "name": "random search", "val_accuracy": val_accuracy}
        result = {"study": "s", "best": entry, "baselines": [rival], "files": {}}
        show_found(Found({**result, "cost": {**cost, "hardware": "x"}}, Path(), MemoryStore()))
        assert ("found a network of better" in capsys.readouterr().out) is said
