"""A budget of time holds on a machine whose speed changes: stages ask what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti.core.architecture import Architecture
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.finding.clock import Took, enough, rival_seconds, seconds_left, took
from parti.finding.full_training import Contender, collect, in_turn, train_again, train_finalists
from parti.finding.plan import Finals, plan_finals, shares
from parti.finding.settings import settings_of
from parti.finding.supernet_plan import SAFETY, longest

HOUR = 3600.0
FIXED = Architecture({"network": "fixed"})


def trials(*names: str) -> list[Trial]:
    return [
        Trial(i, Proposal(Architecture({"op": name})), State.DONE) for i, name in enumerate(names)
    ]


class Desk:
    """As much of a desk as the clock looks at; training takes `each` seconds, and no time."""

    def __init__(self, each: float, *, workers: int = 1, failing: Sequence[str] = (), **asked: Any):
        self.settings = settings_of(data="toy", **{"recipe": "gdas", "seconds": HOUR, **asked})
        self.plan, self.workers = SimpleNamespace(seconds=30.0), workers
        self.shared = SimpleNamespace(plan=SimpleNamespace(seconds=70.0))
        self.name, self.space, self.fixed = "toy", "space", "fixed"
        self.each, self.failing = each, failing
        self.times: dict[str, float] = {}
        self.trained: dict[str, list[Trial]] = {}
        self.said: list[str] = []
        self.watcher = SimpleNamespace(say=self.said.append, stage=lambda title: None)

    def spent(self, *parts: str) -> float:
        return sum(self.times.get(part, 0.0) for part in parts)

    def parts(self, prefix: str) -> list[str]:
        return [part for part in self.times if part and part.startswith(prefix)]

    def study(self, part: str, **_: Any) -> str:
        return part

    def evaluator(self, *_: Any) -> Any:
        return SimpleNamespace(provides=frozenset({"val_accuracy"}))

    def trial_folder(self, part: str, trial: Trial) -> Path:
        return Path(part) / str(trial.number)

    def run(self, part: str, strategy: Any, evaluator: Any) -> list[Trial]:
        done = self.trained.setdefault(part, [])
        for trial in done:
            strategy.tell(trial)
        before = len(done)
        while (proposal := strategy.ask()) is not None:
            failed = proposal.architecture.get("op") in self.failing
            measured = (Measurement({"val_accuracy": 0.5}, 1, self.each),)
            state = State.FAILED if failed else State.DONE
            done.append(Trial(len(done), proposal, state, measured))
            strategy.tell(done[-1])
        rounds = -(-(len(done) - before) // self.workers)
        self.times[part] = self.times.get(part, 0.0) + self.each * rounds
        return list(done)


def names(desk: Desk, part: str = "final-0") -> list[str]:
    return [t.architecture.get("op", "fixed") for t in desk.trained[part]]


def test_what_planning_and_all_studies_took_is_gone() -> None:
    desk = Desk(1.0)
    desk.times = {"": 300.0, "supernet": 1000.0, "random": 500.0, "final-0": 11.0}
    assert seconds_left(desk) == HOUR - 100 - 1811
    assert seconds_left(desk, "random", "final-0") == HOUR - 100 - 1300
    assert seconds_left(Desk(1.0, seconds=None, trials=5)) is None


def test_random_search_leaves_finalists_their_share() -> None:
    asked = settings_of(data="toy", recipe="gdas", seconds=HOUR)
    planned = shares(asked)
    finals = 1 - planned.supernet - planned.search - planned.baseline
    cost = (planned.supernet + planned.search) * HOUR
    assert rival_seconds(asked, cost, HOUR - cost) == pytest.approx(cost)
    assert rival_seconds(asked, 100.0, HOUR) == 100.0
    slow = rival_seconds(asked, 2 * cost, HOUR - 2 * cost)
    ratio = finals / planned.baseline
    assert (HOUR - 2 * cost - slow) / slow == pytest.approx(ratio)
    assert rival_seconds(asked, 9.0, None) == 9.0
    assert rival_seconds(asked, 9.0, -5.0) == 0.0


def test_the_best_of_both_come_first_then_others_in_turn() -> None:
    assert in_turn([], []) == ([], [])
    needed, others = in_turn(trials("a", "b", "c"), trials("d", "a", "e"))
    assert [a["op"] for a in needed] == ["a", "d"]
    assert [a["op"] for a in others] == ["b", "c", "e"]


@pytest.mark.parametrize(
    ("each", "expected"),
    [(10.0, 7), (500.0, 6), (800.0, 3), (2000.0, 3)],
)
def test_further_finalists_are_trained_as_long_as_there_is_time(each: float, expected: int) -> None:
    desk = Desk(each)
    finals = Finals(finalists=3, seeds=1, epochs=9, fixed_epochs=9)
    trained = train_finalists(desk, trials("a", "b", "c"), trials("d", "e", "f"), [FIXED], finals)
    assert names(desk)[:3] == ["a", "d", "fixed"]
    assert len(trained) == len(names(desk)) == min(expected, 7) - (expected == 6)
    assert bool(desk.said) == (expected < 7)


def test_finalists_that_were_trained_before_a_restart_are_kept() -> None:
    desk = Desk(400.0)
    finals = Finals(finalists=2, seeds=1, epochs=9, fixed_epochs=9)
    before = train_finalists(desk, trials("a", "b"), trials("d", "e"), [FIXED], finals)
    assert len(before) == 5
    desk.times["random"] = HOUR
    assert train_finalists(desk, trials("a", "b"), trials("d", "e"), [FIXED], finals) == before
    assert not desk.said


def test_without_a_limit_or_where_finalists_were_asked_for_all_are_trained() -> None:
    finals = Finals(finalists=3, seeds=1, epochs=9, fixed_epochs=9)
    for asked in ({"seconds": None, "trials": 5}, {"finalists": 3}):
        desk = Desk(9 * HOUR, **asked)
        train_finalists(desk, trials("a", "b", "c"), trials("d", "e", "f"), [FIXED], finals)
        assert len(names(desk)) == 7


def test_while_no_candidate_could_be_trained_others_are_tried() -> None:
    desk = Desk(HOUR, failing=("a", "b"))
    finals = Finals(finalists=3, seeds=1, epochs=9, fixed_epochs=9)
    train_finalists(desk, trials("a", "b", "c"), trials("d", "e", "f"), [FIXED], finals)
    assert "c" in names(desk)


def test_many_workers_are_not_left_idle() -> None:
    desk = Desk(10 * HOUR, workers=5)
    finals = Finals(finalists=3, seeds=1, epochs=9, fixed_epochs=9)
    train_finalists(desk, trials("a", "b", "c"), trials("d", "e", "f"), [FIXED], finals)
    assert len(names(desk)) == 5


def contenders() -> list[Contender]:
    found = [Contender(name, "search", "space", Architecture({"op": name})) for name in "ad"]
    return [*found, Contender("fixed", "fixed", "fixed", FIXED)]


def test_seeds_follow_as_long_as_there_is_time() -> None:
    finals = Finals(finalists=1, seeds=3, epochs=9, fixed_epochs=9)
    for each, seeds in ((10.0, 3), (500.0, 2), (900.0, 1)):
        desk, found = Desk(each), contenders()
        collect(found, train_finalists(desk, trials("a"), trials("d"), [FIXED], finals))
        assert train_again(desk, found, [FIXED], finals).seeds == seeds
        assert [len(contender.trained) for contender in found] == [seeds] * 3


def test_further_seeds_leave_time_for_testing() -> None:
    """With 500 seconds for each there is time for a second seed, and some 700 s are left then."""
    finals = Finals(finalists=1, seeds=3, epochs=9, fixed_epochs=9)
    for testing, seeds in ((0.0, 2), (HOUR / 2, 1)):
        desk, found = Desk(500.0), contenders()
        tested = replace(finals, testing=testing)
        collect(found, train_finalists(desk, trials("a"), trials("d"), [FIXED], tested))
        assert train_again(desk, found, [FIXED], tested).seeds == seeds


def test_a_seed_that_was_begun_is_gone_on_with() -> None:
    finals = Finals(finalists=1, seeds=3, epochs=9, fixed_epochs=9)
    desk, found = Desk(900.0), contenders()
    collect(found, train_finalists(desk, trials("a"), trials("d"), [FIXED], finals))
    desk.times["final-1"] = 5.0
    assert train_again(desk, found, [FIXED], finals).seeds == 2


@given(
    st.floats(0.4, 3),
    st.floats(0.4, 1.3),
    st.floats(0.4, 1.25),
    st.floats(0, 60),
    st.integers(1, 2),
)
def test_the_budget_holds_when_the_machine_becomes_slower(
    supernet: float, search: float, final: float, planning: float, workers: int
) -> None:
    """Each factor is how much longer a stage takes than it was planned to."""
    desk = Desk(0.0, workers=workers)
    desk.plan.seconds = planning
    planned = shares(desk.settings)
    most = longest(desk.settings)
    desk.times["supernet"] = min(most, SAFETY * planned.supernet * HOUR * supernet)
    desk.times[""] = planned.search * HOUR * search
    cost = desk.spent("supernet", "")
    desk.times["random"] = rival_seconds(desk.settings, cost, seconds_left(desk, "random"))
    epoch = 4.0
    with TemporaryDirectory() as folder:
        file = Path(folder, "finals.json")
        left = seconds_left(desk)
        finals = plan_finals(desk.settings, 10_000, left, [epoch] * 3, epoch, workers, file)
    desk.each, found = epoch * finals.epochs * final, contenders()
    candidates, rivals = trials("a", "b", "c"), trials("d", "e", "f")
    trained = train_finalists(
        desk, candidates[: finals.finalists], rivals[: finals.finalists], [FIXED], finals
    )
    collect(found, trained)
    train_again(desk, found, [FIXED], finals)
    assert HOUR - seconds_left(desk) <= 1.1 * HOUR


def test_what_a_training_takes_is_the_mean_of_those_before() -> None:
    done = [
        Trial(i, Proposal(FIXED), State.DONE, (Measurement({}, 1, seconds),))
        for i, seconds in enumerate((10.0, 30.0))
    ]
    assert enough(60.0, 2, done, workers=1, rest=20.0)
    assert not enough(59.0, 2, done, workers=1, rest=20.0)
    assert enough(40.0, 2, done, workers=2, rest=20.0)
    assert enough(0.0, 2, [], workers=1, rest=20.0)
    assert enough(None, 99, done, workers=1, rest=20.0)


def measured(*pairs: tuple[dict[str, float], float]) -> Trial:
    seen = tuple(Measurement(metrics, 1, seconds) for metrics, seconds in pairs)
    return Trial(0, Proposal(Architecture({"op": "a"})), State.DONE, seen)


def test_what_robustness_took_does_not_count_as_training() -> None:
    accurate, attacked = {"val_accuracy": 0.5}, {"val_accuracy_pgd": 0.1}
    asked = settings_of(data="toy", objectives=("val_accuracy", "val_accuracy_pgd"))
    trial = measured(({"params": 9.0}, 0.1), (accurate, 1.0), (accurate, 2.5), (attacked, 10.9))
    assert took(trial, asked) == Took(2.5, pytest.approx(8.4))
    noisy = settings_of(data="toy", objectives=("val_accuracy", "val_accuracy_label_noise"))
    trial = measured((accurate, 2.5), ({"val_accuracy_label_noise": 0.4}, 5.0))
    assert took(trial, noisy) == Took(5.0, 0.0)


def test_the_final_training_leaves_time_for_robustness(tmp_path) -> None:
    asked = settings_of(data="toy", seconds=1000.0, finalists=1, seeds=1, baselines=False)
    plans = [
        plan_finals(asked, 50_000, 700.0, [40.0], 0.0, 1, tmp_path / f"{once}.json", once)
        for once in (0.0, 200.0)
    ]
    free = 0.95 * (700.0 - 12.0 - 4 * 20.0)
    assert [plan.epochs for plan in plans] == [int(free / 40), int((free - 200) / 40)]
