"""The winner is what was asked for: the smallest network where the smallest was."""

import pytest

from parti.core.architecture import Architecture
from parti.core.study import Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.finding.ranking import best_first, loss_when_trained

ACCURACY, SIZE = Objective("val_accuracy", "max"), Objective("params", "min")


def trial(number: int, params: float, accuracy: float, of: int | None = None) -> Trial:
    architecture = Architecture({"a": number if of is None else of})
    measured = Measurement({"params": params, "val_accuracy": accuracy})
    return Trial(number, Proposal(architecture), State.DONE, (measured,))


TRIALS = [trial(0, 900, 0.97), trial(1, 100, 0.90), trial(2, 100, 0.93), trial(3, 50, 0.60)]


def ranked(objectives: tuple[Objective, ...], *limits: Constraint) -> list[int]:
    study = Study("s", objectives, limits)
    return [trial.number for trial in best_first(study, TRIALS)]


def test_the_objective_ranks_and_accuracy_decides_between_equals() -> None:
    assert ranked((ACCURACY,)) == [0, 2, 1, 3]
    assert ranked((SIZE,)) == [3, 2, 1, 0]


def test_what_breaks_a_limit_is_not_ranked() -> None:
    assert ranked((SIZE,), Constraint("val_accuracy", at_least=0.9)) == [2, 1, 0]


def test_of_several_objectives_the_front_comes_first() -> None:
    assert ranked((ACCURACY, SIZE)) == [0, 2, 3, 1]


def test_an_architecture_is_ranked_once_by_its_better_trial() -> None:
    study = Study("s", (SIZE,))
    trials = [*TRIALS, trial(4, 40, 0.5, of=3)]
    assert [t.number for t in best_first(study, trials)] == [4, 2, 1, 0]


@pytest.mark.parametrize("cost", ["params", "macs", "latency_ms"])
def test_between_equally_accurate_networks_the_cheaper_wins(cost: str) -> None:
    """The newcomer's winner had 1.82 M parameters, the other 681 k, both were always right."""
    study = Study("s", (ACCURACY,))

    def measured(number: int, value: float | None) -> Trial:
        metrics = {"params": 7.0, "val_accuracy": 1.0}
        metrics |= {} if value is None else {cost: value}
        measurement = Measurement(metrics)
        proposal = Proposal(Architecture({"a": number}))
        return Trial(number, proposal, State.DONE, (measurement,))

    trials = [measured(0, 1.82e6), measured(1, 3.0), measured(2, 2.0), measured(3, 2.0)]
    assert [t.number for t in best_first(study, trials)] == [2, 3, 1, 0]
    order = sorted(trials, key=lambda t: loss_when_trained(study, t))
    assert [t.number for t in order] == [2, 3, 1, 0]
    if cost != "params":
        unmeasured = measured(4, None)
        assert best_first(study, [unmeasured, *trials])[-1] is unmeasured


def test_the_objective_comes_before_size() -> None:
    trials = [trial(0, 900, 0.971), trial(1, 100, 0.97)]
    assert [t.number for t in best_first(Study("s", (ACCURACY,)), trials)] == [0, 1]


def test_a_trained_finalist_that_breaks_a_limit_comes_after_those_that_keep_to_it() -> None:
    study = Study("s", (SIZE,), (Constraint("val_accuracy", at_least=0.92),))
    order = sorted(TRIALS, key=lambda t: loss_when_trained(study, t))
    assert [t.number for t in order] == [2, 0, 3, 1]
