"""What the winner is looked at for further: only where it is affordable, and never fatal."""

from types import SimpleNamespace

import pytest

from parti.core.architecture import Architecture
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.evaluators.recipe import Recipe
from parti.finding import examined as examining
from parti.finding.examined import PROXIES, examined, mislabelled, trusted
from parti.proxies.trust import ENOUGH
from training_makers import ToySpace, toy_data

SPACE = ToySpace()


def desk(seconds: float | None = None) -> SimpleNamespace:
    said: list[str] = []
    return SimpleNamespace(
        space=SPACE,
        seen=toy_data(),
        settings=SimpleNamespace(seed=0, device="cpu", seconds=seconds),
        threads=1,
        inherits=False,
        watcher=SimpleNamespace(say=said.append, said=said),
        initialized=None,
        plan=SimpleNamespace(images=None, epochs=1),
        part=lambda images: toy_data(),
        recipe=lambda data, epochs: Recipe(epochs=epochs, average="none"),
    )


def trials(count: int) -> list[Trial]:
    return [
        Trial(
            number,
            Proposal(Architecture({"width": 2 + number})),
            State.DONE,
            (Measurement({"val_accuracy": number / count}, seconds=10.0),),
        )
        for number in range(count)
    ]


@pytest.fixture
def scored(monkeypatch):
    """The jobs that proxies were asked for, and their batches."""
    jobs, batches = [], []

    class Counting(examining.TrainingFree):
        def __init__(self, *given, batch, **more):
            super().__init__(*given, batch=batch, **more)
            batches.append(batch)

        def __call__(self, job):
            jobs.append(job)
            return super().__call__(job)

    monkeypatch.setattr(examining, "TrainingFree", Counting)
    return SimpleNamespace(jobs=jobs, batches=batches)


def test_proxies_are_compared_on_images_that_they_can_tell_apart(scored):
    failed = Trial(99, trials(1)[0].proposal, State.FAILED, error="no")
    found = trusted(desk(), [*trials(ENOUGH + 1), failed], 1e3, 1e3)
    assert found is not None
    assert len(scored.jobs) == ENOUGH + 1
    assert scored.batches == [32]  # of 64 pixels each
    assert "one batch of 32 training images" in found["how"]
    assert [one["n"] for one in found["found"]] == [ENOUGH + 1] * len(PROXIES)
    lows = [one["low"] for one in found["found"]]
    assert lows == sorted(lows, reverse=True)


def test_no_candidate_is_scored_where_too_few_are_trained_or_affordable(scored):
    assert trusted(desk(), trials(ENOUGH - 1), 1e3, 1e3) is None
    assert trusted(desk(), trials(ENOUGH), 2.0, 2e8) is None
    assert not scored.jobs


def test_scoring_ends_when_its_time_is_over(scored):
    assert trusted(desk(), trials(ENOUGH), 1e-4, 1.0) is None
    assert len(scored.jobs) == 1


@pytest.mark.parametrize(
    ("seconds", "shares"), [(19.0, None), (20.0, [0.0, 0.2]), (99.0, [0.0, 0.2, 0.4])]
)
def test_wrong_labels_are_tried_as_far_as_there_is_time(seconds, shares):
    known = trials(2)
    found = mislabelled(desk(), known, known[0].architecture, seconds)
    assert (None if found is None else found["shares"]) == shares
    if found is not None:
        assert len(found["accuracies"]) == len(shares)
        assert found["epochs"] == 1


def test_wrong_labels_need_a_trial_that_was_trained():
    inheriting = desk()
    inheriting.inherits = True
    known = trials(1)
    assert mislabelled(inheriting, known, known[0].architecture, 1e3) is None
    assert mislabelled(desk(), [], known[0].architecture, 1e3) is None


def test_a_part_that_fails_leaves_its_error_and_the_others(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("no weights")

    monkeypatch.setattr(examining, "load_trained", broken)
    found_by = SimpleNamespace(
        trials=trials(3),
        winner=SimpleNamespace(shipped=(None, None), space=SPACE, architecture=None),
    )
    where = desk()
    found = examined(where, found_by, {"macs": 1e4}, None)
    assert found == {
        "robustness": {"error": "ZeroDivisionError: no weights"},
        "label_noise": None,
        "theory": {"error": "ZeroDivisionError: no weights"},
        "proxies": None,
    }
    assert where.watcher.said == [
        "no robustness: ZeroDivisionError: no weights",
        "no theory: ZeroDivisionError: no weights",
    ]


def test_a_winner_that_costs_too_much_is_not_looked_at():
    found_by = SimpleNamespace(trials=trials(3), winner=SimpleNamespace(architecture=None))
    expected = {"robustness": None, "label_noise": None, "theory": None, "proxies": None}
    assert examined(desk(60.0), found_by, {"macs": 4e9}, None) == expected
